//! The variance that a gene has beyond what its mean explains.

use sc_data::RowSource;

use super::HvgOptions;
use super::combine::Scored;
use super::loess::loess;
use crate::Result;
use crate::columns::over_columns;
use crate::groups::Groups;
use crate::moments::{Moments, Sums, gathered, grouped_moments};
use crate::values::Check;

/// Means and variances of the counts, and the standardised variances within each batch.
pub(super) fn scores(
    source: &dyn RowSource,
    options: &HvgOptions,
    groups: &Groups,
) -> Result<Scored> {
    let by_batch = grouped_moments(source, groups, Check::NotNegative, f64::from)?;
    let deviations: Vec<Vec<f64>> = by_batch
        .iter()
        .map(|m| expected_deviation(m, options.span))
        .collect();
    let limits: Vec<Vec<f64>> = deviations
        .iter()
        .zip(&by_batch)
        .zip(groups.sizes())
        .map(|((deviation, m), &n)| {
            let both = deviation.iter().zip(&m.mean);
            both.map(|(s, mean)| s * (n as f64).sqrt() + mean).collect()
        })
        .collect();
    let cut_off = cut_off_sums(source, groups, &limits)?;
    let standardised = by_batch
        .iter()
        .zip(&deviations)
        .zip(&cut_off)
        .zip(groups.sizes())
        .map(|(((m, deviation), sums), &n)| standardised_variance(m, deviation, sums, n))
        .collect();
    let all = joined(&by_batch, groups.sizes());
    Ok(Scored {
        means: all.mean,
        variances: all.variance,
        by_batch: standardised,
    })
}

/// For each batch the sums of `min(x, limit)` and of its square.
fn cut_off_sums(source: &dyn RowSource, groups: &Groups, limits: &[Vec<f64>]) -> Result<Vec<Sums>> {
    let n_groups = groups.len();
    let n_cols = source.n_cols();
    let mut first_column = 0;
    // Each part of the columns with its own limits, in the order in which its sums are kept.
    let parts = over_columns(
        source,
        |width| {
            let columns = first_column..(first_column + width).min(n_cols);
            first_column += width;
            let own: Vec<f64> = limits
                .iter()
                .flat_map(|l| l.iter().skip(columns.start).take(columns.len()).copied())
                .collect();
            (Sums::new(width * n_groups), own)
        },
        |_| Ok(()),
        |(sums, limits): &mut (Sums, Vec<f64>), row, column, width, value| {
            let at = groups.of(row) * width + column;
            let v = f64::from(value).min(limits[at]);
            sums.first[at] += v;
            sums.second[at] += v * v;
        },
    )?;
    Ok((0..n_groups)
        .map(|k| Sums {
            first: gathered(&parts, k, |s| &s.0.first),
            second: gathered(&parts, k, |s| &s.0.second),
        })
        .collect())
}

fn standardised_variance(m: &Moments, deviation: &[f64], cut_off: &Sums, n: usize) -> Vec<f64> {
    let n = n as f64;
    (0..deviation.len())
        .map(|g| {
            // The mean is that of the values before the cut-off.
            let mean = m.mean[g];
            let squares = n * mean * mean + cut_off.second[g] - 2.0 * cut_off.first[g] * mean;
            squares / ((n - 1.0) * deviation[g] * deviation[g])
        })
        .collect()
}

/// The moments of all rows from those of groups.
pub(super) fn joined(groups: &[Moments], sizes: &[usize]) -> Moments {
    let genes = groups.first().map_or(0, |m| m.mean.len());
    let n: usize = sizes.iter().sum();
    let mut mean = vec![0.0; genes];
    for (m, &size) in groups.iter().zip(sizes) {
        for (all, own) in mean.iter_mut().zip(&m.mean) {
            *all += own * size as f64 / n as f64;
        }
    }
    let mut variance = vec![0.0; genes];
    for (m, &size) in groups.iter().zip(sizes) {
        for g in 0..genes {
            let within = m.variance[g] * (size as f64 - 1.0);
            let between = (m.mean[g] - mean[g]).powi(2) * size as f64;
            variance[g] += (within + between) / (n as f64 - 1.0);
        }
    }
    Moments { mean, variance }
}

/// The standard deviation that genes of each gene's mean usually have; 1 for constant genes.
fn expected_deviation(m: &Moments, span: f64) -> Vec<f64> {
    let varying: Vec<usize> = (0..m.mean.len()).filter(|&g| m.variance[g] > 0.0).collect();
    let x: Vec<f64> = varying.iter().map(|&g| m.mean[g].log10()).collect();
    let y: Vec<f64> = varying.iter().map(|&g| m.variance[g].log10()).collect();
    let mut deviation = vec![1.0; m.mean.len()];
    if !x.is_empty() {
        for (&g, log_variance) in varying.iter().zip(loess(&x, &y, span)) {
            deviation[g] = 10f64.powf(log_variance / 2.0);
        }
    }
    deviation
}
