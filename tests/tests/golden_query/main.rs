//! Reference mapping against what scvi-tools did: prepared queries, weights after surgery, what is trained under each
//! combination of flags, gradients, steps, and the models that it trained.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod steps;
mod surgery;
mod trained;

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
