use ndarray::{Array2, Axis};
use sc_model::Parity;
use serde::Serialize;

use super::FateMatrix;
use super::ranking::{auroc, average_precision, pearson};
use crate::{Error, Result};

/// How the cross-entropy `-sum_f F_obs ln F_hat` of fates is made finite where a predicted fraction is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum CrossEntropy {
    /// The mean over cells, `epsilon` added to predicted fractions.
    Mean {
        /// What is added.
        epsilon: f64,
    },
    /// The sum over cells, predicted fractions clipped to `epsilon` and `1 - epsilon`: scDiffEq's training callback, with 1e-7.
    Sum {
        /// The least fraction.
        epsilon: f64,
    },
}

impl Default for CrossEntropy {
    /// The mean over cells with 1e-8.
    fn default() -> Self {
        Self::Mean { epsilon: 1e-8 }
    }
}

/// How well fates were predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FateScores {
    /// Cells.
    pub n_cells: usize,
    /// The share of cells whose most frequent fate was predicted.
    pub accuracy: f64,
    /// [`cross_entropy`], the mean over cells.
    pub cross_entropy: f64,
    /// Fate by fate.
    pub fates: Vec<OneFate>,
    /// Average precision over all pairs of a cell and a fate.
    pub average_precision_micro: Option<f64>,
    /// The mean over the fates that some cell has.
    pub average_precision_macro: Option<f64>,
    /// The mean over the fates that some cells have and some don't.
    pub auroc_macro: Option<f64>,
}

/// How well one fate was predicted. A cell has a fate if its observed fraction is at least the threshold of
/// [`fate_scores`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OneFate {
    /// Its name.
    pub fate: String,
    /// Cells that have it.
    pub n_cells: usize,
    /// None if all or no cells have it.
    pub auroc: Option<f64>,
    /// None if no cell has it.
    pub average_precision: Option<f64>,
    /// Pearson's correlation of observed and predicted fractions; none if one doesn't vary.
    pub correlation: Option<f64>,
}

/// The fraction above which a cell counts as having a fate, in the original's evaluation of cells with several.
pub const HAS_FATE: f64 = 0.3;

/// The share of cells whose predicted most frequent fate is the observed one (the first of equal ones).
///
/// Where no differentiated fate was predicted the prediction is wrong; the original's callback takes the first fate
/// (`Parity::Upstream`).
///
/// # Errors
/// [`Error::Shape`] unless both are of the same cells, [`Error::Empty`] if there are none.
pub fn accuracy(observed: &FateMatrix, predicted: &FateMatrix, parity: Parity) -> Result<f64> {
    same_cells(observed, predicted)?;
    let named = |m: &FateMatrix, best: Option<usize>| best.and_then(|j| m.fates().get(j).cloned());
    let pairs = observed
        .dominant(Parity::Upstream)
        .into_iter()
        .zip(predicted.dominant(parity));
    let hits = pairs.filter(|(o, p)| p.is_some() && named(observed, *o) == named(predicted, *p));
    Ok(hits.count() as f64 / observed.n_cells() as f64)
}

/// `-sum_f F_obs ln F_hat`; fates are compared by name. To count undecided paths too, leave their label in `predicted`.
///
/// # Errors
/// As [`accuracy`].
pub fn cross_entropy(
    observed: &FateMatrix,
    predicted: &FateMatrix,
    kind: CrossEntropy,
) -> Result<f64> {
    let (of_cells, n) = (
        entropies(observed, predicted, kind)?,
        observed.n_cells() as f64,
    );
    let sum: f64 = of_cells.iter().sum();
    Ok(match kind {
        CrossEntropy::Mean { .. } => sum / n,
        CrossEntropy::Sum { .. } => sum,
    })
}

/// The Kullback-Leibler divergence of the observed from the predicted fates of each cell, predicted fractions clipped to
/// 1e-7 and 1 - 1e-7.
///
/// # Errors
/// As [`accuracy`].
pub fn divergences(observed: &FateMatrix, predicted: &FateMatrix) -> Result<Vec<f64>> {
    let cross = entropies(observed, predicted, CrossEntropy::Sum { epsilon: 1e-7 })?;
    let own = observed.entropy();
    Ok(cross.iter().zip(own).map(|(c, h)| c - h).collect())
}

/// Pearson's correlation of `a / (a + b)` observed and predicted; none if one doesn't vary.
///
/// # Errors
/// As [`accuracy`] and [`FateMatrix::bias`].
pub fn bias_correlation(
    observed: &FateMatrix,
    predicted: &FateMatrix,
    a: &str,
    b: &str,
) -> Result<Option<f64>> {
    same_cells(observed, predicted)?;
    Ok(pearson(&observed.bias(a, b)?, &predicted.bias(a, b)?))
}

/// All scores. A cell has the fates of which its observed fraction is at least `threshold`, usually [`HAS_FATE`]. Fates are
/// those observed.
///
/// # Errors
/// As [`accuracy`].
pub fn fate_scores(
    observed: &FateMatrix,
    predicted: &FateMatrix,
    threshold: f64,
) -> Result<FateScores> {
    let accuracy = accuracy(observed, predicted, Parity::Correct)?;
    let has = observed.fractions().mapv(|v| v > 0.0 && v >= threshold);
    let scores = predicted.columns_of(observed.fates());
    let fates: Vec<OneFate> = observed
        .fates()
        .iter()
        .enumerate()
        .map(|(j, fate)| one_fate(fate, j, observed, &scores, &has))
        .collect();
    let mean = |of: fn(&OneFate) -> Option<f64>| {
        let known: Vec<f64> = fates.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let all_scores: Vec<f64> = scores.iter().copied().collect();
    let all_has: Vec<bool> = has.iter().copied().collect();
    Ok(FateScores {
        n_cells: observed.n_cells(),
        accuracy,
        cross_entropy: cross_entropy(observed, predicted, CrossEntropy::default())?,
        average_precision_micro: average_precision(&all_scores, &all_has),
        average_precision_macro: mean(|f| f.average_precision),
        auroc_macro: mean(|f| f.auroc),
        fates,
    })
}

fn one_fate(
    fate: &str,
    j: usize,
    observed: &FateMatrix,
    scores: &Array2<f64>,
    has: &Array2<bool>,
) -> OneFate {
    let has: Vec<bool> = has.column(j).to_vec();
    let scores: Vec<f64> = scores.column(j).to_vec();
    OneFate {
        fate: fate.to_owned(),
        n_cells: has.iter().filter(|h| **h).count(),
        auroc: auroc(&scores, &has),
        average_precision: average_precision(&scores, &has),
        correlation: pearson(&observed.fractions().column(j).to_vec(), &scores),
    }
}

/// The cross-entropy of each cell.
fn entropies(
    observed: &FateMatrix,
    predicted: &FateMatrix,
    kind: CrossEntropy,
) -> Result<Vec<f64>> {
    same_cells(observed, predicted)?;
    let safe = |p: f64| match kind {
        CrossEntropy::Mean { epsilon } => p + epsilon,
        CrossEntropy::Sum { epsilon } => p.clamp(epsilon, 1.0 - epsilon),
    };
    let predicted = predicted.columns_of(observed.fates());
    let rows = observed.fractions().axis_iter(Axis(0));
    let of_cell = |(o, p): (ndarray::ArrayView1<'_, f64>, ndarray::ArrayView1<'_, f64>)| {
        let terms = o.iter().zip(p).filter(|(o, _)| **o > 0.0);
        terms.map(|(o, p)| -o * safe(*p).ln()).sum::<f64>()
    };
    Ok(rows
        .zip(predicted.axis_iter(Axis(0)))
        .map(of_cell)
        .collect())
}

fn same_cells(observed: &FateMatrix, predicted: &FateMatrix) -> Result<()> {
    let (n, found) = (observed.n_cells(), predicted.n_cells());
    if n == 0 {
        return Err(Error::Empty {
            what: "the set of cells with observed fates",
            found: vec![0, observed.fates().len()],
        });
    }
    match n == found {
        true => Ok(()),
        false => Err(Error::Shape {
            what: "the predicted fates",
            found: vec![found, predicted.fates().len()],
            expected: format!("[{n}, fates], one row for each cell with observed fates"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn matrix(values: Array2<f64>) -> FateMatrix {
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        FateMatrix::new(names, values).unwrap()
    }

    /// The numbers of the specification, computed with the original's formulas.
    #[test]
    fn known_numbers() {
        let observed = matrix(array![[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.25, 0.75]]);
        let predicted = matrix(array![[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]]);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-11, "{found}");
        let sum = CrossEntropy::Sum { epsilon: 1e-7 };
        near(
            cross_entropy(&observed, &predicted, sum).unwrap(),
            17.501_519_514_841,
        );
        let mean = CrossEntropy::default();
        near(
            cross_entropy(&observed, &predicted, mean).unwrap(),
            6.601_368_187_929,
        );
        near(
            accuracy(&observed, &predicted, Parity::Correct).unwrap(),
            2.0 / 3.0,
        );
    }

    #[test]
    fn fates_are_compared_by_name() {
        let observed = matrix(array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
        let names = ["b", "undecided", "a"].map(str::to_owned).to_vec();
        let predicted = FateMatrix::new(names, array![[0.0, 0.2, 0.8], [0.6, 0.4, 0.0]]).unwrap();
        let scores = fate_scores(&observed, &predicted, HAS_FATE).unwrap();
        assert_eq!(scores.accuracy, 1.0);
        assert_eq!(scores.fates[0].auroc, Some(1.0));
        assert_eq!(scores.fates[2].auroc, None);
        assert_eq!(scores.fates[2].average_precision, None);
        assert!((scores.cross_entropy + (0.8f64.ln() + 0.6f64.ln()) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn no_prediction_is_wrong_unless_upstream() {
        let observed = matrix(array![[1.0, 0.0, 0.0]]);
        let nothing = matrix(array![[0.0, 0.0, 0.0]]);
        let score = |parity| accuracy(&observed, &nothing, parity).unwrap();
        assert_eq!(
            (score(Parity::Correct), score(Parity::Upstream)),
            (0.0, 1.0)
        );
        let other = matrix(Array2::zeros((2, 3)));
        assert!(accuracy(&observed, &other, Parity::Correct).is_err());
        let none = matrix(Array2::zeros((0, 3)));
        assert!(accuracy(&none, &none, Parity::Correct).is_err());
    }
}
