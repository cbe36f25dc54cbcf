//! scANVI on the command line: train it, from scVI or from scratch, and annotate cells.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{CELLS, Place, says};
use sc_data::{Annotation, Column};
use serde_json::Value;

const LABELS: &str = "--labels-key cell.type --unlabeled-category Unknown";

/// Trains scVI to `scvi`, and from it scANVI to `scanvi`.
fn train(place: &Place) -> Value {
    place.train("scvi", "--max-epochs 3");
    let summary = place.ok(&format!(
        "train scanvi cells.h5ad --out scanvi --from scvi {LABELS} --n-samples-per-label 50 --validate-every 1 --json"
    ));
    serde_json::from_str(&summary).unwrap()
}

#[test]
fn cells_get_labels() {
    let place = Place::new();
    let summary = train(&place);
    // The default after scVI.
    assert_eq!(summary["epochs"], 10);
    let accuracy = summary["train_accuracy"].as_array().unwrap();
    assert_eq!(accuracy.len(), 10);
    assert_eq!(summary["validation_accuracy"].as_array().unwrap().len(), 10);

    let told = place.ok("annotate scanvi cells.h5ad --out annotated.h5ad --probabilities --json");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["n_cells"], CELLS);
    // So few steps teach little.
    assert!((0.0..=1.0).contains(&told["agreement"].as_f64().unwrap()));
    let data = sc_io::read(place.path("annotated.h5ad")).unwrap();
    let Some(Column::Categorical(labels)) = data.obs.get("C_scANVI") else {
        panic!("no labels")
    };
    let Some(Column::Float32(confidence)) = data.obs.get("C_scANVI_confidence") else {
        panic!("no confidence")
    };
    let Some(Annotation::Matrix(all)) = data.obsm.get("C_scANVI_probabilities") else {
        panic!("no probabilities")
    };
    let all = all.to_dense();
    assert_eq!(all.dim(), (CELLS, labels.categories().len()));
    for ((row, code), &p) in all.rows().into_iter().zip(labels.codes()).zip(confidence) {
        assert!((row.sum() - 1.0).abs() < 1e-5);
        assert_eq!(row[code.unwrap() as usize], p);
        assert!(row.iter().all(|&q| q <= p));
    }
    // The other commands take it as they take scVI.
    place.ok("embed scanvi cells.h5ad --out embedded.h5ad");
    let embedded = sc_io::read(place.path("embedded.h5ad")).unwrap();
    assert!(embedded.obsm.contains_key("X_scANVI"));
    place.ok("expression scanvi cells.h5ad --out expression.h5ad --posterior-mean");
    place.ok("evaluate scanvi cells.h5ad --marginal-ll 4 --json");
}

#[test]
fn from_scratch_and_the_same_twice() {
    let place = Place::new();
    for out in ["one", "two"] {
        let threads = if out == "one" { 1 } else { 2 };
        place.ok(&format!(
            "train scanvi cells.h5ad --out {out} --batch-key batch {LABELS} --max-epochs 2 --n-latent 4 --n-hidden 16 \
             --linear-classifier --threads {threads}"
        ));
    }
    assert_eq!(place.weights("one"), place.weights("two"));
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::new();
    train(&place);
    let error = |more: &str| {
        place.error(&format!(
            "train scanvi cells.h5ad --out other {LABELS} {more}"
        ))
    };
    says(&error("--from scvi --n-latent 3"), &["--from", "settings"]);
    says(
        &error("--from scvi --batch-key batch"),
        &["--from", "columns"],
    );
    says(&error("--from scanvi"), &["scANVI already"]);
    says(&error("--dispersion gene-label"), &["gene-label"]);
    says(
        &place.error("annotate scvi cells.h5ad --out annotated.h5ad"),
        &["no classifier", "sc train scanvi"],
    );
    says(
        &place
            .error("train scanvi cells.h5ad --out other --from scvi --unlabeled-category Unknown"),
        &["--labels-key"],
    );
    says(
        &place.error(
            "train scanvi cells.h5ad --out other --from scvi --labels-key nothing --unlabeled-category Unknown",
        ),
        &["nothing", "cell.type"],
    );
}
