//! Special functions and tails of distributions.

use statrs::function::beta::checked_beta_reg;
use statrs::function::gamma::checked_gamma_ur;

/// From here on the asymptotic series of the polygamma functions are exact to the last digits.
const LARGE: f64 = 12.0;

/// The second and third derivative of `ln Gamma` at `x > 0`: recurrence up to 12, then the series of Abramowitz and
/// Stegun 6.4.12 and 6.4.13.
fn polygammas(x: f64) -> (f64, f64) {
    let (mut x, mut tri, mut tetra) = (x, 0.0, 0.0);
    while x < LARGE {
        tri += 1.0 / (x * x);
        tetra -= 2.0 / (x * x * x);
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    let series = 1.0 / 6.0
        - r * (1.0 / 30.0
            - r * (1.0 / 42.0 - r * (1.0 / 30.0 - r * (5.0 / 66.0 - r * 691.0 / 2730.0))));
    tri += 1.0 / x + 0.5 * r + series * r / x;
    let series = 0.5 - r * (1.0 / 6.0 - r * (1.0 / 6.0 - r * (0.3 - r * (5.0 / 6.0))));
    tetra -= r + r / x + series * r * r;
    (tri, tetra)
}

/// The derivative of the digamma function at `x > 0`.
pub(super) fn trigamma(x: f64) -> f64 {
    polygammas(x).0
}

/// The `x > 0` at which [`trigamma`] is `y > 0`.
///
/// Newton's method on `1 / trigamma(x)`, which is nearly linear: it goes from about `x^2` near 0 to `x - 1/2`.
pub(super) fn inverse_trigamma(y: f64) -> f64 {
    if y > 1e7 {
        return 1.0 / y.sqrt();
    }
    if y < 1e-6 {
        return 1.0 / y;
    }
    let mut x = 0.5 + 1.0 / y;
    for _ in 0..50 {
        let (tri, tetra) = polygammas(x);
        // (1/tri - 1/y) / (d/dx 1/tri)
        let step = tri * (1.0 - tri / y) / tetra;
        x = (x + step).max(0.5 * x);
        if step.abs() < 1e-12 * x {
            break;
        }
    }
    x
}

/// The upper tail of the F distribution; `d2` may be infinite. NaN for degrees of freedom that are not positive.
pub(super) fn f_upper(f: f64, d1: f64, d2: f64) -> f64 {
    if d2.is_infinite() {
        return chi_square_upper(f * d1, d1);
    }
    if f.is_infinite() {
        return 0.0;
    }
    checked_beta_reg(0.5 * d2, 0.5 * d1, d2 / (d2 + d1 * f)).unwrap_or(f64::NAN)
}

/// The lower tail of the F distribution.
pub(super) fn f_lower(f: f64, d1: f64, d2: f64) -> f64 {
    if d2.is_infinite() || f.is_infinite() {
        return 1.0 - f_upper(f, d1, d2);
    }
    let part = d1 * f;
    checked_beta_reg(0.5 * d1, 0.5 * d2, part / (d2 + part)).unwrap_or(f64::NAN)
}

/// The upper tail of the chi-square distribution.
pub(super) fn chi_square_upper(x: f64, df: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    checked_gamma_ur(0.5 * df, 0.5 * x).unwrap_or(f64::NAN)
}

/// A tail probability.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tail {
    Lower(f64),
    Upper(f64),
}

/// The `f` whose tail has this probability, by halving an interval of `ln f`.
pub(super) fn f_quantile(tail: Tail, d1: f64, d2: f64) -> f64 {
    let too_small = |f: f64| match tail {
        Tail::Lower(p) => f_lower(f, d1, d2) < p,
        Tail::Upper(p) => f_upper(f, d1, d2) > p,
    };
    let (mut low, mut high) = (-690.0f64, 690.0f64);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if too_small(middle.exp()) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high).exp()
}

/// The logarithm of the density of the F distribution; `d2` may be infinite.
pub(super) fn f_ln_density(f: f64, d1: f64, d2: f64) -> f64 {
    use sc_tensor::math::lgamma_of;
    let half = 0.5 * d1;
    if d2.is_infinite() {
        // d1 f is chi-square.
        return half * half.ln() + (half - 1.0) * f.ln() - half * f - lgamma_of(half);
    }
    let ratio = d1 / d2;
    let (gammas, _) = sc_tensor::math::lgamma_difference(half, 0.5 * d2);
    gammas - lgamma_of(half) + half * ratio.ln() + (half - 1.0) * f.ln()
        - 0.5 * (d1 + d2) * (ratio * f).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs(), "{a} {b}");
    }

    /// scipy.special.polygamma(1, x) and (2, x).
    #[test]
    fn polygammas_are_scipys() {
        for (x, tri, tetra) in SCIPY_POLYGAMMA {
            close(polygammas(x).0, tri, 1e-13);
            close(polygammas(x).1, tetra, 1e-12);
        }
        for y in [1e-8, 1e-5, 0.01, 0.3, 1.0, 5.0, 200.0, 1e8] {
            close(trigamma(inverse_trigamma(y)), y, 2e-4);
        }
        for y in [1e-5, 0.01, 0.3, 1.0, 5.0, 200.0] {
            close(trigamma(inverse_trigamma(y)), y, 1e-11);
        }
    }

    const SCIPY_POLYGAMMA: [(f64, f64, f64); 4] = [
        (0.1, 101.433_299_150_792_75, -2_001.861_457_378_343_9),
        (1.0, 1.644_934_066_848_226_4, -2.404_113_806_319_188),
        (7.3, 0.146_795_768_131_427_03, -0.021_510_814_441_620_257),
        (
            250.0,
            0.004_008_010_666_632_532,
            -1.606_412_799_931_734_3e-5,
        ),
    ];

    /// scipy.stats.f.sf, .cdf and .logpdf.
    #[test]
    fn tails_are_scipys() {
        for (f, d1, d2, sf) in SCIPY_F_SF {
            // The library loses digits to the difference of two large lgammas.
            let tolerance = if d2 > 1e6 { 1e-7 } else { 1e-9 };
            close(f_upper(f, d1, d2), sf, tolerance);
            if sf > 0.01 {
                close(f_quantile(Tail::Lower(f_lower(f, d1, d2)), d1, d2), f, 1e-7);
            }
            if sf < 0.99 {
                close(f_quantile(Tail::Upper(sf), d1, d2), f, 10.0 * tolerance);
                close(f_lower(f, d1, d2), 1.0 - sf, tolerance);
            }
        }
        close(
            f_upper(3.841_458_820_694_124, 1.0, f64::INFINITY),
            0.05,
            1e-12,
        );
        close(chi_square_upper(3.841_458_820_694_124, 1.0), 0.05, 1e-12);
        assert_eq!(chi_square_upper(0.0, 1.0), 1.0);
        assert_eq!(f_upper(0.0, 1.0, 5.0), 1.0);
        assert_eq!(f_upper(f64::INFINITY, 1.0, 5.0), 0.0);
        close(f_ln_density(2.0, 3.0, 5.0), -1.945_635_450_435_713_8, 1e-13);
        close(
            f_ln_density(2.0, 3.0, 1e12),
            f_ln_density(2.0, 3.0, f64::INFINITY),
            1e-9,
        );
    }

    const SCIPY_F_SF: [(f64, f64, f64, f64); 9] = [
        (4.0, 1.0, 10.0, 0.073_388_034_770_740_37),
        (0.2, 1.0, 3.5, 0.680_977_101_392_903),
        (30.0, 1.0, 16.0, 5.066_404_091_852_973_5e-5),
        (120.0, 1.0, 80_000.0, 6.621_887_663_877_955e-28),
        (2.5, 5.0, 40_000.0, 0.028_559_965_082_342_587),
        (0.01, 1.0, 1e6, 0.920_344_345_492_043_2),
        (0.001, 4.0, 12.0, 0.999_997_670_810_152_3),
        (300.0, 1.0, 4.0, 6.521_070_254_094_21e-5),
        (8.0, 1.0, 2e7, 0.004_677_739_631_120_092),
    ];
}
