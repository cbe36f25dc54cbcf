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
    AnyModel, Cells, Expression, LibrarySize, Minibatch, Noise, Parity, PredictAt, QueryOptions,
    Registry, Scanvi, Scvi, SemiSupervised, prepare_query,
};
use sc_model::train::TrainConfig;
use sc_model::{Mode, Optimizer, OptimizerKind, Param, Params};
use sc_tensor::rng::Rng;
use sc_tests::{Npz, golden, json, near, numbers, values, worst, worst_relative};
use serde_json::Value;

const CASES: [&str; 8] = [
    "bn_batchonly",
    "bn_cov",
    "bn_noenc",
    "embed",
    "learnlib",
    "ln_cov_shallow",
    "scanvi_bn",
    "scanvi_ln2",
];

fn h5ad(golden: &Path, name: &str) -> AnnData {
    sc_io::h5ad::read(golden.join(format!("data/{name}.h5ad"))).unwrap()
}

fn scvi(golden: &Path, folder: &str, dtype: DType) -> Scvi {
    let dir = golden.join(folder);
    Scvi::from_scvi_tools_with_dtype(dir, &Device::Cpu, dtype)
        .unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn load(dir: &Path, dtype: DType) -> AnyModel {
    let (cpu, is_scanvi) = (Device::Cpu, dir.to_string_lossy().contains("scanvi"));
    match is_scanvi {
        true => AnyModel::Scanvi(Scanvi::from_scvi_tools_with_dtype(dir, &cpu, dtype).unwrap()),
        false => AnyModel::Scvi(Scvi::from_scvi_tools_with_dtype(dir, &cpu, dtype).unwrap()),
    }
}

fn load_query(m: &AnyModel, cells: &Cells<'_>, options: &QueryOptions, seed: u64) -> AnyModel {
    match m {
        AnyModel::Scanvi(m) => AnyModel::Scanvi(m.load_query(cells, options, seed).unwrap()),
        m => AnyModel::Scvi(m.scvi().load_query(cells, options, seed).unwrap()),
    }
}

fn freeze(m: &mut AnyModel, reference: &Registry, options: &QueryOptions) {
    match m {
        AnyModel::Scanvi(m) => m.freeze_as_query(reference, options),
        AnyModel::Scvi(m) => m.freeze_as_query(reference, options),
    }
    .unwrap();
}

fn fit(m: &mut AnyModel, cells: &Cells<'_>, config: &TrainConfig) {
    match m {
        AnyModel::Scanvi(m) => m.fit(cells, config, &SemiSupervised::default(), &mut ()),
        AnyModel::Scvi(m) => m.fit(cells, config, &mut ()),
    }
    .unwrap();
}

/// The parameters of a model.
fn params(m: &AnyModel) -> &Params {
    m.scvi().parameters()
}

fn upstream() -> QueryOptions {
    let mut options = QueryOptions::default();
    options.parity = Parity::Upstream;
    options
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
            json: json(&golden.join(format!("expected_small/arches_{name}.json"))),
            expected: Npz::read(&golden.join(format!("expected_small/arches_{name}.npz"))),
            query: h5ad(&golden, "small_query"),
            golden: golden.clone(),
        };
        CASES.map(case).into()
    }

    fn reference(&self, dtype: DType) -> AnyModel {
        let folder = format!("small_models/arches_{}_ref", self.name);
        load(&self.golden.join(folder), dtype)
    }

    fn loaded(&self, dtype: DType) -> AnyModel {
        let folder = format!("small_models/arches_{}_loaded", self.name);
        load(&self.golden.join(folder), dtype)
    }

    fn near(&self, what: &str, error: f64, tolerance: f64) {
        near(self.name, what, error, tolerance);
    }
}

#[test]
fn a_small_query_is_prepared_exactly() {
    let Some(golden) = golden() else { return };
    let reference = scvi(&golden, "small_models/arches_bn_batchonly_ref", DType::F32);
    let query = h5ad(&golden, "small_query_unprepared");
    let prepared = prepare_query(&query, reference.registry()).unwrap();
    let e = Npz::read(&golden.join("expected_small/prepare_query_small.npz"));
    let dense = |m: &sc_data::Matrix| numbers(&m.to_dense());
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
    assert_eq!(numbers(&read.to_dense()), e.get("X"));
}

#[test]
fn a_real_query_is_prepared_exactly() {
    let Some(golden) = golden() else { return };
    let reference = scvi(&golden, "models/worm_ref_ln", DType::F32);
    let query = h5ad(&golden, "worm_query");
    let prepared = prepare_query(&query, reference.registry()).unwrap();
    let e = json(&golden.join("expected/prepare_query.json"));
    let names = |key: &str| -> Vec<String> { serde_json::from_value(e[key].clone()).unwrap() };
    assert_eq!(prepared.data.var.index(), names("var_names"));
    let missing: BTreeSet<String> = prepared.report.genes.missing.iter().cloned().collect();
    assert_eq!(
        missing,
        names("missing_reference_genes").into_iter().collect()
    );
    let x = prepared.data.matrix(None).unwrap().to_dense();
    let sums: Vec<f64> = x
        .columns()
        .into_iter()
        .map(|c| f64::from(c.sum()))
        .collect();
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
        assert_eq!(
            &extended,
            case.loaded(DType::F32).registry(),
            "{}",
            case.name
        );
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
        let ours = load_query(&reference, &cells, &upstream(), 7);
        let surgery = case.json["surgery"].as_object().unwrap();
        for p in params(&ours).iter() {
            let theirs = params(&loaded).get(p.name()).unwrap().export().unwrap();
            let found = p.export().unwrap();
            let Some(resized) = surgery.get(p.name()) else {
                assert_eq!(
                    values(&found),
                    values(&theirs),
                    "{} {}",
                    case.name,
                    p.name()
                );
                continue;
            };
            let dim = resized["axes"][0].as_u64().unwrap() as usize;
            let from = &resized["source_index_in_reference_or_-1_if_random"];
            let old = params(&reference).get(p.name()).unwrap().export().unwrap();
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
        let latent = model.scvi().latent(&cells).unwrap();
        let (mean, var) = (numbers(&latent.mean), numbers(&latent.variance));
        let e = &case.expected;
        case.near("qzm", worst(&mean, e.get("loaded_qzm"), |_| 1.0), 2e-5);
        case.near("qzv", worst_relative(&var, e.get("loaded_qzv")), 1e-4);
        let mut options = Expression::default();
        options.library_size = LibrarySize::Fixed(1e4);
        options.n_samples = 0;
        let found = numbers(
            &model
                .scvi()
                .normalized_expression(&cells, &options)
                .unwrap(),
        );
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

#[test]
fn the_state_of_a_query_survives_saving() {
    let folder = tempfile::tempdir().unwrap();
    for case in Case::all() {
        let reference = case.reference(DType::F32);
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        let mut options = QueryOptions::default();
        options.freeze_batchnorm_decoder = true;
        let model = load_query(&reference, &cells, &options, 1);
        let dir = folder.path().join(case.name);
        let theirs = folder.path().join(format!("{} upstream", case.name));
        match &model {
            AnyModel::Scanvi(m) => {
                m.save(&dir).unwrap();
                m.save_scvi_tools(&theirs).unwrap();
            }
            m => {
                m.scvi().save(&dir).unwrap();
                m.scvi().save_scvi_tools(&theirs).unwrap();
            }
        }
        let again = AnyModel::load(&dir, &Device::Cpu).unwrap();
        assert!(again.scvi().query().is_some());
        assert_eq!(again.scvi().query(), model.scvi().query());
        let state = |m: &AnyModel| -> Vec<(String, bool, Option<Vec<f64>>)> {
            let each = |p: &Param| {
                let mask = p.mask().map(|m| values(&m));
                (p.name().to_owned(), p.is_trainable(), mask)
            };
            params(m).iter().map(each).collect()
        };
        assert_eq!(state(&again), state(&model), "{}", case.name);
        // In scvi-tools' format the weights and categories survive.
        let again = AnyModel::load(&theirs, &Device::Cpu).unwrap();
        assert_eq!(again.registry(), model.registry());
        let latent = |m: &AnyModel| m.scvi().latent(&cells).unwrap().mean;
        assert_eq!(latent(&again), latent(&model), "{}", case.name);
    }
}

/// Classifies, freezes and trains a query whose labels are partly known.
#[test]
fn a_frozen_classifier_stays_as_it_was() {
    for case in Case::all() {
        let AnyModel::Scanvi(reference) = case.reference(DType::F32) else {
            continue;
        };
        let (cells, _) = Cells::for_query(&case.query, reference.registry()).unwrap();
        for (frozen, parity) in [
            (true, Parity::Correct),
            (false, Parity::Correct),
            (true, Parity::Upstream),
        ] {
            let mut options = QueryOptions::default();
            options.freeze_classifier = frozen;
            options.parity = parity;
            let mut query = reference.load_query(&cells, &options, 0).unwrap();
            let mut config = options.train_config();
            config.max_epochs = Some(3);
            let semi = SemiSupervised::default();
            query.fit(&cells, &config, &semi, &mut ()).unwrap();
            let changed = |m: &Scanvi| {
                let of = |m: &Scanvi| -> Vec<Vec<f64>> {
                    let all = m.scvi().parameters().iter();
                    let classifier = all.filter(|p| p.name().starts_with("classifier"));
                    classifier.map(|p| values(p.value())).collect()
                };
                of(m) != of(&reference)
            };
            // scvi-tools trains the batch norms of a frozen classifier.
            let has_batch_norm = case.name == "scanvi_bn";
            let expected = !frozen || (parity == Parity::Upstream && has_batch_norm);
            assert_eq!(changed(&query), expected, "{} {options:?}", case.name);
        }
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
    assert!(worst(&numbers(&latent.mean), e.get("qzm"), |_| 1.0) < 2e-5);
    assert!(worst_relative(&numbers(&latent.variance), e.get("qzv")) < 1e-4);
    let elbo = model.elbo(&cells, None).unwrap();
    assert!(worst_relative(&elbo.reconstruction, e.get("rec_zmean_percell")) < 2e-5);
}

#[test]
fn the_trained_scanvi_query_of_upstream_gives_the_same_numbers() {
    let Some(golden) = golden() else { return };
    let AnyModel::Scanvi(model) = load(&golden.join("models/worm_scanvi_query"), DType::F32) else {
        panic!("not SCANVI");
    };
    let reference = load(&golden.join("models/worm_scanvi_ref"), DType::F32);
    let data = h5ad(&golden, "worm_query");
    let (cells, report) = Cells::for_query(&data, reference.registry()).unwrap();
    assert_eq!(report.filled_labels, 220);
    assert_eq!(cells.registry(), model.registry());
    let e = Npz::read(&golden.join("expected/worm_scanvi_query.npz"));
    let latent = model.scvi().latent(&cells).unwrap();
    assert!(worst(&numbers(&latent.mean), e.get("qzm"), |_| 1.0) < 2e-5);
    let soft = model.predict(&cells, PredictAt::PosteriorMean).unwrap();
    assert!(worst(&numbers(&soft.values), e.get("predict_soft"), |_| 1.0) < 2e-5);
}

/// Bounds of all cells of the query under models of scvi-tools 1.4.2: mean and standard deviation, right after loading (of
/// 150 seeds) and after 20 epochs without weight decay (of 20 seeds).
struct Runs {
    query: &'static str,
    reference: &'static str,
    before: (f64, f64),
    after: (f64, f64),
}

const RUNS: [Runs; 2] = [
    Runs {
        query: "worm_query_ln",
        reference: "worm_ref_ln",
        before: (-316.72, 1.68),
        after: (-312.62, 1.36),
    },
    Runs {
        query: "worm_scanvi_query",
        reference: "worm_scanvi_ref",
        before: (-320.82, 2.69),
        after: (-316.45, 1.41),
    },
];

fn mean_and_sd(v: &[f64]) -> (f64, f64) {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    let squares = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (squares / v.len() as f64).sqrt())
}

#[test]
fn trained_queries_fit_as_well_as_those_of_upstream() {
    let Some(golden) = golden() else { return };
    let data = h5ad(&golden, "worm_query");
    for runs in RUNS {
        let reference = load(&golden.join("models").join(runs.reference), DType::F32);
        let (cells, _) = Cells::for_query(&data, reference.registry()).unwrap();
        let bound = |m: &AnyModel, seed: u64| match m {
            AnyModel::Scanvi(m) => m.elbo(&cells, Some(seed)).unwrap().elbo(),
            m => m.scvi().elbo(&cells, Some(seed)).unwrap().elbo(),
        };
        for parity in [Parity::Correct, Parity::Upstream] {
            let mut options = QueryOptions::default();
            options.parity = parity;
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for seed in 0..80 {
                let mut query = load_query(&reference, &cells, &options, seed);
                before.push(bound(&query, seed));
                if seed < 20 {
                    let mut config = options.train_config();
                    config.max_epochs = Some(20);
                    config.early_stopping = None;
                    config.seed = seed;
                    fit(&mut query, &cells, &config);
                    after.push(bound(&query, seed));
                }
            }
            let name = runs.query;
            let same = |what: &str, found: &[f64], (mean, sd): (f64, f64), n: f64| {
                let ours = mean_and_sd(found);
                eprintln!("{name} {parity:?} {what}: {ours:.2?}, scvi-tools {mean} {sd}");
                let error = (ours.1.powi(2) / found.len() as f64 + sd * sd / n).sqrt();
                assert!(
                    (ours.0 - mean).abs() < 4.0 * error,
                    "{name} {parity:?} {what}: {ours:?}"
                );
            };
            same("before", &before, runs.before, 150.0);
            if parity == Parity::Upstream {
                same("after", &after, runs.after, 20.0);
            }
            let gain = mean_and_sd(&after).0 - mean_and_sd(&before[..after.len()]).0;
            eprintln!("{name} {parity:?}: training gains {gain:.2}");
            assert!(gain > 0.5, "{name} {parity:?}: training gains {gain}");
        }
    }
}
