//! Variances of rows borrow strength from each other (Smyth, "Linear models and empirical Bayes methods for assessing
//! differential expression in microarray experiments", Stat Appl Genet Mol Biol 2004; Sartor et al. 2006 for the trend).

use super::ranks::quantile;
use super::robust::robust_prior;
use super::special::{inverse_trigamma, trigamma};
use super::spline::natural_regression;

/// Rows with fewer degrees of freedom have no variance of their own.
const NO_DF: f64 = 1e-8;
/// Variances are at least this share of their median.
const FLOOR: f64 = 1e-5;

/// What the variances of all rows say about that of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prior {
    /// The prior variance of each row, `s0^2`.
    pub(super) variance: Vec<f64>,
    /// Its degrees of freedom for each row, `d0`; may be infinite. One number for all rows unless outliers are told apart.
    pub(super) df: Vec<f64>,
}

/// Rows with a variance, ready to be compared: `ln s^2` has a meaning for each.
pub(super) struct Variances<'a> {
    /// Which rows have degrees of freedom.
    pub(super) usable: Vec<bool>,
    /// Variances, those of usable rows at least a small share of the median.
    pub(super) variance: Vec<f64>,
    pub(super) df: &'a [f64],
    /// What the trend follows: the rows' abundance.
    pub(super) covariate: &'a [f64],
}

impl<'a> Variances<'a> {
    fn new(variance: &[f64], df: &'a [f64], covariate: &'a [f64]) -> Self {
        let usable: Vec<bool> = df
            .iter()
            .zip(variance)
            .map(|(&d, &v)| d > NO_DF && v.is_finite())
            .collect();
        let own: Vec<f64> = usable
            .iter()
            .zip(variance)
            .filter(|(u, _)| **u)
            .map(|(_, &v)| v)
            .collect();
        let median = quantile(&own, 0.5);
        // More than half of them 0: there is nothing to take a share of.
        let floor = FLOOR * if median > 0.0 { median } else { 1.0 };
        Self {
            usable,
            variance: variance.iter().map(|v| v.max(floor)).collect(),
            df,
            covariate,
        }
    }

    pub(super) fn n_usable(&self) -> usize {
        self.usable.iter().filter(|u| **u).count()
    }

    fn mean_over_usable(&self, f: impl Fn(usize) -> f64) -> f64 {
        let rows = (0..self.df.len()).filter(|&g| self.usable[g]);
        rows.map(f).sum::<f64>() / self.n_usable() as f64
    }
}

/// The prior of the variances of rows, `s^2 ~ s0^2 F(df, d0)`, with `s0^2` a smooth function of the abundance. `robust` gives
/// rows whose variance is far too large a smaller `d0`. `None` if fewer than two rows have a variance.
pub(super) fn prior(
    variance: &[f64],
    df: &[f64],
    abundance: &[f64],
    robust: bool,
) -> Option<Prior> {
    let data = Variances::new(variance, df, abundance);
    if data.n_usable() < 2 {
        return None;
    }
    let plain = fit_f(&data);
    Some(if robust {
        robust_prior(&data, &plain)
    } else {
        plain
    })
}

/// The moments of `ln s^2`: with `e = ln s^2 + ln(df/2) - digamma(df/2)`, whose mean is that of `ln s0^2 - ln(d0/2) + digamma(d0/2)`
/// and whose variance is `trigamma(df/2) + trigamma(d0/2)`.
pub(super) fn fit_f(data: &Variances<'_>) -> Prior {
    let usable = |g: usize| data.usable[g];
    let e: Vec<f64> = data
        .variance
        .iter()
        .zip(data.df)
        .map(|(v, &d)| {
            let half = 0.5 * d.max(NO_DF);
            v.ln() + half.ln() - sc_tensor::math::digamma_of(half)
        })
        .collect();
    let n = data.n_usable();
    let coefficients = 1 + usize::from(n >= 3) + usize::from(n >= 6) + usize::from(n >= 30);
    let smooth = if coefficients < 2 {
        super::spline::Smooth {
            fitted: vec![data.mean_over_usable(|g| e[g]); e.len()],
            rank: 1,
        }
    } else {
        natural_regression(data.covariate, &e, coefficients, usable)
    };
    let squares: f64 = (0..e.len())
        .filter(|&g| usable(g))
        .map(|g| (e[g] - smooth.fitted[g]).powi(2))
        .sum();
    let left = n.saturating_sub(smooth.rank).max(1) as f64;
    let excess = squares / left - data.mean_over_usable(|g| trigamma(0.5 * data.df[g]));
    let (df, shift) = if excess > 0.0 {
        let half = inverse_trigamma(excess);
        (2.0 * half, sc_tensor::math::digamma_of(half) - half.ln())
    } else {
        (f64::INFINITY, 0.0)
    };
    Prior {
        variance: smooth.fitted.iter().map(|f| (f + shift).exp()).collect(),
        df: vec![df; e.len()],
    }
}

/// The posterior variance `(df s^2 + d0 s0^2) / (df + d0)`.
pub(super) fn posterior(variance: f64, df: f64, prior_variance: f64, prior_df: f64) -> f64 {
    if prior_df.is_infinite() {
        prior_variance
    } else if df > NO_DF {
        (df * variance + prior_df * prior_variance) / (df + prior_df)
    } else {
        prior_variance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{ChiSquared, Distribution};

    /// Variances that any language can make again.
    fn variances() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let s2 = (0..60)
            .map(|g| 0.2 + f64::from((g * 37) % 61) / 20.0)
            .collect();
        let abundance = (0..60).map(|g| f64::from((g * 23) % 59) / 7.0).collect();
        (s2, vec![5.0; 60], abundance)
    }

    /// Reference: `squeezeVar` of inmoose 0.9.1 for `d0` and the prior variances of the first rows.
    #[test]
    fn the_prior_agrees_with_inmoose() {
        let (mut s2, df, abundance) = variances();
        for (scale, d0, first) in INMOOSE {
            s2.iter_mut()
                .enumerate()
                .for_each(|(g, v)| *v *= 1.0 + scale * (g % 3) as f64);
            let p = prior(&s2, &df, &abundance, false).unwrap();
            assert!(
                p.df[0] == d0 || (p.df[0] / d0 - 1.0).abs() < 1e-6,
                "{} {d0}",
                p.df[0]
            );
            for (a, b) in p.variance.iter().zip(first) {
                assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
            }
        }
    }
    const INMOOSE: [(f64, f64, [f64; 3]); 3] = [
        (
            0.0,
            f64::INFINITY,
            [
                2.048_413_205_526_691_7,
                2.335_553_676_895_248_7,
                1.015_712_178_064_696_8,
            ],
        ),
        (
            0.8,
            37.401_206_359_384_11,
            [
                2.776_890_206_038_256_5,
                3.856_855_317_646_898,
                1.720_024_619_871_095_8,
            ],
        ),
        (
            5.0,
            1.723_271_902_798_090_7,
            [
                3.508_056_005_106_648,
                8.556_189_997_831_757,
                3.988_112_930_468_298_5,
            ],
        ),
    ];

    #[test]
    fn the_parameters_of_a_simulation_are_found() {
        let mut rng = sc_tensor::Rng::new(1).stream("squeeze");
        let (d, d0, s0) = (6.0, 10.0, 2.0);
        let (top, bottom) = (ChiSquared::new(d).unwrap(), ChiSquared::new(d0).unwrap());
        let n = 4000;
        let s2: Vec<f64> = (0..n)
            .map(|_| s0 * (top.sample(&mut rng) / d) / (bottom.sample(&mut rng) / d0))
            .collect();
        let x: Vec<f64> = (0..n).map(|g| g as f64).collect();
        for robust in [false, true] {
            let p = prior(&s2, &vec![d; n], &x, robust).unwrap();
            assert!(
                (p.variance[n / 2] / s0 - 1.0).abs() < 0.1,
                "{}",
                p.variance[n / 2]
            );
            let mut df = p.df.clone();
            df.sort_by(f64::total_cmp);
            assert!((df[n / 2] / d0 - 1.0).abs() < 0.2, "{}", df[n / 2]);
        }
        // Variances that differ no more than chance: nothing to tell them apart by.
        let s2: Vec<f64> = (0..n).map(|g| 1.0 + 0.01 * (g % 7) as f64).collect();
        let p = prior(&s2, &vec![d; n], &x, false).unwrap();
        assert!(
            p.df[0].is_infinite() && (posterior(5.0, d, p.variance[0], p.df[0]) == p.variance[0])
        );
    }

    #[test]
    fn rows_without_variance_get_the_trend() {
        let (mut s2, mut df, abundance) = variances();
        let whole = prior(&s2[1..], &df[1..], &abundance[1..], false).unwrap();
        s2[0] = 1e9;
        df[0] = 0.0;
        let p = prior(&s2, &df, &abundance, false).unwrap();
        assert_eq!(p.df[1], whole.df[0]);
        assert_eq!(p.variance[1..], whole.variance[..]);
        assert!(p.variance[0] < 10.0);
        assert_eq!(
            posterior(s2[0], df[0], p.variance[0], p.df[0]),
            p.variance[0]
        );
        assert_eq!(prior(&[1.0, 2.0], &[0.0, 3.0], &[0.0, 1.0], true), None);
        assert!(
            prior(&[0.0; 40], &[3.0; 40], &abundance[..40], true)
                .unwrap()
                .variance[0]
                > 0.0
        );
    }

    #[test]
    fn posteriors_lie_between() {
        assert_eq!(posterior(4.0, 3.0, 1.0, 6.0), 2.0);
        assert_eq!(posterior(4.0, 3.0, 1.0, f64::INFINITY), 1.0);
    }
}
