//! Every SCANVI model that scvi-tools saved for us, against the numbers that scvi-tools computed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod files;
mod steps;

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
