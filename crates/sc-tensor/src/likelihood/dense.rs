//! All genes of a block as if their count were 0 (a normal has no such short cut and is complete here).

use super::block::{BLOCK, Block};
use super::family::Family;
use super::problem::MeanKind;
use crate::math::{Float, Kernel};

/// Where the means of a block come from.
#[derive(Clone, Copy)]
pub(super) struct MeanSource<'a, T> {
    pub(super) kind: MeanKind,
    /// Rates; `exp(logit - max)` for softmax; logits for softplus.
    pub(super) values: &'a [T],
    /// What they are multiplied by.
    pub(super) scale: T,
}

/// Computes the means, the dispersions if they are not known yet, and the zero forms of one block.
pub(super) struct Dense<'a, T, const GRAD: bool> {
    pub(super) family: Family,
    pub(super) block: &'a mut Block<T>,
    pub(super) mean: MeanSource<'a, T>,
    /// `theta` still has its logarithm.
    pub(super) theta_is_log: bool,
}

impl<T: Float, const GRAD: bool> Kernel for Dense<'_, T, GRAD> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let MeanSource {
            kind,
            values,
            scale,
        } = self.mean;
        let (block, n) = (self.block, values.len().min(BLOCK));
        match kind {
            MeanKind::Rate => rate(block, values),
            MeanKind::Softmax => scaled(block, values, scale),
            MeanKind::Softplus => softplus::<T, GRAD, FMA>(block, values, scale),
        }
        let eps = if self.family == Family::Normal {
            T::ZERO
        } else {
            T::EPS
        };
        if self.theta_is_log {
            dispersion::<T, FMA>(&mut block.theta, &mut block.inverse, eps, n);
        }
        let chain = kind != MeanKind::Rate;
        match self.family {
            Family::Poisson => poisson::<T, GRAD>(block, n, chain),
            Family::NegativeBinomial => negative_binomial::<T, GRAD, FMA>(block, n, chain),
            Family::ZeroInflatedNegativeBinomial => zero_inflated::<T, GRAD, FMA>(block, n, chain),
            Family::Normal => normal::<T, GRAD, FMA>(block, n, chain),
        }
    }
}

#[inline(always)]
fn rate<T: Float>(b: &mut Block<T>, values: &[T]) {
    for (mu, &v) in b.mu.iter_mut().zip(values) {
        *mu = v;
    }
}

#[inline(always)]
fn scaled<T: Float>(b: &mut Block<T>, values: &[T], scale: T) {
    for (mu, &v) in b.mu.iter_mut().zip(values) {
        *mu = v * scale;
    }
}

/// mu = scale softplus(l), and d mu/dl / mu = sigmoid(l) / softplus(l), which goes to 1 for small l.
#[inline(always)]
fn softplus<T: Float, const GRAD: bool, const FMA: bool>(b: &mut Block<T>, values: &[T], scale: T) {
    let n = values.len().min(BLOCK);
    b.mu[..n].copy_from_slice(&values[..n]);
    for i in 0..n {
        let l = b.mu[i];
        let value = l.softplus::<FMA>();
        if GRAD {
            let ratio = l.sigmoid::<FMA>() / value;
            b.chain[i] = if l < T::SOFTPLUS_IS_EXP {
                T::ONE
            } else {
                ratio
            };
        }
        b.mu[i] = value * scale;
    }
}

/// Replaces the logarithms in `theta`; `inverse` becomes `1 / (theta + eps)`.
///
/// theta is kept away from 0, where lgamma is infinite, and below 1e30, from where on a negative binomial is a Poisson to
/// more digits than there are.
#[inline(always)]
pub(super) fn dispersion<T: Float, const FMA: bool>(
    theta: &mut [T],
    inverse: &mut [T],
    eps: T,
    n: usize,
) {
    let least = T::of(if T::DTYPE == candle_core::DType::F32 {
        1e-36
    } else {
        1e-290
    });
    let most = T::of(1e30);
    for (t, r) in theta[..n].iter_mut().zip(&mut inverse[..n]) {
        let e = t.exp_lane::<FMA>();
        let e = if e > most { most } else { e };
        *t = if e < least { least } else { e };
        *r = T::ONE / (*t + eps);
    }
}

#[inline(always)]
fn poisson<T: Float, const GRAD: bool>(b: &mut Block<T>, n: usize, chain: bool) {
    for i in 0..n {
        let mu = b.mu[i];
        b.log_prob[i] = -mu;
        if GRAD {
            b.by_mean[i] = if chain { -mu } else { -T::ONE };
        }
    }
}

/// ll = -q with q = theta ln(1 + r), r = mu / (theta + eps); 1 / (theta + mu + eps) = inverse / (1 + r).
#[inline(always)]
fn negative_binomial<T: Float, const GRAD: bool, const FMA: bool>(
    b: &mut Block<T>,
    n: usize,
    chain: bool,
) {
    for i in 0..n {
        let (mu, theta, inverse) = (b.mu[i], b.theta[i], b.inverse[i]);
        let r = mu * inverse;
        let q = theta * r.ln_1p_normal::<FMA>();
        b.decline[i] = q;
        b.log_prob[i] = -q;
        if GRAD {
            // theta / (theta + mu + eps)
            let share = theta * inverse / (T::ONE + r);
            b.by_mean[i] = -share * if chain { mu } else { T::ONE };
            b.by_log_theta[i] = share * (theta * r) - q;
        }
    }
}

/// With q as in the negative binomial, softplus(A) - softplus(-p) = ln(e^p + e^-q) - ln(e^p + 1)
/// = max(p, -q) - max(p, 0) + ln((1 + e^-|p + q|) / (1 + e^-|p|)).
///
/// The gradients are those of the negative binomial times sigmoid(A), the probability that a zero was counted.
#[inline(always)]
fn zero_inflated<T: Float, const GRAD: bool, const FMA: bool>(
    b: &mut Block<T>,
    n: usize,
    chain: bool,
) {
    for i in 0..n {
        let (mu, theta, inverse, p) = (b.mu[i], b.theta[i], b.inverse[i], b.logit[i]);
        let r = mu * inverse;
        let q = theta * r.ln_1p_normal::<FMA>();
        b.decline[i] = q;
        let sum = p + q;
        let e_sum = (-sum.absolute()).exp_lane::<FMA>();
        let e_p = (-p.absolute()).exp_lane::<FMA>();
        // One division for three denominators.
        let (one_sum, one_p, one_r) = (T::ONE + e_sum, T::ONE + e_p, T::ONE + r);
        let product = one_sum * one_p;
        let all = T::ONE / (product * one_r);
        let (both, inv_r) = (all * one_r, all * product);
        let (inv_sum, inv_p) = (both * one_p, both * one_sum);
        let larger = if sum > T::ZERO { p } else { -q };
        let base = if p >= T::ZERO { T::ZERO } else { larger };
        b.log_prob[i] = base + ((e_sum - e_p) * inv_p).ln_1p_normal::<FMA>();
        if GRAD {
            let counted = inv_sum * if sum >= T::ZERO { e_sum } else { T::ONE };
            let not_dropped = inv_p * if p >= T::ZERO { e_p } else { T::ONE };
            let share = counted * (theta * inverse) * inv_r;
            b.by_mean[i] = -share * if chain { mu } else { T::ONE };
            b.by_log_theta[i] = share * (theta * r) - counted * q;
            b.by_logit[i] = not_dropped - counted;
        }
    }
}

#[inline(always)]
fn normal<T: Float, const GRAD: bool, const FMA: bool>(b: &mut Block<T>, n: usize, chain: bool) {
    for i in 0..n {
        let (mu, inverse, log_sigma, x) = (b.mu[i], b.inverse[i], b.logit[i], b.decline[i]);
        let d = (x - mu) * inverse;
        b.log_prob[i] = (d * d).fma::<FMA>(-T::HALF, -(log_sigma + T::HALF_LN_TAU));
        if GRAD {
            b.by_mean[i] = d * inverse * if chain { mu } else { T::ONE };
            b.by_log_theta[i] = d * d - T::ONE;
        }
    }
}
