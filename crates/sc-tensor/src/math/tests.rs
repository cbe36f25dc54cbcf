#![allow(missing_docs)]

use super::*;

fn spread(lo: f64, hi: f64, n: usize) -> Vec<f64> {
    (0..n)
        .map(|i| lo + (hi - lo) * (i as f64 + 0.37) / n as f64)
        .collect()
}

fn worst32(f: fn(&mut [f32]), exact: fn(f64) -> f64, xs: &[f64]) -> f64 {
    let x: Vec<f32> = xs.iter().map(|&v| v as f32).collect();
    let mut y = x.clone();
    f(&mut y);
    let error = |(&x, &y): (&f32, &f32)| {
        let e = exact(f64::from(x));
        if e.abs() < 1.2e-38 {
            f64::from(y.abs())
        } else {
            (f64::from(y) / e - 1.0).abs()
        }
    };
    x.iter().zip(&y).map(error).fold(0.0, f64::max)
}

fn worst64(f: fn(&mut [f64]), exact: fn(f64) -> f64, xs: &[f64]) -> f64 {
    let mut y = xs.to_vec();
    f(&mut y);
    xs.iter()
        .zip(&y)
        .map(|(&x, &y)| (y / exact(x) - 1.0).abs())
        .fold(0.0, f64::max)
}

fn softplus_std(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid_std(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        x.exp() / (1.0 + x.exp())
    }
}

#[test]
fn close_to_the_standard_library() {
    let wide = spread(-87.2, 88.7, 100_003);
    let log = |lo, hi| -> Vec<f64> { spread(lo, hi, 50_001).into_iter().map(f64::exp).collect() };
    let mut signed = log(-80.0, 80.0);
    signed.extend(spread(-0.99, 3.0, 50_000));
    signed.extend(log(-80.0, -3.0).iter().map(|v| -v));
    for (error, what) in [
        (worst32(exp, f64::exp, &wide), "exp"),
        (worst32(ln, f64::ln, &log(-87.0, 88.0)), "ln"),
        (worst32(ln, f64::ln, &spread(0.9, 1.1, 10_000)), "ln near 1"),
        (worst32(ln_1p, f64::ln_1p, &signed), "ln_1p"),
        (worst32(softplus, softplus_std, &wide), "softplus"),
        (worst32(sigmoid, sigmoid_std, &wide), "sigmoid"),
    ] {
        assert!(error < 3e-7, "f32 {what}: {error:e}");
    }
    let wide = spread(-708.0, 709.7, 100_003);
    let mut signed = log(-700.0, 700.0);
    signed.extend(spread(-0.99, 3.0, 50_000));
    signed.extend(log(-700.0, -3.0).iter().map(|v| -v));
    for (error, what) in [
        (worst64(exp, f64::exp, &wide), "exp"),
        (worst64(ln, f64::ln, &log(-708.0, 709.0)), "ln"),
        (worst64(ln, f64::ln, &spread(0.9, 1.1, 10_000)), "ln near 1"),
        (worst64(ln_1p, f64::ln_1p, &signed), "ln_1p"),
        (worst64(softplus, softplus_std, &wide), "softplus"),
        (worst64(sigmoid, sigmoid_std, &wide), "sigmoid"),
    ] {
        assert!(error < 1e-15, "f64 {what}: {error:e}");
    }
}

fn special<T: Float>(f: fn(&mut [T]), x: f64) -> f64 {
    let mut v = [T::of(x)];
    f(&mut v);
    v[0].wide()
}

fn special_values<T: Float>() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (f, x, y) in [
        (exp as fn(&mut [T]), inf, inf),
        (exp, -inf, 0.0),
        (exp, 0.0, 1.0),
        (exp, -1e30, 0.0),
        (exp, 1e30, inf),
        (exp, nan, nan),
        (ln, 0.0, -inf),
        (ln, 1.0, 0.0),
        (ln, inf, inf),
        (ln, -1.0, nan),
        (ln, nan, nan),
        (ln_1p, 0.0, 0.0),
        (ln_1p, -1.0, -inf),
        (ln_1p, -1.1, nan),
        (ln_1p, inf, inf),
        (ln_1p, nan, nan),
        (softplus, inf, inf),
        (softplus, -inf, 0.0),
        (softplus, nan, nan),
        (sigmoid, inf, 1.0),
        (sigmoid, -inf, 0.0),
        (sigmoid, 0.0, 0.5),
        (sigmoid, nan, nan),
        (lgamma, 0.0, inf),
        (lgamma, inf, inf),
        (lgamma, -1.5, nan),
        (digamma, 0.0, -inf),
        (digamma, inf, inf),
        (digamma, nan, nan),
    ] {
        let got = special(f, x);
        assert!(
            got == y || got.is_nan() && y.is_nan(),
            "{x} -> {got}, not {y}"
        );
    }
    assert!(special(ln_1p::<f32>, 3e38) > 88.0 && special(ln_1p::<f64>, 1e308) > 709.0);
}

#[test]
fn infinities_and_nan() {
    special_values::<f32>();
    special_values::<f64>();
}

// 50-digit values, rounded.
const GAMMA: [(f64, f64, f64); 8] = [
    (1e-300, 690.775_527_898_213_7, -1e300),
    (1e-3, 6.907_178_885_383_853, -1_000.575_571_931_810_3),
    (0.5, 0.572_364_942_924_700_1, -1.963_510_026_021_423_5),
    (1.5, -0.120_782_237_635_245_22, 0.036_489_973_978_576_52),
    (7.25, 7.052_185_450_738_54, 1.910_453_526_883_736),
    (16.0, 27.899_271_383_840_89, 2.741_013_328_327_460_5),
    (1234.5, 7_550.550_901_077_895, 7.118_016_231_827_998),
    (1e12, 2.663_102_111_591_565_2e13, 27.631_021_115_928_05),
];

#[test]
fn gamma_functions() {
    for (x, l, d) in GAMMA {
        for (got, exact) in [(lgamma_of(x), l), (digamma_of(x), d)] {
            let allowed = 1e-13 * exact.abs() + 1e-14;
            assert!((got - exact).abs() <= allowed, "{x}: {got} != {exact}");
        }
        let mut v = [x; 3];
        lgamma(&mut v);
        assert!((v[2] - l).abs() <= 1e-13 * l.abs() + 1e-14);
    }
}

#[test]
fn differences_do_not_cancel() {
    for t in [1e-6_f64, 0.3, 2.0, 15.9, 16.1, 800.0, 1e6, 1e15] {
        for x in [0.0, 1.0, 2.0, 5.0, 17.0] {
            let (l, d) = lgamma_difference(x, t);
            let steps = 0..x as usize;
            let product: f64 = steps.clone().map(|i| (t + i as f64).ln()).sum();
            let slope: f64 = steps.map(|i| 1.0 / (t + i as f64)).sum();
            assert!(
                (l - product).abs() <= 1e-13 * (1.0 + product.abs()),
                "{x} {t}"
            );
            assert!(
                (d - slope).abs() <= 3e-13 * slope + 1e-14,
                "{x} {t} {d} {slope}"
            );
        }
    }
    let (l, d) = lgamma_difference(0.5, 1.0);
    assert!(
        (l - lgamma_of(1.5)).abs() < 1e-14 && (d - digamma_of(1.5) + digamma_of(1.0)).abs() < 1e-14
    );
}

/// Against another implementation, over all sizes that a shape or a count can have.
#[test]
fn gamma_functions_agree_with_statrs() {
    for k in -60..60 {
        let x = 1.37f64.powi(k);
        let pairs = [
            (lgamma_of(x), statrs::function::gamma::ln_gamma(x)),
            (digamma_of(x), statrs::function::gamma::digamma(x)),
        ];
        for (ours, theirs) in pairs {
            let allowed = 1e-11 * (1.0 + theirs.abs());
            assert!((ours - theirs).abs() <= allowed, "{x}: {ours} and {theirs}");
        }
    }
}
