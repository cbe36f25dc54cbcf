//! Vectorised special functions on slices of `f32` or `f64`.
//!
//! Each function is written once, branch-free, and compiled for several instruction sets (AVX-512, AVX2 with FMA, the
//! target's baseline); the best one is chosen when the program runs. All functions work in place.
//!
//! | function | `f32` | `f64` |
//! |---|---|---|
//! | [`exp`], [`ln`], [`ln_1p`], [`softplus`], [`sigmoid`] | relative error below 3e-7 | relative error below 1e-15 |
//! | [`normal_cdf`] | error below 2e-7 | error below 4e-16 |
//! | [`lgamma`], [`digamma`] | computed in `f64`, rounded once | relative error below 1e-13, absolute 1e-14 near zeros |
//!
//! Numbers too small to be normal are flushed to 0 on output of `exp` and `sigmoid`. A NaN comes through.
//!
//! ```
//! let mut x = [0.0_f64, 1.0, -800.0];
//! sc_tensor::math::softplus(&mut x);
//! assert!((x[0] - 2.0_f64.ln()).abs() < 1e-15);
//! assert_eq!(x[2], 0.0);
//! ```

mod dispatch;
mod double;
mod float;
mod gamma;
mod single;

pub use float::Float;
pub use gamma::{digamma_of, lgamma_difference, lgamma_of};

pub(crate) use dispatch::{Kernel, LANES, dispatch, select};
pub(crate) use float::Lane;
pub(crate) use gamma::differences;

use dispatch::map;

/// Replaces each value by its exponential. Below the logarithm of the smallest normal number (-87.3 in `f32`, -708.4 in
/// `f64`) the result is exactly 0.
pub fn exp<T: Float>(values: &mut [T]) {
    map!(values, T, exp_lane);
}

/// Replaces each value by its natural logarithm: -inf for 0 and subnormal numbers, NaN below 0.
pub fn ln<T: Float>(values: &mut [T]) {
    map!(values, T, ln_lane);
}

/// Replaces each value `x` by `ln(1 + x)`, to full precision also near 0.
pub fn ln_1p<T: Float>(values: &mut [T]) {
    map!(values, T, ln_1p_lane);
}

/// Replaces each value `x` by `ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)`.
///
/// This is the softplus itself; PyTorch returns `x` from 20 on, which differs by up to 2.1e-9.
pub fn softplus<T: Float>(values: &mut [T]) {
    map!(values, T, softplus);
}

/// Replaces each value `x` by `1 / (1 + e^-x)`.
pub fn sigmoid<T: Float>(values: &mut [T]) {
    map!(values, T, sigmoid);
}

/// Replaces each value `x` by `Phi(x)`, the probability that a standard normal number is below it.
pub fn normal_cdf<T: Float>(values: &mut [T]) {
    map!(values, T, normal_cdf);
}

/// Replaces each value `x` by the derivative of `x Phi(x)`.
pub(crate) fn gelu_slope<T: Float>(values: &mut [T]) {
    map!(values, T, gelu_slope);
}

/// Replaces each value by the logarithm of its gamma function; for positive values only, NaN below 0.
pub fn lgamma<T: Float>(values: &mut [T]) {
    map!(values, T, lgamma);
}

/// Replaces each value by its digamma function, the derivative of [`lgamma`]; NaN below 0.
pub fn digamma<T: Float>(values: &mut [T]) {
    map!(values, T, digamma);
}

#[cfg(test)]
mod tests;
