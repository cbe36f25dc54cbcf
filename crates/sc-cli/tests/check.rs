//! `sc check`: what it writes, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{CELLS, GENES, Place, says, small};
use sc_data::{Csr, Matrix};
use serde_json::Value;

fn json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.text(name)).unwrap()
}

#[test]
fn a_report_of_two_models_and_its_card() {
    let place = Place::new();
    place.train("zinb", "--max-epochs 5");
    place.train("nb", "--max-epochs 5 --likelihood nb");
    let check = "check zinb nb cells.h5ad --out report.html --labels-key cell.type --samples 3";
    let printed = place.ok(&format!("{check} --json"));
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report, json(&place, "report.json"));
    assert_eq!(report["facts"]["cells"], CELLS);
    let summary = &report["sections"][0]["tables"][0]["rows"];
    assert_eq!(
        (&summary[0]["model"], &summary[1]["model"]),
        (&"zinb".into(), &"nb".into())
    );
    let html = place.text("report.html");
    says(
        &html,
        &[
            "<svg",
            "zinb, training cells",
            "nb, validation cells",
            "Differential expression",
        ],
    );
    let csv = place.text("report.csv");
    assert!(csv.lines().count() > 50);
    // The same seed gives the same report, on any number of threads.
    place.ok(&format!("{check} --threads 1"));
    assert_eq!(place.text("report.csv"), csv);
    place.ok(&format!("{check} --seed 1"));
    assert_ne!(place.text("report.csv"), csv);

    place.ok(
        "check zinb cells.h5ad --out r.html --samples 2 --labels-key cell.type --card metrics.json",
    );
    let card = json(&place, "metrics.json");
    says(
        card["cell_wise_cv"].as_str().unwrap(),
        &["Validation Value"],
    );
    says(card["diff_exp"].as_str().unwrap(), &["gene_f1"]);
    place.ok("hub pack zinb folder --data cells.h5ad --license mit --metrics metrics.json");
    assert!(
        place
            .text("folder/README.md")
            .contains("Coefficient of Variation")
    );
}

#[test]
fn samples_of_another_program() {
    let mut data = small();
    let counts = data.x.clone().unwrap();
    data.layers.insert("sample_0".into(), counts.clone());
    data.layers.insert("sample_1".into(), counts);
    let place = Place::with(&small());
    place.put("samples.h5ad", &data);
    place.ok("check samples.h5ad cells.h5ad --out report.html");
    let report = json(&place, "report.json");
    let summary = &report["sections"][0]["tables"][0]["rows"][0];
    assert_eq!(summary["model"], "samples");
    assert_eq!(summary["CV by gene, R²"], 1.0);

    let mut bad = data.clone();
    let mut values = Csr::zeros(CELLS, GENES).to_dense();
    values[[7, 3]] = f32::NAN;
    bad.layers
        .insert("sample_1".into(), Matrix::from(Csr::from_dense(&values)));
    place.put("bad.h5ad", &bad);
    let message = place.error("check bad.h5ad cells.h5ad --out report.html");
    says(&message, &["sample 1 of bad", "NaN at cell 7, gene 3"]);

    let order: Vec<usize> = (0..CELLS).rev().collect();
    place.put("turned.h5ad", &data.select_obs(&order).unwrap());
    let message = place.error("check turned.h5ad cells.h5ad --out report.html");
    says(&message, &["turned.h5ad", "cell 0", "same order"]);
    place.put("none.h5ad", &small());
    let message = place.error("check none.h5ad cells.h5ad --out report.html");
    says(&message, &["no layers"]);
    let fewer: Vec<usize> = (1..GENES).collect();
    place.put("fewer.h5ad", &data.select_vars(&fewer).unwrap());
    let message = place.error("check fewer.h5ad cells.h5ad --out report.html");
    says(&message, &["lacks the gene"]);
}

#[test]
fn what_cannot_work_is_refused_before_anything_long() {
    let place = Place::new();
    place.train("model", "--max-epochs 1");
    let message = place.error("check model cells.h5ad --out report.txt");
    says(&message, &["report.txt", ".html"]);
    let message = place.error("check model nothing cells.h5ad --out r.html");
    says(&message, &["nothing", "no such folder"]);
    let message = place.error("check model cells.h5ad --out r.html --labels-key celltype");
    says(&message, &["celltype", "cell.type"]);
    let message = place.error("check model model cells.h5ad --out r.html --card m.json");
    says(&message, &["--card", "one model"]);
    let message = place.error("check model cells.h5ad --out r.html --umap X_umap");
    says(&message, &["X_umap", "obsm"]);
    let message =
        place.error("check model cells.h5ad --out r.html --labels-key cell.type --de-samples 11");
    says(&message, &["11 of 10"]);
}
