//! The variance of analytic Pearson residuals, without making the residuals.

use rayon::prelude::*;
use sc_data::RowSource;

use super::HvgOptions;
use super::combine::Scored;
use super::v3::joined;
use crate::Result;
use crate::columns::over_columns;
use crate::groups::Groups;
use crate::moments::{Moments, Sums, gathered};
use crate::values::Check;

/// Residuals of one batch.
struct Model {
    theta: f64,
    clip: f64,
    /// Each gene's share of all counts.
    share: Vec<f64>,
    /// The totals of cells that occur, and how many cells have each: a zero's residual depends on nothing else.
    totals: Vec<(f64, f64)>,
    n: f64,
}

impl Model {
    fn residual(&self, x: f64, mu: f64) -> f64 {
        if mu <= 0.0 {
            return 0.0;
        }
        ((x - mu) / (mu + mu * mu / self.theta).sqrt()).clamp(-self.clip, self.clip)
    }

    /// The sum of residuals and of their squares if all counts of gene `g` were zero.
    fn zeros(&self, g: usize) -> (f64, f64) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for &(total, cells) in &self.totals {
            let r = self.residual(0.0, self.share[g] * total);
            sum += cells * r;
            squares += cells * r * r;
        }
        (sum, squares)
    }
}

/// Means and variances of the counts, and the variances of residuals within each batch.
///
/// A residual is that of a zero plus what the stored entry changes. The former takes genes x distinct totals operations,
/// the latter as many as there are entries.
pub(super) fn scores(
    source: &dyn RowSource,
    options: &HvgOptions,
    groups: &Groups,
) -> Result<Scored> {
    let n_groups = groups.len();
    let mut totals = Vec::with_capacity(source.n_rows());
    let sums = over_columns(
        source,
        |width| Sums::new(width * n_groups),
        |block| {
            totals.extend(block.row_sums());
            Check::NotNegative.block(block)
        },
        |sums: &mut Sums, row, column, width, value| {
            let v = f64::from(value);
            let at = groups.of(row) * width + column;
            sums.first[at] += v;
            sums.second[at] += v * v;
        },
    )?;
    let sizes = groups.sizes();
    let (mut moments, mut models) = (Vec::new(), Vec::new());
    for (k, &size) in sizes.iter().enumerate() {
        let gene_totals = gathered(&sums, k, |s| &s.first);
        let squares = gathered(&sums, k, |s| &s.second);
        moments.push(Moments::from_sums(&gene_totals, &squares, size));
        models.push(model(options, &gene_totals, &totals, groups, k, size));
    }
    let changes = changes(source, groups, &models, &totals)?;
    let by_batch = models
        .iter()
        .zip(&changes)
        .map(|(m, change)| {
            let variance = |g: usize| {
                let (sum, squares) = m.zeros(g);
                let mean = (sum + change.first[g]) / m.n;
                ((squares + change.second[g]) / m.n - mean * mean).max(0.0)
            };
            (0..m.share.len()).into_par_iter().map(variance).collect()
        })
        .collect();
    let all = joined(&moments, sizes);
    Ok(Scored {
        means: all.mean,
        variances: all.variance,
        by_batch,
    })
}

fn model(
    options: &HvgOptions,
    gene_totals: &[f64],
    totals: &[f64],
    groups: &Groups,
    k: usize,
    size: usize,
) -> Model {
    let own = totals
        .iter()
        .enumerate()
        .filter(|(i, _)| groups.of(*i) == k);
    let mut own: Vec<f64> = own.map(|(_, &t)| t).collect();
    own.sort_unstable_by(f64::total_cmp);
    let mut distinct: Vec<(f64, f64)> = Vec::new();
    for total in own {
        match distinct.last_mut() {
            Some((t, cells)) if *t == total => *cells += 1.0,
            _ => distinct.push((total, 1.0)),
        }
    }
    let all: f64 = gene_totals.iter().sum();
    let share = |&t: &f64| if all > 0.0 { t / all } else { 0.0 };
    Model {
        theta: options.theta,
        clip: options.clip.unwrap_or((size as f64).sqrt()),
        share: gene_totals.iter().map(share).collect(),
        totals: distinct,
        n: size as f64,
    }
}

/// What the stored entries change in the sums of residuals and of their squares, for each batch.
fn changes(
    source: &dyn RowSource,
    groups: &Groups,
    models: &[Model],
    totals: &[f64],
) -> Result<Vec<Sums>> {
    let n_groups = groups.len();
    let mut next = 0;
    let parts = over_columns(
        source,
        |width| {
            let first = next;
            next += width;
            (Sums::new(width * n_groups), first)
        },
        |_| Ok(()),
        |(sums, first): &mut (Sums, usize), row, column, width, value| {
            let k = groups.of(row);
            let model = &models[k];
            let mu = model.share[*first + column] * totals[row];
            let (r, zero) = (
                model.residual(f64::from(value), mu),
                model.residual(0.0, mu),
            );
            let at = k * width + column;
            sums.first[at] += r - zero;
            sums.second[at] += r * r - zero * zero;
        },
    )?;
    Ok((0..n_groups)
        .map(|k| Sums {
            first: gathered(&parts, k, |s| &s.0.first),
            second: gathered(&parts, k, |s| &s.0.second),
        })
        .collect())
}
