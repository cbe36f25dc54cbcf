//! lgamma, digamma, and their differences, in `f64`.
//!
//! Stirling's series is used from 16 on; smaller arguments y are first moved up by 8,
//! `lgamma(y) = lgamma(y + 8) - ln P(y)` with `P(y) = y (y + 1) ... (y + 7)`. The factors pair up:
//! with `v = y (y + 7)`, `P = v (v + 6) (v + 10) (v + 12)`.

use super::dispatch::select;
use super::float::{Lane, polynomial};

const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// B(2k) / (2k (2k - 1)): Stirling's series of lgamma, in powers of 1/y^2 after one 1/y.
const LGAMMA_SERIES: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 360.0,
    1.0 / 1260.0,
    -1.0 / 1680.0,
    1.0 / 1188.0,
    -691.0 / 360_360.0,
    1.0 / 156.0,
    -3617.0 / 122_400.0,
];

/// B(2k) / 2k: the series of digamma, in powers of 1/y^2 after one 1/y^2.
const DIGAMMA_SERIES: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 120.0,
    1.0 / 252.0,
    -1.0 / 240.0,
    1.0 / 132.0,
    -691.0 / 32_760.0,
    1.0 / 12.0,
    -3617.0 / 8160.0,
];

/// From here on Stirling's series needs no shift.
const LARGE: f64 = 16.0;
/// How far smaller arguments are moved up.
const SHIFT: f64 = 8.0;

/// An argument moved up to where Stirling's series holds.
struct Shifted {
    /// The argument after the move, at least 8.
    z: f64,
    /// How far it was moved: 0 or 8.
    by: f64,
    /// The product of the factors passed (1 if it was not moved).
    product: f64,
    /// The sum of the reciprocals of the factors passed, times `product`.
    slope: f64,
}

#[inline(always)]
fn shift<const FMA: bool>(y: f64) -> Shifted {
    let move_up = y < LARGE;
    let v = y * (y + 7.0);
    let (a, b) = (v * (v + 6.0), (v + 10.0) * (v + 12.0));
    // d(product)/dv, and dv/dy = 2 y + 7
    let dv = a.fma::<FMA>(2.0 * v + 22.0, b * (2.0 * v + 6.0));
    let by = select(move_up, SHIFT, 0.0);
    Shifted {
        z: y + by,
        by,
        product: select(move_up, a * b, 1.0),
        slope: select(move_up, dv * (2.0 * y + 7.0), 0.0),
    }
}

/// The terms of lgamma that vanish for large arguments.
#[inline(always)]
fn lgamma_tail<const FMA: bool>(inverse: f64) -> f64 {
    inverse * polynomial::<FMA, _>(inverse * inverse, &LGAMMA_SERIES)
}

/// ln(z) - digamma(z)
#[inline(always)]
fn digamma_tail<const FMA: bool>(inverse: f64) -> f64 {
    let square = inverse * inverse;
    square.fma::<FMA>(polynomial::<FMA, _>(square, &DIGAMMA_SERIES), 0.5 * inverse)
}

#[inline(always)]
pub(super) fn lgamma<const FMA: bool>(y: f64) -> f64 {
    let s = shift::<FMA>(y);
    let log = s.z.ln_lane::<FMA>();
    // (z - 1/2) ln z - z as (z - 1/2) (ln z - 1) - 1/2: no overflow before the result does.
    let stirling = (s.z - 0.5) * (log - 1.0) + (HALF_LN_TAU - 0.5) + lgamma_tail::<FMA>(1.0 / s.z);
    let value = stirling - s.product.ln_lane::<FMA>();
    let value = if y == f64::INFINITY { y } else { value };
    let value = if y == 0.0 { f64::INFINITY } else { value };
    if y < 0.0 { f64::NAN } else { value }
}

#[inline(always)]
pub(super) fn digamma<const FMA: bool>(y: f64) -> f64 {
    let s = shift::<FMA>(y);
    let value = s.z.ln_lane::<FMA>() - digamma_tail::<FMA>(1.0 / s.z) - s.slope / s.product;
    let value = if y == 0.0 { f64::NEG_INFINITY } else { value };
    if y < 0.0 { f64::NAN } else { value }
}

/// `lgamma(t + x) - lgamma(t)` and `digamma(t + x) - digamma(t)` for t > 0, x >= 0, without losing digits where the two
/// terms are huge and almost equal: with z and w the shifted arguments,
///
/// lgamma(w) - lgamma(z) = (w - z) (ln w - 1) + (z - 1/2) ln(w / z) + tail(w) - tail(z),
///
/// and ln(w / z) = ln(1 + (w - z) / z).
#[inline(always)]
pub(crate) fn differences<const FMA: bool>(x: f64, t: f64) -> (f64, f64) {
    let (low, high) = (shift::<FMA>(t), shift::<FMA>(t + x));
    let delta = x + (high.by - low.by);
    let (inv_z, inv_w) = (1.0 / low.z, 1.0 / high.z);
    let log_ratio = (delta * inv_z).ln_1p_normal::<FMA>();
    let products = (low.product / high.product).ln_normal::<FMA>();
    let lgamma = delta.fma::<FMA>(
        high.z.ln_normal::<FMA>() - 1.0,
        (low.z - 0.5) * log_ratio + (lgamma_tail::<FMA>(inv_w) - lgamma_tail::<FMA>(inv_z)),
    ) + products;
    let digamma = log_ratio - (digamma_tail::<FMA>(inv_w) - digamma_tail::<FMA>(inv_z))
        + (low.slope / low.product - high.slope / high.product);
    (lgamma, digamma)
}

/// The logarithm of the gamma function of one positive number. For many numbers see [`lgamma`](super::lgamma()).
pub fn lgamma_of(y: f64) -> f64 {
    lgamma::<false>(y)
}

/// The digamma function of one positive number. For many numbers see [`digamma`](super::digamma()).
pub fn digamma_of(y: f64) -> f64 {
    digamma::<false>(y)
}

/// `lgamma(t + x) - lgamma(t)` and its derivative by `t`, `digamma(t + x) - digamma(t)`, for t > 0 and x >= 0, to full
/// precision also where the two terms of a difference nearly cancel.
///
/// ```
/// // Gamma(t + 1) / Gamma(t) = t
/// let (l, d) = sc_tensor::math::lgamma_difference(1.0, 1e12);
/// assert!((l - 1e12_f64.ln()).abs() < 1e-13);
/// assert!((d * 1e12 - 1.0).abs() < 1e-12);
/// ```
pub fn lgamma_difference(x: f64, t: f64) -> (f64, f64) {
    differences::<false>(x, t)
}
