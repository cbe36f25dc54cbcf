use serde::Serialize;

use crate::Result;
use crate::error::invalid;

/// How the variance between models is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Between {
    /// Paule and Mandel (1982): the variance with which the weighted sum of squares is what is expected of it.
    #[default]
    PauleMandel,
    /// DerSimonian and Laird (1986), in one step.
    DerSimonianLaird,
}

/// The same effect found by several models, pooled: a meta-analysis with random effects.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pooled {
    /// The effect.
    pub effect: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The variance of the effect between models, `tau^2`.
    pub between: f64,
    /// The effect if models differed by chance alone.
    pub fixed: f64,
    /// Its standard error.
    pub fixed_standard_error: f64,
    /// Cochran's `Q`, the weighted sum of squares around the fixed effect.
    pub q: f64,
    /// The share of the variance that isn't chance, `(Q - df) / Q`, at least 0.
    pub i2: f64,
}

/// Halvings of the interval for Paule and Mandel's variance.
const HALVINGS: usize = 200;

/// Pools effects with their standard errors.
///
/// ```
/// use sc_sde::downstream::{Between, pool};
/// let p = pool(&[0.4, 0.5, 0.6], &[0.1, 0.1, 0.1], Between::PauleMandel)?;
/// assert!((p.effect - 0.5).abs() < 1e-12 && p.between == 0.0);
/// # Ok::<(), sc_sde::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidSetting`](crate::Error::InvalidSetting) unless there are as many errors as effects, at least two, effects are
/// finite and errors positive.
pub fn pool(effects: &[f64], standard_errors: &[f64], between: Between) -> Result<Pooled> {
    if effects.len() != standard_errors.len() || effects.len() < 2 {
        return Err(invalid(
            "the number of effects",
            effects.len(),
            format!(
                "at least 2, and as many as there are standard errors ({})",
                standard_errors.len()
            ),
        ));
    }
    if let Some(bad) = effects.iter().find(|e| !e.is_finite()) {
        return Err(invalid("an effect", bad, "a finite number"));
    }
    if let Some(bad) = standard_errors
        .iter()
        .find(|s| !(**s > 0.0 && s.is_finite()))
    {
        return Err(invalid("a standard error", bad, "a number above 0"));
    }
    let study = Studies {
        effects,
        variances: standard_errors.iter().map(|s| s * s).collect(),
    };
    let df = effects.len() as f64 - 1.0;
    let (fixed, fixed_variance) = study.mean(0.0);
    let q = study.squares(0.0);
    let tau2 = match between {
        Between::DerSimonianLaird => study.dersimonian_laird(q, df),
        Between::PauleMandel => study.paule_mandel(q, df),
    };
    let (effect, variance) = study.mean(tau2);
    Ok(Pooled {
        effect,
        standard_error: variance.sqrt(),
        between: tau2,
        fixed,
        fixed_standard_error: fixed_variance.sqrt(),
        q,
        i2: if q > 0.0 {
            ((q - df) / q).max(0.0)
        } else {
            0.0
        },
    })
}

struct Studies<'a> {
    effects: &'a [f64],
    variances: Vec<f64>,
}

impl Studies<'_> {
    fn weighted(&self, tau2: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
        let pairs = self.effects.iter().zip(&self.variances);
        pairs.map(move |(e, v)| (*e, 1.0 / (v + tau2)))
    }

    /// The weighted mean, and its variance.
    fn mean(&self, tau2: f64) -> (f64, f64) {
        let sum: f64 = self.weighted(tau2).map(|(_, w)| w).sum();
        let mean = self.weighted(tau2).map(|(e, w)| e * w).sum::<f64>() / sum;
        (mean, 1.0 / sum)
    }

    /// The weighted sum of squares around the weighted mean. It falls with `tau2`.
    fn squares(&self, tau2: f64) -> f64 {
        let mean = self.mean(tau2).0;
        let terms = self.weighted(tau2).map(|(e, w)| w * (e - mean).powi(2));
        terms.sum()
    }

    fn dersimonian_laird(&self, q: f64, df: f64) -> f64 {
        let (sum, squares) = self
            .weighted(0.0)
            .fold((0.0, 0.0), |(s, q), (_, w)| (s + w, q + w * w));
        ((q - df) / (sum - squares / sum)).max(0.0)
    }

    fn paule_mandel(&self, q: f64, df: f64) -> f64 {
        if q <= df {
            return 0.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        while self.squares(high) > df && high < f64::MAX / 4.0 {
            high *= 2.0;
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            if self.squares(middle) > df {
                low = middle;
            } else {
                high = middle;
            }
        }
        0.5 * (low + high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pools_and_what_not() {
        // Widely apart: the variance between is that of the effects, less that of each.
        let p = pool(&[-10.0, 10.0], &[0.1, 0.1], Between::PauleMandel).unwrap();
        assert!((p.between - (200.0 - 0.01)).abs() < 1e-6, "{p:?}");
        assert!(p.i2 > 0.99 && p.effect.abs() < 1e-9);
        let same = pool(&[-10.0, 10.0], &[0.1, 0.1], Between::DerSimonianLaird).unwrap();
        assert!((same.between - p.between).abs() < 1e-6);
        assert!(pool(&[1.0], &[1.0], Between::default()).is_err());
        assert!(pool(&[1.0, 2.0], &[1.0], Between::default()).is_err());
        assert!(pool(&[1.0, 2.0], &[1.0, 0.0], Between::default()).is_err());
        assert!(pool(&[1.0, f64::NAN], &[1.0, 1.0], Between::default()).is_err());
    }
}
