use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::Serialize;

use crate::{Error, Result};

/// Which perturbation made these cells? For each query, a profile observed after the perturbation `truth[i]`, the rank (from 0)
/// of the true one among all candidates by the Euclidean distance of their predicted profiles; `None` if it is no candidate.
///
/// Queries are `[n, genes]`, candidates `[candidates, genes]`, usually means of predicted cells of every single and double
/// perturbation. Of equally distant candidates the first comes first.
///
/// # Errors
/// [`Error::Length`] if shapes don't fit.
pub fn ranks_of_truth(
    queries: ArrayView2<'_, f32>,
    candidates: ArrayView2<'_, f32>,
    truth: &[Option<usize>],
) -> Result<Vec<Option<usize>>> {
    for (what, found, expected) in [
        ("the true perturbations", truth.len(), queries.nrows()),
        ("a candidate", candidates.ncols(), queries.ncols()),
    ] {
        if found != expected {
            return Err(Error::Length {
                what,
                found,
                expected,
            });
        }
    }
    let of_query = |(i, truth): (usize, &Option<usize>)| {
        let truth = truth.filter(|&t| t < candidates.nrows())?;
        let query = queries.row(i);
        let distance = |c: usize| -> f64 {
            let pairs = query.iter().zip(candidates.row(c));
            pairs
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum()
        };
        let own = distance(truth);
        let nearer = |&c: &usize| {
            let d = distance(c);
            d < own || (d == own && c < truth)
        };
        Some((0..candidates.nrows()).filter(nearer).count())
    };
    Ok(truth.par_iter().enumerate().map(of_query).collect())
}

/// How often the true perturbation is among the first candidates.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HitRates {
    /// `K` and the share of queries whose true perturbation is among the first `K`. A query without one is no hit.
    pub at: Vec<(usize, f64)>,
    /// The mean of `1 / (rank + 1)`, 0 for a query whose true perturbation is no candidate.
    pub mean_reciprocal_rank: f64,
}

impl HitRates {
    /// Of these ranks.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] without any query.
    pub fn new(ranks: &[Option<usize>], at: &[usize]) -> Result<Self> {
        if ranks.is_empty() {
            return Err(Error::InvalidSetting {
                name: "ranks",
                value: "none".into(),
                reason: "a share of no query is not defined".into(),
            });
        }
        let n = ranks.len() as f64;
        let hits = |k: usize| ranks.iter().flatten().filter(|&&r| r < k).count() as f64;
        let reciprocal = ranks.iter().flatten().map(|&r| 1.0 / (r + 1) as f64);
        Ok(Self {
            at: at.iter().map(|&k| (k, hits(k) / n)).collect(),
            mean_reciprocal_rank: reciprocal.sum::<f64>() / n,
        })
    }
}
