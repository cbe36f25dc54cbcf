//! `2^z` for numbers that aren't large, which is what a log-sum-exp needs once the maximum is subtracted.

use crate::math::Lane;
use crate::tiles::Lanes;

/// The logarithm of nothing: so low that no real term comes near it, and finite, so that differences are no NaN.
pub(super) const LOWEST: f64 = -1e30;

/// Powers of two, branch-free.
pub(super) trait Exp2: Lanes {
    /// `2^self` for `self` up to 127; exactly 0 where the result would not be a normal number.
    fn exp2<const FMA: bool>(self) -> Self;

    /// The larger of two, neither of them NaN.
    #[inline(always)]
    fn above(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
}

/// `2^z = 2^n 2^r` with |r| <= 1/2, `2^r = 1 + r p(r)`, and n added to the exponent.
macro_rules! exp2 {
    ($t:ident, $round:expr, $mantissa:expr, $floor:expr, $p:expr) => {
        impl Exp2 for $t {
            #[inline(always)]
            fn exp2<const FMA: bool>(self) -> Self {
                // Adding 1.5 * 2^(mantissa bits) rounds to an integer, which then stands in the lowest bits.
                let t = self + $round;
                let r = self - (t - $round);
                let mut p: $t = 0.0;
                for (k, &c) in $p.iter().rev().enumerate() {
                    p = if k == 0 { c } else { Lane::fma::<FMA>(p, r, c) };
                }
                let p = Lane::fma::<FMA>(p, r, 1.0);
                let y = $t::from_bits(p.to_bits().wrapping_add(t.to_bits() << $mantissa));
                if self < $floor { 0.0 } else { y }
            }
        }
    };
}

/// (2^r - 1) / r, relative error of 2^r 1e-8.
const SINGLE: [f32; 6] = [
    std::f32::consts::LN_2,
    0.240_226_5,
    0.055_503_57,
    0.009_618_083,
    0.001_339_086_3,
    0.000_154_531_63,
];
/// The same, relative error of 2^r 2e-17.
const DOUBLE: [f64; 11] = [
    std::f64::consts::LN_2,
    0.240_226_506_959_100_97,
    0.055_504_108_664_821_6,
    0.009_618_129_107_606_888,
    0.001_333_355_814_641_693_8,
    0.000_154_035_304_417_360_5,
    1.525_273_382_983_390_8e-5,
    1.321_544_258_792_169e-6,
    1.017_806_244_673_007_3e-7,
    7.072_585_949_269_223e-9,
    4.454_960_469_561_119e-10,
];
exp2!(f32, 12_582_912.0, 23, -125.0, SINGLE);
exp2!(f64, 6_755_399_441_055_744.0, 52, -1021.0, DOUBLE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two() {
        let mut worst = (0.0f64, 0.0f64);
        for i in 0..20_000 {
            let z = 1.0 - f64::from(i) * 0.006_3;
            let single = f64::from(Exp2::exp2::<true>(z as f32));
            let exact = f64::from(z as f32).exp2();
            worst.0 = worst.0.max((single / exact - 1.0).abs());
            worst.1 = worst.1.max((Exp2::exp2::<false>(z) / z.exp2() - 1.0).abs());
        }
        assert!(worst.0 < 1.5e-7, "f32: {:e}", worst.0);
        assert!(worst.1 < 4e-16, "f64: {:e}", worst.1);
    }

    #[test]
    fn far_below_is_zero() {
        for z in [-126.0f32, -1e10, LOWEST as f32, f32::NEG_INFINITY] {
            assert_eq!(Exp2::exp2::<true>(z), 0.0);
        }
        for z in [-1022.0, -1e10, LOWEST, f64::NEG_INFINITY] {
            assert_eq!(Exp2::exp2::<true>(z), 0.0);
        }
        assert_eq!(Exp2::exp2::<true>(0.0f32), 1.0);
        assert_eq!(Exp2::exp2::<true>(0.0f64), 1.0);
    }
}
