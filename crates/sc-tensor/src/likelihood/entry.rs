use super::family::Family;
use crate::math::{lgamma_difference, lgamma_of};

const EPS: f64 = 1e-8;

/// The log-probability of one count, in `f64`; the equations of [the module](super).
///
/// `theta` (for a normal the standard deviation) is ignored by a Poisson, `dropout_logit` by all but the zero-inflated
/// negative binomial.
///
/// ```
/// use sc_tensor::likelihood::{Family, log_prob_of};
/// let p = log_prob_of(Family::NegativeBinomial, 1.0, 1.0, 0.5, 0.0);
/// assert!((p - -1.6479184).abs() < 1e-6);
/// ```
pub fn log_prob_of(family: Family, x: f64, mu: f64, theta: f64, dropout_logit: f64) -> f64 {
    match family {
        Family::Poisson if x == 0.0 => -mu,
        Family::Poisson => x * mu.ln() - mu - lgamma_of(x + 1.0),
        Family::NegativeBinomial => negative_binomial(x, mu, theta),
        Family::ZeroInflatedNegativeBinomial if x == 0.0 => {
            let q = -negative_binomial(0.0, mu, theta);
            zero_inflated_zero(dropout_logit, q)
        }
        Family::ZeroInflatedNegativeBinomial => {
            negative_binomial(x, mu, theta) - softplus(dropout_logit)
        }
        Family::Normal => {
            let d = (x - mu) / theta;
            -0.5 * d * d - theta.ln() - 0.918_938_533_204_672_8
        }
    }
}

fn negative_binomial(x: f64, mu: f64, theta: f64) -> f64 {
    let zero = -theta * (mu / (theta + EPS)).ln_1p();
    if x == 0.0 {
        return zero;
    }
    let (lgamma, _) = lgamma_difference(x, theta);
    let log_share = ((mu + EPS) / (theta + mu + EPS)).ln();
    zero + x * log_share + lgamma - lgamma_of(x + 1.0)
}

/// softplus(-p - q) - softplus(-p) without cancellation: see `dense.rs`.
fn zero_inflated_zero(p: f64, q: f64) -> f64 {
    let (a, b) = ((-(p + q).abs()).exp(), (-p.abs()).exp());
    let base = if p >= 0.0 { 0.0 } else { p.max(-q) };
    base + ((a - b) / (1.0 + b)).ln_1p()
}

fn softplus(t: f64) -> f64 {
    t.max(0.0) + (-t.abs()).exp().ln_1p()
}
