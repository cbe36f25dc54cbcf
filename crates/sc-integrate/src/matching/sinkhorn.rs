//! Matching by entropic optimal transport.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use sc_data::Csr;

use super::{both, normalized};
use crate::{Error, Result};

/// Options of [`sinkhorn`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SinkhornOptions {
    /// How soft the matching is, relative to costs between 0 and 1.
    pub epsilon: f64,
    /// Iterations at most.
    pub max_iterations: usize,
    /// Stops where no row's sum is off by more than this, relative to what it should be.
    pub tolerance: f64,
    /// Entries of each row that are kept, the largest; `None` keeps all.
    pub keep: Option<usize>,
}

impl Default for SinkhornOptions {
    fn default() -> Self {
        Self {
            epsilon: 0.01,
            max_iterations: 10_000,
            tolerance: 1e-7,
            keep: Some(1000),
        }
    }
}

/// Matches all cells of both sides at once: the transport plan between uniform weights whose costs, `1 - cos` brought to between 0
/// and 1, are least, made softer by `epsilon` (MatchCLOT, Gossi et al. 2023). Each cell of `y` can be taken only once over, which
/// neighbours alone don't see to.
///
/// Takes memory for all pairs.
///
/// # Errors
/// As [`shared_neighbours`](super::shared_neighbours); [`Error::InvalidSetting`] for an `epsilon` that is not positive, and if
/// a coordinate is not finite.
pub fn sinkhorn(
    x: ArrayView2<'_, f32>,
    y: ArrayView2<'_, f32>,
    options: &SinkhornOptions,
) -> Result<Csr> {
    let (x, y) = both(x, y)?;
    if !(options.epsilon.is_finite() && options.epsilon > 0.0) {
        return Err(Error::InvalidSetting {
            name: "epsilon",
            value: options.epsilon.to_string(),
            reason: "it must be a positive number".into(),
        });
    }
    let cost = 1.0 - x.mapv(f64::from).dot(&y.mapv(f64::from).t());
    if cost.iter().any(|c| !c.is_finite()) {
        return Err(Error::InvalidSetting {
            name: "embedding",
            value: "NaN".into(),
            reason: "every coordinate must be finite".into(),
        });
    }
    let (low, high) = cost
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &c| {
            (l.min(c), h.max(c))
        });
    let range = if high > low { high - low } else { 1.0 };
    let scores = cost.mapv(|c| -(c - low) / range / options.epsilon);
    let plan = plan(scores, options).masses;
    let rows = plan.outer_iter().map(|row| {
        let mut entries: Vec<(u32, f64)> = (0u32..).zip(row.iter().copied()).collect();
        if let Some(keep) = options.keep.filter(|&k| k < entries.len()) {
            entries.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            entries.truncate(keep.max(1));
        }
        entries.retain(|e| e.1 > 0.0);
        entries
    });
    normalized(rows.collect(), y.nrows())
}

/// A transport plan.
pub(crate) struct Plan {
    /// What each row gives to each column.
    pub(crate) masses: Array2<f64>,
    /// The relative entropy of the plan to that of independent ends: `sum m ln(m n_rows n_columns)`.
    pub(crate) entropy: f64,
}

/// The plan with uniform sums of rows and columns, from `-cost / epsilon`, by iterations in the logarithm.
pub(crate) fn plan(scores: Array2<f64>, options: &SinkhornOptions) -> Plan {
    let (n, m) = scores.dim();
    let (log_a, log_b) = (-(n as f64).ln(), -(m as f64).ln());
    let mut f = Array1::<f64>::zeros(n);
    let mut g = Array1::<f64>::zeros(m);
    let columns = scores.t().as_standard_layout().into_owned();
    for _ in 0..options.max_iterations {
        let next = potentials(&scores, &g, log_a);
        // Before it changes, how far rows are from their sum.
        let off = f
            .iter()
            .zip(&next)
            .map(|(old, new)| (old - new).exp_m1().abs());
        let off = off.fold(0.0, f64::max);
        f = next;
        g = potentials(&columns, &f, log_b);
        if off <= options.tolerance {
            break;
        }
    }
    let mut masses = scores;
    let mut entropy = 0.0;
    for (mut row, f) in masses.axis_iter_mut(Axis(0)).zip(&f) {
        for (v, g) in row.iter_mut().zip(&g) {
            let log = *v + f + g;
            *v = log.exp();
            entropy += *v * (log - log_a - log_b);
        }
    }
    Plan { masses, entropy }
}

/// `log_sum - ln sum_j exp(scores_ij + other_j)` of each row.
fn potentials(scores: &Array2<f64>, other: &Array1<f64>, log_sum: f64) -> Array1<f64> {
    let of_row = |row: ndarray::ArrayView1<'_, f64>| {
        let terms = || row.iter().zip(other).map(|(s, o)| s + o);
        let most = terms().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = terms().map(|t| (t - most).exp()).sum();
        log_sum - most - sum.ln()
    };
    scores.outer_iter().map(of_row).collect()
}
