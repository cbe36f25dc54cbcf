//! Dispersion within bins of the mean: the flavours for normalised logarithms.

use sc_data::RowSource;

use super::combine::{best, mean_over_batches};
use super::{HighlyVariable, HvgFlavor, HvgOptions, HvgSelection};
use crate::Result;
use crate::groups::Groups;
use crate::moments::{Moments, grouped_moments};
use crate::stats::{median, sorted_percentile};
use crate::values::Check;

/// The median absolute deviation of a normal distribution with standard deviation 1.
const MAD_OF_NORMAL: f64 = 0.674_489_750_196_081_7;

/// Means, dispersions and scores of the genes of one batch.
#[derive(Default)]
struct Batch {
    means: Vec<f64>,
    dispersions: Vec<f64>,
    scores: Vec<f64>,
}

pub(super) fn choose(
    source: &dyn RowSource,
    options: &HvgOptions,
    groups: &Groups,
    has_batches: bool,
) -> Result<HighlyVariable> {
    // cell_ranger takes the logarithms as they are.
    let all = if options.flavor == HvgFlavor::Seurat {
        let count = |v: f32| f64::from(v).exp_m1();
        grouped_moments(source, groups, Check::NotNegative, count)?
    } else {
        grouped_moments(source, groups, Check::NotNegative, f64::from)?
    };
    let mut batches: Vec<Batch> = all
        .iter()
        .map(|m| match has_batches {
            true => score_expressed(m, options),
            false => score(m, options),
        })
        .collect();
    if !has_batches && let Some(one) = batches.pop() {
        let genes = chosen(&one, options);
        return Ok(HighlyVariable {
            means: one.means,
            dispersions: one.dispersions,
            scores: one.scores,
            ranks: None,
            n_batches: None,
            batches: 1,
            genes,
        });
    }
    let mut counts = vec![0; source.n_cols()];
    for batch in &batches {
        for g in chosen(batch, options) {
            counts[g] += 1;
        }
    }
    let over = |field: fn(&Batch) -> &Vec<f64>| {
        let by_batch: Vec<Vec<f64>> = batches.iter().map(|b| field(b).clone()).collect();
        mean_over_batches(&by_batch)
    };
    let joint = Batch {
        means: over(|b| &b.means),
        dispersions: over(|b| &b.dispersions),
        scores: over(|b| &b.scores),
    };
    let genes = match options.select {
        HvgSelection::Top(n) => in_most_batches(&counts, &joint.scores, n),
        HvgSelection::Between { .. } => chosen(&joint, options),
    };
    Ok(HighlyVariable {
        means: joint.means,
        dispersions: joint.dispersions,
        scores: joint.scores,
        ranks: None,
        n_batches: Some(counts),
        batches: batches.len(),
        genes,
    })
}

/// The genes of a batch that the options choose, ascending.
fn chosen(batch: &Batch, options: &HvgOptions) -> Vec<usize> {
    let mut genes = match options.select {
        HvgSelection::Top(n) => best(&batch.scores, n),
        HvgSelection::Between { mean, score } => {
            let within = |v: f64, (low, high): (f64, f64)| v > low && v < high;
            // A gene without a score is an ordinary one, and no score is too large for a bound at infinity.
            let ordinary = |s: f64| if s.is_nan() { 0.0 } else { s.min(f64::MAX) };
            (0..batch.means.len())
                .filter(|&g| within(batch.means[g], mean))
                .filter(|&g| within(ordinary(batch.scores[g]), score))
                .collect()
        }
    };
    genes.sort_unstable();
    genes
}

/// The `n` genes chosen in most batches; of these with the highest scores.
fn in_most_batches(counts: &[usize], scores: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&g| !scores[g].is_nan()).collect();
    order.sort_by(|&a, &b| {
        let by_count = counts[b].cmp(&counts[a]);
        by_count.then(scores[b].total_cmp(&scores[a]))
    });
    order.truncate(n);
    order.sort_unstable();
    order
}

/// Scores among the genes that the batch has; the others get zeros.
fn score_expressed(m: &Moments, options: &HvgOptions) -> Batch {
    let genes: Vec<usize> = (0..m.mean.len()).filter(|&g| m.mean[g] > 0.0).collect();
    let some = score(
        &Moments {
            mean: genes.iter().map(|&g| m.mean[g]).collect(),
            variance: genes.iter().map(|&g| m.variance[g]).collect(),
        },
        options,
    );
    let spread = |values: &[f64]| {
        let mut all = vec![0.0; m.mean.len()];
        for (&g, &v) in genes.iter().zip(values) {
            all[g] = v;
        }
        all
    };
    Batch {
        means: spread(&some.means),
        dispersions: spread(&some.dispersions),
        scores: spread(&some.scores),
    }
}

fn score(m: &Moments, options: &HvgOptions) -> Batch {
    let seurat = options.flavor == HvgFlavor::Seurat;
    let mut means = Vec::with_capacity(m.mean.len());
    let mut dispersions = Vec::with_capacity(m.mean.len());
    for (&mean, &variance) in m.mean.iter().zip(&m.variance) {
        let mean = if mean == 0.0 { 1e-12 } else { mean };
        let ratio = variance / mean;
        if seurat {
            means.push(mean.ln_1p());
            dispersions.push(if ratio > 0.0 { ratio.ln() } else { f64::NAN });
        } else {
            means.push(mean);
            dispersions.push(ratio);
        }
    }
    let edges = if seurat {
        equal_width_edges(&means, options.n_bins)
    } else {
        percentile_edges(&means)
    };
    let bins: Vec<usize> = means
        .iter()
        .map(|v| edges.partition_point(|e| e < v))
        .collect();
    let of_bins = members(&dispersions, &bins, edges.len() + 1);
    let (centre, spread): (Vec<f64>, Vec<f64>) = of_bins
        .into_iter()
        .map(if seurat {
            mean_and_deviation
        } else {
            median_and_deviation
        })
        .unzip();
    let scores = dispersions
        .iter()
        .zip(&bins)
        .map(|(d, &b)| (d - centre[b]) / spread[b])
        .collect();
    Batch {
        means,
        dispersions,
        scores,
    }
}

/// The inner edges of `n` bins of equal width; a bin contains its upper edge.
fn equal_width_edges(values: &[f64], n: usize) -> Vec<f64> {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let step = (high - low) / n as f64;
    (1..n).map(|k| k as f64 * step + low).collect()
}

/// The 10th, 15th, ... 100th percentile; a bin contains its upper edge.
fn percentile_edges(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    (2..=20)
        .map(|k| sorted_percentile(&sorted, f64::from(k) * 5.0 / 100.0))
        .collect()
}

/// The dispersions in each bin, NaN left out.
fn members(dispersions: &[f64], bins: &[usize], n_bins: usize) -> Vec<Vec<f64>> {
    let mut members: Vec<Vec<f64>> = vec![Vec::new(); n_bins];
    for (&d, &b) in dispersions.iter().zip(bins) {
        if !d.is_nan() {
            members[b].push(d);
        }
    }
    members
}

/// Mean and standard deviation (`n - 1`). A bin of one gene gets mean 0 and its dispersion for deviation, which makes the
/// gene's score 1.
fn mean_and_deviation(values: Vec<f64>) -> (f64, f64) {
    if let [one] = values.as_slice() {
        return (0.0, *one);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|d| (d - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// Median and median absolute deviation, the latter as an estimate of a normal distribution's standard deviation.
fn median_and_deviation(mut values: Vec<f64>) -> (f64, f64) {
    let centre = median(&mut values);
    let mut distances: Vec<f64> = values.iter().map(|v| (v - centre).abs()).collect();
    (centre, median(&mut distances) / MAD_OF_NORMAL)
}
