//! Quasi-likelihood tests of negative binomial models (Lund, Nettleton, McCarthy and Smyth, "Detecting differential
//! expression in RNA-sequence data using quasi-likelihood with shrunken dispersion estimates", Stat Appl Genet Mol Biol
//! 2012).

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::abundance::{average_log_cpm, prior_counts};
use super::dispersion::{self, ZERO};
use super::linear::{null_design, rank};
use super::nb_glm::{Fit, Fitter};
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

/// The fit of one row under both hypotheses.
struct RowFit {
    full: Fit,
    null_deviance: f64,
    /// Of the model without overdispersion.
    poisson_p: f64,
    log_fc: f64,
    /// Residual degrees of freedom.
    df: f64,
}

/// Tests each row: negative binomial models with the trended dispersion, whose deviance over its degrees of freedom is a
/// variance `s^2` that is squeezed towards that of the other rows, `s~^2`. Then `F = (D0 - D1) / s~^2` has 1 and `df + d0` degrees
/// of freedom. `None` if no row has enough counts, or fewer than two have residual degrees of freedom.
pub(super) fn test(problem: &Problem<'_>) -> Option<Tested> {
    let log_cpm = average_log_cpm(problem.counts, problem.sizes);
    let offset: Vec<f64> = problem.sizes.iter().map(|n| n.ln()).collect();
    let dispersion = dispersion::estimate(problem.counts, &offset, problem.design, &log_cpm)?;
    let fits = fit_rows(problem, &offset, &dispersion.trended);
    let variance: Vec<f64> = fits
        .iter()
        .map(|f| {
            if f.df > 0.0 {
                f.full.deviance / f.df
            } else {
                0.0
            }
        })
        .collect();
    let df: Vec<f64> = fits.iter().map(|f| f.df).collect();
    let prior = squeeze::prior(&variance, &df, &log_cpm, problem.robust)?;
    let all_df: f64 = df.iter().sum();
    let rows = (0..fits.len())
        .map(|g| {
            let fit = &fits[g];
            let s2 = posterior(variance[g], df[g], prior.variance[g], prior.df[g]);
            let f = (fit.null_deviance - fit.full.deviance).max(0.0) / s2;
            let mut p_value = f_upper(f, 1.0, (df[g] + prior.df[g]).min(all_df));
            // No row varies less than by counting alone.
            let phi = dispersion.trended[g];
            if fit.full.means.iter().any(|mu| s2 * (1.0 + phi * mu) < 1.0) {
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
        not_converged: fits.iter().filter(|f| !f.full.converged).count(),
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
                let null_deviance = null_fitter.fit(&y, offset, phi, None).deviance;
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
                    null_deviance,
                    poisson_p: chi_square_upper(poisson, 1.0),
                    log_fc: log_fc / std::f64::consts::LN_2,
                    full,
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
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn degrees_of_freedom_of_empty_groups() {
        let design = array![
            [1.0, 0.0],
            [1.0, 0.0],
            [1.0, 0.0],
            [1.0, 1.0],
            [1.0, 1.0],
            [1.0, 1.0]
        ];
        let y = [1.0, 0.0, 3.0, 0.0, 0.0, 0.0];
        assert_eq!(residual_df(&y, &[1.0; 6], design.view()), 4.0);
        assert_eq!(
            residual_df(&y, &[1.3, 1.3, 1.3, 1e-9, 1e-9, 1e-9], design.view()),
            2.0
        );
        assert_eq!(residual_df(&[0.0; 6], &[1e-9; 6], design.view()), 0.0);
    }
}
