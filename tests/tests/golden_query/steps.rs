//! What a query trains, and what it doesn't.

use super::*;

/// The gradient of a parameter as the optimiser lets it through, in the layout of files.
fn masked_gradient(p: &Param, grads: &GradStore) -> Option<Tensor> {
    let mut g = grads.get(p.var().as_tensor())?.clone();
    if let Some(mask) = p.mask() {
        g = (g * mask).unwrap();
    }
    Some(if p.is_transposed() {
        g.t().unwrap().contiguous().unwrap()
    } else {
        g
    })
}

/// Three steps on the golden minibatch: the losses, and the gradients of the first.
fn three_steps(
    case: &Case,
    model: &AnyModel,
    prefix: &str,
    weight_decay: f64,
) -> (Vec<f64>, GradStore) {
    let (e, parameters) = (&case.expected, params(model));
    let cells = Cells::for_model(&case.query, model.registry()).unwrap();
    let minibatch = |key: &str| -> Option<Minibatch> {
        let key = format!("{prefix}/{key}");
        let rows = e.has(&key).then(|| e.indices(&key))?;
        let log1p = model.scvi().config().log_variational;
        Some(cells.minibatch(&rows, log1p).unwrap())
    };
    let (batch, labelled) = (minibatch("idx").unwrap(), minibatch("labelled_idx"));
    let kind = OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 0.01,
        weight_decay,
    };
    let mut optimizer = Optimizer::new(kind, parameters).decay_frozen(true);
    for (name, mask) in parameters.masks() {
        optimizer.set_mask(parameters, &name, mask).unwrap();
    }
    let kl_weight = e.get(&format!("{prefix}/kl_weight"))[0];
    let (rng, mut losses, mut first) = (Rng::new(0), Vec::new(), None);
    for k in 0..3 {
        let given = |what: &str| {
            let key = format!("{prefix}/{what}_step{k}");
            e.has(&key).then(|| {
                let v: Vec<f64> = e.get(&key).to_vec();
                let t = Tensor::from_vec(v, e.shape(&key), &Device::Cpu).unwrap();
                t.to_dtype(parameters.dtype()).unwrap()
            })
        };
        let mut noise = Noise::none();
        noise.z = given("eps_z");
        noise.library = given("eps_l");
        noise.z2 = given("eps_z2");
        assert!(noise.z.is_some());
        let mode = Mode::train(&rng, k).without_dropout();
        let loss = match model {
            AnyModel::Scanvi(m) => {
                let terms = m.elbo_terms(&batch, &noise, &mode).unwrap();
                let loss = terms.loss(kl_weight).unwrap();
                match &labelled {
                    Some(l) => {
                        let ce = m.classification_loss(l, &mode.pass(1)).unwrap();
                        (loss + (ce * 50.0).unwrap()).unwrap()
                    }
                    None => loss,
                }
            }
            m => {
                let terms = m.scvi().elbo_terms(&batch, &noise, &mode).unwrap();
                terms.loss(kl_weight).unwrap()
            }
        };
        losses.push(values(&loss)[0]);
        let grads = sc_tensor::backward(&loss).unwrap();
        optimizer.step(parameters, &grads, 1e-3, None).unwrap();
        first.get_or_insert(grads);
    }
    (losses, first.unwrap())
}

/// Indices out of `0-3,7`.
fn ranges(text: &str, all: usize) -> Vec<usize> {
    if text == "all" {
        return (0..all).collect();
    }
    text.split(',')
        .filter(|t| !t.is_empty())
        .flat_map(|t| {
            let (a, b) = t.split_once('-').unwrap_or((t, t));
            a.parse::<usize>().unwrap()..b.parse::<usize>().unwrap() + 1
        })
        .collect()
}

/// Which entries of a gradient are not zero, and how large it is.
fn compare_pattern(case: &Case, flags: &Value, p: &Param, grad: &Tensor, expected: &Value) {
    let what = format!("{} under {flags}", p.name());
    let found = values(grad);
    let size = found.iter().map(|g| g * g).sum::<f64>().sqrt();
    let l2 = expected["l2"].as_f64().unwrap();
    if l2 > 0.0 && l2 < 1e-9 {
        // Before a batch norm: zero but for rounding.
        return case.near(&what, size, 1e-9);
    }
    case.near(&what, (size - l2).abs() / l2.max(1e-9), 1e-6);
    if let Some(columns) = expected["nonzero_cols"].as_str() {
        let n = grad.dim(1).unwrap();
        let nonzero = (0..n).filter(|&c| slice(grad, 1, c).iter().any(|&g| g != 0.0));
        assert_eq!(
            nonzero.collect::<Vec<_>>(),
            ranges(columns, n),
            "{} {what}",
            case.name
        );
    } else {
        let nonzero = found.iter().filter(|&&g| g != 0.0).count();
        assert_eq!(
            nonzero as u64,
            expected["n_nonzero"].as_u64().unwrap(),
            "{} {what}",
            case.name
        );
    }
}

#[test]
fn every_combination_of_flags_trains_what_upstream_trains() {
    let mut seen = 0;
    for case in Case::all() {
        let reference = case.reference(DType::F64);
        for setting in case.json["flags"].as_array().unwrap() {
            let flags = &setting["flags"];
            let mut options: QueryOptions = serde_json::from_value(flags.clone()).unwrap();
            options.parity = Parity::Upstream;
            let mut model = case.loaded(DType::F64);
            freeze(&mut model, reference.registry(), &options);
            let trained: BTreeSet<&str> = params(&model).trainable().map(Param::name).collect();
            let expected = setting["requires_grad"].as_array().unwrap();
            let expected: BTreeSet<&str> = expected.iter().filter_map(Value::as_str).collect();
            assert_eq!(trained, expected, "{} under {flags}", case.name);

            let before = case.loaded(DType::F64);
            let (losses, grads) = three_steps(&case, &model, "step_wd0", 0.0);
            let expected: Vec<f64> =
                serde_json::from_value(setting["losses_3_steps_wd0"].clone()).unwrap();
            case.near("losses", worst_relative(&losses, &expected), 1e-9);
            let gradients = setting["grad"].as_object().unwrap();
            for p in params(&model).iter() {
                let grad = masked_gradient(p, &grads);
                match (gradients.get(p.name()), grad) {
                    (Some(e), Some(g)) => compare_pattern(&case, flags, p, &g, e),
                    (None, None) => {}
                    (e, g) => panic!("{} {}: {e:?} but {g:?}", case.name, p.name()),
                }
                // Momentum 0 leaves running statistics as they are.
                if let Some(layer) = p.name().strip_suffix(".running_mean") {
                    let momentum = setting["bn_momentum"][layer].as_f64().unwrap();
                    let old = params(&before).get(p.name()).unwrap();
                    let moved = values(p.value()) != values(old.value());
                    // The encoder of an observed library size takes no part.
                    let used = !layer.starts_with("l_encoder") || case.name == "learnlib";
                    assert_eq!(moved, used && momentum > 0.0, "{} {layer}", case.name);
                }
            }
            seen += 1;
        }
    }
    assert!(seen == 0 || seen == 9 * CASES.len());
}

#[test]
fn gradients_and_steps_are_those_of_upstream() {
    for case in Case::all() {
        let e = &case.expected;
        let reference = case.reference(DType::F64);
        let settings = [
            ("step_wd0", "step_wd0", 0.0),
            ("step_wd1e-6", "step_wd0", 1e-6),
            ("step_labelled", "step_labelled", 0.0),
        ];
        for (prefix, given, weight_decay) in settings {
            if !e.has(&format!("{prefix}/losses")) {
                continue;
            }
            let mut model = case.loaded(DType::F64);
            freeze(&mut model, reference.registry(), &upstream());
            let (losses, grads) = three_steps(&case, &model, given, weight_decay);
            let expected = e.get(&format!("{prefix}/losses"));
            case.near("losses", worst_relative(&losses, expected), 1e-9);
            for p in params(&model).iter() {
                let key = format!("{prefix}/grad/{}", p.name());
                if e.has(&key) {
                    let found = values(&masked_gradient(p, &grads).unwrap());
                    let expected = e.get(&key);
                    let scale = expected.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
                    case.near(&key, worst(&found, expected, |_| scale), 1e-5);
                    // What is masked is exactly zero.
                    let mask = p.mask().unwrap_or_else(|| p.value().ones_like().unwrap());
                    let mask = match p.is_transposed() {
                        true => mask.t().unwrap(),
                        false => mask,
                    };
                    for ((m, f), e) in values(&mask).iter().zip(&found).zip(expected) {
                        assert!(*m != 0.0 || (*f == 0.0 && *e == 0.0), "{} {key}", case.name);
                    }
                }
                for key in ["param_after_step3", "bn_after_step3"] {
                    let key = format!("{prefix}/{key}/{}", p.name());
                    if e.has(&key) {
                        let found = values(&p.export().unwrap());
                        let error = worst(&found, e.get(&key), |x| x.abs().max(1e-2));
                        case.near(&key, error, 1e-6);
                    }
                }
            }
        }
    }
}

#[test]
fn frozen_entries_do_not_drift_unless_upstream_is_asked_for() {
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        for (parity, drifts) in [(Parity::Correct, false), (Parity::Upstream, true)] {
            let mut options = QueryOptions::default();
            options.parity = parity;
            let mut model = load_query(&reference, &cells, &options, 0);
            let mut config = options.train_config();
            config.max_epochs = Some(2);
            // Strong enough to be seen.
            config.optimizer = OptimizerKind::Adam {
                betas: (0.9, 0.999),
                eps: 0.01,
                weight_decay: 1e-1,
            };
            let name = "decoder.px_decoder.fc_layers.Layer 0.0.bias";
            fit(&mut model, &cells, &config);
            let bias = |m: &AnyModel| values(params(m).get(name).unwrap().value());
            assert_eq!(
                bias(&model) != bias(&reference),
                drifts,
                "{} {parity:?}",
                case.name
            );
        }
    }
}

#[test]
fn cells_of_the_reference_keep_their_places() {
    let Some(golden) = golden() else { return };
    let data = h5ad(&golden, "small_ref");
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        let options = QueryOptions::default();
        let mut query = load_query(&reference, &cells, &options, 3);
        let here = Cells::for_model(&data, reference.registry()).unwrap();
        let there = Cells::for_model(&data, query.registry()).unwrap();
        let mut plain = Expression::default();
        plain.n_samples = 0;
        let expression =
            |m: &AnyModel, c: &Cells<'_>| m.scvi().normalized_expression(c, &plain).unwrap();
        let before = reference.scvi().latent(&here).unwrap();
        // With other widths the sums may be taken in other orders.
        let (a, b) = (expression(&reference, &here), expression(&query, &there));
        let error = a
            .iter()
            .zip(&b)
            .map(|(a, b)| (a - b).abs() / a)
            .fold(0.0, f32::max);
        case.near("expression of the untrained", f64::from(error), 1e-5);

        let mut config = options.train_config();
        config.max_epochs = Some(5);
        fit(&mut query, &cells, &config);
        let after = query.scvi().latent(&there).unwrap();
        assert_eq!(before.mean, after.mean, "{}", case.name);
        assert_eq!(before.variance, after.variance, "{}", case.name);
        // Something was learnt for the new batches.
        let untrained = load_query(&reference, &cells, &options, 3);
        let moved = params(&query).iter().zip(params(&untrained).iter());
        let moved = moved.filter(|(a, b)| values(a.value()) != values(b.value()));
        assert!(moved.count() > 0, "{}", case.name);
        let latent = |m: &AnyModel| m.scvi().latent(&cells).unwrap().mean;
        let encodes = reference.scvi().config().encode_covariates;
        assert_eq!(
            latent(&query) != latent(&untrained),
            encodes,
            "{}",
            case.name
        );
    }
}
