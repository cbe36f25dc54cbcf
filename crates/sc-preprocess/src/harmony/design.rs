use sc_data::Categorical;

use super::HarmonyOptions;
use crate::groups::Groups;
use crate::{Error, Result};

/// Which levels of the batch variables each cell has. The levels of all variables are numbered one after the other.
pub(super) struct Design {
    /// For each cell its level in each variable.
    levels: Vec<u32>,
    pub(super) n_variables: usize,
    /// How many levels the first variable has.
    pub(super) first_levels: usize,
    /// For each level the share of cells that have it.
    pub(super) share: Vec<f64>,
    /// For each level how strongly its crowding is penalised.
    pub(super) theta: Vec<f64>,
}

impl Design {
    pub(super) fn new(
        batches: &[&Categorical],
        cells: usize,
        n_clusters: usize,
        options: &HarmonyOptions,
    ) -> Result<Self> {
        let wrong = |found: String| Error::InvalidParameter {
            name: "batches",
            found,
            expected: "variables with at least two batches each: there is nothing to correct"
                .into(),
        };
        if batches.is_empty() {
            return Err(wrong("no variable".into()));
        }
        let n_variables = batches.len();
        let mut levels = vec![0u32; cells * n_variables];
        let mut sizes: Vec<usize> = Vec::new();
        let mut first_levels = 0;
        for (v, labels) in batches.iter().enumerate() {
            let groups = Groups::new(labels, cells)?;
            if groups.len() < 2 {
                return Err(wrong(format!("a variable with {} batch", groups.len())));
            }
            let first = sizes.len();
            for i in 0..cells {
                levels[i * n_variables + v] = (first + groups.of(i)) as u32;
            }
            sizes.extend(groups.sizes());
            if v == 0 {
                first_levels = sizes.len();
            }
        }
        let theta = |&size: &usize| {
            if options.tau <= 0.0 {
                return options.theta;
            }
            let crowd = size as f64 / (n_clusters as f64 * options.tau);
            options.theta * (1.0 - (-crowd * crowd).exp())
        };
        Ok(Self {
            levels,
            n_variables,
            first_levels,
            share: sizes.iter().map(|&s| s as f64 / cells as f64).collect(),
            theta: sizes.iter().map(theta).collect(),
        })
    }

    /// The level of a cell in each variable.
    pub(super) fn of(&self, cell: usize) -> &[u32] {
        let start = cell * self.n_variables;
        self.levels
            .get(start..start + self.n_variables)
            .unwrap_or_default()
    }

    pub(super) fn n_levels(&self) -> usize {
        self.share.len()
    }
}
