//! The cells on both sides of each comparison.

use std::borrow::Cow;

use sc_tensor::rng::Rng;

use super::groups::{Against, Comparison, Groups, Population, REST, others};
use super::options::CONTAMINATION;
use super::robust::{Points, inliers};
use crate::arrays::{ENCODED_AT_ONCE, in_batches, to_vec};
use crate::{Cells, Result, Scvi};

/// The cells on both sides of each comparison: all of them, or those that do not lie apart.
///
/// A rest is known by the cells that it lacks, so that it costs no list of all the others.
pub(super) struct Members<'a> {
    populations: Cow<'a, [Population]>,
    /// For each population the cells that its rest lacks, where those are more than the population.
    lacking: Vec<Option<Population>>,
    n_cells: usize,
}

impl<'a> Members<'a> {
    /// All cells of the groups.
    pub(super) fn all(groups: &'a Groups) -> Self {
        Self {
            populations: Cow::Borrowed(&groups.populations),
            lacking: Vec::new(),
            n_cells: groups.n_cells,
        }
    }

    /// The cells of the groups without those that lie apart from their group in the latent space. Takes one pass over the
    /// cells, whatever is compared with what.
    pub(super) fn without_outliers(
        model: &Scvi,
        cells: &Cells<'_>,
        groups: &'a Groups,
        seed: u64,
    ) -> Result<Self> {
        let latent = Latent {
            means: latent_means(model, cells)?,
            dims: model.config().n_latent,
            rng: Rng::new(seed).child("outliers"),
        };
        let kept = |p: &Population| Population {
            name: p.name.clone(),
            cells: latent.inside(&p.cells, &p.name),
        };
        let with_rest = |p: usize| {
            let rest = |c: &Comparison| c.first == p && c.second == Against::Rest;
            groups.comparisons.iter().any(rest)
        };
        let lacking = |(k, p): (usize, &Population)| {
            let rest = with_rest(k).then(|| others(&p.cells, groups.n_cells))?;
            Some(Population {
                name: p.name.clone(),
                cells: others(&latent.inside(&rest, REST), groups.n_cells),
            })
        };
        let populations = groups.populations.iter();
        Ok(Self {
            lacking: populations.clone().enumerate().map(lacking).collect(),
            populations: populations.map(kept).collect::<Vec<_>>().into(),
            n_cells: groups.n_cells,
        })
    }

    /// The cells of a population.
    pub(super) fn population(&self, p: usize) -> &Population {
        &self.populations[p]
    }

    /// The cells that the rest of a population lacks: its own, and outliers.
    pub(super) fn lacking(&self, p: usize) -> &Population {
        let other = self.lacking.get(p).and_then(Option::as_ref);
        other.unwrap_or(&self.populations[p])
    }

    /// How many cells are on each side.
    pub(super) fn sizes(&self, c: Comparison) -> (usize, usize) {
        let second = match c.second {
            Against::Population(p) => self.population(p).cells.len(),
            Against::Rest => self.n_cells - self.lacking(c.first).cells.len(),
        };
        (self.population(c.first).cells.len(), second)
    }

    /// All populations, and behind them what rests lack where that differs; and where in this list the one of population
    /// `p` is.
    pub(super) fn lists(&self) -> (Vec<&[usize]>, impl Fn(usize) -> usize) {
        let mut lists: Vec<&[usize]> = self.populations.iter().map(|p| &p.cells[..]).collect();
        let mut places: Vec<usize> = (0..lists.len()).collect();
        for (place, lacking) in places.iter_mut().zip(&self.lacking) {
            if let Some(lacking) = lacking {
                *place = lists.len();
                lists.push(&lacking.cells);
            }
        }
        (lists, move |p| places[p])
    }
}

/// The mean of `q(z | x)` of all cells, cell after cell.
struct Latent {
    means: Vec<f64>,
    dims: usize,
    rng: Rng,
}

impl Latent {
    /// Those of some cells that do not lie apart.
    fn inside(&self, cells: &[usize], name: &str) -> Vec<usize> {
        let point = |&c: &usize| &self.means[c * self.dims..][..self.dims];
        let points: Vec<f64> = cells.iter().flat_map(point).copied().collect();
        let points = Points::new(&points, self.dims);
        match inliers(&points, CONTAMINATION, &self.rng.child(name)) {
            Some(kept) => {
                let kept = cells.iter().zip(kept).filter(|(_, kept)| *kept);
                kept.map(|(&cell, _)| cell).collect()
            }
            None => {
                tracing::warn!(
                    group = name,
                    cells = cells.len(),
                    "too few or too similar cells to tell which lie apart; all are kept"
                );
                cells.to_vec()
            }
        }
    }
}

fn latent_means(model: &Scvi, cells: &Cells<'_>) -> Result<Vec<f64>> {
    let mut out = Vec::with_capacity(cells.n_cells() * model.config().n_latent);
    for rows in in_batches(cells.n_cells(), ENCODED_AT_ONCE) {
        let batch = cells.minibatch(&rows, model.config().log_variational)?;
        out.extend(to_vec(&model.encode_rows(&batch)?.qz.mean)?);
    }
    Ok(out)
}
