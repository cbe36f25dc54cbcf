use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use sc_data::Categorical;

use crate::{Error, Neighbors, Result, knn_query};

/// The uncertainty above which the atlas of the human lung called a transferred label unknown.
pub const UNKNOWN_ABOVE: f64 = 0.2;
/// The label of cells that are too uncertain.
pub const UNKNOWN: &str = "Unknown";
/// Neighbours that vote, if the caller does not say.
const NEIGHBOURS: usize = 50;

/// How the neighbours of a cell share its vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Votes {
    /// `w_j ~ exp(-d_j sigma^2 / 4)`, where `d_j` are the distances to the neighbours and `sigma` is their standard
    /// deviation: the weights of scArches and of the atlas of the human lung. Where all are as far the weights are equal.
    ///
    /// The published form is `exp(-d_j / tau)`, `tau = (2 / sigma)^2`. Distances that hardly differ thus weigh nearly
    /// the same.
    #[default]
    Distance,
    /// One each: the label is that of most neighbours.
    Equal,
}

/// Gives cells the labels of their nearest neighbours among reference cells, with an uncertainty (Lotfollahi et al., "Mapping
/// single-cell data to reference atlases by transfer learning", Nat Biotechnol 2022; Sikkema et al., "An integrated cell
/// atlas of the lung in health and disease", Nat Med 2023).
///
/// Each of the `k` nearest reference cells of a query cell votes for its own label, with a weight by [`Votes`]; the weights
/// of a query cell sum to 1. The score of a label is the sum of its votes, the label with the highest score wins (the
/// first category of equal ones), and the uncertainty is 1 minus its score.
///
/// Only places in a latent space are needed, so a reference without counts will do. Both must come from the same model.
///
/// ```
/// use ndarray::array;
/// use sc_data::Categorical;
/// use sc_neighbors::LabelTransfer;
///
/// # fn main() -> Result<(), sc_neighbors::Error> {
/// let reference = array![[0.0f32, 0.0], [0.1, 0.0], [0.0, 0.1], [5.0, 5.0], [5.1, 5.0], [5.0, 5.1]];
/// let types = Categorical::from_labels(&["B", "B", "B", "T", "T", "T"]);
/// let lineage = Categorical::from_labels(&["lymphoid"; 6]);
/// let query = array![[4.9f32, 5.2], [2.55, 2.5]];
///
/// let found = LabelTransfer::fit(reference.view(), &types)?.k(3).transfer(query.view())?;
/// assert_eq!(found.labels().get(0), Some("T"));
/// assert_eq!(found.uncertainty()[0], 0.0);
/// // Between the two: two votes of three.
/// assert!(found.uncertainty()[1] > 0.3);
/// assert_eq!(found.labels_or_unknown(0.2)?.get(1), Some("Unknown"));
///
/// // Several levels at once.
/// let levels = LabelTransfer::fit(reference.view(), &types)?
///     .and(&lineage)?
///     .k(3)
///     .transfer_levels(query.view())?;
/// assert_eq!(levels[1].labels_or_unknown(0.2)?.get(1), Some("lymphoid"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LabelTransfer<'a> {
    reference: ArrayView2<'a, f32>,
    levels: Vec<&'a Categorical>,
    k: usize,
    votes: Votes,
}

impl<'a> LabelTransfer<'a> {
    /// From the places of reference cells, `[n, dimensions]`, and their labels. Cells without a label don't vote.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] unless there is a label, or a missing one, for each cell; [`Error::InvalidParameter`] if
    /// all are missing.
    pub fn fit(reference: ArrayView2<'a, f32>, labels: &'a Categorical) -> Result<Self> {
        let none = Self {
            reference,
            levels: Vec::new(),
            k: NEIGHBOURS,
            votes: Votes::default(),
        };
        none.and(labels)
    }

    /// Also transfers these labels, e.g. those of another level of a hierarchy.
    ///
    /// # Errors
    /// As [`LabelTransfer::fit`].
    pub fn and(mut self, labels: &'a Categorical) -> Result<Self> {
        if labels.len() != self.reference.nrows() {
            return Err(Error::LengthMismatch {
                what: "the labels of the reference",
                found: labels.len(),
                expected: self.reference.nrows(),
            });
        }
        if labels.codes().iter().all(Option::is_none) {
            return Err(Error::InvalidParameter {
                name: "the number of labelled reference cells",
                found: "0".into(),
                expected: "at least 1".into(),
            });
        }
        self.levels.push(labels);
        Ok(self)
    }

    /// The number of neighbours that vote; 50 unless set. If fewer reference cells have a label, all of them vote.
    #[must_use]
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }

    /// How neighbours share the vote.
    #[must_use]
    pub fn votes(mut self, votes: Votes) -> Self {
        self.votes = votes;
        self
    }

    /// The labels of query cells, `[n_query, dimensions]`; of the first level.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if `k` is 0, [`Error::LengthMismatch`] if query and reference differ in dimensions,
    /// [`Error::InvalidCoordinate`] if a coordinate is not finite.
    pub fn transfer(&self, query: ArrayView2<'_, f32>) -> Result<Transferred> {
        let first = Self {
            levels: self.levels.iter().take(1).copied().collect(),
            ..self.clone()
        };
        // `fit` makes sure that there is a level.
        let mut levels = first.transfer_levels(query)?;
        levels.pop().ok_or(Error::InvalidParameter {
            name: "the number of levels",
            found: "0".into(),
            expected: "at least 1".into(),
        })
    }

    /// The labels of query cells, for each level in the order in which they were given.
    ///
    /// # Errors
    /// As [`LabelTransfer::transfer`].
    pub fn transfer_levels(&self, query: ArrayView2<'_, f32>) -> Result<Vec<Transferred>> {
        let mut voters: Option<(Vec<usize>, Neighbors)> = None;
        self.levels
            .iter()
            .map(|labels| {
                let rows = labelled(labels);
                // Levels with the same labelled cells share the neighbours.
                let near = match voters.take() {
                    Some((same, near)) if same == rows => near,
                    _ => self.neighbors(&rows, query)?,
                };
                let codes: Vec<u32> = rows.iter().filter_map(|&r| labels.codes()[r]).collect();
                let out = self.count(&near, &codes, labels.categories());
                voters = Some((rows, near));
                out
            })
            .collect()
    }

    /// The neighbours of query cells among some rows of the reference, numbered within these.
    fn neighbors(&self, rows: &[usize], query: ArrayView2<'_, f32>) -> Result<Neighbors> {
        let k = self.k.min(rows.len());
        if rows.len() == self.reference.nrows() {
            knn_query(self.reference, query, k)
        } else {
            knn_query(self.reference.select(Axis(0), rows).view(), query, k)
        }
    }

    /// The votes of neighbours with these codes.
    fn count(&self, near: &Neighbors, codes: &[u32], categories: &[String]) -> Result<Transferred> {
        let (n, classes) = (near.n_points(), categories.len());
        let rows: Vec<Vec<f64>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let weights = weights(near.distances.row(i), self.votes);
                let mut scores = vec![0.0; classes];
                for (&j, w) in near.indices.row(i).iter().zip(weights) {
                    scores[codes[j as usize] as usize] += w;
                }
                scores
            })
            .collect();
        let mut scores = Array2::zeros((n, classes));
        for (mut out, row) in scores.rows_mut().into_iter().zip(&rows) {
            out.iter_mut().zip(row).for_each(|(o, &v)| *o = v);
        }
        let (best, uncertainty): (Vec<_>, Vec<_>) = rows.iter().map(|row| winner(row)).unzip();
        Ok(Transferred {
            labels: Categorical::new(best, categories.to_vec(), false)?,
            uncertainty,
            scores,
        })
    }
}

/// The rows with a label.
fn labelled(labels: &Categorical) -> Vec<usize> {
    let codes = labels.codes().iter().enumerate();
    codes.filter_map(|(i, c)| c.map(|_| i)).collect()
}

/// The weights of the neighbours of a cell, which sum to 1.
fn weights(distances: ArrayView1<'_, f32>, votes: Votes) -> Vec<f64> {
    let d: Vec<f64> = distances.iter().map(|&d| f64::from(d)).collect();
    let n = d.len().max(1) as f64;
    let rate = match votes {
        Votes::Equal => 0.0,
        Votes::Distance => {
            let mean = d.iter().sum::<f64>() / n;
            d.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n / 4.0
        }
    };
    // Shifted, so that the nearest has a weight however far all are. The sum undoes it.
    let nearest = d.iter().copied().fold(f64::INFINITY, f64::min);
    let raw: Vec<f64> = d.iter().map(|d| (-(d - nearest) * rate).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| w / sum).collect()
}

/// The first of the highest scores, and 1 minus it.
fn winner(scores: &[f64]) -> (Option<u32>, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (class, &score) in scores.iter().enumerate() {
        if score > best.1 {
            best = (class as u32, score);
        }
    }
    // Rounding can carry the sum of all votes beyond 1.
    (Some(best.0), (1.0 - best.1).max(0.0))
}

/// Labels that were transferred; see [`LabelTransfer`].
#[derive(Debug, Clone, PartialEq)]
pub struct Transferred {
    labels: Categorical,
    uncertainty: Vec<f64>,
    scores: Array2<f64>,
}

impl Transferred {
    /// The label with the highest score of each cell, however uncertain. The categories are those of the reference.
    pub fn labels(&self) -> &Categorical {
        &self.labels
    }

    /// The labels, and [`UNKNOWN`] where the uncertainty exceeds `threshold` ([`UNKNOWN_ABOVE`] is customary).
    ///
    /// # Errors
    /// None that are known: the labels were checked when they were made.
    pub fn labels_or_unknown(&self, threshold: f64) -> Result<Categorical> {
        let mut categories = self.labels.categories().to_vec();
        let unknown = match categories.iter().position(|c| c == UNKNOWN) {
            Some(there) => there as u32,
            None => {
                categories.push(UNKNOWN.to_owned());
                categories.len() as u32 - 1
            }
        };
        let cells = self.labels.codes().iter().zip(&self.uncertainty);
        let codes = cells.map(|(&c, &u)| if u > threshold { Some(unknown) } else { c });
        Ok(Categorical::new(codes.collect(), categories, false)?)
    }

    /// 1 minus the score of the label, for each cell: 0 if all neighbours agree.
    pub fn uncertainty(&self) -> &[f64] {
        &self.uncertainty
    }

    /// The score of each category, `[n_query, n_categories]`; rows sum to 1.
    pub fn scores(&self) -> ArrayView2<'_, f64> {
        self.scores.view()
    }

    /// The categories that the columns of [`scores`](Self::scores) stand for.
    pub fn categories(&self) -> &[String] {
        self.labels.categories()
    }

    /// The share of cells whose label is the true one, compared by name; cells without a true label don't count.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] unless there is a true label, or a missing one, for each cell; [`Error::InvalidParameter`]
    /// if all are missing.
    pub fn accuracy(&self, truth: &Categorical) -> Result<f64> {
        if truth.len() != self.labels.len() {
            return Err(Error::LengthMismatch {
                what: "the true labels",
                found: truth.len(),
                expected: self.labels.len(),
            });
        }
        let pairs = self.labels.iter().zip(truth.iter());
        let hits: Vec<bool> = pairs
            .filter_map(|(found, truth)| truth.map(|t| found == Some(t)))
            .collect();
        if hits.is_empty() {
            return Err(Error::InvalidParameter {
                name: "the number of cells with a true label",
                found: "0".into(),
                expected: "at least 1".into(),
            });
        }
        Ok(hits.iter().filter(|&&h| h).count() as f64 / hits.len() as f64)
    }
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
