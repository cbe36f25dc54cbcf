//! Numbers computed by the Python original and with 50 digits, and the tolerances that come with them.

use super::npz;
use super::*;
use crate::likelihood::{kl_normal, kl_standard_normal, log_prob_of};
use crate::math;

const FILE: &str = "golden/scvi/core/likelihood.npz";

fn check(found: &[f64], exact: &[f64], allowed: impl Fn(usize) -> f64, what: &str) {
    assert_eq!(found.len(), exact.len());
    for (k, (&a, &b)) in found.iter().zip(exact).enumerate() {
        let same = a == b || a.is_nan() && b.is_nan();
        assert!(
            same || (a - b).abs() <= allowed(k),
            "{what}[{k}]: {a} is not {b} +- {:e}",
            allowed(k)
        );
    }
}

/// One gene per cell, given rates; log-probability and gradients by mu, theta, dropout logit.
fn fused(
    family: Family,
    x: &[f64],
    mu: &[f64],
    theta: &[f64],
    logits: Option<&[f64]>,
) -> [Vec<f64>; 4] {
    let n = x.len();
    let column = |v: &[f64]| Var::from_vec(v.to_vec(), (n, 1), &Device::Cpu).unwrap();
    let x = x.iter().map(|&v| v as f32).collect();
    let x = Arc::new(Csr::from_dense(
        &ndarray::Array2::from_shape_vec((n, 1), x).unwrap(),
    ));
    let log: Vec<f64> = theta.iter().map(|t| t.ln()).collect();
    let (mu, log_theta) = (column(mu), column(&log));
    let p = logits.map(column);
    let dispersion = Dispersion::per_cell(&log_theta);
    let dispersion = family.has_dispersion().then_some(&dispersion);
    let ll = log_prob(
        family,
        &x,
        &Mean::Rate(&mu),
        dispersion,
        p.as_ref().map(Var::as_tensor),
    )
    .unwrap();
    let grads = ll.sum_all().unwrap().backward().unwrap();
    let numbers = |v: &Var| match grads.get(v) {
        Some(g) => g.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
        None => vec![],
    };
    let by_log_theta = numbers(&log_theta);
    let by_theta = by_log_theta.iter().zip(theta).map(|(g, t)| g / t).collect();
    [
        ll.to_vec1().unwrap(),
        numbers(&mu),
        by_theta,
        p.map_or(vec![], |p| numbers(&p)),
    ]
}

#[test]
fn negative_binomial() {
    let Some(z) = npz::read(FILE) else { return };
    let at = |name: &str| z[&format!("nb/{name}")].as_slice();
    let (x, mu, theta) = (at("x"), at("mu"), at("theta"));
    let one: Vec<f64> = (0..x.len())
        .map(|k| log_prob_of(Family::NegativeBinomial, x[k], mu[k], theta[k], 0.0))
        .collect();
    let scale = at("abs_term_sum");
    check(
        &one,
        at("exact_with_eps"),
        |k| 4e-15 * (scale[k] + 1.0),
        "log_prob_of",
    );
    let [ll, by_mu, by_theta, _] = fused(Family::NegativeBinomial, x, mu, theta, None);
    check(
        &ll,
        at("exact_with_eps"),
        |k| 4e-15 * (scale[k] + 1.0),
        "log_prob",
    );
    let scale = at("abs_term_sum_d_mu");
    check(&by_mu, at("exact_d_mu"), |k| 4e-15 * scale[k], "d_mu");
    let scale = at("abs_term_sum_d_theta");
    check(
        &by_theta,
        at("exact_d_theta"),
        |k| 4e-15 * scale[k],
        "d_theta",
    );
}

#[test]
fn zero_inflated() {
    let Some(z) = npz::read(FILE) else { return };
    let at = |name: &str| z[&format!("zinb/{name}")].as_slice();
    let (x, mu, theta, p) = (at("x"), at("mu"), at("theta"), at("zi_logits"));
    let family = Family::ZeroInflatedNegativeBinomial;
    let scale = at("abs_term_sum");
    let one: Vec<f64> = (0..x.len())
        .map(|k| log_prob_of(family, x[k], mu[k], theta[k], p[k]))
        .collect();
    let [ll, by_mu, by_theta, by_p] = fused(family, x, mu, theta, Some(p));
    for found in [&one, &ll] {
        check(
            found,
            at("exact_with_eps_true_softplus"),
            |k| 4e-15 * (scale[k] + 1.0),
            "log_prob",
        );
        // PyTorch's softplus is the identity above 20.
        check(
            found,
            at("log_prob"),
            |k| 4e-15 * (scale[k] + 1.0) + 2.1e-9,
            "log_prob of torch",
        );
    }
    for (found, name) in [
        (by_mu, "d_mu"),
        (by_theta, "d_theta"),
        (by_p, "d_zi_logits"),
    ] {
        let exact = at(name);
        // PyTorch's own A carries the rounding of its terms, which are huge for a large theta.
        let allowed = |k: usize| (1e-8 + 4e-16 * scale[k]) * (1.0 + exact[k].abs());
        check(&found, exact, allowed, name);
    }
}

#[test]
fn poisson_and_normal() {
    let Some(z) = npz::read(FILE) else { return };
    let at = |name: &str| z[name].as_slice();
    let (x, rate) = (at("poisson/x"), at("poisson/rate"));
    let exact = at("poisson/log_prob");
    let [ll, by_rate, ..] = fused(Family::Poisson, x, rate, &vec![1.0; x.len()], None);
    let size = |k: usize| {
        4e-15
            * (x[k] * rate[k].max(1e-300).ln().abs()
                + rate[k]
                + math::lgamma_of(x[k] + 1.0).abs()
                + 1.0)
    };
    check(&ll, exact, size, "poisson");
    let exact = at("poisson/d_rate");
    // 0/0 in PyTorch, where the derivative is -1.
    let exact: Vec<f64> = exact
        .iter()
        .map(|v| if v.is_nan() { -1.0 } else { *v })
        .collect();
    check(
        &by_rate,
        &exact,
        |k| 1e-14 * (1.0 + exact[k].abs()),
        "poisson d_rate",
    );
    let one: Vec<f64> = (0..x.len())
        .map(|k| log_prob_of(Family::Poisson, x[k], rate[k], 0.0, 0.0))
        .collect();
    check(&one, at("poisson/log_prob"), size, "poisson one");

    let (x, loc, scale) = (at("normal/x"), at("normal/loc"), at("normal/scale"));
    let one: Vec<f64> = (0..x.len())
        .map(|k| log_prob_of(Family::Normal, x[k], loc[k], scale[k], 0.0))
        .collect();
    let exact = at("normal/log_prob");
    check(&one, exact, |k| 1e-13 * (1.0 + exact[k].abs()), "normal");
}

#[test]
fn divergences() {
    let Some(z) = npz::read(FILE) else { return };
    let t =
        |name: &str| Tensor::from_vec(z[name].clone(), (z[name].len(), 1), &Device::Cpu).unwrap();
    let kl = kl_standard_normal(&t("kl_std/m"), &t("kl_std/v")).unwrap();
    let exact = &z["kl_std/kl"];
    check(
        &kl.to_vec1().unwrap(),
        exact,
        |k| 1e-12 * (1.0 + exact[k].abs()),
        "kl_std",
    );
    let kl = kl_normal(
        &t("kl_normal/m_q"),
        &t("kl_normal/v_q"),
        &t("kl_normal/m_p"),
        &t("kl_normal/v_p"),
    );
    let exact = &z["kl_normal/kl"];
    check(
        &kl.unwrap().to_vec1().unwrap(),
        exact,
        |k| 1e-12 * (1.0 + exact[k].abs()),
        "kl_normal",
    );
}

#[test]
fn special_functions() {
    let Some(z) = npz::read(FILE) else { return };
    for (f, name) in [
        (math::lgamma as fn(&mut [f64]), "gamma/lgamma_exact"),
        (math::digamma, "gamma/digamma_exact"),
    ] {
        let mut found = z["gamma/x"].clone();
        f(&mut found);
        let exact = &z[name];
        check(&found, exact, |k| 1e-13 * exact[k].abs() + 1e-14, name);
    }
    let mut found = z["softplus/x"].clone();
    math::softplus(&mut found);
    let exact = &z["softplus/exact"];
    // Below the smallest normal number the result is 0.
    check(
        &found,
        exact,
        |k| 1e-15 * exact[k].abs() + 2.3e-308,
        "softplus",
    );
}
