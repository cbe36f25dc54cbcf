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
