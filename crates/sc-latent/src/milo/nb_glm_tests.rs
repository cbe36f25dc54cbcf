use super::*;
use ndarray::{Array2, array};

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} {b}");
}

/// Reference: statsmodels 0.15, `GLM(y, X, NegativeBinomial(alpha), offset)`.
#[test]
fn fits_agree_with_statsmodels() {
    let design = design();
    let y = [12.0, 0.0, 30.0, 7.0, 55.0, 21.0, 18.0, 3.0];
    let offset: Vec<f64> = (0..8).map(|i| (100.0 + 37.0 * f64::from(i)).ln()).collect();
    let mut fitter = Fitter::new(design.view());
    for (phi, coefficients, deviance, log_likelihood) in STATSMODELS {
        let fit = fitter.fit(&y, &offset, phi, None);
        assert!(fit.converged);
        for (a, b) in fit.coefficients.iter().zip(coefficients) {
            close(*a, b, 1e-7);
        }
        close(fit.deviance, deviance, 1e-9);
        let found: f64 = y
            .iter()
            .zip(&fit.means)
            .map(|(&y, &m)| ln_probability(y, m, phi))
            .sum();
        close(found, log_likelihood, 1e-9);
        // From a start that is far away, too.
        let again = fitter.fit(&y, &offset, phi, Some(&[3.0, -4.0, 5.0]));
        close(again.deviance, fit.deviance, 1e-9);
    }
    let fit = fitter.fit(&y, &offset, 0.0, None);
    for (a, b) in fit.coefficients.iter().zip(POISSON.0) {
        close(*a, b, 1e-7);
    }
    close(fit.deviance, POISSON.1, 1e-9);
}
const STATSMODELS: [(f64, [f64; 3], f64, f64); 3] = [
    (
        0.01,
        [
            -1.990_481_434_808_229_8,
            -1.490_827_537_617_050_8,
            0.023_555_089_903_150_25,
        ],
        50.895_614_795_749_7,
        -42.010_789_334_195_25,
    ),
    (
        0.2,
        [
            -2.072_504_153_978_666_6,
            -1.581_874_442_148_598_6,
            0.251_156_667_637_051,
        ],
        16.755_368_838_739_38,
        -29.477_137_876_266,
    ),
    (
        1.5,
        [
            -2.119_039_487_918_184,
            -1.664_874_359_627_554_1,
            0.383_141_880_270_606_75,
        ],
        4.450_631_878_397_694,
        -30.009_507_744_563_82,
    ),
];
const POISSON: ([f64; 3], f64) = (
    [
        -1.976_803_791_731_500_2,
        -1.473_156_524_626_377,
        -0.024_405_005_006_792_78,
    ],
    61.512_063_097_382_416,
);

fn design() -> Array2<f64> {
    Array2::from_shape_fn((8, 3), |(i, j)| match j {
        0 => 1.0,
        1 => (i % 2) as f64,
        _ => f64::from(i >= 4),
    })
}

#[test]
fn a_group_without_counts_does_not_stop_the_fit() {
    let design = array![
        [1.0, 0.0],
        [1.0, 0.0],
        [1.0, 0.0],
        [1.0, 1.0],
        [1.0, 1.0],
        [1.0, 1.0]
    ];
    let offset = [0.0; 6];
    let mut fitter = Fitter::new(design.view());
    for y in [
        [4.0, 9.0, 5.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 7.0, 1.0, 4.0],
    ] {
        let fit = fitter.fit(&y, &offset, 0.2, None);
        assert!(fit.converged, "{fit:?}");
        for (y, m) in y.chunks(3).zip(fit.means.chunks(3)) {
            let mean = y.iter().sum::<f64>() / 3.0;
            assert!(m.iter().all(|m| (m - mean).abs() < 1e-5), "{m:?}");
        }
    }
    let fit = fitter.fit(&[0.0; 6], &offset, 0.2, None);
    assert!(fit.converged && fit.means.iter().all(|&m| m < 1e-6) && fit.deviance < 1e-5);
}

#[test]
fn the_deviance_is_smooth_in_the_dispersion() {
    for (y, mu) in [(0.0, 3.0), (7.0, 3.0), (3.0, 3.0), (1e4, 9e3)] {
        let poisson = unit_deviance(y, mu, 0.0);
        close(unit_deviance(y, mu, 1e-13), poisson, 1e-6);
        let phi: f64 = 0.3;
        let log = if y > 0.0 { y * (y / mu).ln() } else { 0.0 };
        let direct = 2.0 * (log - (y + 1.0 / phi) * ((1.0 + phi * y) / (1.0 + phi * mu)).ln());
        close(unit_deviance(y, mu, phi), direct, 1e-9);
    }
    assert_eq!(unit_deviance(0.0, 0.0, 0.5), 0.0);
}

#[test]
fn one_group_is_the_model_with_an_intercept() {
    let y = [3.0, 0.0, 12.0, 5.0];
    let offset = [0.1, 0.5, 2.0, 1.0];
    let design = Array2::ones((4, 1));
    let fit = Fitter::new(design.view()).fit(&y, &offset, 0.05, None);
    close(one_group(&y, &offset, 0.05), fit.coefficients[0], 1e-8);
    assert_eq!(one_group(&[0.0; 4], &offset, 0.05), f64::NEG_INFINITY);
}
