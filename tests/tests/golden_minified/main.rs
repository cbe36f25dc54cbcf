//! Minified data that scvi-tools wrote, against the numbers that scvi-tools computed from them.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod files;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, Axis};
use sc_data::{AnnData, Annotation, Column, Matrix};
use sc_latent::hub::{self, HubModel, PackOptions};
use sc_latent::minify::{MinifyKind, MinifyOptions, StatisticsOrigin};
use sc_latent::{
    AnyModel, Cells, Error, Expression, LibrarySize, Noise, NonInteger, PredictAt, Scvi,
};
use sc_model::train::TrainConfig;
use sc_tests::{Npz, golden, json, near, numbers, pick, values, worst, worst_relative};

struct Case {
    name: &'static str,
    data: AnnData,
    expected: Npz,
    json: serde_json::Value,
    model: Scvi,
    double: Scvi,
}

impl Case {
    fn load(golden: &Path, folder: &str, name: &'static str) -> Self {
        let dir = golden.join(folder).join(name);
        let load = |dtype| Scvi::from_scvi_tools_with_dtype(&dir, &Device::Cpu, dtype).unwrap();
        Self {
            name,
            data: sc_io::h5ad::read(dir.join("adata.h5ad")).unwrap(),
            expected: Npz::read(&golden.join(format!("expected/{name}.npz"))),
            json: json(&golden.join(format!("expected/{name}.json"))),
            model: load(DType::F32),
            double: load(DType::F64),
        }
    }

    fn cells(&self) -> Cells<'_> {
        Cells::for_model(&self.data, self.model.registry()).unwrap()
    }

    fn near(&self, what: &str, error: f64, tolerance: f64) {
        near(self.name, what, error, tolerance);
    }

    /// Rows `cells` and columns `genes` of a matrix of all, relative to what was expected of them.
    fn matrix(&self, key: &str, found: &Array2<f32>, tolerance: f64) {
        let genes = self.expected.indices("genes");
        let n = self.expected.get(key).len() / genes.len();
        let rows = &self.expected.indices("cells")[..n];
        let found = pick(found, rows, &genes);
        self.near(
            key,
            worst_relative(&found, self.expected.get(key)),
            tolerance,
        );
    }
}

fn cases() -> Vec<Case> {
    let Some(golden) = golden() else {
        return Vec::new();
    };
    vec![
        Case::load(&golden, "models", "small_genebatch_cov_shallow_min"),
        Case::load(&golden, "hub", "worm_ref_ln_hub"),
    ]
}

#[test]
fn the_latent_space_is_the_one_that_was_stored() {
    for case in cases() {
        let cells = case.cells();
        assert_eq!(cells.minified(), Some(MinifyKind::Posterior));
        let latent = case.model.latent(&cells).unwrap();
        let (m, v) = (case.expected.get("qzm"), case.expected.get("qzv"));
        assert_eq!(numbers(&latent.mean), m, "{}", case.name);
        assert_eq!(&numbers(&latent.variance)[..v.len()], v, "{}", case.name);
    }
}

#[test]
fn expression_and_parameters_without_counts() {
    for case in cases() {
        let cells = case.cells();
        let expression = |transform_batch: Vec<String>| {
            let mut options = Expression::default();
            options.library_size = LibrarySize::Fixed(1e4);
            options.transform_batch = transform_batch;
            options.n_samples = 0;
            case.model.normalized_expression(&cells, &options).unwrap()
        };
        let key = "normexpr_zmean_lib1e4";
        case.matrix(key, &expression(vec![]), 1e-4);
        let batch = case.json["transform_batch"].as_str().unwrap().to_owned();
        case.matrix(&format!("{key}_transform"), &expression(vec![batch]), 1e-4);
        let parameters = case.model.likelihood_parameters(&cells, None).unwrap();
        case.matrix("lik_zmean_mean", &parameters.mean, 1e-4);
        case.matrix("lik_zmean_dispersions", &parameters.dispersions, 1e-4);
        if let Some(dropout) = &parameters.dropout {
            case.matrix("lik_zmean_dropout", dropout, 1e-4);
        }
    }
}

#[test]
fn the_decoder_in_double_precision() {
    for case in cases() {
        let e = &case.expected;
        let n = e.shape("f64/qzm")[0];
        let rows = &e.indices("cells")[..n];
        let batch = case.cells().minibatch(rows, true).unwrap();
        let (q, _) = case.double.encode(&batch, &sc_model::Mode::eval()).unwrap();
        case.near(
            "f64/qzm",
            worst(&values(&q.mean), e.get("f64/qzm"), |_| 1.0),
            1e-15,
        );
        case.near(
            "f64/qzv",
            worst(&values(&q.var), e.get("f64/qzv"), |_| 1.0),
            1e-15,
        );
        let logs: Vec<f64> = batch.library_size().iter().map(|l| l.ln()).collect();
        case.near(
            "f64/library",
            worst_relative(&logs, e.get("f64/library")),
            1e-9,
        );
        let genes: Vec<u32> = e.indices("genes").iter().map(|&g| g as u32).collect();
        let genes = Tensor::from_slice(&genes, genes.len(), &Device::Cpu).unwrap();
        let pick = |t: Tensor| values(&t.index_select(&genes, 1).unwrap());
        let decoded = case.double.decode(&batch, &Noise::none(), None).unwrap();
        for (key, found) in [
            ("f64/scale", decoded.scale().unwrap()),
            ("f64/mu", decoded.rate().unwrap()),
            ("f64/theta", decoded.theta().unwrap()),
        ] {
            case.near(key, worst_relative(&pick(found), e.get(key)), 1e-9);
        }
        let code = case.json["transform_batch_code"].as_u64().unwrap() as u32;
        let other = case
            .double
            .decode(&batch, &Noise::none(), Some(code))
            .unwrap();
        let key = "f64/scale_transform_batch";
        let found = pick(other.scale().unwrap());
        case.near(key, worst_relative(&found, e.get(key)), 1e-9);
    }
}

/// Mean and standard deviation over the first axis.
fn moments(samples: &ndarray::Array3<f32>) -> (Array2<f64>, Array2<f64>) {
    let samples = samples.mapv(f64::from);
    let mean = samples.mean_axis(Axis(0)).unwrap();
    (mean, samples.std_axis(Axis(0), 0.0))
}

#[test]
fn posterior_predictive_draws_have_the_moments_of_scvi_tools() {
    for case in cases() {
        let e = &case.expected;
        if !e.has("ppc200_mean") {
            continue;
        }
        let genes = e.indices("genes");
        let rows = &e.indices("cells")[..e.get("ppc200_mean").len() / genes.len()];
        let part = case.data.select_obs(rows).unwrap();
        let cells = Cells::for_model(&part, case.model.registry()).unwrap();
        let draws = case
            .model
            .posterior_predictive_sample(&cells, 400, &[], Some(&genes), 11)
            .unwrap();
        let (mean, sd) = moments(&draws);
        let (m, s) = (e.get("ppc200_mean"), e.get("ppc200_sd"));
        for (i, ((mean, sd), (m, s))) in mean.iter().zip(&sd).zip(m.iter().zip(s)).enumerate() {
            let allowed = 5.0 * s.max(*sd) * (1.0f64 / 200.0 + 1.0 / 400.0).sqrt() + 0.02;
            assert!(
                (mean - m).abs() <= allowed,
                "entry {i}: {mean} instead of {m} +- {s}"
            );
        }
        let nonzero = draws.mapv(|x| f64::from(u8::from(x > 0.0)));
        let nonzero = nonzero.mean_axis(Axis(0)).unwrap();
        for (found, p) in nonzero.iter().zip(e.get("ppc200_nonzero")) {
            let sd = (p.clamp(0.01, 0.99) * (1.0 - p.clamp(0.01, 0.99))).sqrt();
            let allowed = 5.0 * sd * (1.0f64 / 200.0 + 1.0 / 400.0).sqrt() + 0.02;
            assert!((found - p).abs() <= allowed, "{found} instead of {p}");
        }
    }
}

#[test]
fn what_needs_counts_is_refused() {
    for mut case in cases() {
        let (data, registry) = (case.data.clone(), case.model.registry().clone());
        let cells = Cells::for_model(&data, &registry).unwrap();
        let refused = |e: Option<Error>| {
            assert!(matches!(e, Some(Error::NeedsCounts { .. })), "{e:?}");
        };
        refused(case.model.elbo(&cells, None).err());
        refused(case.model.marginal_ll(&cells, 2, 0).err());
        refused(
            cells
                .check_counts(case.model.config(), NonInteger::Refuse)
                .err(),
        );
        refused(
            case.model
                .fit(&cells, &TrainConfig::default(), &mut ())
                .err(),
        );
        // scvi-tools keeps no sums by gene.
        assert_eq!(cells.gene_statistics(&[0, 1]).unwrap(), None);
    }
}

fn matrix<'a>(data: &'a AnnData, key: &str) -> &'a Array2<f32> {
    match &data.obsm[key] {
        Annotation::Matrix(Matrix::Dense(m)) => m,
        other => panic!("{key}: {other:?}"),
    }
}

/// SCANVI with counts: its queries skip the encoder, its bound does not. scvi-tools itself can't predict from these data.
#[test]
fn scanvi_with_counts() {
    let Some(golden) = golden() else { return };
    let dir = golden.join("models/small_scanvi_min_counts");
    let e = Npz::read(&golden.join("expected/small_scanvi_min_counts.npz"));
    let data = sc_io::h5ad::read(dir.join("adata.h5ad")).unwrap();
    let model = AnyModel::load(&dir, &Device::Cpu).unwrap();
    let scanvi = model.scanvi().unwrap();
    let cells = Cells::for_model(&data, model.registry()).unwrap();
    assert_eq!(cells.minified(), Some(MinifyKind::PosteriorWithCounts));
    let latent = model.scvi().latent(&cells).unwrap();
    assert_eq!(numbers(&latent.mean), e.get("qzm"));
    assert_eq!(numbers(&latent.variance), e.get("qzv"));

    let elbo = scanvi.elbo(&cells, None).unwrap();
    let bound: Vec<f64> = elbo
        .reconstruction
        .iter()
        .zip(&elbo.kl)
        .map(|(r, k)| -(r + k))
        .collect();
    assert!(worst_relative(&elbo.reconstruction, e.get("rec_zmean_percell")) < 2e-5);
    assert!(worst_relative(&bound, e.get("elbo_zmean_percell")) < 2e-5);

    let mut options = Expression::default();
    options.library_size = LibrarySize::Fixed(1e4);
    options.n_samples = 0;
    let x = model
        .scvi()
        .normalized_expression(&cells, &options)
        .unwrap();
    let (rows, genes) = (e.indices("cells"), e.indices("genes"));
    let found: Vec<f64> = rows
        .iter()
        .flat_map(|&r| genes.iter().map(move |&g| (r, g)))
        .map(|at| f64::from(x[at]))
        .collect();
    assert!(worst_relative(&found, e.get("normexpr_zmean_lib1e4")) < 1e-4);

    // Labels from the stored posterior are those from the counts.
    let mut counted = data.clone();
    counted.uns.shift_remove("_scvi_adata_minify_type");
    let counted = Cells::for_model(&counted, model.registry()).unwrap();
    let predict =
        |c: &Cells<'_>| numbers(&scanvi.predict(c, PredictAt::PosteriorMean).unwrap().values);
    assert!(worst(&predict(&cells), &predict(&counted), |_| 1.0) < 2e-5);
    let logits = e.get("f64/classifier_logits_of_qzm");
    let k = e.shape("f64/classifier_logits_of_qzm")[1];
    let found = predict(&cells);
    for (&row, logits) in rows.iter().zip(logits.chunks(k)) {
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        let expected: Vec<f64> = logits.iter().map(|l| l.exp() / sum).collect();
        assert!(worst(&found[row * k..][..k], &expected, |_| 1.0) < 2e-5);
    }

    // Without its counts, and back from the disk.
    let folder = tempfile::tempdir().unwrap();
    let mut model = AnyModel::load(&dir, &Device::Cpu).unwrap();
    let small = model.minify(&data, &MinifyOptions::default()).unwrap();
    assert!(
        worst(
            &numbers(matrix(&small, "scanvi_latent_qzm")),
            e.get("qzm"),
            |_| 1.0
        ) < 2e-5
    );
    model.set_minified(Some(model.minified_keys(&MinifyOptions::default())));
    model.save_scvi_tools(folder.path()).unwrap();
    let again = AnyModel::load(folder.path(), &Device::Cpu).unwrap();
    let cells = Cells::for_model(&small, again.registry()).unwrap();
    let scanvi = again.scanvi().unwrap();
    let labels = numbers(
        &scanvi
            .predict(&cells, PredictAt::PosteriorMean)
            .unwrap()
            .values,
    );
    assert!(worst(&labels, &predict(&counted), |_| 1.0) < 2e-5);
    assert!(matches!(
        scanvi.elbo(&cells, None),
        Err(Error::NeedsCounts { .. })
    ));
}
