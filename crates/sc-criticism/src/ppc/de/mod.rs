//! Are the genes that tell cell types apart in raw counts the same in generated ones?
//!
//! Each group is compared with all other cells, as scanpy's `rank_genes_groups` does: counts are scaled to 10,000 a cell,
//! `ln(1 + x)` is taken, and a Welch t-test (or a Wilcoxon rank-sum test) gives each gene a score.

mod agreement;
mod ranked;
mod sums;
mod wilcoxon;

pub use agreement::GroupAgreement;
pub(super) use agreement::{Judge, Truth};
pub(super) use ranked::Ranked;
pub(super) use sums::GroupSums;
pub(super) use wilcoxon::RankSums;

use sc_data::{Categorical, Csr};

use crate::{Error, Result};

/// How genes are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeTest {
    /// Welch's t-test. Needs sums only, so that cells stream through.
    #[default]
    TTest,
    /// Wilcoxon's rank-sum test, by its normal approximation without correction for ties. It needs all cells of a gene at
    /// once: the entries that are not 0 are held, of as many genes at a time as memory is allowed for.
    Wilcoxon,
}

/// How differential expression is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct DeOptions {
    /// The test.
    pub test: DeTest,
    /// How many of the samples are tested, each by itself; scores are means over them.
    pub n_samples: usize,
    /// What the counts of a cell are scaled to.
    pub target_sum: f64,
    /// Genes with an adjusted p-value below this in the raw counts are the true ones.
    pub p_value: f64,
    /// How many genes with the highest scores are compared, and how many are the true ones if the p-values call none, or more
    /// than half. At most a tenth of all genes.
    pub n_top: usize,
}

impl Default for DeOptions {
    fn default() -> Self {
        Self {
            test: DeTest::TTest,
            n_samples: 1,
            target_sum: 1e4,
            p_value: 1e-3,
            n_top: 100,
        }
    }
}

impl DeOptions {
    /// The number of top genes among `n_genes`.
    pub(super) fn top(&self, n_genes: usize) -> usize {
        if self.n_top.saturating_mul(10) > n_genes {
            n_genes / 10
        } else {
            self.n_top
        }
    }

    pub(super) fn check(&self, n_genes: usize, n_samples: usize) -> Result<()> {
        let refuse = |name, found: String, expected| {
            Err(Error::Setting {
                name,
                found,
                expected,
            })
        };
        if !(self.target_sum.is_finite() && self.target_sum > 0.0) {
            return refuse("target_sum", self.target_sum.to_string(), "more than 0");
        }
        if !(self.p_value > 0.0 && self.p_value <= 1.0) {
            return refuse("p_value", self.p_value.to_string(), "from 0 to 1");
        }
        if self.n_top == 0 || n_genes < 10 {
            let found = format!("{} of {n_genes} genes", self.n_top);
            return refuse("n_top", found, "at least 1, at most a tenth of the genes");
        }
        if self.n_samples == 0 || self.n_samples > n_samples {
            let found = format!("{} of {n_samples}", self.n_samples);
            return refuse(
                "de.n_samples",
                found,
                "at least 1, and no more than there are",
            );
        }
        Ok(())
    }
}

/// A group that is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub group: String,
    /// Its cells.
    pub n_cells: usize,
}

/// The groups that are compared with the rest, and the group of each cell.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) names: Vec<String>,
    pub(super) sizes: Vec<usize>,
    /// Position in `names`; cells of no compared group are only part of the rest, and have `names.len()`.
    pub(super) of_cell: Vec<u32>,
    pub(super) left_out: Vec<LeftOut>,
}

impl Groups {
    /// Groups of fewer than two cells, which have no variance, are left out; and one that has all cells but one.
    pub(super) fn new(labels: &Categorical) -> Result<Self> {
        let n = labels.len();
        let mut groups = Self {
            names: Vec::new(),
            sizes: Vec::new(),
            of_cell: Vec::new(),
            left_out: Vec::new(),
        };
        let mut place = Vec::new();
        for (name, size) in labels.categories().iter().zip(labels.counts()) {
            if size >= 2 && n - size >= 2 {
                place.push(Some(groups.names.len() as u32));
                groups.names.push(name.clone());
                groups.sizes.push(size);
            } else {
                place.push(None);
                if size > 0 {
                    groups.left_out.push(LeftOut {
                        group: name.clone(),
                        n_cells: size,
                    });
                }
            }
        }
        if groups.names.is_empty() {
            let sizes = groups.left_out.iter();
            let sizes = sizes.map(|g| format!("{} ({})", g.group, g.n_cells));
            return Err(Error::Groups {
                groups: sizes.collect::<Vec<_>>().join(", "),
            });
        }
        let none = groups.names.len() as u32;
        let code = |c: &Option<u32>| c.and_then(|c| *place.get(c as usize)?).unwrap_or(none);
        groups.of_cell = labels.codes().iter().map(code).collect();
        Ok(groups)
    }
}

/// Scales each cell to `target` counts and takes `ln(1 + x)`, in single precision as scanpy does. Cells without counts stay
/// without.
pub(super) fn log_normalised(block: &Csr, target: f64, what: &str, start: usize) -> Result<Csr> {
    let mut data = Vec::with_capacity(block.n_stored());
    for i in 0..block.n_rows() {
        let (genes, values) = block.row(i);
        if let Some(k) = values.iter().position(|v| *v < 0.0) {
            return Err(Error::Negative {
                what: what.to_owned(),
                value: values[k],
                cell: start + i,
                gene: genes[k] as usize,
            });
        }
        let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let size = if sum > 0.0 {
            (sum / target) as f32
        } else {
            1.0
        };
        data.extend(values.iter().map(|v| (v / size).ln_1p()));
    }
    let (indptr, indices) = (block.indptr().to_vec(), block.indices().to_vec());
    Ok(Csr::new(
        block.n_rows(),
        block.n_cols(),
        indptr,
        indices,
        data,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_groups_are_left_out_by_name() {
        let labels = ["a", "a", "a", "b", "c", "c"];
        let groups = Groups::new(&Categorical::from_labels(&labels)).unwrap();
        assert_eq!(groups.names, ["a", "c"]);
        assert_eq!(groups.of_cell, [0, 0, 0, 2, 1, 1]);
        assert_eq!(groups.left_out[0].group, "b");
        let all = Categorical::from_labels(&["a", "a", "a", "b"]);
        let message = Groups::new(&all).unwrap_err().to_string();
        assert!(message.contains("a (3), b (1)"), "{message}");
    }

    #[test]
    fn cells_are_scaled_and_negative_ones_named() {
        let block = Csr::from_dense(&ndarray::array![[1.0, 3.0], [0.0, 0.0], [0.0, 2.0]]);
        let scaled = log_normalised(&block, 8.0, "x", 0).unwrap().to_dense();
        let expected = [
            [2f32.ln_1p(), 6f32.ln_1p()],
            [0.0, 0.0],
            [0.0, 8f32.ln_1p()],
        ];
        assert_eq!(scaled, ndarray::arr2(&expected));
        let block = Csr::from_dense(&ndarray::array![[1.0, -3.0]]);
        let message = log_normalised(&block, 1e4, "sample 2", 7)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("sample 2: -3 at cell 7, gene 1"),
            "{message}"
        );
    }

    #[test]
    fn the_top_is_at_most_a_tenth() {
        let mut options = DeOptions::default();
        assert_eq!(options.top(200), 20);
        assert_eq!(options.top(13_714), 100);
        options.n_top = 15;
        assert_eq!(options.top(200), 15);
        assert!(options.check(9, 1).is_err() && options.check(200, 1).is_ok());
        options.n_samples = 3;
        assert!(options.check(200, 2).is_err());
    }
}
