//! Cells that do not fit the model: every command says what is wrong with them, and which one takes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Place, says, small, training};
use sc_data::{Column, Table};

#[test]
fn genes_that_do_not_fit() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let data = small();
    let lost = data.var.index()[3].clone();
    let others: Vec<usize> = (0..data.n_vars()).filter(|&g| g != 3).collect();
    place.put("fewer.h5ad", &data.select_vars(&others).unwrap());
    for command in [
        "embed model fewer.h5ad --out out.h5ad",
        "evaluate model fewer.h5ad",
    ] {
        says(
            &place.error(command),
            &["1 of the model's 120 genes", &lost],
        );
    }
    says(
        &place.error("expression model cells.h5ad --out out.h5ad --genes Nanog"),
        &["Nanog", "no file"],
    );
    says(
        &place.error("expression model cells.h5ad --out out.h5ad --transform-batch Z"),
        &["no batch \"Z\"", "Murray_b01"],
    );

    let mut twice = small();
    let mut names = twice.var.index().to_vec();
    names[1] = names[0].clone();
    twice.var = Table::new(names.clone());
    place.put("cells.h5ad", &twice);
    says(
        &place.error(&training("other", "")),
        &["twice", &names[0], "--unique-genes"],
    );
    place.ok("convert cells.h5ad cells.h5ad --unique-genes");
    place.train("other", "--max-epochs 1");
}

#[test]
fn batches_that_the_model_does_not_know() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let mut data = small();
    data.obs
        .insert("batch", Column::Str(vec!["elsewhere".into(); data.n_obs()]))
        .unwrap();
    place.put("other.h5ad", &data);
    says(
        &place.error("embed model other.h5ad --out out.h5ad"),
        &["elsewhere", "Murray_b01", "sc map"],
    );
    // All of them are listed, by every command, and which command takes them.
    let names = (0..data.n_obs()).map(|i| format!("b{}", i % 2)).collect();
    data.obs.insert("batch", Column::Str(names)).unwrap();
    place.put("other.h5ad", &data);
    let error = |command: &str| place.error(command);
    let all = |words: &[&str]| {
        for command in QUERIES {
            says(&error(&command.replace("CELLS", "other.h5ad")), words);
        }
    };
    all(&["b0 (150 cells), b1 (150 cells)", "Murray_b01", "sc map"]);
    data.obs.remove("batch");
    place.put("other.h5ad", &data);
    all(&["no column \"batch\"", "cell.type", "Murray_b01", "sc map"]);
    assert!(!place.path("out.h5ad").exists());
    assert!(!place.path("hub").exists());
}

/// Every command that uses a model on cells, except those that train on them.
const QUERIES: [&str; 6] = [
    "embed model CELLS --out out.h5ad",
    "expression model CELLS --out out.h5ad",
    "evaluate model CELLS",
    "de model CELLS --groupby cell.type --out out.tsv",
    "minify model CELLS --out out.h5ad",
    "hub pack model hub --data CELLS",
];

/// No gene, and too few of them.
#[test]
fn cells_of_other_genes() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let mut data = small();
    let half: Vec<usize> = (0..60).collect();
    place.put("half.h5ad", &data.select_vars(&half).unwrap());
    let ids = (0..data.n_vars()).map(|i| format!("ENSG{i:011}"));
    data.var = Table::new(ids.collect());
    place.put("none.h5ad", &data);
    for command in QUERIES {
        says(
            &place.error(&command.replace("CELLS", "none.h5ad")),
            &["120 of the model's 120", "ENSG", "named alike"],
        );
        says(
            &place.error(&command.replace("CELLS", "half.h5ad")),
            &["60 of the model's 120", "sc map"],
        );
    }
    says(
        &place.error("map model none.h5ad --out out.h5ad"),
        &["none of the reference's 120 genes", "Ensembl ids"],
    );
    let output = place.sc("map model half.h5ad --out out.h5ad --max-epochs 1");
    assert!(output.status.success());
    says(
        &String::from_utf8_lossy(&output.stderr),
        &["WARN", "60 of the reference's 120 genes (50 %)"],
    );
}

/// A label that the classifier was never shown.
#[test]
fn labels_that_the_model_does_not_know() {
    let place = Place::new();
    place.train("scvi", "--max-epochs 1");
    place.ok(
        "train scanvi cells.h5ad --out model --from scvi --labels-key cell.type --unlabeled-category Unknown --max-epochs 1",
    );
    let mut data = small();
    let labels = (0..data.n_obs()).map(|i| ["Martian", "Venusian", "ADL"][i % 3].into());
    data.obs
        .insert("cell.type", Column::Str(labels.collect()))
        .unwrap();
    place.put("other.h5ad", &data);
    let words = [
        "Martian (100 cells), Venusian (100 cells)",
        "ADL",
        "\"Unknown\"",
    ];
    for command in QUERIES {
        says(
            &place.error(&command.replace("CELLS", "other.h5ad")),
            &words,
        );
    }
    says(
        &place.error("map model other.h5ad --out out.h5ad"),
        &["Martian, Venusian", "ADL", "\"Unknown\""],
    );
    // The classifier does not look at labels; and cells may have none.
    place.ok("annotate model other.h5ad --out out.h5ad");
    data.obs.remove("cell.type");
    place.put("other.h5ad", &data);
    place.ok("embed model other.h5ad --out out.h5ad");
}

/// Commands that need counts say so of cells that have none.
#[test]
fn minified_cells_have_no_counts() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    place.ok("minify model cells.h5ad --out small.h5ad");
    for command in [
        "train scvi small.h5ad --out new",
        "train scvi small.h5ad --out new --backed",
        "train scvi small.h5ad --out new --drop-empty-cells",
        "train scanvi small.h5ad --out new --labels-key cell.type --unlabeled-category Unknown",
        "train scanvi small.h5ad --out new --from model --labels-key cell.type --unlabeled-category Unknown",
        "evaluate model small.h5ad",
        "evaluate model small.h5ad --backed",
        "evaluate model small.h5ad --marginal-ll 2",
        "minify model small.h5ad --out new.h5ad",
        "minify model small.h5ad --out new.h5ad --in-memory",
        "map model small.h5ad --out new.h5ad",
        "map model small.h5ad --out new.h5ad --backed",
    ] {
        says(
            &place.error(command),
            &["needs counts", "minified", "sc minify --with-counts"],
        );
    }
    assert!(!place.path("new.h5ad").exists());
}
