//! Files of several modalities: to and from one file each, and as what `sc integrate` and `sc transformer` read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::path::Path;

use common::{Place, json, says};
use sc_data::{AnnData, Annotation};
use sc_io::h5mu;

/// RNA of the first 120 cells of the CITE-seq data, proteins of the cells 40 to 160: 80 have both.
fn place() -> Place {
    let read = |name: &str, features: usize, rows: std::ops::Range<usize>| -> AnnData {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
        let all = sc_io::read(data.join(name)).unwrap();
        let mut some = all.select_obs(&rows.collect::<Vec<_>>()).unwrap();
        // What is missing is not equal to itself.
        some.obs.remove("pseudotime_order_GEX");
        some.obs.remove("pseudotime_order_ADT");
        some.select_vars(&(0..features).collect::<Vec<_>>())
            .unwrap()
    };
    let place = Place::empty();
    place.put("rna.h5ad", &read("bmmc_cite_rna.h5ad", 100, 0..120));
    place.put("adt.h5ad", &read("bmmc_cite_adt.h5ad", 20, 40..160));
    place.ok("convert rna=rna.h5ad adt.h5ad cells.h5mu --gzip 4");
    place
}

#[test]
fn files_become_modalities_and_files_again() {
    let place = place();
    let text = place.ok("inspect cells.h5mu");
    says(
        &text,
        &["160 cells x 120 features", "80 cells have all modalities"],
    );
    says(
        &text,
        &[
            "modality  rna, 120 cells x 100 features",
            "layer     counts: csr",
        ],
    );
    let found = json(&place.ok("inspect cells.h5mu --json"));
    assert_eq!(found["modalities"]["adt"]["n_vars"], 20);
    assert_eq!(found["n_paired"], 80);
    says(
        &place.ok("inspect cells.h5mu/adt"),
        &["120 cells x 20 features"],
    );

    place.ok("convert cells.h5mu apart");
    place.ok("convert cells.h5mu/mod/rna one.h5ad");
    place.ok("convert cells.h5mu again.h5mu");
    let read = |name: &str| sc_io::read(place.path(name)).unwrap();
    assert!(read("apart/rna.h5ad") == read("rna.h5ad"));
    assert!(read("apart/adt.h5ad") == read("adt.h5ad"));
    assert!(read("one.h5ad") == read("rna.h5ad"));
    let whole = |name: &str| h5mu::read(place.path(name)).unwrap();
    assert!(whole("again.h5mu") == whole("cells.h5mu"));

    for (command, expected) in [
        (
            "convert cells.h5mu out.h5ad",
            ["give a folder", "cells.h5mu/NAME"],
        ),
        ("convert rna.h5ad adt.h5ad out.h5ad", ["out.h5ad", ".h5mu"]),
        (
            "convert rna.h5ad rna=adt.h5ad out.h5mu",
            ["two modalities", "NAME=FILE"],
        ),
        ("convert cells.h5mu/atac out.h5ad", ["atac", "adt, rna"]),
        (
            "convert a.b=rna.h5ad x.h5mu --genes-in-rows",
            ["--genes-in-rows", "one file"],
        ),
        (
            "train scvi cells.h5mu --out m",
            ["rna, adt", "cells.h5mu/rna"],
        ),
    ] {
        says(&place.error(command), &expected);
    }
    // What knows nothing of modalities trains on one.
    place.ok("train scvi cells.h5mu/rna --layer counts --max-epochs 1 --out m --backed");
}

const SMALL: &str = "--latent-dim 3 --epochs 2 --batch-size 32";
const DATA: &str = "--layer counts --batch-key batch";

#[test]
fn one_file_is_integrated_as_several_are() {
    let place = place();
    let train = |data: &str, out: &str| {
        place.ok(&format!(
            "integrate train {data} {DATA} {SMALL} --out {out}"
        ));
    };
    train("rna=rna.h5ad adt=adt.h5ad", "files");
    train("cells.h5mu", "one");
    train("cells.h5mu --backed", "disk");
    train("rna=rna.h5ad adt=cells.h5mu/adt --backed", "mixed");
    for model in ["one", "disk", "mixed"] {
        assert!(place.weights("files") == place.weights(model), "{model}");
    }

    let files = "rna=rna.h5ad adt=adt.h5ad";
    place.ok(&format!(
        "integrate embed files {files} {DATA} --out joint.h5ad"
    ));
    let before = h5mu::read(place.path("cells.h5mu")).unwrap();
    place.ok(&format!(
        "integrate embed one cells.h5mu --backed {DATA} --out cells.h5mu"
    ));
    let after = h5mu::read(place.path("cells.h5mu")).unwrap();
    assert!(before.modalities == after.modalities && before.obs == after.obs);
    let joint = sc_io::read(place.path("joint.h5ad")).unwrap();
    assert_eq!(joint.obs.index(), after.obs.index());
    for key in ["X_CLUE", "X_CLUE_rna", "X_CLUE_adt"] {
        assert!(joint.obsm[key] == after.obsm[key], "{key}");
    }
    assert!(matches!(&after.obsm["X_CLUE"], Annotation::Matrix(m) if m.n_rows() == 160));

    // The joint places come with the modalities.
    place.ok("convert cells.h5mu apart");
    assert_eq!(place.obsm("apart/adt.h5ad", "X_CLUE").nrows(), 120);
    place.ok(&format!(
        "integrate predict one rna=cells.h5mu/rna --to adt {DATA} --out p.h5ad"
    ));
    place.ok(&format!(
        "integrate match one cells.h5mu {DATA} --out m.tsv --within batch"
    ));
    assert!(place.text("m.tsv").starts_with("rna\tadt\tweight\n"));
    says(
        &place.error(&format!("integrate embed one {files} {DATA} --out j.h5mu")),
        &["j.h5mu", "sc convert"],
    );
}

/// A column that only the joint obs has is known of the cells of each modality.
#[test]
fn joint_columns_are_columns_of_all() {
    let place = place();
    let mut all = h5mu::read(place.path("cells.h5mu")).unwrap();
    let cells: Vec<usize> = (0..all.n_obs()).collect();
    let batches = cells
        .iter()
        .map(|c| if c % 2 == 0 { "even" } else { "odd" });
    let batches: Vec<&str> = batches.collect();
    let batches = sc_data::Categorical::from_labels(&batches);
    all.obs
        .insert("parity", sc_data::Column::Categorical(batches))
        .unwrap();
    h5mu::write(place.path("more.h5mu"), &all, &Default::default()).unwrap();
    place.ok(&format!(
        "integrate train more.h5mu --layer counts --batch-key parity {SMALL} --out m"
    ));
    place.ok("convert more.h5mu apart");
    let adt = sc_io::read(place.path("apart/adt.h5ad")).unwrap();
    let parity = adt.obs.column("obs", "parity").unwrap();
    let parity = parity.to_categorical("parity").unwrap();
    let joint = all.cells_of("adt").unwrap();
    for (row, cell) in joint.iter().enumerate() {
        assert_eq!(
            parity.get(row),
            Some(if cell % 2 == 0 { "even" } else { "odd" })
        );
    }
}

#[test]
fn a_transformer_learns_the_modalities_of_a_file() {
    let place = place();
    let sizes = "--d-model 16 --n-heads 2 --d-hid 16 --n-layers 1 --n-hvg 40 --max-epochs 1 --batch-size 16 --layer counts";
    place.ok(&format!(
        "transformer finetune multiomic cells.h5mu {sizes} --out one"
    ));
    place.ok(&format!(
        "transformer finetune multiomic rna.h5ad --data-modality rna --modality adt=adt.h5ad {sizes} --out files"
    ));
    assert!(place.weights("one") == place.weights("files"));
    place.ok("transformer embed one cells.h5mu --layer counts --out a.h5ad");
    place.ok("transformer embed one rna.h5ad --modality adt=adt.h5ad --layer counts --out b.h5ad");
    assert_eq!(
        place.obsm("a.h5ad", "X_scGPT"),
        place.obsm("b.h5ad", "X_scGPT")
    );
    assert_eq!(place.obsm("a.h5ad", "X_scGPT").nrows(), 160);
    says(
        &place.error("transformer finetune multiomic cells.h5mu --data-modality x --out m"),
        &["--data-modality", "cells.h5mu"],
    );
}
