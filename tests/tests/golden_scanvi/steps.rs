//! Given noise: the marginal likelihood, losses, gradients, steps of training.

use super::*;

/// One sample of noise `[S, rows, d]`, or noise `[rows, d]`.
fn noise_of(e: &Npz, key: &str, sample: Option<usize>, dtype: DType) -> Option<Tensor> {
    if !e.has(key) {
        return None;
    }
    let t = Tensor::from_slice(e.get(key), e.shape(key), &Device::Cpu).unwrap();
    let t = match sample {
        Some(s) => t.get(s).unwrap(),
        None => t,
    };
    Some(t.to_dtype(dtype).unwrap())
}

#[test]
fn marginal_likelihood_with_given_noise() {
    let mut checked = 0;
    let Some(golden) = golden() else { return };
    for names in all_models() {
        let case = Case::load(&golden, &names);
        let e = &case.expected;
        if !e.has("mll_injected_f64") {
            continue;
        }
        let rows = if e.has("mll_injected_cells") {
            e.indices("mll_injected_cells")
        } else {
            e.indices("cells")[..e.get("mll_injected_f64").len()].to_vec()
        };
        let batch = case.cells().minibatch(&rows, true).unwrap();
        let samples: Vec<Noise> = (0..e.shape("mll_injected_eps_z")[0])
            .map(|s| {
                let given = |key| noise_of(e, key, Some(s), DType::F64);
                Noise {
                    z: given("mll_injected_eps_z"),
                    library: given("mll_injected_eps_l"),
                    z2: given("mll_injected_eps_z2"),
                }
            })
            .collect();
        let found = case
            .double
            .marginal_ll_with_noise(&batch, &samples, Parity::Upstream)
            .unwrap();
        let expected = e.get("mll_injected_f64");
        case.near("marginal_ll", worst_relative(&found, expected), 1e-9);
        checked += 1;
    }
    assert!(checked >= 7, "only {checked} models have noise");
}

#[test]
fn marginal_likelihood_by_sampling() {
    for_each_model(|case| {
        let e = &case.expected;
        if !e.has("marginal_ll_percell_mean5") {
            return;
        }
        let (mean, sd) = (
            e.get("marginal_ll_percell_mean5"),
            e.get("marginal_ll_percell_sd5"),
        );
        let rows = e.indices("cells");
        let data = case.data.select_obs(&rows[..mean.len()]).unwrap();
        let cells = Cells::for_model(&data, case.single.registry()).unwrap();
        let ll = |parity| case.single.marginal_ll(&cells, 500, 0, parity).unwrap();
        let average = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let found = average(&ll(Parity::Upstream));
        let spread = sd.iter().map(|s| s * s).sum::<f64>().sqrt() / mean.len() as f64;
        case.near(
            "marginal_ll",
            (found - average(mean)).abs(),
            (6.0 * spread).max(0.5),
        );
        // The correct one is an upper bound of the evidence lower bound (with its label averaged inside the logarithm).
        let correct = average(&ll(Parity::Correct));
        let bound = case.single.elbo(&cells, Some(0)).unwrap().elbo();
        eprintln!(
            "{}: log p(x) {correct:.2}, as in scvi-tools {found:.2}, bound {bound:.2}",
            case.name
        );
        assert!(correct > bound, "{}: {correct} below {bound}", case.name);
    });
}

/// Trains some steps on one minibatch of cells and one of labelled cells with given noise.
fn train(case: &Case, model: &Scanvi, tolerance: (f64, f64)) {
    let (e, cells) = (&case.expected, case.cells());
    let minibatch = |key: &str| -> Minibatch {
        let rows = e.indices(&format!("train/{key}"));
        cells.minibatch(&rows, true).unwrap()
    };
    let (batch, labelled) = (minibatch("idx"), minibatch("labelled_idx"));
    let parameters = model.scvi().parameters();
    let dtype = parameters.dtype();
    let rng = Rng::new(0);
    let mut optimizer = Optimizer::new(OptimizerKind::default(), parameters);
    let kl_weight = e.get("train/kl_weight")[0];
    for (k, &expected) in e.get("train/losses").iter().enumerate() {
        let given = |key: &str| noise_of(e, &format!("train/{key}_step{k}"), None, dtype);
        let noise = Noise {
            z: given("eps_z"),
            library: given("eps_l"),
            z2: given("eps_z2"),
        };
        assert!(noise.z.is_some() && noise.z2.is_some());
        let mode = Mode::train(&rng, k as u64).without_dropout();
        let terms = model.elbo_terms(&batch, &noise, &mode).unwrap();
        let ce = model.classification_loss(&labelled, &mode.pass(1)).unwrap();
        let loss = (terms.loss(kl_weight).unwrap() + (&ce * 50.0).unwrap()).unwrap();
        let off = (values(&loss)[0] - expected).abs() / expected.abs();
        case.near(&format!("loss {k}"), off, tolerance.0);
        let grads = sc_tensor::backward(&loss).unwrap();
        if k == 0 {
            let near = |key: &str, found: &Tensor| {
                let expected = e.get(&format!("train/{key}"));
                case.near(key, worst_relative(&values(found), expected), tolerance.0);
            };
            near("rec", &terms.reconstruction_total().unwrap());
            // Small sums of larger terms.
            let kl = values(&terms.kl_total().unwrap());
            let off = worst(&kl, e.get("train/kl_local"), |x| x.abs().max(0.1));
            case.near("kl_local", off, tolerance.0);
            near("ce", &ce);
            let seen = gradients(&case.name, "train", e, parameters, &grads, tolerance.1);
            assert!(seen > 20, "{}: only {seen} gradients compared", case.name);
        }
        optimizer.step(parameters, &grads, 1e-3, None).unwrap();
    }
    // The reference read its "bn_after_step1" after the last step.
    let tolerance = if dtype == DType::F64 { 1e-6 } else { 1e-3 };
    let mut seen = 0;
    for p in parameters.iter() {
        let key = format!("train/bn_after_step1/{}", p.name());
        if e.has(&key) {
            let found = values(&p.export().unwrap());
            let off = worst(&found, e.get(&key), |x| x.abs().max(1e-2));
            case.near(&key, off, tolerance);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{}: only {seen} buffers compared", case.name);
}

#[test]
fn losses_gradients_and_steps() {
    let mut checked = 0;
    let Some(golden) = golden() else { return };
    for names in all_models() {
        let case = Case::load(&golden, &names);
        if case.expected.has("train/idx") {
            train(&case, &case.double, (1e-9, 1e-5));
            train(&case, &case.single, (2e-5, 1e-3));
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} models have steps");
}
