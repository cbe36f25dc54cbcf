//! From scores within batches to one choice.

use std::cmp::Ordering;

use super::{HighlyVariable, HvgFlavor, HvgOptions, HvgSelection};
use crate::stats::median;
use crate::{Error, Result};

/// Mean and variance of all cells, and the scores within each batch.
pub(super) struct Scored {
    pub(super) means: Vec<f64>,
    pub(super) variances: Vec<f64>,
    pub(super) by_batch: Vec<Vec<f64>>,
}

/// The positions of the `n` highest scores, best first; of equal ones the first. NaN is no score.
pub(super) fn best(scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&g| !scores[g].is_nan()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(n);
    order
}

/// The mean of the numbers among the values of each gene in the batches; NaN if there is none.
pub(super) fn mean_over_batches(by_batch: &[Vec<f64>]) -> Vec<f64> {
    let genes = by_batch.first().map_or(0, Vec::len);
    (0..genes)
        .map(|g| {
            let (mut sum, mut n) = (0.0, 0.0);
            for value in by_batch.iter().filter_map(|b| b.get(g)) {
                if !value.is_nan() {
                    sum += value;
                    n += 1.0;
                }
            }
            sum / n
        })
        .collect()
}

/// Chooses genes by their ranks within batches.
pub(super) fn by_ranks(
    scored: Scored,
    options: &HvgOptions,
    has_batches: bool,
) -> Result<HighlyVariable> {
    let HvgSelection::Top(n_top) = options.select else {
        return Err(Error::InvalidParameter {
            name: "the selection",
            found: "bounds".into(),
            expected: "a number of genes".into(),
        });
    };
    let genes = scored.means.len();
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); genes];
    for scores in &scored.by_batch {
        for (rank, g) in best(scores, n_top).into_iter().enumerate() {
            found[g].push(rank as f64);
        }
    }
    let counts: Vec<usize> = found.iter().map(Vec::len).collect();
    let ranks: Vec<f64> = found.iter_mut().map(|r| median(r)).collect();
    let mut order: Vec<usize> = (0..genes).filter(|&g| counts[g] > 0).collect();
    let by_rank = |a: usize, b: usize| ranks[a].total_cmp(&ranks[b]);
    let by_count = |a: usize, b: usize| counts[b].cmp(&counts[a]);
    order.sort_by(|&a, &b| -> Ordering {
        match options.flavor {
            HvgFlavor::SeuratV3 => by_rank(a, b).then(by_count(a, b)),
            _ => by_count(a, b).then(by_rank(a, b)),
        }
    });
    order.truncate(n_top);
    order.sort_unstable();
    Ok(HighlyVariable {
        scores: mean_over_batches(&scored.by_batch),
        means: scored.means,
        dispersions: scored.variances,
        ranks: Some(ranks),
        n_batches: has_batches.then_some(counts),
        batches: scored.by_batch.len(),
        genes: order,
    })
}
