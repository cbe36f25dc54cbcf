//! Every SCVI and LinearSCVI model that scvi-tools saved for us, against the numbers that scvi-tools computed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod draws;
mod files;
mod steps;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_data::AnnData;
use sc_latent::{
    Cells, Decoder, Expression, LibrarySize, Likelihood, Minibatch, Noise, Parity, Scvi,
};
use sc_model::{Mode, Optimizer, OptimizerKind};
use sc_tensor::rng::Rng;
use sc_tests::{Npz, golden, gradients, json, near, numbers, pick, values, worst, worst_relative};

/// Names of the model folder, the data and the expected numbers.
fn small(name: &str) -> (String, &'static str, String) {
    (
        format!("small_models/{name}"),
        "data/small.h5ad",
        format!("expected_small/{name}"),
    )
}

fn large(name: &str, data: &'static str) -> (String, &'static str, String) {
    (format!("models/{name}"), data, format!("expected/{name}"))
}

const SMALL: [&str; 19] = [
    "default",
    "bn_and_ln",
    "bnenc_lndec",
    "cov_deep_enc",
    "cov_deep_noenc",
    "embed_cov",
    "genebatch_cov_shallow",
    "genecell_zinb",
    "genelabel_nb",
    "layer",
    "ldvae",
    "learnlib_genebatch_enc",
    "ln",
    "nobatch_3layers_nb",
    "nolog",
    "nonorm",
    "onelevel_unused",
    "poisson",
    "normal",
];

fn all_models() -> Vec<(String, &'static str, String)> {
    let mut all: Vec<_> = SMALL.iter().map(|n| small(n)).collect();
    all.extend(["sizefactor", "softplus_var"].map(small));
    all.extend(["kang_default", "kang_nb_cov", "kang_embed"].map(|n| large(n, "data/kang.h5ad")));
    all.extend(["worm_learnlib", "worm_ref_ln"].map(|n| large(n, "data/worm_ref.h5ad")));
    all
}

struct Case {
    name: String,
    data: AnnData,
    expected: Npz,
    json: serde_json::Value,
    single: Scvi,
    double: Scvi,
}

impl Case {
    fn load(golden: &Path, (model, data, expected): &(String, &str, String)) -> Self {
        let dir = golden.join(model);
        let load = |dtype| {
            Scvi::from_scvi_tools_with_dtype(&dir, &Device::Cpu, dtype)
                .unwrap_or_else(|e| panic!("{model}: {e}"))
        };
        Self {
            name: model.clone(),
            data: sc_io::h5ad::read(golden.join(data)).unwrap(),
            expected: Npz::read(&golden.join(format!("{expected}.npz"))),
            json: json(&golden.join(format!("{expected}.json"))),
            single: load(DType::F32),
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

fn for_each_model(check: impl Fn(&Case)) {
    let Some(golden) = golden() else { return };
    for names in all_models() {
        check(&Case::load(&golden, &names));
    }
}

/// Compares with as many rows as the reference kept (gene-wise numbers may be kept once).
fn compare_matrix(
    case: &Case,
    key: &str,
    found: &ndarray::Array2<f32>,
    rows: &[usize],
    genes: &[usize],
    tolerance: f64,
) {
    if case.expected.has(key) {
        let rows = &rows[..case.expected.get(key).len() / genes.len()];
        case.near(
            key,
            worst_relative(&pick(found, rows, genes), case.expected.get(key)),
            tolerance,
        );
    }
}

#[test]
fn latent_space() {
    for_each_model(|case| {
        if case.single.config().latent_distribution == sc_latent::LatentDistribution::LogisticNormal
        {
            return; // its mean is one of random draws; the f64 test covers its normal
        }
        let latent = case.single.latent(&case.cells()).unwrap();
        let (m, v) = (case.expected.get("qzm"), case.expected.get("qzv"));
        let (mean, var) = (numbers(&latent.mean), numbers(&latent.variance));
        case.near("qzm", worst(&mean[..m.len()], m, |_| 1.0), 2e-5);
        case.near("qzv", worst_relative(&var[..v.len()], v), 1e-4);
    });
}

#[test]
fn normalized_expression_and_likelihood_parameters() {
    for_each_model(|case| {
        let cells = case.cells();
        let (rows, genes) = (
            case.expected.indices("cells"),
            case.expected.indices("genes"),
        );
        let expression = |library_size, transform_batch: Vec<String>| {
            let mut options = Expression::default();
            options.library_size = library_size;
            options.transform_batch = transform_batch;
            options.n_samples = 0;
            case.single.normalized_expression(&cells, &options).unwrap()
        };
        let size = LibrarySize::Fixed(1e4);
        let key = "normexpr_zmean_lib1e4";
        compare_matrix(case, key, &expression(size, vec![]), &rows, &genes, 1e-4);
        compare_matrix(
            case,
            "normexpr_zmean_latent",
            &expression(LibrarySize::Latent, vec![]),
            &rows,
            &genes,
            1e-4,
        );
        if let Some(batch) = case.json.get("transform_batch").and_then(|b| b.as_str()) {
            let transformed = expression(size, vec![batch.to_owned()]);
            compare_matrix(
                case,
                &format!("{key}_transform"),
                &transformed,
                &rows,
                &genes,
                1e-4,
            );
            let all = expression(size, case.single.registry().batches.clone());
            compare_matrix(
                case,
                &format!("{key}_transform_all"),
                &all,
                &rows,
                &genes,
                1e-4,
            );
        }
        let parameters = case.single.likelihood_parameters(&cells, None).unwrap();
        compare_matrix(
            case,
            "lik_zmean_mean",
            &parameters.mean,
            &rows,
            &genes,
            1e-4,
        );
        if case.single.config().likelihood != Likelihood::Poisson {
            compare_matrix(
                case,
                "lik_zmean_dispersions",
                &parameters.dispersions,
                &rows,
                &genes,
                1e-4,
            );
        }
        if let Some(dropout) = &parameters.dropout {
            compare_matrix(case, "lik_zmean_dropout", dropout, &rows, &genes, 1e-4);
        }
        if case.expected.has("latent_library_size_mean") {
            let found = case.single.latent_library_size(&cells).unwrap();
            let expected = case.expected.get("latent_library_size_mean");
            case.near(
                "latent_library_size_mean",
                worst_relative(&found[..expected.len()], expected),
                1e-4,
            );
        }
    });
}

#[test]
fn bound_of_each_cell() {
    for_each_model(|case| {
        let bound = case.single.elbo(&case.cells(), None).unwrap();
        // Per cell, scvi-tools' get_elbo gives what it averages with the other sign, per-cell values as they are.
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
    });
}

#[test]
fn double_precision() {
    for_each_model(|case| {
        let (cells, model, e) = (case.cells(), &case.double, &case.expected);
        let n = e.shape("f64/qzm")[0];
        let (rows, genes) = (e.indices("cells")[..n].to_vec(), e.indices("genes"));
        let batch = cells
            .minibatch(&rows, model.config().log_variational)
            .unwrap();
        let (qz, ql) = model.encode(&batch, &Mode::eval()).unwrap();
        let near = |key: &str, found: &Tensor, tolerance: f64| {
            let key = format!("f64/{key}");
            if e.has(&key) {
                let mut found = values(found);
                if found.len() == n * model.registry().n_genes()
                    && genes.len() < model.registry().n_genes()
                {
                    let g = model.registry().n_genes();
                    found = (0..n)
                        .flat_map(|i| genes.iter().map(|&j| found[i * g + j]).collect::<Vec<_>>())
                        .collect();
                }
                let expected = e.get(&key);
                found.truncate(expected.len());
                case.near(
                    &key,
                    worst(&found, expected, |x| x.abs().max(1e-3)),
                    tolerance,
                );
            }
        };
        near("qzm", &qz.mean, 1e-9);
        near("qzv", &qz.var, 1e-9);
        if let Some(ql) = &ql {
            near("qlm", &ql.mean, 1e-9);
            near("qlv", &ql.var, 1e-9);
        }
        let decoded = model.decode(&batch, &Noise::none(), None).unwrap();
        near("scale", &decoded.scale().unwrap(), 1e-9);
        near("mu", &decoded.rate().unwrap(), 1e-9);
        if model.config().likelihood != Likelihood::Poisson {
            near("theta", &decoded.theta().unwrap(), 1e-9);
        }
        let terms = model
            .elbo_terms(&batch, &Noise::none(), &Mode::eval())
            .unwrap();
        near("reconstruction_loss", &terms.reconstruction, 1e-9);
        near("kl_divergence_z", &terms.kl_z, 1e-9);
        if let Some(kl) = &terms.kl_library {
            near("kl_divergence_l", kl, 1e-9);
        }
        near("loss_kl_weight_1", &terms.loss(1.0).unwrap(), 1e-9);
        if let Some(code) = case
            .json
            .get("transform_batch_code")
            .and_then(serde_json::Value::as_u64)
        {
            let transformed = model
                .decode(&batch, &Noise::none(), Some(code as u32))
                .unwrap();
            near("scale_transform_batch", &transformed.scale().unwrap(), 1e-9);
        }
    });
}
