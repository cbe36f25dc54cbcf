//! Every SCANVI model that scvi-tools saved for us, against the numbers that scvi-tools computed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ndarray::Array2;
use sc_data::{AnnData, Csr, RowSource, Table};
use sc_latent::{
    AnyModel, Cells, ClassifierConfig, Expression, Labels, LibrarySize, Minibatch, Noise, Parity,
    PredictAt, Scanvi, Scvi, SemiSupervised,
};
use sc_model::train::TrainConfig;
use sc_model::{Classify, Mode, Optimizer, OptimizerKind};
use sc_tensor::rng::Rng;
use sc_tests::{Npz, golden, gradients, json, near, numbers, pick, values, worst, worst_relative};

/// Model folder, data, expected numbers.
type Names = (String, &'static str, String);

fn all_models() -> Vec<Names> {
    let small = [
        "scanvi",
        "scanvi_2layer_cov",
        "scanvi_learnlib",
        "scanvi_linear",
    ]
    .map(|n| {
        (
            format!("small_models/{n}"),
            "data/small.h5ad",
            format!("expected_small/{n}"),
        )
    });
    let large = [
        ("kang_scanvi", "data/kang.h5ad"),
        ("worm_scanvi_ref", "data/worm_ref.h5ad"),
        ("worm_scanvi_query", "data/worm_query.h5ad"),
        ("small_scanvi_min_counts", "data/small.h5ad"),
    ]
    .map(|(n, data)| (format!("models/{n}"), data, format!("expected/{n}")));
    small.into_iter().chain(large).collect()
}

struct Case {
    name: String,
    data: AnnData,
    expected: Npz,
    json: serde_json::Value,
    single: Scanvi,
    double: Scanvi,
}

impl Case {
    fn load(golden: &Path, (model, data, expected): &Names) -> Self {
        let dir = golden.join(model);
        let load = |dtype| {
            Scanvi::from_scvi_tools_with_dtype(&dir, &Device::Cpu, dtype)
                .unwrap_or_else(|e| panic!("{model}: {e}"))
        };
        let single = load(DType::F32);
        let data = sc_io::h5ad::read(golden.join(data)).unwrap();
        Self {
            name: model.clone(),
            data: with_genes(data, &single.registry().genes),
            expected: Npz::read(&golden.join(format!("{expected}.npz"))),
            json: json(&golden.join(format!("{expected}.json"))),
            single,
            double: load(DType::F64),
        }
    }

    fn cells(&self) -> Cells<'_> {
        Cells::for_model(&self.data, self.single.registry()).unwrap()
    }

    fn near(&self, what: &str, error: f64, tolerance: f64) {
        near(&self.name, what, error, tolerance);
    }
}

/// The genes of a model, those that the data lacks as zeros: the query data is kept as a user would have it.
fn with_genes(data: AnnData, genes: &[String]) -> AnnData {
    if data.var.index() == genes {
        return data;
    }
    let found: HashMap<&str, usize> = data
        .var
        .index()
        .iter()
        .enumerate()
        .map(|(i, g)| (g.as_str(), i))
        .collect();
    let x = data.matrix(None).unwrap();
    let x = x.read_range(0..x.n_rows()).unwrap().to_dense();
    let counts = Array2::from_shape_fn((data.n_obs(), genes.len()), |(i, g)| {
        found.get(genes[g].as_str()).map_or(0.0, |&j| x[(i, j)])
    });
    AnnData::new(
        Csr::from_dense(&counts),
        data.obs.clone(),
        Table::new(genes.to_vec()),
    )
    .unwrap()
}

fn for_each_model(check: impl Fn(&Case)) {
    let Some(golden) = golden() else { return };
    for names in all_models() {
        check(&Case::load(&golden, &names));
    }
}

/// Compares the rows and columns that the reference kept.
fn compare_matrix(case: &Case, key: &str, found: &Array2<f32>) {
    if !case.expected.has(key) {
        return;
    }
    let (rows, genes) = (
        case.expected.indices("cells"),
        case.expected.indices("genes"),
    );
    let expected = case.expected.get(key);
    let rows = &rows[..expected.len() / genes.len()];
    let found = pick(found, rows, &genes);
    case.near(key, worst_relative(&found, expected), 1e-4);
}

#[test]
fn labels() {
    for_each_model(|case| {
        let text = |key: &str| -> Option<Vec<String>> {
            serde_json::from_value(case.json.get(key)?.clone()).ok()
        };
        if let Some(mapping) = text("label_mapping") {
            assert_eq!(case.single.registry().labels, mapping, "{}", case.name);
        }
        if !case.expected.has("predict_soft") {
            return;
        }
        let found = case.single.classify(&case.cells()).unwrap();
        assert_eq!(Some(found.labels.clone()), text("predict_columns"));
        let soft = numbers(&found.values);
        case.near(
            "predict_soft",
            worst(&soft, case.expected.get("predict_soft"), |_| 1.0),
            2e-5,
        );
        let hard: Vec<f64> = found.best().0.iter().map(|&c| c as f64).collect();
        assert_eq!(
            hard,
            case.expected.get("predict_hard_code"),
            "{}",
            case.name
        );
        // A draw is random, but a fixed one for a seed.
        let drawn = |seed| {
            let at = PredictAt::Draw(seed);
            case.single.predict(&case.cells(), at).unwrap().values
        };
        assert!(drawn(1) == drawn(1) && drawn(1) != drawn(2));
    });
}

#[test]
fn latent_space_and_expression() {
    for_each_model(|case| {
        let (cells, model) = (case.cells(), case.single.scvi());
        let latent = model.latent(&cells).unwrap();
        let (m, v) = (case.expected.get("qzm"), case.expected.get("qzv"));
        case.near(
            "qzm",
            worst(&numbers(&latent.mean)[..m.len()], m, |_| 1.0),
            2e-5,
        );
        case.near(
            "qzv",
            worst_relative(&numbers(&latent.variance)[..v.len()], v),
            1e-4,
        );
        let expression = |batch: Option<&str>| {
            let mut options = Expression::default();
            options.library_size = LibrarySize::Fixed(1e4);
            options.transform_batch = batch.iter().map(|b| (*b).to_owned()).collect();
            options.n_samples = 0;
            model.normalized_expression(&cells, &options).unwrap()
        };
        compare_matrix(case, "normexpr_zmean_lib1e4", &expression(None));
        let batch = case.json["transform_batch"].as_str().unwrap();
        compare_matrix(
            case,
            "normexpr_zmean_lib1e4_transform",
            &expression(Some(batch)),
        );
        let parameters = model.likelihood_parameters(&cells, None).unwrap();
        compare_matrix(case, "lik_zmean_mean", &parameters.mean);
        compare_matrix(case, "lik_zmean_dispersions", &parameters.dispersions);
        if let Some(dropout) = &parameters.dropout {
            compare_matrix(case, "lik_zmean_dropout", dropout);
        }
    });
}

#[test]
fn bound_of_each_cell() {
    for_each_model(|case| {
        let bound = case.single.elbo(&case.cells(), None).unwrap();
        let rec = case.expected.get("rec_zmean_percell");
        case.near("rec", worst_relative(&bound.reconstruction, rec), 2e-5);
        let total: Vec<f64> = bound
            .reconstruction
            .iter()
            .zip(&bound.kl)
            .map(|(r, k)| r + k)
            .collect();
        let elbo: Vec<f64> = case
            .expected
            .get("elbo_zmean_percell")
            .iter()
            .map(|e| e.abs())
            .collect();
        case.near("elbo", worst_relative(&total, &elbo), 2e-5);
        // With draws: scvi-tools' mean over ten runs.
        if let Some(runs) = case.json.get("elbo_10_runs") {
            let (mean, sd) = (runs["mean"].as_f64().unwrap(), runs["sd"].as_f64().unwrap());
            let found = case.single.elbo(&case.cells(), Some(1)).unwrap().elbo();
            let allowed = (6.0 * sd).max(1e-4 * mean.abs());
            case.near("elbo of a draw", (found - mean).abs(), allowed);
        }
    });
}

#[test]
fn double_precision() {
    for_each_model(|case| {
        if case.name.ends_with("min_counts") {
            return; // its numbers start from a posterior that was stored in single precision
        }
        let (cells, model, e) = (case.cells(), &case.double, &case.expected);
        let n = e.shape("f64/qzm")[0];
        let (rows, genes) = (e.indices("cells")[..n].to_vec(), e.indices("genes"));
        let n_genes = model.registry().n_genes();
        let batch = cells.minibatch(&rows, true).unwrap();
        let near = |key: &str, found: &Tensor| {
            let key = format!("f64/{key}");
            if !e.has(&key) {
                return;
            }
            let mut found = values(found);
            if found.len() == n * n_genes && genes.len() < n_genes {
                found = (0..n)
                    .flat_map(|i| genes.iter().map(move |&j| (i, j)))
                    .map(|(i, j)| found[i * n_genes + j])
                    .collect();
            }
            let expected = e.get(&key);
            found.truncate(expected.len());
            case.near(&key, worst(&found, expected, |x| x.abs().max(1e-3)), 1e-9);
        };
        let (qz, ql) = model.scvi().encode(&batch, &Mode::eval()).unwrap();
        near("qzm", &qz.mean);
        near("qzv", &qz.var);
        near("classifier_logits_of_qzm", &model.logits(&qz.mean).unwrap());
        if let Some(ql) = &ql {
            near("qlm", &ql.mean);
            near("qlv", &ql.var);
        }
        let decoded = model.scvi().decode(&batch, &Noise::none(), None).unwrap();
        near("scale", &decoded.scale().unwrap());
        near("mu", &decoded.rate().unwrap());
        near("theta", &decoded.theta().unwrap());
        let terms = model
            .elbo_terms(&batch, &Noise::none(), &Mode::eval())
            .unwrap();
        near("neg_log_px", &terms.reconstruction);
        near(
            "reconstruction_loss",
            &terms.reconstruction_total().unwrap(),
        );
        near("kl_local", &terms.kl_total().unwrap());
        near("loss_kl_weight_1", &terms.loss(1.0).unwrap());
        if let Some(code) = case.json["transform_batch_code"].as_u64() {
            let code = Some(code as u32);
            let transformed = model.scvi().decode(&batch, &Noise::none(), code).unwrap();
            near("scale_transform_batch", &transformed.scale().unwrap());
        }
    });
}

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

/// Also those that the tests above have no numbers for: references and queries of scArches.
#[test]
fn every_scanvi_checkpoint_opens() {
    let Some(golden) = golden() else { return };
    let mut opened = 0;
    for folder in ["models", "small_models", "hub"] {
        for entry in std::fs::read_dir(golden.join(folder)).unwrap() {
            let dir = entry.unwrap().path();
            let model = AnyModel::load(&dir, &Device::Cpu)
                .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            if let Some(model) = model.scanvi() {
                assert_eq!(model.labels().len() + 1, model.registry().labels.len());
                opened += 1;
                let message = Scvi::from_scvi_tools(&dir, &Device::Cpu).unwrap_err();
                assert!(message.to_string().contains("class SCANVI"), "{message}");
            }
        }
    }
    assert_eq!(opened, 12);
    let other = Scanvi::from_scvi_tools(golden.join("models/kang_default"), &Device::Cpu);
    let message = other.unwrap_err().to_string();
    assert!(message.contains("class SCVI"), "{message}");
}

#[test]
fn a_query_model_as_it_is_loaded() {
    let Some(golden) = golden() else { return };
    let data = sc_io::h5ad::read(golden.join("data/small_query.h5ad")).unwrap();
    for name in ["arches_scanvi_bn", "arches_scanvi_ln2"] {
        let e = Npz::read(&golden.join(format!("expected_small/{name}.npz")));
        let dir = golden.join(format!("small_models/{name}_loaded"));
        let model = Scanvi::from_scvi_tools(&dir, &Device::Cpu).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        let latent = model.scvi().latent(&cells).unwrap();
        let off = worst(&numbers(&latent.mean), e.get("loaded_qzm"), |_| 1.0);
        assert!(off < 2e-5, "{name}: {off:e}");
    }
}

#[test]
fn what_is_written_reads_back() {
    for_each_model(|case| {
        let model = &case.single;
        let dir = tempfile::tempdir().unwrap();
        model.save_scvi_tools(dir.path()).unwrap();
        let again = Scanvi::from_scvi_tools(dir.path(), &Device::Cpu).unwrap();
        let native = tempfile::tempdir().unwrap();
        model.save(native.path()).unwrap();
        let loaded = AnyModel::load(native.path(), &Device::Cpu).unwrap();
        for other in [&again, loaded.scanvi().unwrap()] {
            assert_eq!(other.config(), model.config(), "{}", case.name);
            assert_eq!(other.registry(), model.registry(), "{}", case.name);
            assert_eq!(other.training(), model.training(), "{}", case.name);
            let (a, b) = (model.scvi().parameters(), other.scvi().parameters());
            assert_eq!(a.iter().len(), b.iter().len());
            for (a, b) in a.iter().zip(b.iter()) {
                assert_eq!(a.name(), b.name());
                assert_eq!(values(a.value()), values(b.value()), "{}", a.name());
            }
        }
        // Neither is opened as another model.
        let message = Scvi::load(native.path(), &Device::Cpu).unwrap_err();
        assert!(message.to_string().contains("scanvi"), "{message}");
    });
}

#[test]
fn the_order_of_parameters_is_torchs() {
    for_each_model(|case| {
        let Some(shapes) = case.json.get("state_dict").and_then(|s| s.as_object()) else {
            return;
        };
        // serde_json sorts the names, so only the set and the shapes are compared here.
        for p in case.single.scvi().parameters().iter() {
            let shape: Vec<usize> = serde_json::from_value(shapes[p.name()].clone()).unwrap();
            assert_eq!(p.export_shape(), shape, "{}", p.name());
        }
        let tensors = shapes.keys().filter(|k| *k != "pyro_param_store").count();
        assert_eq!(tensors, case.single.scvi().parameters().iter().len());
    });
}

#[test]
fn the_split_is_scvi_tools() {
    let Some(golden) = golden() else { return };
    let splits = json(&golden.join("core/splits.json"));
    let data = sc_io::h5ad::read(golden.join("data/kang.h5ad")).unwrap();
    let labels = data.obs.get("cell_type_partial").unwrap();
    let labels = labels.to_categorical("cell_type_partial").unwrap();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (i, label) in labels.iter().enumerate() {
        if label == Some("Unknown") {
            unknown.push(i);
        } else {
            known.push(i);
        }
    }
    for seed in [0, 1, 42] {
        let expected = &splits[format!("scanvi_seed{seed}")];
        let of =
            |key: &str| -> Vec<usize> { serde_json::from_value(expected[key].clone()).unwrap() };
        let found = sc_model::train::SplitConfig::default()
            .split_groups(&[known.clone(), unknown.clone()], 128, seed)
            .unwrap();
        assert_eq!(found.train, of("train_idx"), "seed {seed}");
        assert_eq!(found.validation, of("val_idx"), "seed {seed}");
        assert!(found.test.is_empty());
    }
}

/// The same course of training as scvi-tools' three runs, from the same scVI model on the same split.
#[test]
fn training_ends_where_it_ends_in_scvi_tools() {
    let Some(golden) = golden() else { return };
    let runs = json(&golden.join("expected/kang_scanvi.history.json"));
    let data = sc_io::h5ad::read(golden.join("data/kang.h5ad")).unwrap();
    let scvi = Scvi::from_scvi_tools(golden.join("models/kang_nb_cov"), &Device::Cpu).unwrap();
    let labels = Labels {
        key: Some("cell_type_partial".into()),
        unlabeled_category: "Unknown".into(),
    };
    let column = |key: &str| data.obs.get(key).unwrap().to_categorical(key).unwrap();
    let (partial, truth) = (column("cell_type_partial"), column("cell_type"));
    for (seed, run) in runs["final"].as_array().unwrap().iter().enumerate() {
        let seed = seed as u64;
        let classifier = ClassifierConfig::default();
        let mut model = Scanvi::from_scvi(&scvi, &data.obs, &labels, classifier, seed).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        let mut config = TrainConfig::default();
        config.max_epochs = Some(20);
        config.seed = seed;
        let mut semi = SemiSupervised::default();
        semi.n_samples_per_label = Some(100);
        let fitted = model.fit(&cells, &config, &semi, &mut ()).unwrap();
        let bound = model.elbo(&cells, Some(seed)).unwrap();
        let found = model.classify(&cells).unwrap();
        let hidden = found
            .hard()
            .into_iter()
            .zip(truth.iter())
            .zip(partial.iter());
        let hidden: Vec<bool> = hidden
            .filter(|(_, partial)| *partial == Some("Unknown"))
            .map(|((found, truth), _)| Some(found) == truth)
            .collect();
        let right = hidden.iter().filter(|&&r| r).count() as f64 / hidden.len() as f64;
        let near = |key: &str, found: f64, allowed: f64| {
            let expected = run[key].as_f64().unwrap();
            eprintln!("seed {seed}: {key} {found:.3}, in scvi-tools {expected:.3}");
            assert!(
                (found - expected).abs() <= allowed,
                "{key}: {found} {expected}"
            );
        };
        let train = bound.select(&fitted.split.train).unwrap().elbo();
        let validation = bound.select(&fitted.split.validation).unwrap().elbo();
        near("elbo_train_full_kl", train, 0.015 * train.abs());
        near(
            "elbo_validation_full_kl",
            validation,
            0.03 * validation.abs(),
        );
        near("accuracy_hidden_cells", right, 0.06);
    }
}
