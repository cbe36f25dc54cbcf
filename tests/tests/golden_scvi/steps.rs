//! Given noise: the marginal likelihood, losses, gradients, steps of training.

use super::*;

/// Noise `[S, N, d]` for the first rows of a minibatch of `n`.
fn noise_of(e: &Npz, key: &str, n: usize) -> Option<Tensor> {
    if !e.has(key) {
        return None;
    }
    let shape = e.shape(key).to_vec();
    let t = Tensor::from_slice(e.get(key), shape.as_slice(), &Device::Cpu).unwrap();
    Some(if shape.len() == 3 {
        t.narrow(1, 0, n).unwrap().flatten_to(1).unwrap()
    } else {
        t
    })
}

#[test]
fn marginal_likelihood_with_given_noise() {
    for_each_model(|case| {
        let e = &case.expected;
        if !e.has("mll_injected_f64") {
            return;
        }
        let rows = if e.has("mll_injected_cells") {
            e.indices("mll_injected_cells")
        } else {
            e.indices("cells")[..e.get("mll_injected_f64").len()].to_vec()
        };
        let batch = case
            .cells()
            .minibatch(&rows, case.double.config().log_variational)
            .unwrap();
        let noise = Noise {
            z: noise_of(e, "mll_injected_eps_z", rows.len()),
            library: noise_of(e, "mll_injected_eps_l", rows.len()),
            ..Noise::default()
        };
        let samples = e.shape("mll_injected_eps_z")[0];
        let found = case
            .double
            .marginal_ll_with_noise(&batch, &noise, samples, Parity::Upstream)
            .unwrap();
        case.near(
            "marginal_ll",
            worst_relative(&found, e.get("mll_injected_f64")),
            1e-9,
        );
    });
}

/// Trains some steps on one minibatch with given noise.
fn train(
    case: &Case,
    prefix: &str,
    model: &Scvi,
    batch: &Minibatch,
    loss_tolerance: f64,
    gradient_tolerance: f64,
) {
    let e = &case.expected;
    let rng = Rng::new(0);
    let adam = OptimizerKind::default();
    let mut optimizer = Optimizer::new(adam, model.parameters());
    let dtype = model.parameters().dtype();
    let given = |key: String| noise_of(e, &key, 0).map(|t| t.to_dtype(dtype).unwrap());
    let losses = e.get(&format!("{prefix}/losses")).to_vec();
    let kl_weight = e.get(&format!("{prefix}/kl_weight"))[0];
    for (k, &expected) in losses.iter().enumerate() {
        let noise = Noise {
            z: given(format!("{prefix}/eps_z_step{k}")),
            library: given(format!("{prefix}/eps_l_step{k}")),
            ..Noise::default()
        };
        assert!(
            noise.z.is_some(),
            "{} {prefix}: no noise for step {k}",
            case.name
        );
        let mode = Mode::train(&rng, k as u64).without_dropout();
        let terms = model.elbo_terms(batch, &noise, &mode).unwrap();
        let loss = terms.loss(kl_weight).unwrap();
        let found = values(&loss)[0];
        case.near(
            &format!("{prefix} loss {k}"),
            (found - expected).abs() / expected.abs(),
            loss_tolerance,
        );
        let grads = loss.backward().unwrap();
        if k == 0 && e.names().any(|n| n.starts_with(&format!("{prefix}/grad/"))) {
            let parameters = model.parameters();
            let tolerance = gradient_tolerance;
            let seen = gradients(&case.name, prefix, e, parameters, &grads, tolerance);
            assert!(seen > 5, "{}: only {seen} gradients compared", case.name);
        }
        optimizer
            .step(model.parameters(), &grads, 1e-3, None)
            .unwrap();
    }
    // The reference read its "bn_after_step1" after the last step.
    let tolerance: f64 = if dtype == DType::F64 { 1e-6 } else { 1e-3 };
    let last = losses.len();
    for p in model.parameters().iter() {
        for key in [
            format!("{prefix}/bn_after_step1/{}", p.name()),
            format!("{prefix}/param_after_step{last}/{}", p.name()),
        ] {
            if e.has(&key) {
                let tolerance = if p.is_buffer() {
                    tolerance
                } else {
                    tolerance.max(1e-5)
                };
                let found = values(&p.export().unwrap());
                case.near(
                    &key,
                    worst(&found, e.get(&key), |x| x.abs().max(1e-2)),
                    tolerance,
                );
            }
        }
    }
}

#[test]
fn losses_gradients_and_steps_in_double_precision() {
    for_each_model(|case| {
        if !case.expected.has("train/idx") {
            return;
        }
        let rows = case.expected.indices("train/idx");
        let batch = case
            .cells()
            .minibatch(&rows, case.double.config().log_variational)
            .unwrap();
        train(case, "train", &case.double, &batch, 1e-9, 1e-5);
    });
}

#[test]
fn losses_gradients_and_steps_in_single_precision() {
    for_each_model(|case| {
        if !case.expected.has("train/idx") {
            return;
        }
        let rows = case.expected.indices("train/idx");
        let batch = case
            .cells()
            .minibatch(&rows, case.single.config().log_variational)
            .unwrap();
        train(case, "train", &case.single, &batch, 2e-5, 1e-3);
    });
}

#[test]
fn twelve_steps() {
    for_each_model(|case| {
        if !case.expected.has("traj12/losses") {
            return;
        }
        let key = if case.expected.has("traj12/idx") {
            "traj12/idx"
        } else {
            "train/idx"
        };
        let rows = case.expected.indices(key);
        let batch = case
            .cells()
            .minibatch(&rows, case.double.config().log_variational)
            .unwrap();
        train(case, "traj12", &case.double, &batch, 1e-7, 1e-5);
    });
}
