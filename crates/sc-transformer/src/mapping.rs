//! Cell types of new cells, by the votes of the most similar cells of a reference.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use sc_data::Categorical;
use sc_neighbors::{Neighbors, knn_query};

use crate::{Error, Result};

/// How neighbours vote.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Vote {
    /// One vote each; of equal numbers that of the nearest neighbour wins.
    #[default]
    Majority,
    /// For atlases in which few types have most of the cells: of `n_c` votes for a type that has the share `prevalence_c` of
    /// the reference, `max(n_c - 0.01 k, 0) / prevalence_c` count. Prevalences are given in the order of the categories; `None`
    /// takes those of the reference.
    ByPrevalence(Option<Vec<f64>>),
}

/// A reference of embedded cells with labels, to be searched for the neighbours of others.
///
/// Vectors should have length 1, as scGPT's embeddings have: then Euclidean and cosine distance have the same order. For votes
/// weighted by distance and an uncertainty see [`sc_neighbors::LabelTransfer`].
///
/// ```
/// use ndarray::array;
/// use sc_data::Categorical;
/// use sc_transformer::mapping::{Reference, Vote};
/// let cells = array![[1.0f32, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]];
/// let types = Categorical::from_labels(&["B", "B", "T", "T"]);
/// let found = Reference::new(cells.view(), &types)?.k(3).map(array![[0.96f32, 0.28]].view(), &Vote::Majority)?;
/// assert_eq!(found.labels.get(0), Some("B"));
/// assert!((found.confidence[0] - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), sc_transformer::Error>(())
/// ```
pub struct Reference<'a> {
    cells: ArrayView2<'a, f32>,
    labels: &'a Categorical,
    k: usize,
}

/// Labels of mapped cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// The label with most votes of each cell; missing if no vote counts.
    pub labels: Categorical,
    /// The share of votes of that label.
    pub confidence: Vec<f64>,
    /// The share of votes of each category, `[cells, categories]`; rows sum to 1, or are 0 if no vote counts.
    pub shares: Array2<f64>,
    /// The neighbours.
    pub neighbors: Neighbors,
}

impl<'a> Reference<'a> {
    /// Embedded cells, `[cells, dimensions]`, and their labels. Cells without a label are neighbours that don't vote.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is a label, or a missing one, for each cell.
    pub fn new(cells: ArrayView2<'a, f32>, labels: &'a Categorical) -> Result<Self> {
        if labels.len() != cells.nrows() {
            return Err(Error::Length {
                what: "the labels of the reference",
                found: labels.len(),
                expected: cells.nrows(),
            });
        }
        Ok(Self {
            cells,
            labels,
            k: 10,
        })
    }

    /// The number of neighbours, 10 unless set; atlases are searched with 50.
    #[must_use]
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// Labels for cells embedded by the same model.
    ///
    /// # Errors
    /// [`Error::Neighbors`] with more neighbours than there are cells, or coordinates that are not finite;
    /// [`Error::Length`] or [`Error::InvalidSetting`] if prevalences don't fit.
    pub fn map(&self, query: ArrayView2<'_, f32>, vote: &Vote) -> Result<Mapped> {
        let weights = self.weights(vote)?;
        let neighbors = knn_query(self.cells, query, self.k)?;
        let (n, classes) = (query.nrows(), self.labels.categories().len());
        let mut shares = Array2::zeros((n, classes));
        let mut best = vec![(None, 0.0); n];
        shares
            .axis_iter_mut(Axis(0))
            .into_par_iter()
            .zip(neighbors.indices.axis_iter(Axis(0)))
            .zip(&mut best)
            .for_each(|((mut shares, near), best)| {
                let codes = near.iter().map(|&j| self.labels.codes().get(j as usize));
                let codes: Vec<u32> = codes.flatten().copied().flatten().collect();
                count(
                    &codes,
                    weights.as_deref(),
                    shares.as_slice_mut().unwrap_or_default(),
                );
                // The nearest neighbour's label wins among equal ones.
                for &code in &codes {
                    let share = shares.get(code as usize).copied().unwrap_or(0.0);
                    if share > best.1 {
                        *best = (Some(code), share);
                    }
                }
            });
        let (codes, confidence): (Vec<_>, Vec<_>) = best.into_iter().unzip();
        Ok(Mapped {
            labels: Categorical::new(codes, self.labels.categories().to_vec(), false)?,
            confidence,
            shares,
            neighbors,
        })
    }

    /// What a vote for each category counts, if not the same for all.
    fn weights(&self, vote: &Vote) -> Result<Option<Vec<f64>>> {
        let prevalence = match vote {
            Vote::Majority => return Ok(None),
            Vote::ByPrevalence(Some(given)) => given.clone(),
            Vote::ByPrevalence(None) => {
                let counts = self.labels.counts();
                let all = counts.iter().sum::<usize>() as f64;
                // A category without cells gets no vote.
                counts.iter().map(|&n| n.max(1) as f64 / all).collect()
            }
        };
        if prevalence.len() != self.labels.categories().len() {
            return Err(Error::Length {
                what: "the prevalences",
                found: prevalence.len(),
                expected: self.labels.categories().len(),
            });
        }
        match prevalence.iter().find(|p| !(p.is_finite() && **p > 0.0)) {
            Some(wrong) => Err(Error::InvalidSetting {
                name: "prevalence",
                value: wrong.to_string(),
                reason: "a share of the cells of a reference is more than 0".into(),
            }),
            None => Ok(Some(prevalence.iter().map(|p| 1.0 / p).collect())),
        }
    }
}

/// Shares of the votes of each category.
fn count(codes: &[u32], weights: Option<&[f64]>, shares: &mut [f64]) {
    for &code in codes {
        if let Some(share) = shares.get_mut(code as usize) {
            *share += 1.0;
        }
    }
    if let Some(weights) = weights {
        let few = 0.01 * codes.len() as f64;
        for (share, w) in shares.iter_mut().zip(weights) {
            *share = (*share - few).max(0.0) * w;
        }
    }
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 {
        shares.iter_mut().for_each(|s| *s /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rare_types_weigh_more() {
        let cells = array![[0.0f32], [0.1], [0.2], [0.3], [5.0], [6.0], [7.0]];
        let types = Categorical::from_labels(&[
            "rare", "common", "common", "rare", "common", "common", "common",
        ]);
        let reference = Reference::new(cells.view(), &types).unwrap().k(4);
        let query = array![[0.0f32]];
        // Two votes each: the nearest decides.
        let found = reference.map(query.view(), &Vote::Majority).unwrap();
        assert_eq!(
            (found.labels.get(0), found.confidence[0]),
            (Some("rare"), 0.5)
        );
        let found = reference
            .map(query.view(), &Vote::ByPrevalence(None))
            .unwrap();
        // (2 - 0.04) / (2/7) against (2 - 0.04) / (5/7).
        assert!((found.confidence[0] - 5.0 / 7.0).abs() < 1e-12);
        let given = Vote::ByPrevalence(Some(vec![0.1, 0.9]));
        assert_eq!(
            reference.map(query.view(), &given).unwrap().labels.get(0),
            Some("common")
        );
    }

    #[test]
    fn unlabelled_cells_do_not_vote() {
        let cells = array![[0.0f32], [1.0], [9.0]];
        let types = Categorical::from_options([None, None, Some("T")].into_iter());
        let near = Reference::new(cells.view(), &types).unwrap().k(2);
        let found = near.map(array![[0.0f32]].view(), &Vote::Majority).unwrap();
        assert_eq!((found.labels.get(0), found.confidence[0]), (None, 0.0));
        let bad = Vote::ByPrevalence(Some(vec![0.0]));
        assert!(near.map(array![[0.0f32]].view(), &bad).is_err());
        assert!(
            near.map(array![[0.0f32]].view(), &Vote::ByPrevalence(Some(vec![])))
                .is_err()
        );
        assert!(Reference::new(cells.view(), &Categorical::from_labels(&["a"])).is_err());
    }
}
