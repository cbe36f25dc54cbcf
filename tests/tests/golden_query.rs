//! Reference mapping against what scvi-tools did: prepared queries, weights after surgery, what is trained under each
//! combination of flags, gradients, steps, and the models that it trained.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use sc_data::AnnData;
use sc_latent::{
    Cells, Expression, LibrarySize, Noise, Parity, QueryOptions, Scvi, prepare_query,
};
use sc_model::{Mode, Optimizer, OptimizerKind, Param};
use sc_tensor::rng::Rng;
use sc_tests::{Npz, shared, worst, worst_relative};
use serde_json::Value;

const CASES: [&str; 6] = [
    "bn_batchonly",
    "bn_cov",
    "bn_noenc",
    "embed",
    "learnlib",
    "ln_cov_shallow",
];

fn golden() -> Option<PathBuf> {
    Some(shared()?.join("golden/scvi"))
}

fn h5ad(golden: &Path, name: &str) -> AnnData {
    sc_io::h5ad::read(golden.join(format!("data/{name}.h5ad"))).unwrap()
}

fn json(golden: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(golden.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn scvi(golden: &Path, folder: &str, dtype: DType) -> Scvi {
    let dir = golden.join(folder);
    Scvi::from_scvi_tools_with_dtype(dir, &Device::Cpu, dtype)
        .unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn upstream() -> QueryOptions {
    let mut options = QueryOptions::default();
    options.parity = Parity::Upstream;
    options
}

fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

struct Case {
    name: &'static str,
    json: Value,
    expected: Npz,
    query: AnnData,
    golden: PathBuf,
}

impl Case {
    fn all() -> Vec<Self> {
        let Some(golden) = golden() else {
            return Vec::new();
        };
        let case = |name: &'static str| Self {
            name,
            json: json(&golden, &format!("expected_small/arches_{name}")),
            expected: Npz::read(&golden.join(format!("expected_small/arches_{name}.npz"))),
            query: h5ad(&golden, "small_query"),
            golden: golden.clone(),
        };
        CASES.map(case).into()
    }

    fn reference(&self, dtype: DType) -> Scvi {
        let folder = format!("small_models/arches_{}_ref", self.name);
        scvi(&self.golden, &folder, dtype)
    }

    fn loaded(&self, dtype: DType) -> Scvi {
        let folder = format!("small_models/arches_{}_loaded", self.name);
        scvi(&self.golden, &folder, dtype)
    }

    fn near(&self, what: &str, error: f64, tolerance: f64) {
        assert!(
            error <= tolerance,
            "{} {what}: off by {error:e}, allowed {tolerance:e}",
            self.name
        );
    }
}

#[test]
fn a_small_query_is_prepared_exactly() {
    let Some(golden) = golden() else { return };
    let reference = scvi(&golden, "small_models/arches_bn_batchonly_ref", DType::F32);
    let query = h5ad(&golden, "small_query_unprepared");
    let prepared = prepare_query(&query, reference.registry()).unwrap();
    let e = Npz::read(&golden.join("expected_small/prepare_query_small.npz"));
    let dense = |m: &sc_data::Matrix| -> Vec<f64> {
        m.to_dense().iter().map(|&v| f64::from(v)).collect()
    };
    assert_eq!(dense(prepared.data.matrix(None).unwrap()), e.get("X"));
    let layer = prepared.data.matrix(Some("counts")).unwrap();
    assert_eq!(dense(layer), e.get("layer_counts"));
    assert_eq!(prepared.data.var.index(), reference.registry().genes);
    assert_eq!(prepared.report.genes.missing.len(), 4);
    assert_eq!(prepared.report.genes.extra.len(), 3);
    prepared.data.check().unwrap();
    // Read as they are needed, the counts are the same.
    let (cells, report) = Cells::for_query(&query, reference.registry()).unwrap();
    assert_eq!(report, prepared.report);
    let read = cells.counts().read_range(0..cells.n_cells()).unwrap();
    let read: Vec<f64> = read.to_dense().iter().map(|&v| f64::from(v)).collect();
    assert_eq!(read, e.get("X"));
}

#[test]
fn a_real_query_is_prepared_exactly() {
    let Some(golden) = golden() else { return };
    let reference = scvi(&golden, "models/worm_ref_ln", DType::F32);
    let query = h5ad(&golden, "worm_query");
    let prepared = prepare_query(&query, reference.registry()).unwrap();
    let e = json(&golden, "expected/prepare_query");
    let names = |key: &str| -> Vec<String> { serde_json::from_value(e[key].clone()).unwrap() };
    assert_eq!(prepared.data.var.index(), names("var_names"));
    let missing: BTreeSet<String> = prepared.report.genes.missing.iter().cloned().collect();
    assert_eq!(missing, names("missing_reference_genes").into_iter().collect());
    let x = prepared.data.matrix(None).unwrap().to_dense();
    let sums: Vec<f64> = x.columns().into_iter().map(|c| f64::from(c.sum())).collect();
    let expected: Vec<f64> = serde_json::from_value(e["col_sums"].clone()).unwrap();
    assert_eq!(sums, expected);
    assert_eq!(prepared.report.new_batches, ["Murray_b01"]);
    // The same out of the file, a few rows at a time.
    let path = golden.join("data/worm_query.h5ad");
    let backed = sc_io::h5ad::read_backed(&path, None).unwrap();
    let annotations = sc_io::h5ad::read_annotations(&path).unwrap();
    let (cells, _) =
        Cells::from_source_for_query(backed, &annotations, reference.registry()).unwrap();
    let rows = cells.counts().read_rows(&[7, 0, 219]).unwrap().to_dense();
    for (found, row) in rows.rows().into_iter().zip([7, 0, 219]) {
        assert_eq!(found, x.row(row));
    }
}

#[test]
fn categories_are_extended_as_upstream_does() {
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let extended = reference.registry().extended(&case.query.obs).unwrap();
        let names = |v: &Value| -> Vec<String> { serde_json::from_value(v.clone()).unwrap() };
        let e = &case.json["registry"];
        assert_eq!(extended.batches, names(&e["batch"]), "{}", case.name);
        let keys = &extended.setup.categorical_covariate_keys;
        for (key, levels) in keys.iter().zip(&extended.categorical_covariates) {
            assert_eq!(levels, &names(&e["cats"][key]), "{} {key}", case.name);
        }
        assert_eq!(&extended, case.loaded(DType::F32).registry(), "{}", case.name);
    }
}

/// The slice `i` of dimension `dim`.
fn slice(t: &Tensor, dim: usize, i: usize) -> Vec<f64> {
    values(&t.narrow(dim, i, 1).unwrap())
}

#[test]
fn upstream_surgery_puts_every_weight_where_upstream_does() {
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let loaded = case.loaded(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        let ours = reference.load_query(&cells, &upstream(), 7).unwrap();
        let surgery = case.json["surgery"].as_object().unwrap();
        for p in ours.parameters().iter() {
            let theirs = loaded.parameters().get(p.name()).unwrap().export().unwrap();
            let found = p.export().unwrap();
            let Some(resized) = surgery.get(p.name()) else {
                assert_eq!(values(&found), values(&theirs), "{} {}", case.name, p.name());
                continue;
            };
            let dim = resized["axes"][0].as_u64().unwrap() as usize;
            let from = &resized["source_index_in_reference_or_-1_if_random"];
            let old = reference.parameters().get(p.name()).unwrap().export().unwrap();
            for (i, from) in from.as_array().unwrap().iter().enumerate() {
                let found = slice(&found, dim, i);
                match usize::try_from(from.as_i64().unwrap()) {
                    Ok(from) => {
                        assert_eq!(found, slice(&old, dim, from), "{} {i}", p.name());
                        assert_eq!(found, slice(&theirs, dim, i), "{} {i}", p.name());
                    }
                    // Of the prior of the library size, the new entries are not random.
                    Err(_) if p.is_buffer() => {
                        let theirs = slice(&theirs, dim, i);
                        case.near(p.name(), worst_relative(&found, &theirs), 1e-5);
                    }
                    Err(_) => assert_ne!(found, slice(&theirs, dim, i), "{} {i}", p.name()),
                }
            }
        }
    }
}

#[test]
fn the_untrained_query_model_gives_the_same_numbers() {
    for case in Case::all() {
        let model = case.loaded(DType::F32);
        let cells = Cells::for_model(&case.query, model.registry()).unwrap();
        let latent = model.latent(&cells).unwrap();
        let flat = |m: &ndarray::Array2<f32>| -> Vec<f64> {
            m.iter().map(|&v| f64::from(v)).collect()
        };
        let (mean, var) = (flat(&latent.mean), flat(&latent.variance));
        let e = &case.expected;
        case.near("qzm", worst(&mean, e.get("loaded_qzm"), |_| 1.0), 2e-5);
        case.near("qzv", worst_relative(&var, e.get("loaded_qzv")), 1e-4);
        let mut options = Expression::default();
        options.library_size = LibrarySize::Fixed(1e4);
        options.n_samples = 0;
        let found = flat(&model.normalized_expression(&cells, &options).unwrap());
        let expected = e.get("loaded_normexpr_lib1e4_zmean");
        let found = &found[..expected.len()];
        case.near("expression", worst_relative(found, expected), 1e-4);
    }
}

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
fn three_steps(case: &Case, model: &Scvi, weight_decay: f64) -> (Vec<f64>, GradStore) {
    let e = &case.expected;
    let cells = Cells::for_model(&case.query, model.registry()).unwrap();
    let rows = e.indices("step_wd0/idx");
    let batch = cells.minibatch(&rows, model.config().log_variational).unwrap();
    let kind = OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 0.01,
        weight_decay,
    };
    let mut optimizer = Optimizer::new(kind, model.parameters()).decay_frozen(true);
    for (name, mask) in model.parameters().masks() {
        optimizer.set_mask(model.parameters(), &name, mask).unwrap();
    }
    let kl_weight = e.get("step_wd0/kl_weight")[0];
    let (rng, mut losses, mut first) = (Rng::new(0), Vec::new(), None);
    for k in 0..3 {
        let given = |what: &str| {
            let key = format!("step_wd0/{what}_step{k}");
            e.has(&key).then(|| {
                let v: Vec<f64> = e.get(&key).to_vec();
                let t = Tensor::from_vec(v, e.shape(&key), &Device::Cpu).unwrap();
                t.to_dtype(model.parameters().dtype()).unwrap()
            })
        };
        let mut noise = Noise::none();
        noise.z = given("eps_z");
        noise.library = given("eps_l");
        assert!(noise.z.is_some());
        let mode = Mode::train(&rng, k).without_dropout();
        let terms = model.elbo_terms(&batch, &noise, &mode).unwrap();
        let loss = terms.loss(kl_weight).unwrap();
        losses.push(values(&loss)[0]);
        let grads = loss.backward().unwrap();
        optimizer.step(model.parameters(), &grads, 1e-3, None).unwrap();
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
        assert_eq!(nonzero.collect::<Vec<_>>(), ranges(columns, n), "{} {what}", case.name);
    } else {
        let nonzero = found.iter().filter(|&&g| g != 0.0).count();
        assert_eq!(nonzero as u64, expected["n_nonzero"].as_u64().unwrap(), "{} {what}", case.name);
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
            model.freeze_as_query(reference.registry(), &options).unwrap();
            let trained: BTreeSet<&str> = model.parameters().trainable().map(Param::name).collect();
            let expected = setting["requires_grad"].as_array().unwrap();
            let expected: BTreeSet<&str> = expected.iter().filter_map(Value::as_str).collect();
            assert_eq!(trained, expected, "{} under {flags}", case.name);

            let before = case.loaded(DType::F64);
            let (losses, grads) = three_steps(&case, &model, 0.0);
            let expected: Vec<f64> =
                serde_json::from_value(setting["losses_3_steps_wd0"].clone()).unwrap();
            case.near("losses", worst_relative(&losses, &expected), 1e-9);
            let gradients = setting["grad"].as_object().unwrap();
            for p in model.parameters().iter() {
                let grad = masked_gradient(p, &grads);
                match (gradients.get(p.name()), grad) {
                    (Some(e), Some(g)) => compare_pattern(&case, flags, p, &g, e),
                    (None, None) => {}
                    (e, g) => panic!("{} {}: {e:?} but {g:?}", case.name, p.name()),
                }
                // Momentum 0 leaves running statistics as they are.
                if let Some(layer) = p.name().strip_suffix(".running_mean") {
                    let momentum = setting["bn_momentum"][layer].as_f64().unwrap();
                    let old = before.parameters().get(p.name()).unwrap();
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
        for (prefix, weight_decay) in [("step_wd0", 0.0), ("step_wd1e-6", 1e-6)] {
            let mut model = case.loaded(DType::F64);
            model.freeze_as_query(reference.registry(), &upstream()).unwrap();
            let (losses, grads) = three_steps(&case, &model, weight_decay);
            let expected = e.get(&format!("{prefix}/losses"));
            case.near("losses", worst_relative(&losses, expected), 1e-9);
            for p in model.parameters().iter() {
                let key = format!("{prefix}/grad/{}", p.name());
                if e.has(&key) {
                    let found = values(&masked_gradient(p, &grads).unwrap());
                    let expected = e.get(&key);
                    let scale = expected.iter().fold(1e-6, |m: f64, v| m.max(v.abs()));
                    case.near(&key, worst(&found, expected, |_| scale), 1e-5);
                    // What is masked is exactly zero; a bias before a batch norm is zero but for rounding.
                    let same = |(f, e): (&f64, &f64)| (*f == 0.0) == (*e == 0.0);
                    let exact = p.mask().is_none() || found.iter().zip(expected).all(same);
                    assert!(exact, "{} {key}", case.name);
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
            let mut model = reference.load_query(&cells, &options, 0).unwrap();
            let mut config = options.train_config();
            config.max_epochs = Some(2);
            // Strong enough to be seen.
            config.optimizer = OptimizerKind::Adam {
                betas: (0.9, 0.999),
                eps: 0.01,
                weight_decay: 1e-1,
            };
            let name = "decoder.px_decoder.fc_layers.Layer 0.0.bias";
            model.fit(&cells, &config, &mut ()).unwrap();
            let bias = |m: &Scvi| values(m.parameters().get(name).unwrap().value());
            assert_eq!(bias(&model) != bias(&reference), drifts, "{} {parity:?}", case.name);
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
        let mut query = reference.load_query(&cells, &options, 3).unwrap();
        let here = Cells::for_model(&data, reference.registry()).unwrap();
        let there = Cells::for_model(&data, query.registry()).unwrap();
        let mut plain = Expression::default();
        plain.n_samples = 0;
        let expression = |m: &Scvi, c: &Cells<'_>| m.normalized_expression(c, &plain).unwrap();
        let before = reference.latent(&here).unwrap();
        // With other widths the sums may be taken in other orders.
        let (a, b) = (expression(&reference, &here), expression(&query, &there));
        let error = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / a).fold(0.0, f32::max);
        case.near("expression of the untrained", f64::from(error), 1e-5);

        let mut config = options.train_config();
        config.max_epochs = Some(5);
        query.fit(&cells, &config, &mut ()).unwrap();
        let after = query.latent(&there).unwrap();
        assert_eq!(before.mean, after.mean, "{}", case.name);
        assert_eq!(before.variance, after.variance, "{}", case.name);
        // Something was learnt for the new batches.
        let untrained = reference.load_query(&cells, &options, 3).unwrap();
        let moved = query.parameters().iter().zip(untrained.parameters().iter());
        let moved = moved.filter(|(a, b)| values(a.value()) != values(b.value()));
        assert!(moved.count() > 0, "{}", case.name);
        let latent = |m: &Scvi| m.latent(&cells).unwrap().mean;
        let encodes = reference.config().encode_covariates;
        assert_eq!(latent(&query) != latent(&untrained), encodes, "{}", case.name);
    }
}

#[test]
fn the_state_of_a_query_survives_saving() {
    let folder = tempfile::tempdir().unwrap();
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        let mut options = QueryOptions::default();
        options.freeze_batchnorm_decoder = true;
        let model = reference.load_query(&cells, &options, 1).unwrap();
        let dir = folder.path().join(case.name);
        model.save(&dir).unwrap();
        let again = Scvi::load(&dir, &Device::Cpu).unwrap();
        assert_eq!(again.query(), model.query());
        let state = |m: &Scvi| -> Vec<(String, bool, Option<Vec<f64>>)> {
            let each = |p: &Param| {
                let mask = p.mask().map(|m| values(&m));
                (p.name().to_owned(), p.is_trainable(), mask)
            };
            m.parameters().iter().map(each).collect()
        };
        assert_eq!(state(&again), state(&model), "{}", case.name);
        // In scvi-tools' format the weights and categories survive.
        let dir = folder.path().join(format!("{} upstream", case.name));
        model.save_scvi_tools(&dir).unwrap();
        let again = Scvi::from_scvi_tools(&dir, &Device::Cpu).unwrap();
        assert_eq!(again.registry(), model.registry());
        let latent = |m: &Scvi| m.latent(&cells).unwrap().mean;
        assert_eq!(latent(&again), latent(&model), "{}", case.name);
    }
}

#[test]
fn a_real_query_is_loaded_as_upstream_loads_it() {
    let Some(golden) = golden() else { return };
    let reference = scvi(&golden, "models/worm_ref_ln", DType::F32);
    let data = h5ad(&golden, "worm_query");
    let (cells, _) = Cells::for_query(&data, reference.registry()).unwrap();
    let query = reference.load_query(&cells, &upstream(), 0).unwrap();
    let e = Npz::read(&golden.join("expected/worm_query_ln.loaded_changed_tensors.npz"));
    for name in e.names() {
        let found = query.parameters().get(name).unwrap().export().unwrap();
        assert_eq!(found.dims(), e.shape(name), "{name}");
        let columns = found.dim(1).unwrap();
        let (found, expected) = (values(&found), e.get(name));
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let random = i % columns == columns - 1;
            assert_eq!(f == e, !random, "{name} at {i}: {f} and {e}");
        }
    }
}

#[test]
fn the_trained_query_of_upstream_gives_the_same_numbers() {
    let Some(golden) = golden() else { return };
    let model = scvi(&golden, "models/worm_query_ln", DType::F32);
    let reference = scvi(&golden, "models/worm_ref_ln", DType::F32);
    let data = h5ad(&golden, "worm_query");
    let (cells, report) = Cells::for_query(&data, reference.registry()).unwrap();
    assert_eq!(report.genes.missing.len(), 25);
    assert_eq!(cells.registry(), model.registry());
    let e = Npz::read(&golden.join("expected/worm_query_ln.npz"));
    let latent = model.latent(&cells).unwrap();
    let flat = |m: &ndarray::Array2<f32>| -> Vec<f64> { m.iter().map(|&v| f64::from(v)).collect() };
    assert!(worst(&flat(&latent.mean), e.get("qzm"), |_| 1.0) < 2e-5);
    assert!(worst_relative(&flat(&latent.variance), e.get("qzv")) < 1e-4);
    let elbo = model.elbo(&cells, None).unwrap();
    assert!(worst_relative(&elbo.reconstruction, e.get("rec_zmean_percell")) < 2e-5);
}
