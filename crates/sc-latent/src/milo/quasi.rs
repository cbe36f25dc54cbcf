//! Quasi-likelihood tests of negative binomial models (Lund, Nettleton, McCarthy and Smyth, "Detecting differential
//! expression in RNA-sequence data using quasi-likelihood with shrunken dispersion estimates", Stat Appl Genet Mol Biol
//! 2012).

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::abundance::{average_log_cpm, prior_counts};
use super::dispersion::{self, Dispersion, ZERO};
use super::linear::{null_design, rank};
use super::nb_glm::Fitter;
use super::special::{chi_square_upper, f_upper};
use super::squeeze::{self, posterior};

/// Counts added to a sample of average size for the fold change.
const PRIOR_COUNT: f64 = 0.125;

/// Counts of rows by sample, and what they are compared by.
pub(super) struct Problem<'a> {
    /// `[rows, samples]`
    pub(super) counts: ArrayView2<'a, f64>,
    /// The effective size of each sample.
    pub(super) sizes: &'a [f64],
    /// `[samples, coefficients]`
    pub(super) design: ArrayView2<'a, f64>,
    /// The combination of coefficients that is 0 if nothing changes.
    pub(super) contrast: &'a [f64],
    /// Whether rows with outlying variances are told apart.
    pub(super) robust: bool,
}

/// What the test says about one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RowTest {
    /// The tested combination, as a logarithm to base 2.
    pub(super) log_fc: f64,
    /// Mean abundance, log2 of counts per million.
    pub(super) log_cpm: f64,
    pub(super) f: f64,
    pub(super) p_value: f64,
}

/// The tests and the parameters that all rows share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tested {
    pub(super) rows: Vec<RowTest>,
    pub(super) common_dispersion: f64,
    /// The median of the prior degrees of freedom; may be infinite.
    pub(super) prior_df: f64,
    /// Rows whose fit did not come to an end.
    pub(super) not_converged: usize,
}

/// What is kept of the fits of one row under both hypotheses: a few numbers, none for each sample.
struct RowFit {
    deviance: f64,
    null_deviance: f64,
    /// The smallest fitted mean.
    least_mean: f64,
    /// Of the model without overdispersion.
    poisson_p: f64,
    log_fc: f64,
    /// Residual degrees of freedom.
    df: f64,
    converged: bool,
}

/// What rows are tested with, found without regard to what is tested.
pub(super) struct Prepared {
    log_cpm: Vec<f64>,
    dispersion: Dispersion,
}

/// The abundance of rows and their dispersion. `None` if no row has enough counts.
pub(super) fn prepare(problem: &Problem<'_>) -> Option<Prepared> {
    let log_cpm = average_log_cpm(problem.counts, problem.sizes);
    let offset = logarithms(problem.sizes);
    let dispersion = dispersion::estimate(problem.counts, &offset, problem.design, &log_cpm)?;
    Some(Prepared {
        log_cpm,
        dispersion,
    })
}

fn logarithms(sizes: &[f64]) -> Vec<f64> {
    sizes.iter().map(|n| n.ln()).collect()
}

/// Tests each row: negative binomial models with the trended dispersion, whose deviance over its degrees of freedom is a
/// variance `s^2` that is squeezed towards that of the other rows, `s~^2`. Then `F = (D0 - D1) / s~^2` has 1 and `df + d0` degrees
/// of freedom. `None` if fewer than two rows have residual degrees of freedom.
///
/// The problem may be that which was prepared with sizes that differ by a combination of the design's columns: the models
/// fit as well then, and only what is tested is another.
pub(super) fn test(problem: &Problem<'_>, prepared: &Prepared) -> Option<Tested> {
    let Prepared {
        log_cpm,
        dispersion,
    } = prepared;
    let offset = logarithms(problem.sizes);
    let fits = fit_rows(problem, &offset, &dispersion.trended);
    let variance: Vec<f64> = fits
        .iter()
        .map(|f| if f.df > 0.0 { f.deviance / f.df } else { 0.0 })
        .collect();
    let df: Vec<f64> = fits.iter().map(|f| f.df).collect();
    let prior = squeeze::prior(&variance, &df, log_cpm, problem.robust)?;
    let all_df: f64 = df.iter().sum();
    let rows = (0..fits.len())
        .map(|g| {
            let fit = &fits[g];
            let s2 = posterior(variance[g], df[g], prior.variance[g], prior.df[g]);
            let f = (fit.null_deviance - fit.deviance).max(0.0) / s2;
            let mut p_value = f_upper(f, 1.0, (df[g] + prior.df[g]).min(all_df));
            // No row varies less than by counting alone.
            let phi = dispersion.trended[g];
            if s2 * (1.0 + phi * fit.least_mean) < 1.0 {
                p_value = p_value.max(fit.poisson_p);
            }
            RowTest {
                log_fc: fit.log_fc,
                log_cpm: log_cpm[g],
                f,
                p_value,
            }
        })
        .collect();
    Some(Tested {
        rows,
        common_dispersion: dispersion.common,
        prior_df: super::ranks::quantile(&prior.df, 0.5),
        not_converged: fits.iter().filter(|f| !f.converged).count(),
    })
}

fn fit_rows(problem: &Problem<'_>, offset: &[f64], dispersion: &[f64]) -> Vec<RowFit> {
    let null: Array2<f64> = null_design(problem.design, problem.contrast);
    let (added, prior_offset) = prior_counts(problem.sizes, PRIOR_COUNT);
    problem
        .counts
        .outer_iter()
        .into_par_iter()
        .zip(dispersion)
        .map_init(
            || (Fitter::new(problem.design), Fitter::new(null.view())),
            |(fitter, null_fitter), (row, &phi)| {
                let y = row.to_vec();
                let full = fitter.fit(&y, offset, phi, None);
                let null = null_fitter.fit(&y, offset, phi, None);
                let poisson = null_fitter.fit(&y, offset, 0.0, None).deviance
                    - fitter.fit(&y, offset, 0.0, None).deviance;
                let raised: Vec<f64> = y.iter().zip(&added).map(|(y, a)| y + a).collect();
                let shrunk = fitter.fit(&raised, &prior_offset, phi, None);
                let log_fc: f64 = shrunk
                    .coefficients
                    .iter()
                    .zip(problem.contrast)
                    .map(|(b, c)| b * c)
                    .sum();
                RowFit {
                    df: residual_df(&y, &full.means, problem.design),
                    deviance: full.deviance,
                    null_deviance: null.deviance,
                    least_mean: full.means.iter().copied().fold(f64::INFINITY, f64::min),
                    poisson_p: chi_square_upper(poisson, 1.0),
                    log_fc: log_fc / std::f64::consts::LN_2,
                    converged: full.converged && null.converged,
                }
            },
        )
        .collect()
}

/// Samples less coefficients, neither counting those of groups without counts.
fn residual_df(y: &[f64], means: &[f64], design: ArrayView2<'_, f64>) -> f64 {
    let present: Vec<bool> = y
        .iter()
        .zip(means)
        .map(|(&y, &m)| y >= ZERO || m >= ZERO)
        .collect();
    let n = present.iter().filter(|p| **p).count();
    let p = if n == y.len() {
        design.ncols()
    } else {
        rank(design, |i| present[i])
    };
    n.saturating_sub(p) as f64
}

#[cfg(test)]
#[path = "quasi_tests.rs"]
mod tests;
