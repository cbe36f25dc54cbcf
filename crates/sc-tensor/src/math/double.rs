//! The functions of [`Lane`] in `f64`.
//!
//! The polynomials are Chebyshev fits made for this crate (40 digits, rounded once).

use super::float::{Lane, polynomial, shared_methods};
use super::gamma;

const MANTISSA: u64 = 52;
/// 1.5 * 2^52
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln 2 in two parts, the first with so few bits that a product with an exponent is exact.
const LN2_HI: f64 = 0.693_147_180_136_293_2;
const LN2_LO: f64 = 4.236_521_365_809_284e-10;
/// ln of the smallest normal number.
const EXP_ZERO: f64 = -708.396_418_532_264_1;
const EXP_INFINITY: f64 = 709.782_712_893_384;
/// From here on ln(1 + x) is computed as ln(x / 2^200) + ln(2^200).
const HUGE: f64 = 1e120;
const HUGE_SCALE: f64 = 1.0 / 1.606_938_044_258_990_3e60;
const HUGE_LN: f64 = 138.629_436_111_989_06;
/// An integer below 2^52 put into the mantissa of 2^52 is 2^52 plus that integer.
const INTEGER_BITS: u64 = 0x4330_0000_0000_0000;
/// 2^52 + 1023
const INTEGER_OFFSET: f64 = 4_503_599_627_371_519.0;
const TWICE_BIAS: u64 = 2046;
/// The bits of sqrt(1/2).
const SQRT_HALF: u64 = 0x3FE6_A09E_667F_3BCD;

/// (e^r - 1 - r) / r^2, relative error of e^r 2e-17.
const EXP: [f64; 10] = [
    0.500_000_000_000_000_1,
    0.166_666_666_666_666_69,
    0.041_666_666_666_623_99,
    0.008_333_333_333_330_051,
    0.001_388_888_891_728_179_4,
    0.000_198_412_698_631_059_68,
    2.480_152_119_021_773e-5,
    2.755_726_837_868_419_2e-6,
    2.762_013_871_973_399_4e-7,
    2.510_042_415_700_506_7e-8,
];

/// (ln((1 + s) / (1 - s)) - 2 s) / s^3 as a function of s^2.
const ATANH: [f64; 7] = [
    0.666_666_666_666_667,
    0.399_999_999_998_929_6,
    0.285_714_286_289_280_1,
    0.222_222_106_553_299_83,
    0.181_829_238_772_698_55,
    0.153_305_724_331_940_5,
    0.146_305_804_229_556_7,
];

const CDF_CENTRE: f64 = 5.0;

/// (x + 5) e^(x^2/2) Phi(-x) for x >= 0, in powers of (x - 5) / (x + 5), relative error 5e-17.
const CDF: [f64; 23] = [
    0.769_193_049_750_063,
    -0.665_382_502_890_057_7,
    0.495_305_615_969_976_8,
    -0.313_533_156_671_213_8,
    0.165_020_366_170_342_82,
    -0.069_118_638_708_814_32,
    0.020_795_066_800_941_623,
    -0.002_993_376_738_223_308_3,
    -0.000_797_869_409_480_896_4,
    0.000_544_898_830_901_479_5,
    -5.937_567_328_592_743e-5,
    -4.976_177_119_183_155e-5,
    1.668_109_911_378_053e-5,
    3.977_912_645_298_717e-6,
    -2.769_337_866_237_857_7e-6,
    -3.310_698_139_575_773e-7,
    4.340_262_525_327_153_6e-7,
    3.581_840_650_831_56e-8,
    -6.782_554_701_200_382e-8,
    -5.015_652_875_294_053e-9,
    9.446_824_521_532_23e-9,
    5.037_308_252_855_744e-10,
    -8.166_186_367_074_826e-10,
];

/// `x = 2^k m` with sqrt(1/2) <= m < sqrt(2), as `(k + 1023, m)`.
#[inline(always)]
fn split(x: f64) -> (u64, f64) {
    let shifted = x.to_bits().wrapping_add((1023 << MANTISSA) - SQRT_HALF);
    let mantissa = f64::from_bits((shifted & 0x000F_FFFF_FFFF_FFFF) + SQRT_HALF);
    (shifted >> MANTISSA, mantissa)
}

/// `ln(1 + f) + k ln(2)`: with s = f / (2 + f), ln(1 + f) = 2 s + s R(s^2), and 2 s = f - s f = f - (1 - s) f^2/2 keeps
/// the leading term exact.
#[inline(always)]
fn ln_reduced<const FMA: bool>(f: f64, k: f64) -> f64 {
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial::<FMA, _>(z, &ATANH);
    let half_square = 0.5 * f * f;
    let low = s.fma::<FMA>(half_square + r, k * LN2_LO);
    k.fma::<FMA>(LN2_HI, f - (half_square - low))
}

impl Lane for f64 {
    const TINY: f64 = 1e-200;
    const SOFTPLUS_IS_EXP: f64 = -38.0;
    shared_methods!(f64);

    #[inline(always)]
    fn lgamma<const FMA: bool>(self) -> f64 {
        gamma::lgamma::<FMA>(self)
    }

    #[inline(always)]
    fn digamma<const FMA: bool>(self) -> f64 {
        gamma::digamma::<FMA>(self)
    }
}
