//! Numbers that need no files.

use super::*;
use crate::likelihood::{
    kl_normal, kl_standard_normal, log_prob_of, negative_binomial_variance, zero_inflated_mean,
    zero_inflated_variance,
};

const X: [f32; 6] = [0.0, 1.0, 5.0, 100.0, 0.0, 3.0];
const MU: [f64; 6] = [0.1, 1.0, 5.0, 80.0, 1e-6, 1000.0];
const THETA: [f64; 6] = [1.0, 0.5, 10.0, 2.0, 1e-3, 50.0];
const LOGIT: [f64; 6] = [-2.0, 0.0, 3.0, -10.0, 20.0, -20.0];
const NB: [f64; 6] = [
    -0.095_310_18,
    -1.647_918_4,
    -1.945_810_6,
    -5.281_284_9,
    -9.994_9e-7,
    -142.369_16,
];
const ZINB: [f64; 6] = [
    -0.083_460_375,
    -2.341_065_6,
    -4.994_397_9,
    -5.281_330_3,
    -2.06e-15,
    -142.369_16,
];

/// Six cells with one gene each, so that every entry is seen.
fn fused(family: Family) -> Vec<f64> {
    let column = |v: &[f64]| Tensor::from_vec(v.to_vec(), (6, 1), &Device::Cpu).unwrap();
    let x = Arc::new(Csr::from_dense(
        &ndarray::Array2::from_shape_vec((6, 1), X.to_vec()).unwrap(),
    ));
    let (mu, log_theta, p) = (column(&MU), column(&THETA).log().unwrap(), column(&LOGIT));
    let dispersion = Dispersion::per_cell(&log_theta);
    let dropout = family.has_dropout().then_some(&p);
    let ll = log_prob(family, &x, &Mean::Rate(&mu), Some(&dispersion), dropout).unwrap();
    ll.to_vec1().unwrap()
}

#[test]
fn known_values() {
    for (family, expected) in [
        (Family::NegativeBinomial, NB),
        (Family::ZeroInflatedNegativeBinomial, ZINB),
    ] {
        let one: Vec<f64> = (0..6)
            .map(|k| log_prob_of(family, f64::from(X[k]), MU[k], THETA[k], LOGIT[k]))
            .collect();
        for found in [one, fused(family)] {
            assert_close(&found[..4], &expected[..4], 6e-8, 0.0, "known values");
            assert_close(&found[4..5], &expected[4..5], 1e-2, 0.0, "known values");
            assert_close(&found[5..], &expected[5..], 6e-8, 0.0, "known values");
        }
    }
}

#[test]
fn divergences() {
    let t = |v: &[f64]| Tensor::from_vec(v.to_vec(), (1, v.len()), &Device::Cpu).unwrap();
    let (m, v) = (t(&[0.5, -1.0]), t(&[0.25, 2.0]));
    let kl = kl_standard_normal(&m, &v)
        .unwrap()
        .to_vec1::<f64>()
        .unwrap();
    let by_hand = 0.5 * (0.25 + 0.25 - 1.0 - 0.25f64.ln()) + 0.5 * (2.0 + 1.0 - 1.0 - 2f64.ln());
    assert_close(&kl, &[by_hand], 1e-14, 0.0, "kl_standard_normal");
    let unit = kl_normal(&m, &v, &t(&[0.0, 0.0]), &t(&[1.0, 1.0])).unwrap();
    assert_close(
        &unit.to_vec1::<f64>().unwrap(),
        &kl,
        1e-14,
        0.0,
        "kl_normal",
    );
    let same = kl_normal(&m, &v, &m, &v).unwrap().to_vec1::<f64>().unwrap();
    assert_close(&same, &[0.0], 0.0, 1e-15, "kl_normal of equals");
}

#[test]
fn moments() {
    let t = |v: f64| Tensor::new(&[v], &Device::Cpu).unwrap();
    let (mu, theta, logit) = (t(4.0), t(2.0), t(3f64.ln()));
    let number = |t: Tensor| t.to_vec1::<f64>().unwrap()[0];
    assert_close(
        &[number(negative_binomial_variance(&mu, &theta).unwrap())],
        &[12.0],
        1e-14,
        0.0,
        "",
    );
    assert_close(
        &[number(zero_inflated_mean(&mu, &logit).unwrap())],
        &[1.0],
        1e-14,
        0.0,
        "",
    );
    // pi = 3/4: 1/4 * 4 * (4 + 2 + 6) / 2
    assert_close(
        &[number(zero_inflated_variance(&mu, &theta, &logit).unwrap())],
        &[6.0],
        1e-14,
        0.0,
        "",
    );
}
