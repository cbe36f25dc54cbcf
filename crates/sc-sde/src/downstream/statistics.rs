//! Tests and intervals of effects.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

use crate::Result;
use crate::error::invalid;

/// `log2((perturbed + epsilon) / (control + epsilon))`.
///
/// Where a fate is absent from one side this says little but how small `epsilon` is: with the original's 1e-9 it is about 30.
pub fn log2_fold_change(perturbed: f64, control: f64, epsilon: f64) -> f64 {
    ((perturbed + epsilon) / (control + epsilon)).log2()
}

/// Welch's t-test of two means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Welch {
    /// `(mean a - mean b) / standard error`.
    pub t: f64,
    /// Degrees of freedom (Welch and Satterthwaite).
    pub df: f64,
    /// Two-sided.
    pub p: f64,
}

/// Whether the means of two samples differ. None if a sample has fewer than two numbers, or neither varies.
pub fn welch(a: &[f64], b: &[f64]) -> Option<Welch> {
    let (ma, va) = moments(a)?;
    let (mb, vb) = moments(b)?;
    let (na, nb) = (a.len() as f64, b.len() as f64);
    let (va, vb) = (va / na, vb / nb);
    if va + vb <= 0.0 {
        return None;
    }
    let t = (ma - mb) / (va + vb).sqrt();
    let df = (va + vb).powi(2) / (va * va / (na - 1.0) + vb * vb / (nb - 1.0));
    Some(Welch {
        t,
        df,
        p: two_sided(t, df)?,
    })
}

/// A mean with its interval, and whether it may be 0: Student's t-test of pairs, given their differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanTest {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Ends of the interval.
    pub interval: (f64, f64),
    /// Two-sided, that the mean is 0. 1 if all numbers are 0, 0 if all are the same other one.
    pub p: f64,
}

/// The mean of `values` with an interval that covers the true one in a share `level` of all cases.
///
/// # Errors
/// [`Error::InvalidSetting`](crate::Error::InvalidSetting) with fewer than two values, or unless `level` is between 0 and 1.
pub fn mean_test(values: &[f64], level: f64) -> Result<MeanTest> {
    if !(level > 0.0 && level < 1.0) {
        return Err(invalid("level", level, "between 0 and 1; 0.95 is usual"));
    }
    let Some((mean, variance)) = moments(values) else {
        return Err(invalid(
            "the number of cells",
            values.len(),
            "at least 2, to know how much they vary",
        ));
    };
    let n = values.len() as f64;
    let se = (variance / n).sqrt();
    if se == 0.0 {
        return Ok(MeanTest {
            mean,
            standard_error: 0.0,
            interval: (mean, mean),
            p: if mean == 0.0 { 1.0 } else { 0.0 },
        });
    }
    let half = se * quantile(0.5 + level / 2.0, n - 1.0);
    Ok(MeanTest {
        mean,
        standard_error: se,
        interval: (mean - half, mean + half),
        p: two_sided(mean / se, n - 1.0).unwrap_or(1.0),
    })
}

/// The quantile of Student's t-distribution.
pub(super) fn quantile(level: f64, df: f64) -> f64 {
    StudentsT::new(0.0, 1.0, df).map_or(f64::INFINITY, |d| d.inverse_cdf(level))
}

/// The p-values that control the false discovery rate (Benjamini and Hochberg 1995), in the order given. NaN counts as 1.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let n = p.len() as f64;
    let value = |i: usize| p.get(i).copied().filter(|p| !p.is_nan()).unwrap_or(1.0);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (from_the_top, &i) in order.iter().enumerate() {
        let rank = n - from_the_top as f64;
        least = least.min(value(i) * n / rank);
        if let Some(slot) = adjusted.get_mut(i) {
            *slot = least;
        }
    }
    adjusted
}

/// Fisher's combination of independent p-values: `-2 sum ln p` and its p-value.
///
/// # Errors
/// [`Error::InvalidSetting`](crate::Error::InvalidSetting) without p-values, or if one isn't between 0 and 1.
pub fn fisher(p: &[f64]) -> Result<(f64, f64)> {
    if let Some(bad) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(invalid("p", bad, "between 0 and 1"));
    }
    let statistic = -2.0 * p.iter().map(|p| p.ln()).sum::<f64>();
    let df = 2.0 * p.len() as f64;
    let law = ChiSquared::new(df);
    let law = law.map_err(|_| invalid("the number of p-values", p.len(), "at least 1"))?;
    Ok((statistic, law.sf(statistic)))
}

/// Mean and variance (with `n - 1`).
pub(super) fn moments(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((mean, squares / (n - 1.0)))
}

/// Two-sided p-value of Student's t.
fn two_sided(t: f64, df: f64) -> Option<f64> {
    let law = StudentsT::new(0.0, 1.0, df).ok()?;
    Some((2.0 * law.sf(t.abs())).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: [f64; 5] = [0.2, 0.25, 0.22, 0.21, 0.24];
    const PERTURBED: [f64; 5] = [0.3, 0.33, 0.28, 0.31, 0.35];

    fn near(found: f64, expected: f64) {
        let difference = (found - expected).abs();
        assert!(difference <= 1e-9 * expected.abs(), "{found} {expected}");
    }

    /// Reference: SciPy and the formulas of scDiffEq's experiments.
    #[test]
    fn known_numbers() {
        let pairs = PERTURBED.iter().zip(&CONTROL);
        let lfc: Vec<f64> = pairs.map(|(p, c)| log2_fold_change(*p, *c, 1e-9)).collect();
        let (mean, variance) = moments(&lfc).unwrap();
        near(mean, 0.487_924_625_649);
        assert!((variance.sqrt() - 0.106_422_369_640).abs() < 1e-11);
        let w = welch(&CONTROL, &PERTURBED).unwrap();
        near(w.t, -5.908_789_478_688);
        assert!((w.p - 0.000_458_652_226_059).abs() < 1e-13, "{}", w.p);
        let absent: Vec<f64> = PERTURBED
            .iter()
            .map(|p| log2_fold_change(*p, 0.0, 1e-9))
            .collect();
        assert!((moments(&absent).unwrap().0 - 28.221_920).abs() < 1e-6);
    }

    #[test]
    fn intervals_of_means() {
        // qt(0.975, 3) = 3.182446305284263.
        let t = mean_test(&[1.0, 2.0, 3.0, 4.0], 0.95).unwrap();
        let se = (5.0f64 / 3.0 / 4.0).sqrt();
        near(t.standard_error, se);
        assert!((t.interval.1 - 2.5 - 3.182_446_305_284_263 * se).abs() < 1e-7);
        assert_eq!(mean_test(&[0.0; 3], 0.95).unwrap().p, 1.0);
        assert_eq!(mean_test(&[1.0; 3], 0.95).unwrap().p, 0.0);
        assert!(mean_test(&[1.0], 0.95).is_err() && mean_test(&[1.0, 2.0], 1.0).is_err());
        assert!(welch(&[1.0], &[1.0, 2.0]).is_none() && welch(&[1.0; 2], &[1.0; 2]).is_none());
    }

    #[test]
    fn adjusted_p_values() {
        let q = benjamini_hochberg(&[0.01, 0.04, 0.03, f64::NAN]);
        for (found, expected) in q
            .iter()
            .zip([0.04, 0.053_333_333_333, 0.053_333_333_333, 1.0])
        {
            assert!((found - expected).abs() < 1e-9);
        }
        assert!(benjamini_hochberg(&[]).is_empty());
        assert!(fisher(&[]).is_err() && fisher(&[1.5]).is_err());
    }
}
