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
mod tests {
    use super::*;
    use ndarray::array;

    fn prepared_and_tested(problem: &Problem<'_>) -> Tested {
        test(problem, &prepare(problem).unwrap()).unwrap()
    }

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

    /// Sixty rows and eight samples that any language can make again; every tenth row rises in the last four.
    fn counts(with_empty_groups: bool) -> Array2<f64> {
        let mut y = Array2::from_shape_fn((60, 8), |(g, i)| {
            let level = (10 + (g * g * 7) % 90) as f64;
            let noise = 1.0 + ((g * 31 + i * i * 17 + g * i * 5) % 23) as f64 / 20.0;
            let change = if g % 10 == 0 && i >= 4 { 2.5 } else { 1.0 };
            (level * noise * change).floor()
        });
        if with_empty_groups {
            for i in 0..4 {
                (y[[5, 4 + i]], y[[7, i]]) = (0.0, 0.0);
            }
            y.row_mut(6).fill(0.0);
            y[[6, 0]] = 3.0;
        }
        y
    }

    fn tested(with_empty_groups: bool, robust: bool) -> Tested {
        let y = counts(with_empty_groups);
        let sums: Vec<f64> = y.columns().into_iter().map(|c| c.sum()).collect();
        let factors = super::super::tmm::tmm_factors(y.view(), &sums);
        let sizes: Vec<f64> = sums.iter().zip(factors).map(|(n, f)| n * f).collect();
        let design = Array2::from_shape_fn((8, 3), |(i, j)| match j {
            0 => 1.0,
            1 => (i % 2) as f64,
            _ => f64::from(i >= 4),
        });
        prepared_and_tested(&Problem {
            counts: y.view(),
            sizes: &sizes,
            design: design.view(),
            contrast: &[0.0, 0.0, 1.0],
            robust,
        })
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs(), "{a} {b}");
    }

    /// Reference: `glmQLFit`, `glmFit`, `predFC` and `aveLogCPM` of inmoose 0.9.1 with the trended dispersions that the same
    /// equations give in Python (its `adjustedProfileLik` and `maximizeInterpolant`, smoothed with numpy).
    #[test]
    fn tests_agree_with_inmoose() {
        let found = tested(false, false);
        close(found.common_dispersion, 0.029_302_852_150_193_17, 1e-5);
        close(found.prior_df, 2.984_753_650_566_098, 1e-4);
        for (g, log_fc, log_cpm, f, p) in INMOOSE {
            let row = found.rows[g];
            assert!(
                (row.log_fc - log_fc).abs() < 5e-6,
                "{g} {} {log_fc}",
                row.log_fc
            );
            close(row.log_cpm, log_cpm, 1e-8);
            close(row.f, f, 2e-4);
            close(row.p_value, p, 2e-4);
        }
    }
    const INMOOSE: [(usize, f64, f64, f64, f64); 5] = [
        (
            0,
            1.229_649_554_824_728_4,
            12.405_568_083_401_404,
            27.981_440_525_751_715,
            0.000_742_071_832_146_122_2,
        ),
        (
            1,
            -0.229_521_411_279_705_32,
            12.223_981_662_749_264,
            0.730_629_504_176_930_3,
            0.417_586_398_970_235_03,
        ),
        (
            7,
            -0.262_581_826_219_134_4,
            14.486_172_405_809_786,
            4.484_798_074_249_262,
            0.067_126_600_171_625_57,
        ),
        (
            20,
            1.124_679_906_539_551_2,
            13.273_323_357_292_04,
            27.684_151_452_201_327,
            0.000_767_775_900_791_364_1,
        ),
        (
            59,
            -0.018_259_611_488_540_498,
            14.263_475_599_984_043,
            0.007_319_393_288_394_919_5,
            0.933_927_728_576_842_6,
        ),
    ];

    /// Reference: the same equations in Python with statsmodels and scipy, groups without counts and outliers included.
    #[test]
    fn robust_tests_agree_with_a_second_implementation() {
        let found = tested(true, true);
        close(found.common_dispersion, 0.029_935_377_140_781_916, 1e-5);
        close(found.prior_df, 3.443_952_793_664_1, 1e-3);
        for (g, log_fc, f, p) in PYTHON {
            let row = found.rows[g];
            assert!(
                (row.log_fc - log_fc).abs() < 1e-6 * log_fc.abs().max(1.0),
                "{g} {} {log_fc}",
                row.log_fc
            );
            close(row.f, f, 1e-3);
            close(row.p_value, p, 2e-3);
        }
        let plain = tested(true, false);
        close(plain.prior_df, 4.015_409_129_323_455, 1e-4);
        close(plain.rows[5].f, 981.234_484_086_009_6, 1e-3);
        close(plain.rows[7].p_value, 2.274_187_084_291_360_4e-7, 2e-3);
    }
    const PYTHON: [(usize, f64, f64, f64); 7] = [
        (
            0,
            1.204_567_847_352_014_5,
            26.797_570_211_526_153,
            0.000_713_125_763_474_897_2,
        ),
        (
            1,
            -0.255_777_020_110_248_1,
            1.006_262_429_008_318_6,
            0.343_677_234_622_874_3,
        ),
        (
            5,
            -10.457_829_582_282_685,
            1_243.558_656_199_789_5,
            3.347_950_852_599_76e-8,
        ),
        (
            7,
            9.825_917_379_098_456,
            656.191_322_222_277_8,
            6.933_334_732_469_24e-7,
        ),
        (
            10,
            1.098_506_466_114_815_2,
            18.181_139_202_573_437,
            0.002_427_621_217_676_176,
        ),
        (
            20,
            1.099_850_336_918_851,
            25.521_819_145_689_644,
            0.000_837_094_403_209_807_4,
        ),
        (
            59,
            -0.039_649_536_164_421_54,
            0.034_148_150_917_992_9,
            0.857_753_698_471_788_5,
        ),
    ];

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| tested(true, true))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn a_contrast_is_the_coefficient_of_another_coding() {
        let y = counts(false);
        let sizes: Vec<f64> = y.columns().into_iter().map(|c| c.sum()).collect();
        let run = |design: Array2<f64>, contrast: &[f64]| {
            let problem = Problem {
                counts: y.view(),
                sizes: &sizes,
                design: design.view(),
                contrast,
                robust: true,
            };
            prepared_and_tested(&problem)
        };
        let group = |i: usize| usize::from(i >= 4);
        let coded = run(
            Array2::from_shape_fn((8, 2), |(i, j)| if j == 0 { 1.0 } else { group(i) as f64 }),
            &[0.0, 1.0],
        );
        let cells = run(
            Array2::from_shape_fn((8, 2), |(i, j)| f64::from(group(i) == j)),
            &[-1.0, 1.0],
        );
        for (a, b) in coded.rows.iter().zip(&cells.rows) {
            close(a.log_fc, b.log_fc, 1e-6);
            close(a.p_value, b.p_value, 1e-6);
        }
    }
}
