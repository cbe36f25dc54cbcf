//! Minify, pack, inspect, pull.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use common::{CELLS, GENES, Place, says};
use sc_data::{AnnData, Column};
use serde_json::Value;

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

fn trained() -> Place {
    let place = Place::new();
    place.train("model", "--max-epochs 2");
    place
}

fn read(place: &Place, name: &str) -> AnnData {
    sc_io::read(place.path(name)).unwrap()
}

#[test]
fn an_atlas_without_counts_gives_the_same_answers() {
    let place = trained();
    let report =
        json(&place.ok("minify model cells.h5ad --out atlas --statistics-by batch --json"));
    assert_eq!(report["n_cells"], CELLS);
    assert_eq!(report["kind"], "latent_posterior_parameters");
    let size = std::fs::metadata(place.path("atlas/adata.h5ad"))
        .unwrap()
        .len();
    assert_eq!(report["minified_bytes"], size);
    assert!(report["counts_bytes"].as_u64().unwrap() > size);
    let small = read(&place, "atlas/adata.h5ad");
    assert_eq!(small.x.as_ref().unwrap().to_csr().n_stored(), 0);
    assert!(small.varm.contains_key("sc_counts_sum_by_batch"));

    // The same in memory, and both models and data in every combination.
    place.ok("minify model cells.h5ad --out whole.h5ad --in-memory --statistics-by batch");
    assert_eq!(read(&place, "whole.h5ad"), small);
    for (model, data, out) in [
        ("model", "cells.h5ad", "a.h5ad"),
        ("model", "atlas/adata.h5ad", "b.h5ad"),
        ("atlas", "atlas/adata.h5ad", "c.h5ad"),
        ("atlas", "cells.h5ad", "d.h5ad"),
    ] {
        place.ok(&format!(
            "expression {model} {data} --out {out} --library-size latent"
        ));
    }
    let x = |name: &str| read(&place, name).x.unwrap();
    assert_eq!(x("a.h5ad"), x("b.h5ad"));
    assert_eq!(x("a.h5ad"), x("c.h5ad"));
    assert_eq!(x("a.h5ad"), x("d.h5ad"));
    place.ok("embed atlas atlas/adata.h5ad --out e.h5ad --backed");
    says(
        &place.error("evaluate atlas atlas/adata.h5ad"),
        &["counts", "minified"],
    );
    says(
        &place.error("minify atlas atlas/adata.h5ad --out again"),
        &["counts", "minified"],
    );
}

#[test]
fn with_counts_everything_works() {
    let place = trained();
    place.ok("minify model cells.h5ad --out both --with-counts");
    place.ok("minify model cells.h5ad --out memory.h5ad --with-counts --in-memory");
    let both = read(&place, "both/adata.h5ad");
    assert_eq!(both, read(&place, "memory.h5ad"));
    assert_eq!(both.x, read(&place, "cells.h5ad").x);
    assert!(matches!(
        both.obs.get("observed_lib_size"),
        Some(Column::Float32(_))
    ));
    let score = |data: &str| {
        json(&place.ok(&format!("evaluate model {data} --posterior-mean --json")))["elbo"].as_f64()
    };
    assert_eq!(score("cells.h5ad"), score("both/adata.h5ad"));
}

#[test]
fn a_hub_folder_is_packed_and_inspected() {
    let place = trained();
    place.ok("minify model cells.h5ad --out atlas");
    std::fs::write(place.path("about.md"), "Embryos of worms.\n").unwrap();
    place.ok("hub pack atlas folder --license mit --tissue embryo --annotated true --description @about.md");
    let found = json(&place.ok("hub inspect folder --json"));
    assert_eq!(found["metadata"]["model_cls_name"], "SCVI");
    assert_eq!(found["license"], "mit");
    assert_eq!(found["description"], "Embryos of worms.");
    assert_eq!(found["summary_stats"]["n_vars"], GENES);
    assert_eq!(found["is_minified"], true);
    let shown = place.ok("hub inspect folder");
    says(
        &shown,
        &[
            "SCVI",
            "Embryos of worms.",
            "adata.h5ad",
            "tissue:embryo",
            "minified     yes",
        ],
    );
    place.ok("expression folder folder/adata.h5ad --out x.h5ad");

    // Data with counts; a model alone; what is no hub folder; data of another model.
    place.ok("hub pack model full --data cells.h5ad");
    assert_eq!(
        json(&place.ok("hub inspect full --json"))["is_minified"],
        false
    );
    place.ok("hub pack model bare");
    says(
        &place.error("hub inspect model"),
        &["_scvi_required_metadata.json", "sc hub pack"],
    );
    let other = read(&place, "cells.h5ad").select_vars(&[0, 1, 2]).unwrap();
    place.put("other.h5ad", &other);
    says(
        &place.error("hub pack model wrong --data other.h5ad"),
        &["lacks", "genes"],
    );
    says(&place.error("hub pull ../etc"), &["owner/name"]);
    let offline = "hub pull lab/none --offline --cache cache";
    says(&place.error(offline), &["lab/none", "cache"]);
}

#[test]
fn what_cannot_be_minified_says_why() {
    let place = Place::new();
    place.train("learned", "--max-epochs 1 --learn-library-size");
    says(
        &place.error("minify learned cells.h5ad --out atlas"),
        &["library size", "learns"],
    );
    assert!(!place.path("atlas/adata.h5ad").exists());
    place.train("model", "--max-epochs 1");
    says(
        &place.error("minify model cells.h5ad --out x.h5ad --statistics-by nothing"),
        &["nothing", "batch"],
    );
}

/// The model of a query, and the query, which has not all of the reference's genes and no labels.
#[test]
fn a_query_is_minified_by_its_own_model() {
    let place = Place::new();
    place.train("scvi", "--max-epochs 2 --encode-covariates");
    place.ok(
        "train scanvi cells.h5ad --out model --from scvi --labels-key cell.type --unlabeled-category Unknown --max-epochs 1",
    );
    let all = read(&place, "cells.h5ad");
    let rows: Vec<usize> = (0..80).collect();
    let genes: Vec<usize> = (4..GENES).rev().collect();
    let mut query = all.select_obs(&rows).unwrap().select_vars(&genes).unwrap();
    let batch = Column::Str(vec!["new".into(); rows.len()]);
    query.obs.insert("batch", batch).unwrap();
    query.obs.remove("cell.type");
    place.put("query.h5ad", &query);
    place.ok("map model query.h5ad --out mapped --max-epochs 2");
    place.ok("minify mapped query.h5ad --out small");
    place.ok("minify mapped query.h5ad --out memory.h5ad --in-memory");
    let small = read(&place, "small/adata.h5ad");
    assert_eq!(small, read(&place, "memory.h5ad"));
    assert_eq!(small.n_vars(), GENES);
    assert_eq!(small.var.index(), all.var.index());

    let places = |name: &str, key: &str| match read(&place, name).obsm.get(key) {
        Some(sc_data::Annotation::Matrix(m)) => m.to_dense(),
        other => panic!("{name}: {other:?}"),
    };
    place.ok("embed small small/adata.h5ad --out a.h5ad");
    assert_eq!(
        places("a.h5ad", "X_scANVI"),
        places("mapped/query.h5ad", "X_scANVI")
    );
    place.ok("annotate small small/adata.h5ad --out labels.h5ad");
    place.ok("expression small small/adata.h5ad --out x.h5ad --posterior-mean");
    place.ok("expression mapped query.h5ad --out y.h5ad --posterior-mean");
    assert_eq!(read(&place, "x.h5ad").x, read(&place, "y.h5ad").x);
    // Counts can be kept too, with zeros for the genes that were not measured.
    place.ok("minify mapped query.h5ad --out both.h5ad --with-counts --in-memory");
    let both = read(&place, "both.h5ad").x.unwrap().to_dense();
    assert!(both.columns().into_iter().take(4).all(|c| c.sum() == 0.0));
    says(
        &place.error("minify mapped query.h5ad --out c.h5ad --with-counts"),
        &["--in-memory"],
    );
    // The reference's model refuses cells without its genes, and says what takes them.
    let mut known = query.clone();
    known.obs = all.obs.select_rows(&rows).unwrap();
    place.put("known.h5ad", &known);
    says(
        &place.error("minify model known.h5ad --out d.h5ad"),
        &["lacks 4", "sc map"],
    );
}

/// Batches and labels that are numbers, as other programs write them.
#[test]
fn categories_may_be_numbers() {
    let mut data = common::small();
    let as_numbers = |key: &str| {
        let column = data.obs.get(key).unwrap().to_categorical(key).unwrap();
        let codes = column.codes().iter().map(|c| i64::from(c.unwrap()) * 10);
        Column::Int(codes.collect())
    };
    let (batch, label) = (as_numbers("batch"), as_numbers("cell.type"));
    data.obs.insert("batch", batch).unwrap();
    data.obs.insert("cell.type", label).unwrap();
    let place = Place::with(&data);
    place.train("model", "--max-epochs 2 --labels-key cell.type");
    place.ok("minify model cells.h5ad --out atlas");
    let de = |model: &str, cells: &str, out: &str| {
        place.ok(&format!(
            "de {model} {cells} --group1 20 --samples 200 --mode vanilla --out {out}"
        ));
        place.text(out)
    };
    let (counted, minified) = (
        de("model", "cells.h5ad", "a.tsv"),
        de("atlas", "atlas/adata.h5ad", "b.tsv"),
    );
    // Means of counts come from the sums that were kept.
    let column = |table: &str, name: &str| -> Vec<f64> {
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
        let at = header.iter().position(|h| *h == name).unwrap();
        let value = |line: &str| line.split('\t').nth(at).unwrap().parse().unwrap();
        lines.map(value).collect()
    };
    for name in [
        "proba_m1",
        "raw_mean1",
        "raw_mean2",
        "non_zeros_proportion1",
    ] {
        let (one, other) = (column(&counted, name), column(&minified, name));
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12 * (1.0 + a.abs());
        assert!(one.iter().zip(&other).all(near), "{name}");
    }
    place.ok("expression atlas atlas/adata.h5ad --out x.h5ad --transform-batch 30");
    says(
        &place.error("expression atlas atlas/adata.h5ad --out x.h5ad --transform-batch 31"),
        &["no batch \"31\"", "30"],
    );
}
