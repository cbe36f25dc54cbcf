//! The functions of [`Lane`] in `f32`.
//!
//! The polynomials are Chebyshev fits made for this crate (40 digits, rounded once).

use super::float::{Lane, polynomial, shared_methods};
use super::gamma;

const MANTISSA: u32 = 23;
/// 1.5 * 2^23
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with so few bits that a product with an exponent is exact.
const LN2_HI: f32 = 0.693_115_23;
const LN2_LO: f32 = 3.194_618_3e-5;
/// ln of the smallest normal number.
const EXP_ZERO: f32 = -87.336_54;
const EXP_INFINITY: f32 = 88.722_84;
/// From here on ln(1 + x) is computed as ln(x / 2^64) + ln(2^64).
const HUGE: f32 = 1e30;
const HUGE_SCALE: f32 = 1.0 / 18_446_744_073_709_551_616.0;
const HUGE_LN: f32 = 44.361_42;
/// An integer below 2^23 put into the mantissa of 2^23 is 2^23 plus that integer.
const INTEGER_BITS: u32 = 0x4B00_0000;
/// 2^23 + 127
const INTEGER_OFFSET: f32 = 8_388_735.0;
const TWICE_BIAS: u32 = 254;
/// The bits of sqrt(1/2).
const SQRT_HALF: u32 = 0x3F35_04F3;

/// (e^r - 1 - r) / r^2, relative error of e^r 8e-9.
const EXP: [f32; 5] = [
    0.5,
    0.166_665_77,
    0.041_666_556,
    0.008_363_203,
    0.001_392_621_3,
];

/// (ln(1 + f) - f + f^2/2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2).
const LN: [f32; 8] = [
    0.333_333_3,
    -0.250_003_07,
    0.200_010_48,
    -0.166_412_47,
    0.142_143_56,
    -0.129_984_9,
    0.126_237_39,
    -0.079_036_44,
];

const CDF_CENTRE: f32 = 4.0;

/// (x + 4) e^(x^2/2) Phi(-x) for x >= 0, in powers of (x - 4) / (x + 4), relative error 5e-8.
const CDF: [f32; 11] = [
    0.755_285_14,
    -0.607_896_4,
    0.387_137_4,
    -0.186_526_8,
    0.060_396_604,
    -0.007_511_892,
    -0.003_479_831,
    0.001_563_337,
    1.335_102_4e-4,
    -1.571_215_5e-4,
    -1.673_315_4e-6,
];

/// `x = 2^k m` with sqrt(1/2) <= m < sqrt(2), as `(k + 127, m)`.
#[inline(always)]
fn split(x: f32) -> (u32, f32) {
    let shifted = x.to_bits().wrapping_add((127 << MANTISSA) - SQRT_HALF);
    let mantissa = f32::from_bits((shifted & 0x007F_FFFF) + SQRT_HALF);
    (shifted >> MANTISSA, mantissa)
}

/// `ln(1 + f) + k ln(2)`
#[inline(always)]
fn ln_reduced<const FMA: bool>(f: f32, k: f32) -> f32 {
    let q = polynomial::<FMA, _>(f, &LN);
    let y = (f * f).fma::<FMA>(f.fma::<FMA>(q, -0.5), f);
    k.fma::<FMA>(LN2_HI, k.fma::<FMA>(LN2_LO, y))
}

impl Lane for f32 {
    const TINY: f32 = 1e-20;
    const SOFTPLUS_IS_EXP: f32 = -17.0;
    shared_methods!(f32);

    #[inline(always)]
    fn lgamma<const FMA: bool>(self) -> f32 {
        gamma::lgamma::<FMA>(f64::from(self)) as f32
    }

    #[inline(always)]
    fn digamma<const FMA: bool>(self) -> f32 {
        gamma::digamma::<FMA>(f64::from(self)) as f32
    }
}
