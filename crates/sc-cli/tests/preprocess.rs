//! `sc preprocess`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs
)]

mod common;

use common::{CELLS, GENES, Place, says, small};
use sc_data::{AnnData, Annotation, Column, Matrix, Uns};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn read(place: &Place, name: &str) -> AnnData {
    sc_io::read(place.path(name)).unwrap()
}

fn places<'a>(data: &'a AnnData, key: &str) -> &'a Matrix {
    match data.obsm.get(key) {
        Some(Annotation::Matrix(m)) => m,
        other => panic!("{key}: {other:?}"),
    }
}

fn floats(data: &sc_data::Table, name: &str) -> Vec<f64> {
    match data.get(name) {
        Some(Column::Float(v)) => v.clone(),
        Some(other) => other.to_f64(name).unwrap(),
        None => panic!("no {name}"),
    }
}

#[test]
fn from_counts_to_an_integrated_embedding() {
    let place = Place::new();
    let summary = json(&place.ok("preprocess qc cells.h5ad --out qc.h5ad --set w=W --json"));
    assert_eq!(summary["n_cells"], CELLS);
    let qc = read(&place, "qc.h5ad");
    let totals = qc.x.as_ref().unwrap().to_csr().row_sums();
    assert_eq!(floats(&qc.obs, "total_counts"), totals);
    assert_eq!(floats(&qc.obs, "log1p_total_counts")[3], totals[3].ln_1p());
    assert!(matches!(qc.var.get("w"), Some(Column::Bool(_))));
    for name in [
        "n_genes_by_counts",
        "pct_counts_in_top_50_genes",
        "pct_counts_w",
    ] {
        assert!(qc.obs.get(name).is_some(), "{name}");
    }
    // 120 genes: no share of the highest 200.
    assert!(qc.obs.get("pct_counts_in_top_200_genes").is_none());

    let summary = json(
        &place.ok("preprocess filter qc.h5ad --out good.h5ad --min-genes 20 --min-cells 30 --json"),
    );
    let good = read(&place, "good.h5ad");
    assert_eq!(summary["cells"], good.n_obs());
    assert_eq!(summary["genes"], good.n_vars());
    assert!(good.n_obs() > 100 && good.n_obs() < CELLS, "{summary}");
    assert!(floats(&good.var, "n_cells").iter().all(|&n| n >= 30.0));

    place.ok("preprocess hvg good.h5ad --out hvg.h5ad --flavor pearson_residuals --n-top 40 --batch-key batch");
    place.ok("preprocess normalize hvg.h5ad --out logs.h5ad --target-sum 1e4 --keep-counts counts");
    let logs = read(&place, "logs.h5ad");
    assert_eq!(logs.layers["counts"], *good.x.as_ref().unwrap());
    assert!(logs.uns.contains_key("log1p"));
    for name in [
        "residual_variances",
        "highly_variable_nbatches",
        "highly_variable_intersection",
    ] {
        assert!(logs.var.get(name).is_some(), "{name}");
    }

    let summary = json(&place.ok("preprocess pca logs.h5ad --out pca.h5ad --n-comps 10 --json"));
    assert_eq!(summary["n_genes"], 40);
    let pca = read(&place, "pca.h5ad");
    assert_eq!(places(&pca, "X_pca").n_cols(), 10);
    let Some(Annotation::Matrix(loadings)) = pca.varm.get("PCs") else {
        panic!("no PCs")
    };
    assert_eq!((loadings.n_rows(), loadings.n_cols()), (good.n_vars(), 10));
    let Some(Uns::Dict(about)) = pca.uns.get("pca") else {
        panic!("no uns pca")
    };
    assert!(matches!(about["variance_ratio"], Uns::Floats(_)));

    place.ok("preprocess harmony pca.h5ad --out harmony.h5ad --batch-key batch");
    let corrected = read(&place, "harmony.h5ad");
    assert_eq!(places(&corrected, "X_pca_harmony").n_cols(), 10);
    assert_ne!(
        places(&corrected, "X_pca_harmony").to_dense(),
        places(&corrected, "X_pca").to_dense()
    );
}

#[test]
fn from_disk_as_in_memory() {
    let place = Place::new();
    place.ok("preprocess normalize cells.h5ad --out logs.h5ad --target-sum 1e4");
    for (in_memory, on_disk) in [
        ("qc cells.h5ad", "qc cells.h5ad --backed"),
        (
            "hvg logs.h5ad --n-top 30 --batch-key batch",
            "hvg cells.h5ad --n-top 30 --batch-key batch --lognorm 1e4 --backed",
        ),
        (
            "pca logs.h5ad --n-comps 5",
            "pca cells.h5ad --n-comps 5 --lognorm 1e4 --backed --threads 1",
        ),
        (
            "pca logs.h5ad --n-comps 5 --scale --solver randomized",
            "pca cells.h5ad --n-comps 5 --scale --solver randomized --lognorm 1e4 --backed",
        ),
        (
            "lsi cells.h5ad --n-comps 5",
            "lsi cells.h5ad --n-comps 5 --backed",
        ),
    ] {
        place.ok(&format!("preprocess {in_memory} --out a.h5ad"));
        place.ok(&format!("preprocess {on_disk} --out b.h5ad"));
        let (a, b) = (read(&place, "a.h5ad"), read(&place, "b.h5ad"));
        // NaN is not equal to itself.
        assert_eq!(format!("{:?}", a.var), format!("{:?}", b.var), "{on_disk}");
        assert_eq!(format!("{:?}", a.obs), format!("{:?}", b.obs), "{on_disk}");
        assert_eq!(a.obsm, b.obsm, "{on_disk}");
        assert_eq!(a.varm, b.varm, "{on_disk}");
        // What is on disk stays counts.
        assert_eq!(b.x, read(&place, "cells.h5ad").x);
    }
}

#[test]
fn changed_on_disk_as_in_memory() {
    let place = Place::new();
    for command in [
        "normalize cells.h5ad --target-sum 1e4 --keep-counts counts",
        "normalize cells.h5ad --no-log",
        "clr cells.h5ad --keep-counts counts",
        "clr cells.h5ad --margin cells",
        "scale cells.h5ad --no-zero-center --max-value 3",
    ] {
        place.ok(&format!("preprocess {command} --out a.h5ad"));
        place.ok(&format!("preprocess {command} --out b.h5ad --backed"));
        assert_eq!(read(&place, "a.h5ad"), read(&place, "b.h5ad"), "{command}");
    }
    let dense = place.error("preprocess scale cells.h5ad --out c.h5ad --backed");
    says(&dense, &["--backed", "--no-zero-center"]);
    let both = place.misuse("preprocess clr cells.h5ad --out c.h5ad --backed --centered");
    says(&both, &["--backed", "--centered"]);
}

#[test]
fn scales_and_ratios() {
    let place = Place::new();
    place.ok("preprocess normalize cells.h5ad --out logs.h5ad");
    place.ok("preprocess scale logs.h5ad --out scaled.h5ad --max-value 10");
    let scaled = read(&place, "scaled.h5ad");
    assert!(matches!(scaled.x, Some(Matrix::Dense(_))));
    assert_eq!(floats(&scaled.var, "std").len(), GENES);
    place.ok("preprocess scale logs.h5ad --out sparse.h5ad --no-zero-center");
    assert!(matches!(
        read(&place, "sparse.h5ad").x,
        Some(Matrix::Sparse(_))
    ));
    for margin in ["features", "cells"] {
        place.ok(&format!(
            "preprocess clr cells.h5ad --out clr.h5ad --margin {margin} --keep-counts counts"
        ));
        let clr = read(&place, "clr.h5ad");
        assert_eq!(clr.layers.len(), 1);
        assert!(matches!(clr.x, Some(Matrix::Sparse(_))));
    }
    place.ok("preprocess clr cells.h5ad --out clr.h5ad --centered");
    assert!(matches!(read(&place, "clr.h5ad").x, Some(Matrix::Dense(_))));
    place.ok(
        "preprocess hvg logs.h5ad --out few.h5ad --bounds --min-disp 0.2 --max-mean 8 --subset",
    );
    let few = read(&place, "few.h5ad");
    assert!(few.n_vars() > 0 && few.n_vars() < GENES, "{}", few.n_vars());
}

#[test]
fn bad_input_is_named() {
    let place = Place::new();
    let error = |arguments: &str, words: &[&str]| {
        says(&place.error(&format!("preprocess {arguments}")), words);
        assert!(!place.path("o.h5ad").exists());
    };
    error(
        "pca cells.h5ad --out o.h5ad --n-comps 500",
        &["cells.h5ad", "n_components is 500", "1 to 120"],
    );
    error(
        "pca cells.h5ad --out o.h5ad --mask nothing",
        &["nothing", "it has"],
    );
    error(
        "hvg cells.h5ad --out o.h5ad --batch-key none",
        &["none", "batch"],
    );
    error(
        "hvg cells.h5ad --out o.h5ad --flavor seurat_v3 --lognorm 1e4",
        &["counts"],
    );
    error(
        "filter cells.h5ad --out o.h5ad --min-counts 1e9",
        &["no cell"],
    );
    error(
        "filter cells.h5ad --out o.h5ad --max-pct ribo=5",
        &["ribo", "mt"],
    );
    error(
        "harmony cells.h5ad --out o.h5ad --batch-key batch",
        &["X_pca", "--rep"],
    );
    error("qc cells.h5ad --out o.h5ad --layer spliced", &["spliced"]);
    error(
        "qc cells.h5ad --out o.h5ad --percent-top 121",
        &["121", "120"],
    );
    error("normalize cells.h5ad --out o.txt", &[".h5ad"]);
    error(
        "qc cells.h5ad --out cells.h5ad --backed",
        &["would be lost"],
    );

    // A batch of one cell, a negative value, NaN, an empty cell.
    let mut data = small();
    let mut labels = vec!["b".to_owned(); CELLS];
    labels[7] = "alone".into();
    data.obs.insert("odd", Column::Str(labels)).unwrap();
    let mut x = data.x.as_ref().unwrap().to_dense();
    x.row_mut(5).fill(0.0);
    data.x = Some(sc_data::Csr::from_dense(&x).into());
    place.put("odd.h5ad", &data);
    error(
        "hvg odd.h5ad --out o.h5ad --batch-key odd --flavor seurat_v3",
        &["\"alone\" has 1 cell"],
    );
    error(
        "lsi odd.h5ad --out o.h5ad --n-comps 5",
        &["row 5", "no counts"],
    );
    x[[9, 3]] = -1.0;
    data.x = Some(x.clone().into());
    place.put("odd.h5ad", &data);
    for command in [
        "qc",
        "normalize",
        "hvg --flavor pearson_residuals",
        "clr",
        "lsi",
    ] {
        let (name, more) = command.split_once(' ').unwrap_or((command, ""));
        error(
            &format!("{name} odd.h5ad --out o.h5ad {more}"),
            &[
                "odd.h5ad",
                if name == "lsi" {
                    "row"
                } else {
                    "row 9, column 3 is -1"
                },
            ],
        );
    }
    x[[9, 3]] = f32::NAN;
    data.x = Some(x.into());
    place.put("odd.h5ad", &data);
    error(
        "pca odd.h5ad --out o.h5ad --n-comps 5",
        &["row 9, column 3 is NaN"],
    );
    error("scale odd.h5ad --out o.h5ad", &["row 9, column 3 is NaN"]);
}
