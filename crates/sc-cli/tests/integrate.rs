//! `sc integrate`: train, embed, predict and match real cells, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::Place;
use sc_data::{AnnData, Matrix};
use std::path::Path;

/// RNA of the first 120 cells of the CITE-seq data, proteins of the cells 40 to 160: 80 have both.
fn place() -> Place {
    let read = |name: &str, features: usize, rows: std::ops::Range<usize>| -> AnnData {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
        let all = sc_io::read(data.join(name)).unwrap();
        let some = all.select_obs(&rows.collect::<Vec<_>>()).unwrap();
        some.select_vars(&(0..features).collect::<Vec<_>>())
            .unwrap()
    };
    let place = Place::empty();
    place.put("rna.h5ad", &read("bmmc_cite_rna.h5ad", 100, 0..120));
    place.put("adt.h5ad", &read("bmmc_cite_adt.h5ad", 20, 40..160));
    place
}

const BOTH: &str = "rna=rna.h5ad adt=adt.h5ad --layer counts --batch-key batch";
const SMALL: &str = "--latent-dim 3 --epochs 2 --batch-size 32";

fn dense(m: &Matrix) -> Vec<f32> {
    m.to_dense().iter().copied().collect()
}

#[test]
fn from_counts_to_predictions() {
    let place = place();
    let out = place.ok(&format!(
        "integrate train {BOTH} --out model {SMALL} --json --likelihood adt=nb-mixture"
    ));
    let summary = common::json(&out);
    assert_eq!(
        (&summary["n_cells"], &summary["epochs"]),
        (&160.into(), &2.into())
    );
    place.ok(&format!(
        "integrate train {BOTH} --out again {SMALL} --threads 1 --likelihood adt=nb-mixture"
    ));
    assert!(place.weights("model") == place.weights("again"));

    place.ok(&format!("integrate embed model {BOTH} --out joint.h5ad"));
    let joint = sc_io::read(place.path("joint.h5ad")).unwrap();
    assert_eq!(joint.n_obs(), 160);
    let has = joint
        .obs
        .column("obs", "has_rna")
        .unwrap()
        .to_categorical("has_rna")
        .unwrap();
    assert_eq!(has.iter().filter(|h| *h == Some("yes")).count(), 120);
    assert_eq!(joint.obsm["X_CLUE"].n_rows(), 160);

    // From RNA alone, of cells whose proteins were never measured.
    place.ok("integrate predict model rna=rna.h5ad --to adt --layer counts --batch-key batch --out adt_of_rna.h5ad");
    let predicted = sc_io::read(place.path("adt_of_rna.h5ad")).unwrap();
    assert_eq!((predicted.n_obs(), predicted.n_vars()), (120, 20));
    assert!(
        dense(predicted.matrix(None).unwrap())
            .iter()
            .all(|&v| v.is_finite() && v > 0.0)
    );
    let std = dense(predicted.matrix(Some("std")).unwrap());
    let latent = dense(predicted.matrix(Some("latent_std")).unwrap());
    assert!(std.iter().zip(&latent).all(|(s, l)| s >= l && *l >= 0.0));

    for how in ["shared", "mutual", "bipartite", "sinkhorn"] {
        place.ok(&format!(
            "integrate match model {BOTH} --out {how}.tsv --how {how} --within batch"
        ));
        let table = place.text(&format!("{how}.tsv"));
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "rna\tadt\tweight");
        assert!(lines.len() > 5, "{how}: {} lines", lines.len());
    }
}

#[test]
fn what_is_refused_is_named() {
    let place = place();
    let train = |rest: &str| place.error(&format!("integrate train {rest} --out model {SMALL}"));
    for (rest, says) in [
        ("rna=rna.h5ad adt=adt.h5ad", "whole numbers"),
        ("rna.h5ad", "NAME=VALUE"),
        (
            "rna=rna.h5ad --layer counts --use-rep atac=X_lsi",
            "no modality \"atac\"",
        ),
        (
            "rna=rna.h5ad --layer counts --use-rep rna=X_pca",
            "obsm has no \"X_pca\"",
        ),
        (
            "rna=rna.h5ad --layer counts --likelihood rna=gamma",
            "no likelihood \"gamma\"",
        ),
        (
            "rna=rna.h5ad rna=adt.h5ad --layer counts",
            "name of its own",
        ),
    ] {
        let error = train(rest);
        assert!(error.contains(says), "{rest}: {error}");
    }
    place.ok(&format!("integrate train {BOTH} --out model {SMALL}"));
    for (command, says) in [
        (
            "embed model rna=adt.h5ad --layer counts --batch-key batch --out j.h5ad",
            "no feature",
        ),
        (
            "embed model atac=rna.h5ad --layer counts --batch-key batch --out j.h5ad",
            "no modality \"atac\"",
        ),
        (
            "embed model rna=rna.h5ad --layer counts --out j.h5ad",
            "batches",
        ),
        (
            "match model rna=rna.h5ad --layer counts --batch-key batch --out t.tsv",
            "two modalities",
        ),
        (
            "embed rna=rna.h5ad rna=rna.h5ad --out j.h5ad",
            "cannot read",
        ),
    ] {
        let error = place.error(&format!("integrate {command}"));
        assert!(error.contains(says), "{command}: {error}");
    }
}
