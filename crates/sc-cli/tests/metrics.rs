//! `sc metrics`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use common::{CELLS, Place, small};
use ndarray::{Array2, Axis};
use sc_data::{AnnData, Categorical, Column};
use serde_json::Value;

/// The small data with two embeddings: logarithms of its most variable genes, and the same with the batch in them.
fn embedded() -> AnnData {
    let mut data = small();
    let x = data.x.as_ref().unwrap().to_dense().mapv(f32::ln_1p);
    let variance = x.var_axis(Axis(0), 0.0);
    let mut genes: Vec<usize> = (0..x.ncols()).collect();
    genes.sort_by(|&a, &b| variance[b].total_cmp(&variance[a]));
    let places: Array2<f32> = x.select(Axis(1), &genes[..8]);
    let batch = data.obs.column("obs", "batch").unwrap();
    let batch = batch.to_categorical("batch").unwrap();
    let mut moved = places.clone();
    for (mut row, code) in moved.rows_mut().into_iter().zip(batch.codes()) {
        row += 3.0 * code.unwrap() as f32;
    }
    data.obsm.insert("X_scVI".into(), places.into());
    data.obsm.insert("X_pca".into(), moved.into());
    data
}

const BOTH: &str = "metrics cells.h5ad --embedding X_scVI --embedding X_pca --batch-key batch --label-key cell.type";

fn cells(table: &Value, caption: &str) -> Vec<Value> {
    let sections = table["sections"].as_array().unwrap();
    let tables = sections
        .iter()
        .flat_map(|s| s["tables"].as_array().unwrap());
    let found = tables.filter(|t| t["rows"][0][caption].is_number());
    let rows = found.flat_map(|t| t["rows"].as_array().unwrap().clone());
    rows.map(|r| r[caption].clone()).collect()
}

#[test]
fn two_embeddings_side_by_side() {
    let place = Place::with(&embedded());
    let text = place.ok(BOTH);
    assert!(
        text.contains("X_scVI")
            && text.contains("graph connectivity")
            && text.contains("scGPT AvgBIO"),
        "{text}"
    );
    let report: Value =
        serde_json::from_str(&place.ok(&format!("{BOTH} --glue --json --out out.html"))).unwrap();
    assert_eq!(report["facts"]["cells"], CELLS);
    // The batches were moved apart in one of them.
    let ilisi = cells(&report, "iLISI");
    assert!(ilisi[0].as_f64() > ilisi[1].as_f64(), "{ilisi:?}");
    assert_eq!(cells(&report, "PCR comparison")[1], 0.0);
    assert_eq!(cells(&report, "MAP").len(), 2);
    let html = std::fs::read_to_string(place.path("out.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("AvgBATCH"));
    let csv = std::fs::read_to_string(place.path("out.csv")).unwrap();
    assert!(csv.lines().any(|l| l.contains("X_scVI,iLISI,")));
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("out.json")).unwrap()).unwrap();
    assert_eq!(file, report);
    let threads = |n| place.ok(&format!("{BOTH} --threads {n}"));
    assert_eq!(threads(1), threads(2));
}

#[test]
fn what_is_wrong_is_named() {
    let mut data = embedded();
    let place = Place::with(&data);
    let wrong = |place: &Place, arguments: &str, words: &[&str]| {
        let text = place.error(arguments);
        for w in words {
            assert!(text.contains(w), "{w}: {text}");
        }
    };
    let keys = "--batch-key batch --label-key cell.type";
    wrong(
        &place,
        &format!("metrics cells.h5ad --embedding X_umap {keys}"),
        &["no \"X_umap\"", "X_scVI"],
    );
    wrong(
        &place,
        "metrics cells.h5ad --embedding X_scVI --batch-key donor --label-key cell.type",
        &["donor"],
    );
    wrong(
        &place,
        &format!("{BOTH} --out out.txt"),
        &["must end in .html"],
    );

    let Some(sc_data::Annotation::Matrix(m)) = data.obsm.get("X_scVI") else {
        panic!()
    };
    let mut places = m.to_dense();
    places[[7, 3]] = f32::NAN;
    data.obsm.insert("X_scVI".into(), places.into());
    wrong(
        &Place::with(&data),
        BOTH,
        &["X_scVI", "row 7, column 3 is NaN"],
    );

    let mut data = embedded();
    let some = (0..CELLS).map(|i| (i != 3).then_some(["a", "b"][i % 2]));
    data.obs
        .insert(
            "cell.type",
            Column::Categorical(Categorical::from_options(some)),
        )
        .unwrap();
    data.obs
        .insert(
            "batch",
            Column::Categorical(Categorical::from_labels(&["one"; CELLS])),
        )
        .unwrap();
    let place = Place::with(&data);
    wrong(&place, BOTH, &["1 cells lack", "--drop-missing"]);
    let text = place.ok(&format!("{BOTH} --drop-missing"));
    assert!(
        text.contains("no iLISI: the number of batches is 1"),
        "{text}"
    );
    assert!(text.contains("scIB totals are without: BRAS"), "{text}");
}
