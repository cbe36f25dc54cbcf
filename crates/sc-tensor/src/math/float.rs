//! What a kernel may do with one number.

use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// The element types of the vectorised functions and the likelihoods: `f32` and `f64`, nothing else.
pub trait Float: Lane + candle_core::WithDType {}

impl Float for f32 {}
impl Float for f64 {}

/// Branch-free functions of one number. `FMA` says whether the machine has a fused multiply-add.
pub trait Lane:
    Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + SubAssign
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    const HALF: Self;
    /// ln(2 pi) / 2
    const HALF_LN_TAU: Self;
    const NEG_INFINITY: Self;
    /// What is added to arguments of logarithms, as scvi-tools does.
    const EPS: Self;
    /// A gradient smaller than this is taken for 0: products with it would be subnormal, which is slow.
    const TINY: Self;
    /// Below this, `softplus(x)` is `e^x` to full precision.
    const SOFTPLUS_IS_EXP: Self;

    fn of(v: f64) -> Self;
    fn of_f32(v: f32) -> Self;
    fn wide(self) -> f64;
    fn absolute(self) -> Self;
    /// `self * b + c`
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self;
    fn exp_lane<const FMA: bool>(self) -> Self;
    fn ln_lane<const FMA: bool>(self) -> Self;
    /// ln of a positive normal number; anything else gives nonsense.
    fn ln_normal<const FMA: bool>(self) -> Self;
    fn ln_1p_lane<const FMA: bool>(self) -> Self;
    /// `ln(1 + self)` for -1 < self < 2^100 (2^1000 in `f64`).
    fn ln_1p_normal<const FMA: bool>(self) -> Self;
    /// `e^(-x^2/2)`, and the probability that a standard normal number is below -|x|, divided by that.
    fn normal_tail<const FMA: bool>(self) -> (Self, Self);
    fn lgamma<const FMA: bool>(self) -> Self;
    fn digamma<const FMA: bool>(self) -> Self;

    #[inline(always)]
    fn softplus<const FMA: bool>(self) -> Self {
        let positive = if self > Self::ZERO { self } else { Self::ZERO };
        positive + (-self.absolute()).exp_lane::<FMA>().ln_1p_normal::<FMA>()
    }

    /// The distribution function of the standard normal distribution, and `e^(-x^2/2)`.
    #[inline(always)]
    fn normal<const FMA: bool>(self) -> (Self, Self) {
        let (e, ratio) = self.normal_tail::<FMA>();
        let below = e * ratio;
        (
            if self > Self::ZERO {
                Self::ONE - below
            } else {
                below
            },
            e,
        )
    }

    #[inline(always)]
    fn normal_cdf<const FMA: bool>(self) -> Self {
        self.normal::<FMA>().0
    }

    /// The derivative of `x Phi(x)`: `Phi(x) + x phi(x)`.
    #[inline(always)]
    fn gelu_slope<const FMA: bool>(self) -> Self {
        let (cdf, e) = self.normal::<FMA>();
        (self * Self::of(0.398_942_280_401_432_7)).fma::<FMA>(e, cdf)
    }

    #[inline(always)]
    fn sigmoid<const FMA: bool>(self) -> Self {
        let e = (-self.absolute()).exp_lane::<FMA>();
        let r = Self::ONE / (Self::ONE + e);
        if self >= Self::ZERO { r } else { e * r }
    }
}

/// The functions that have the same text for both types, given the constants of the file that uses it.
macro_rules! shared_methods {
    ($t:ident) => {
        const ZERO: $t = 0.0;
        const ONE: $t = 1.0;
        const HALF: $t = 0.5;
        const HALF_LN_TAU: $t = 0.918_938_533_204_672_8_f64 as $t;
        const NEG_INFINITY: $t = $t::NEG_INFINITY;
        const EPS: $t = 1e-8;

        #[inline(always)]
        fn of(v: f64) -> $t {
            v as $t
        }

        #[inline(always)]
        fn of_f32(v: f32) -> $t {
            $t::from(v)
        }

        #[inline(always)]
        fn wide(self) -> f64 {
            f64::from(self)
        }

        #[inline(always)]
        fn absolute(self) -> $t {
            self.abs()
        }

        #[inline(always)]
        fn fma<const FMA: bool>(self, b: $t, c: $t) -> $t {
            if FMA {
                self.mul_add(b, c)
            } else {
                self * b + c
            }
        }

        /// e^x = 2^n e^r with |r| <= ln(2)/2 and a polynomial for (e^r - 1 - r) / r^2.
        #[inline(always)]
        fn exp_lane<const FMA: bool>(self) -> $t {
            let x = self;
            // Adding 1.5 * 2^(mantissa bits) rounds to an integer, which then stands in the lowest bits.
            let t = x.fma::<FMA>(std::$t::consts::LOG2_E, ROUND);
            let n = t - ROUND;
            let r = n.fma::<FMA>(-LN2_HI, x);
            let r = n.fma::<FMA>(-LN2_LO, r);
            let p = (r * r).fma::<FMA>(polynomial::<FMA, _>(r, &EXP), r) + 1.0;
            // Adds n to the exponent of p.
            let y = $t::from_bits(p.to_bits().wrapping_add(t.to_bits() << MANTISSA));
            let y = if x < EXP_ZERO { 0.0 } else { y };
            let y = if x > EXP_INFINITY { $t::INFINITY } else { y };
            if x.is_nan() { x } else { y }
        }

        #[inline(always)]
        fn normal_tail<const FMA: bool>(self) -> ($t, $t) {
            let x = self.abs();
            // Beyond, e^(-x^2/2) is 0 anyway.
            let x = if x > 40.0 { 40.0 } else { x };
            let r = 1.0 / (x + CDF_CENTRE);
            let ratio = polynomial::<FMA, _>((x - CDF_CENTRE) * r, &CDF) * r;
            ((-0.5 * x * x).exp_lane::<FMA>(), ratio)
        }

        #[inline(always)]
        fn ln_lane<const FMA: bool>(self) -> $t {
            let x = self;
            let y = x.ln_normal::<FMA>();
            let y = if x == $t::INFINITY { x } else { y };
            let y = if x < $t::MIN_POSITIVE {
                $t::NEG_INFINITY
            } else {
                y
            };
            let y = if x < 0.0 { $t::NAN } else { y };
            if x.is_nan() { x } else { y }
        }

        #[inline(always)]
        fn ln_normal<const FMA: bool>(self) -> $t {
            let (exponent, mantissa) = split(self);
            let k = $t::from_bits(exponent | INTEGER_BITS) - INTEGER_OFFSET;
            ln_reduced::<FMA>(mantissa - 1.0, k)
        }

        #[inline(always)]
        fn ln_1p_lane<const FMA: bool>(self) -> $t {
            let x = self;
            // For a huge x the 1 does not matter, and ln(x) = ln(x / s) + ln(s).
            let huge = x > HUGE;
            let scaled = if huge { x * HUGE_SCALE } else { x };
            let y = scaled.ln_1p_normal::<FMA>();
            let y = if huge { y + HUGE_LN } else { y };
            let y = if x == $t::INFINITY { x } else { y };
            let y = if x == -1.0 { $t::NEG_INFINITY } else { y };
            let y = if x < -1.0 { $t::NAN } else { y };
            if x.is_nan() { x } else { y }
        }

        /// With u = 1 + x = 2^k m, the reduced argument m - 1 is computed as 2^-k x + (2^-k - 1), rounded once: what
        /// 1 + x lost of a small x is not lost here.
        #[inline(always)]
        fn ln_1p_normal<const FMA: bool>(self) -> $t {
            let (exponent, _) = split(1.0 + self);
            let k = $t::from_bits(exponent | INTEGER_BITS) - INTEGER_OFFSET;
            let scale = $t::from_bits(TWICE_BIAS.wrapping_sub(exponent) << MANTISSA);
            let f = self.fma::<FMA>(scale, scale - 1.0);
            ln_reduced::<FMA>(f, k)
        }
    };
}
pub(super) use shared_methods;

/// `c[0] + c[1] x + c[2] x^2 + ...` by Horner's rule.
#[inline(always)]
pub(super) fn polynomial<const FMA: bool, T: Lane>(x: T, c: &[T]) -> T {
    let mut sum = T::ZERO;
    for (k, &a) in c.iter().rev().enumerate() {
        sum = if k == 0 { a } else { sum.fma::<FMA>(x, a) };
    }
    sum
}
