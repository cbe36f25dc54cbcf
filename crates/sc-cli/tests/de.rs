//! `sc de`: tables, plots, and messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{GENES, Place, says, small};
use sc_data::Categorical;
use serde_json::Value;

/// The two largest cell types.
fn largest() -> (String, String) {
    let data = small();
    let labels = data.obs.column("obs", "cell.type").unwrap();
    let labels: Categorical = labels.to_categorical("cell.type").unwrap();
    let mut counts: Vec<(usize, &String)> = labels
        .counts()
        .into_iter()
        .zip(labels.categories())
        .collect();
    counts.sort();
    let name = |k: usize| counts[counts.len() - k].1.clone();
    (name(1), name(2))
}

#[test]
fn tables_of_all_kinds() {
    let place = Place::new();
    place.train("model", "--max-epochs 2");
    let (a, b) = largest();
    let de = "de model cells.h5ad --groupby cell.type --samples 200";
    let pair = format!("{de} --group1 {a} --group2 {b}");
    let summary: Value = serde_json::from_str(&place.ok(&format!(
        "{pair} --out one.tsv --interval 0.9 --plot one.svg --json"
    )))
    .unwrap();
    assert_eq!(summary["rows"], GENES);
    assert_eq!(summary["comparisons"][0]["group1"], a.as_str());
    assert_eq!(summary["comparisons"][0]["delta"], 0.25);
    let table = place.text("one.tsv");
    assert_eq!(table.lines().count(), GENES + 1);
    says(
        table.lines().next().unwrap(),
        &[
            "gene\tproba_de",
            "lfc_confidence_interval_0.9_max",
            "raw_mean1",
            "is_de_fdr_0.05\tcomparison",
        ],
    );
    assert!(place.text("one.svg").starts_with("<svg"));

    // The same bits on one thread, and from the file.
    place.ok(&format!(
        "{pair} --out again.tsv --interval 0.9 --threads 1"
    ));
    place.ok(&format!("{pair} --out backed.tsv --interval 0.9 --backed"));
    assert_eq!(place.text("again.tsv"), table);
    assert_eq!(place.text("backed.tsv"), table);

    let vanilla =
        format!("{pair} --mode vanilla --batch-correction --out vanilla.json --plot v.svg");
    assert_eq!(place.ok(&vanilla), "");
    let rows: Value = serde_json::from_str(&place.text("vanilla.json")).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), GENES);
    assert!(rows[0]["bayes_factor"].as_f64() >= rows[1]["bayes_factor"].as_f64());

    place.ok(&format!(
        "{de} --group1 {a} --group1 {b} --out rest.csv --delta auto --filter-outliers"
    ));
    assert_eq!(place.text("rest.csv").lines().count(), 2 * GENES + 1);
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let (a, _) = largest();
    let error = |options: &str| place.error(&format!("de model cells.h5ad {options}"));
    says(&error("--out t.tsv"), &["--groupby", "cell.type"]);
    says(
        &error("--groupby nothing --out t.tsv"),
        &["no column \"nothing\"", "cell.type"],
    );
    says(&error("--groupby n.umi --out t.tsv"), &["n.umi", "labels"]);
    let unknown = error("--groupby cell.type --group1 nobody --out t.tsv");
    says(&unknown, &["no group \"nobody\"", &a, "obs[\"cell.type\"]"]);
    let itself = format!("--groupby cell.type --group1 {a} --group2 {a} --out t.tsv");
    says(&error(&itself), &["itself"]);
    says(
        &error("--groupby cell.type --out t.xlsx"),
        &["t.xlsx", ".tsv"],
    );
    says(
        &error("--groupby cell.type --out t.tsv --plot p.png"),
        &["p.png", ".svg"],
    );
    let batch = format!(
        "--groupby cell.type --group1 {a} --batch-correction --batch elsewhere --out t.tsv"
    );
    says(&error(&batch), &["\"elsewhere\""]);
    for wrong in [
        "--fdr 2",
        "--fdr 0",
        "--interval 1",
        "--interval 95",
        "--delta -1",
        "--pseudocounts 0",
        "--threshold-counts x",
        "--samples 0",
        "--permutations 0",
        "--pseudocounts 1e-5 --threshold-counts 0.1",
    ] {
        let output = place.sc(&format!(
            "de model cells.h5ad --groupby cell.type --out t.tsv {wrong}"
        ));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
    for of_change in [
        "--delta 0.25",
        "--two-sided",
        "--pseudocounts 1e-5",
        "--threshold-counts 0.1",
        "--interval 0.9",
        "--fdr 0.05",
    ] {
        let vanilla = format!("--groupby cell.type --mode vanilla --out t.tsv {of_change}");
        let name = of_change.split(' ').next().unwrap();
        says(&error(&vanilla), &[name, "vanilla", "--mode change"]);
    }
    assert!(!place.path("t.tsv").exists());
}
