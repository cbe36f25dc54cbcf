//! The loops over gathered stored entries, in `f64`.

use super::block::{BLOCK, Entries};
use super::family::Family;
use super::row::sum;
use crate::math::{Float, Kernel, LANES, Lane, differences, select};

/// Which formula suits the counts of a list of [`Entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Whole numbers up to [`TINY_COUNT`].
    Tiny,
    /// Whole numbers up to [`SMALL_COUNT`].
    Small,
    /// Anything.
    General,
}

pub(super) const TINY_COUNT: usize = 2;
pub(super) const SMALL_COUNT: usize = 8;

/// Computes the log-probabilities and gradients of gathered entries.
pub(super) struct Stored<'a, T, const GRAD: bool> {
    pub(super) family: Family,
    pub(super) entries: &'a mut Entries<T>,
    pub(super) form: Form,
    /// Gradients by the mean are to be multiplied by the mean.
    pub(super) chain: bool,
    /// The log-probabilities are added to it.
    pub(super) sum: &'a mut f64,
}

impl<T: Float, const GRAD: bool> Kernel for Stored<'_, T, GRAD> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (e, chain) = (self.entries, self.chain);
        match (self.family, self.form) {
            (Family::Poisson, _) => poisson::<T, GRAD>(e, chain),
            (_, Form::Tiny) => rising::<T, TINY_COUNT, GRAD, FMA>(e, chain),
            (_, Form::Small) => rising::<T, SMALL_COUNT, GRAD, FMA>(e, chain),
            (_, Form::General) => general::<T, GRAD, FMA>(e, chain),
        }
        if self.family == Family::ZeroInflatedNegativeBinomial {
            not_dropped::<T, GRAD, FMA>(e);
        }
        *self.sum += sum(&e.log_prob[..e.len.min(BLOCK)]);
    }
}

/// A whole number of vectors: left-over entries would be computed one by one. What stands behind the last entry is left
/// from an earlier block; its results are not used.
#[inline(always)]
fn padded(len: usize) -> usize {
    len.next_multiple_of(LANES).min(BLOCK)
}

#[inline(always)]
fn poisson<T: Float, const GRAD: bool>(e: &mut Entries<T>, chain: bool) {
    for i in 0..padded(e.len) {
        let (x, mu) = (e.x[i].wide(), e.mu[i].wide());
        e.log_prob[i] = x * e.log_mu[i] - mu - e.log_factorial[i];
        if GRAD {
            e.by_mean[i] = T::of(select(chain, x - mu, x / mu - 1.0));
        }
    }
}

/// For a whole number x <= K,
/// lgamma(theta + x) - lgamma(theta) - lgamma(x + 1) + x ln(rho) = ln of the product of (theta + i) rho / (i + 1), i < x,
/// with rho = (mu + eps) / (theta + mu + eps): one logarithm for everything.
#[inline(always)]
fn rising<T: Float, const K: usize, const GRAD: bool, const FMA: bool>(
    e: &mut Entries<T>,
    chain: bool,
) {
    for i in 0..padded(e.len) {
        let (x, theta) = (e.x[i].wide(), e.theta[i].wide());
        let mu = e.mu[i].wide() + <f64 as Lane>::EPS;
        let sum = theta + mu;
        let inverse = 1.0 / (mu * sum);
        let inv_sum = inverse * mu;
        let rho = mu * inv_sum;
        // The product of theta + i, the sum of their reciprocals times the product, and the product above.
        let (mut product, mut slope, mut weight) = (theta, 1.0_f64, theta * rho);
        for k in 1..K {
            let counted = x > k as f64;
            let factor = theta + k as f64;
            let next_slope = slope.fma::<FMA>(factor, product);
            slope = select(counted, next_slope, slope);
            product *= select(counted, factor, 1.0);
            weight *= select(counted, factor * (rho * (1.0 / (k + 1) as f64)), 1.0);
        }
        e.log_prob[i] = weight.ln_normal::<FMA>() - e.decline[i].wide();
        if GRAD {
            let gamma = slope / product;
            finish_gradient(e, i, [x, theta, mu, inverse, inv_sum, gamma], chain);
        }
    }
}

#[inline(always)]
fn general<T: Float, const GRAD: bool, const FMA: bool>(e: &mut Entries<T>, chain: bool) {
    for i in 0..padded(e.len) {
        let (x, theta) = (e.x[i].wide(), e.theta[i].wide());
        let mu = e.mu[i].wide() + <f64 as Lane>::EPS;
        let sum = theta + mu;
        let inverse = 1.0 / (mu * sum);
        let inv_sum = inverse * mu;
        let log_rho = (mu * inv_sum).ln_normal::<FMA>();
        let (lgamma, digamma) = differences::<FMA>(x, theta);
        e.log_prob[i] = x.fma::<FMA>(log_rho, lgamma - e.log_factorial[i]) - e.decline[i].wide();
        if GRAD {
            finish_gradient(e, i, [x, theta, mu, inverse, inv_sum, digamma], chain);
        }
    }
}

/// With m = mu + eps and s = theta + m:
/// d/dmu = theta (x - m) / (m s), and
/// d/dtheta = digamma(theta + x) - digamma(theta) - ln(1 + r) + (theta r - x) / s with r = mu / (theta + eps).
#[inline(always)]
fn finish_gradient<T: Float>(
    e: &mut Entries<T>,
    i: usize,
    [x, theta, mu, inverse, inv_sum, digamma]: [f64; 6],
    chain: bool,
) {
    let by_mu = theta * (x - mu) * inverse;
    e.by_mean[i] = T::of(by_mu * select(chain, e.mu[i].wide(), 1.0));
    let theta_r = e.mu[i].wide() * (theta * e.inverse[i].wide());
    let by_theta = (theta_r - x) * inv_sum + digamma;
    e.by_log_theta[i] = T::of(theta * by_theta - e.decline[i].wide());
}

/// Adds ln(1 - dropout probability) = -softplus(p).
#[inline(always)]
fn not_dropped<T: Float, const GRAD: bool, const FMA: bool>(e: &mut Entries<T>) {
    for i in 0..padded(e.len) {
        let p = e.logit[i];
        let exp = (-p.absolute()).exp_lane::<FMA>();
        let positive = select(p > T::ZERO, p, T::ZERO);
        e.log_prob[i] -= (positive + exp.ln_1p_normal::<FMA>()).wide();
        if GRAD {
            let inverse = T::ONE / (T::ONE + exp);
            e.by_logit[i] = -inverse * select(p >= T::ZERO, T::ONE, exp);
        }
    }
}
