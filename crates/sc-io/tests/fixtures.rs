//! The committed files: every encoding that is read, with known contents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::PathBuf;

use ndarray::{Array2, array};
use sc_data::{AnnData, Annotation, Column, Matrix, RowSource, Table, Uns};
use sc_io::{Format, h5ad, mtx, tenx};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/formats"
    ))
    .join(name)
}

fn x() -> Array2<f32> {
    array![
        [1.0, 0.0, 2.0, 0.0],
        [0.0, 0.0, 0.0, 5.0],
        [3.0, 1.0, 0.0, 0.0]
    ]
}

fn labels(table: &Table, name: &str) -> Vec<Option<String>> {
    match table.get(name) {
        Some(Column::Categorical(c)) => c.iter().map(|l| l.map(str::to_owned)).collect(),
        other => panic!("{name}: {other:?}"),
    }
}

fn some(labels: &[Option<&str>]) -> Vec<Option<String>> {
    labels.iter().map(|l| l.map(str::to_owned)).collect()
}

#[test]
fn todays_columns() {
    let a = h5ad::read(fixture("anndata_0_12.h5ad")).unwrap();
    // The index is a nullable-string-array, as pandas 3 makes it.
    assert_eq!(a.obs.index(), ["c1", "c2", "c3"]);
    assert_eq!(a.obs.index_name(), None);
    assert_eq!(a.var.index_name(), Some("gene"));
    assert_eq!(labels(&a.obs, "batch"), some(&[Some("b"), None, Some("a")]));
    let Some(Column::Categorical(batch)) = a.obs.get("batch") else {
        panic!()
    };
    assert_eq!(batch.categories(), ["b", "a", "unused"]);
    let Some(Column::Categorical(stage)) = a.obs.get("stage") else {
        panic!()
    };
    assert!(stage.is_ordered() && !batch.is_ordered());
    assert_eq!(stage.categories(), ["1", "2"]);
    let expected: [(&str, Column); 9] = [
        ("n", Column::Int32(vec![1, 2, 3])),
        ("big", Column::Int(vec![1, 2, 1 << 40])),
        ("score32", Column::Float32(vec![0.5, 0.25, 1.5])),
        ("ok", Column::Bool(vec![true, false, true])),
        (
            "maybe",
            Column::OptBool(vec![Some(true), None, Some(false)]),
        ),
        ("count", Column::OptInt(vec![Some(7), None, Some(9)])),
        ("tiny", Column::Int(vec![200, 1, 0])),
        (
            "text",
            Column::Str(vec!["ä".into(), String::new(), "日本".into()]),
        ),
        ("note", Column::OptStr(some(&[Some("x"), None, Some("z")]))),
    ];
    for (name, column) in expected {
        assert_eq!(a.obs.get(name), Some(&column), "{name}");
    }
    let Some(Column::Float(score)) = a.obs.get("score") else {
        panic!()
    };
    assert!(score[1].is_nan() && score[2] == 1.5);
    let order: Vec<&str> = a.obs.columns().map(|(n, _)| n).collect();
    assert_eq!(order[..4], ["batch", "stage", "n", "big"]);
}

#[test]
fn todays_matrices() {
    let a = h5ad::read(fixture("anndata_0_12.h5ad")).unwrap();
    assert!(matches!(&a.x, Some(Matrix::Sparse(m)) if m.to_dense() == x()));
    assert!(matches!(&a.layers["csc"], Matrix::Sparse(m) if m.to_dense() == x()));
    assert!(matches!(&a.layers["ints"], Matrix::Dense(m) if *m == x()));
    assert!(matches!(&a.layers["dense64"], Matrix::Dense64(m) if *m == x().mapv(f64::from)));
    let Annotation::Matrix(pca) = &a.obsm["X_pca"] else {
        panic!()
    };
    assert_eq!(pca.to_dense(), array![[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]);
    assert!(matches!(&a.obsm["frame"], Annotation::Table(t) if t.n_rows() == 3));
    assert!(
        matches!(&a.obsm["sparse"], Annotation::Matrix(Matrix::Sparse(m)) if m.n_stored() == 3)
    );
    assert!(
        !a.obsm.contains_key("cube"),
        "three dimensions are left out"
    );
    assert_eq!(a.obsp["dist"].to_dense()[[0, 1]], 1.5);
    assert_eq!(a.varp["cor"].to_dense(), Array2::<f32>::eye(4));
    let raw = a.raw.unwrap();
    assert_eq!((raw.x.n_cols(), raw.var.n_rows()), (5, 5));
}

#[test]
fn todays_uns() {
    let a = h5ad::read(fixture("anndata_0_12.h5ad")).unwrap();
    assert_eq!(a.uns["title"], Uns::Str("made up".into()));
    assert_eq!(a.uns["three"], Uns::Int(3));
    assert_eq!(a.uns["half"], Uns::Float(0.5));
    assert_eq!(a.uns["yes"], Uns::Bool(true));
    assert_eq!(a.uns["nothing"], Uns::Null);
    assert_eq!(a.uns["ints"], Uns::Ints(array![[0, 1], [2, 3]].into_dyn()));
    assert_eq!(
        a.uns["floats"],
        Uns::Floats(array![1.5, f64::INFINITY].into_dyn())
    );
    assert_eq!(a.uns["f32"], Uns::Floats32(array![0.5f32].into_dyn()));
    assert_eq!(a.uns["bools"], Uns::Bools(array![true, false].into_dyn()));
    let texts = array!["p".to_owned(), "q".to_owned()].into_dyn();
    assert_eq!(a.uns["texts"], Uns::Strings(texts));
    assert!(matches!(&a.uns["sparse"], Uns::Sparse(m) if m.n_stored() == 2));
    assert!(matches!(&a.uns["frame"], Uns::Table(t) if t.index() == ["r", "s"]));
    let mut deep = &a.uns["deep"];
    for key in ["er", "and", "deeper"] {
        let Uns::Dict(d) = deep else {
            panic!("{deep:?}")
        };
        deep = &d[key];
    }
    assert_eq!(*deep, Uns::Str("end".into()));
    assert_eq!(a.uns["empty"], Uns::Dict(Default::default()));
    assert!(!a.uns.contains_key("complex"), "left out with a warning");
    // Records with text of variable length, as scanpy's rank_genes_groups has them.
    let Uns::Table(names) = &a.uns["names"] else {
        panic!("{:?}", a.uns["names"])
    };
    assert_eq!(
        names.get("b"),
        Some(&Column::Str(vec!["g1".into(), "gene2".into()]))
    );
    assert_eq!(
        names.get("a"),
        Some(&Column::Str(vec!["g3".into(), "ü".into()]))
    );
    assert_eq!(names.get("score"), Some(&Column::Float(vec![1.5, 2.5])));
}

#[test]
fn older_versions() {
    let a = h5ad::read(fixture("anndata_0_7.h5ad")).unwrap();
    assert_eq!(a.x.as_ref().unwrap().to_dense(), x());
    assert_eq!(labels(&a.obs, "kind"), some(&[Some("b"), None, Some("a")]));
    assert_eq!(a.obs.get("n"), Some(&Column::Int(vec![1, 2, 3])));
    assert_eq!(a.uns["number"], Uns::Int(4));

    let a = h5ad::read(fixture("anndata_0_5.h5ad")).unwrap();
    assert_eq!(a.x.as_ref().unwrap().to_dense(), x());
    assert_eq!(a.obs.index(), ["c1", "c2", "c3"]);
    assert_eq!(a.var.index(), ["w", "x", "y", "z"]);
    assert_eq!(
        labels(&a.obs, "kind"),
        some(&[Some("b"), Some("a"), Some("b")])
    );
    assert_eq!(
        a.obs.get("score"),
        Some(&Column::Float32(vec![0.5, 1.5, 2.5]))
    );
    assert_eq!(
        a.obs.get("ok"),
        Some(&Column::Bool(vec![true, false, true]))
    );
    assert!(!a.uns.contains_key("kind_categories"), "used up");
    assert_eq!(a.uns["method"], Uns::Str("umap".into()));
    assert_eq!(a.raw.as_ref().unwrap().x.to_dense(), x());
    assert_eq!(a.obsp["connectivities"].to_dense(), Array2::<f32>::eye(3));
    let Annotation::Matrix(pca) = &a.obsm["X_pca"] else {
        panic!()
    };
    assert_eq!(pca.to_dense(), array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
}

#[test]
fn what_is_read_is_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["anndata_0_12.h5ad", "anndata_0_7.h5ad", "anndata_0_5.h5ad"] {
        for options in [h5ad::WriteOptions::default(), h5ad::WriteOptions::gzip(4)] {
            let mut a = h5ad::read(fixture(name)).unwrap();
            a.obs.remove("score"); // NaN is not equal to itself
            let path = folder.path().join(name);
            h5ad::write(&path, &a, &options).unwrap();
            assert_eq!(h5ad::read(&path).unwrap(), a, "{name}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn backed_rows_are_the_rows() {
    let path = fixture("anndata_0_12.h5ad");
    let annotations = h5ad::read_annotations(&path).unwrap();
    assert!(annotations.x.is_none() && annotations.layers.is_empty());
    assert_eq!(annotations.n_obs(), 3);
    for layer in [None, Some("dense64"), Some("ints")] {
        let backed = h5ad::read_backed(&path, layer).unwrap();
        assert_eq!((backed.n_rows(), backed.n_cols()), (3, 4));
        for rows in [vec![], vec![1], vec![0, 2], vec![2, 0, 2, 1], vec![0, 1, 2]] {
            let expected = sc_data::Csr::from_dense(&x()).read_rows(&rows).unwrap();
            assert_eq!(
                backed.read_rows(&rows).unwrap(),
                expected,
                "{layer:?} {rows:?}"
            );
        }
        assert!(backed.read_rows(&[3]).is_err());
    }
    let message = h5ad::read_backed(&path, Some("csc"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("csc") && message.contains("by rows"),
        "{message}"
    );
    let message = h5ad::read_backed(&path, Some("counts"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("counts") && message.contains("dense64"),
        "{message}"
    );
}

/// Numbers counted with h5py.
#[test]
fn tenx_of_both_versions() {
    let a = tenx::read_h5(fixture("tenx_v3.h5")).unwrap();
    assert_eq!((a.n_obs(), a.n_vars()), (1107, 507));
    let Some(Matrix::Sparse(m)) = &a.x else {
        panic!()
    };
    assert_eq!(m.n_stored(), 23866);
    assert_eq!(
        labels(&a.var, "feature_types")[0].as_deref(),
        Some("Gene Expression")
    );
    assert!(matches!(a.var.get("gene_ids"), Some(Column::Str(ids)) if ids[0] == "ENSG00000279493"));
    assert_eq!(a.var.index()[0], "CH507-9B2.2");
    let options = tenx::ReadOptions::features(tenx::Features::Type("Antibody Capture".into()));
    let message = tenx::read_h5_with(fixture("tenx_v3.h5"), &options)
        .unwrap_err()
        .to_string();
    assert!(message.contains("Gene Expression"), "{message}");

    let a = tenx::read_h5(fixture("tenx_v2.h5")).unwrap();
    assert_eq!(labels(&a.var, "genome")[0].as_deref(), Some("hg19_chr21"));
    assert!(a.n_obs() > 0 && a.x.is_some());
}

#[test]
fn matrix_market_folders() {
    let a = mtx::read_dir(fixture("mtx_v2")).unwrap();
    let same = tenx::read_h5(fixture("tenx_v2.h5")).unwrap();
    assert_eq!(a.var.index(), same.var.index());
    assert_eq!(a.var.get("gene_ids"), same.var.get("gene_ids"));
    assert_eq!(
        a.x.as_ref().unwrap().to_dense().sum(),
        same.x.as_ref().unwrap().to_dense().sum()
    );
    let a = mtx::read_dir(fixture("mtx_int_ids")).unwrap();
    assert_eq!((a.n_obs(), a.n_vars()), (5, 6));

    let folder = tempfile::tempdir().unwrap();
    let v3 = tenx::read_h5(fixture("tenx_v3.h5")).unwrap();
    for options in [mtx::WriteOptions::default(), mtx::WriteOptions::plain()] {
        let path = folder.path().join(format!("{:?}", options.gzip));
        mtx::write_dir(&path, &v3, &options).unwrap();
        let again = sc_io::read(&path).unwrap();
        assert_eq!(again.x, v3.x);
        assert_eq!(again.obs, v3.obs);
        assert_eq!(again.var.index(), v3.var.index());
        assert_eq!(again.var.get("feature_types"), v3.var.get("feature_types"));
    }
    assert!(
        mtx::read_dir(folder.path())
            .unwrap_err()
            .to_string()
            .contains("matrix.mtx")
    );
}

#[test]
fn formats_are_told_apart() {
    for (name, format, n_obs) in [
        ("anndata_0_12.h5ad", Format::H5ad, 3),
        ("anndata_0_7.h5ad", Format::H5ad, 3),
        ("anndata_0_5.h5ad", Format::H5ad, 3),
        ("tenx_v3.h5", Format::TenxH5, 1107),
        ("tenx_v2.h5", Format::TenxH5, 12),
        ("mtx_v2", Format::MtxDir, 12),
        ("mtx_int_ids", Format::MtxDir, 5),
    ] {
        assert_eq!(sc_io::format_of(fixture(name)).unwrap(), format);
        let data: AnnData = sc_io::read(fixture(name)).unwrap();
        let found = sc_io::inspect(fixture(name)).unwrap();
        assert_eq!(
            (found.n_obs, found.n_vars),
            (data.n_obs(), data.n_vars()),
            "{name}"
        );
        assert_eq!(found.format, format);
        let names: Vec<&str> = found.obs.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, data.obs.columns().map(|c| c.0).collect::<Vec<_>>());
        assert_eq!(
            found.x.as_ref().unwrap().shape,
            (data.n_obs(), data.n_vars())
        );
        assert_eq!(data.n_obs(), n_obs, "{name}");
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["x"]["shape"][0], data.n_obs());
    }
}

#[test]
fn foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.h5ad");
    for (bytes, says) in [
        (&b""[..], "did not finish"),
        (b"\x1f\x8b\x08 and so on", "gunzip"),
        (b"PK\x03\x04 and so on", "zip file"),
        (b"<!DOCTYPE html>", "not an HDF5 file"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let message = sc_io::read(&path).unwrap_err().to_string();
        assert!(
            message.contains(says) && message.contains("x.h5ad"),
            "{message}"
        );
    }
    let message = h5ad::read(fixture("tenx_v3.h5")).unwrap_err().to_string();
    assert!(message.contains("tenx::read_h5"), "{message}");
    assert!(sc_io::read(folder.path().join("none")).is_err());
    assert!(
        sc_io::write(
            folder.path().join("x.rds"),
            &AnnData::default(),
            &Default::default()
        )
        .is_err()
    );
}
