//! Whatever is written is read back equal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod strategies;

use ndarray::Array2;
use proptest::prelude::*;
use sc_data::{AnnData, Column, Csr, Matrix, Table, Uns};
use sc_io::h5ad::{self, Compression, WriteOptions};
use strategies::any_data;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_data_survives(data in any_data(), gzip in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.h5ad");
        let options = if gzip { WriteOptions::gzip(1) } else { WriteOptions::default() };
        h5ad::write(&path, &data, &options).unwrap();
        prop_assert_eq!(h5ad::read(&path).unwrap(), data);
    }
}

#[test]
fn names_that_cannot_be_written_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.h5ad");
    std::fs::write(&path, "old").unwrap();
    for bad in ["a/b", "", ".", "_index"] {
        let mut data = AnnData::default();
        data.obs.insert(bad, Column::Int(vec![])).unwrap();
        let message = h5ad::write(&path, &data, &WriteOptions::default())
            .unwrap_err()
            .to_string();
        assert!(message.contains("/obs"), "{message}");
    }
    let mut data = AnnData::default();
    data.uns.insert("k".into(), Uns::Str("a\0b".into()));
    assert!(h5ad::write(&path, &data, &WriteOptions::default()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old", "the old file stays");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Chunks, large column orders and many rows.
#[test]
fn large_tables_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.h5ad");
    let n = 300_000;
    let mut obs = Table::new((0..n).map(|i| format!("cell{i}")).collect());
    obs.insert("i", Column::Int((0..n as i64).collect()))
        .unwrap();
    let mut var = Table::new(vec!["g".into()]);
    for k in 0..6000 {
        var.insert(format!("column_{k}"), Column::Bool(vec![k % 3 == 0]))
            .unwrap();
    }
    let x = Array2::from_shape_fn((n, 1), |(i, _)| (i % 7) as f32);
    let mut data = AnnData::new(Csr::from_dense(&x), obs, var).unwrap();
    data.layers.insert("dense".into(), x.into());
    for options in [WriteOptions::default(), WriteOptions::gzip(1)] {
        h5ad::write(&path, &data, &options).unwrap();
        assert_eq!(h5ad::read(&path).unwrap(), data);
        let backed = h5ad::read_backed(&path, None).unwrap();
        let rows: Vec<usize> = (0..500).map(|k| (k * 7919) % n).collect();
        let expected = data.x.as_ref().unwrap().select_rows(&rows).unwrap();
        assert_eq!(
            Matrix::Sparse(sc_data::RowSource::read_rows(&backed, &rows).unwrap()),
            expected
        );
    }
}

#[test]
fn annotations_are_replaced_around_matrices_that_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.h5ad"), folder.path().join("b.h5ad"));
    let names =
        |prefix: &str, n: usize| Table::new((0..n).map(|i| format!("{prefix}{i}")).collect());
    let counts = Csr::from_dense(&ndarray::array![[1.0f32, 0.0], [0.0, 2.0], [3.0, 0.0]]);
    let mut data = AnnData::new(counts.clone(), names("c", 3), names("g", 2)).unwrap();
    data.layers.insert("raw".into(), counts.clone().into());
    data.obsm
        .insert("old".into(), ndarray::array![[1.0f32], [2.0], [3.0]].into());
    h5ad::write(&from, &data, &WriteOptions::gzip(4)).unwrap();

    let mut other = h5ad::read_annotations(&from).unwrap();
    other.obsm.clear();
    other
        .obs
        .insert("size", Column::Float32(vec![1.0, 2.0, 3.0]))
        .unwrap();
    other.uns.insert("said".into(), Uns::Str("yes".into()));
    h5ad::write_annotations(&from, &to, &other, &WriteOptions::default()).unwrap();
    let found = h5ad::read(&to).unwrap();
    assert_eq!((&found.x, &found.layers), (&data.x, &data.layers));
    assert_eq!(
        (&found.obs, &found.obsm, &found.uns),
        (&other.obs, &other.obsm, &other.uns)
    );
    // The original is as it was, and other cells are refused.
    assert_eq!(h5ad::read(&from).unwrap(), data);
    let fewer = other.select_obs(&[0, 1]).unwrap();
    let message = h5ad::write_annotations(&from, &to, &fewer, &WriteOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("obs") && message.contains('3'),
        "{message}"
    );
    assert_eq!(h5ad::read(&to).unwrap(), found);
}

#[test]
fn a_matrix_is_replaced_by_rows_read_one_block_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("a.h5ad"), folder.path().join("b.h5ad"));
    let names =
        |prefix: &str, n: usize| Table::new((0..n).map(|i| format!("{prefix}{i}")).collect());
    // More rows than are held at once, some of them empty.
    let x = Array2::from_shape_fn((5000, 3), |(i, j)| ((i * 7 + j) % 3) as f32);
    let counts = Csr::from_dense(&x);
    let data = AnnData::new(counts.clone(), names("c", 5000), names("g", 3)).unwrap();
    h5ad::write(&from, &data, &WriteOptions::default()).unwrap();
    let annotations = h5ad::read_annotations(&from).unwrap();
    let doubled = counts.map(|v| 2.0 * v);
    let new = |layer, keep| h5ad::NewMatrix {
        layer,
        rows: &doubled,
        keep,
    };
    for options in [WriteOptions::default(), WriteOptions::gzip(4)] {
        let kept = new(None, Some("counts"));
        h5ad::write_changed(&from, &to, &annotations, kept, &options).unwrap();
        let found = h5ad::read(&to).unwrap();
        assert_eq!(found.x, Some(doubled.clone().into()));
        assert_eq!(found.layers["counts"], counts.clone().into());
        let small = folder.path().join("c.h5ad");
        h5ad::write_changed(&from, &small, &annotations, new(None, None), &options).unwrap();
        let found = h5ad::read(&small).unwrap();
        assert_eq!(found.x, Some(doubled.clone().into()));
        assert!(found.layers.is_empty());
        // The space of the old matrix is used again. (Rows arrive one block after the other, so that their number is not known
        // when chunks are sized: without compression the last one is written whole, which is much for as few cells.)
        let sizes = [&from, &to, &small].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(sizes[2] < sizes[1], "{sizes:?}");
        if matches!(options.compression, Compression::Gzip(_)) {
            assert!(sizes[2] < sizes[0] * 3 / 2, "{sizes:?}");
        }
    }
    // A layer, and names and shapes that are refused.
    let again = folder.path().join("d.h5ad");
    let annotations = h5ad::read_annotations(&to).unwrap();
    let options = WriteOptions::default();
    h5ad::write_changed(
        &to,
        &again,
        &annotations,
        new(Some("counts"), None),
        &options,
    )
    .unwrap();
    let found = h5ad::read(&again).unwrap();
    assert_eq!(found.layers["counts"], doubled.clone().into());
    let refused = |m| h5ad::write_changed(&to, &again, &annotations, m, &options).unwrap_err();
    assert!(
        refused(new(None, Some("counts")))
            .to_string()
            .contains("counts")
    );
    assert!(refused(new(None, Some("a/b"))).to_string().contains("a/b"));
    refused(new(Some("none"), None));
    let few = Csr::zeros(4999, 3);
    let few = h5ad::NewMatrix {
        rows: &few,
        layer: None,
        keep: None,
    };
    assert!(refused(few).to_string().contains("4999"));
    assert_eq!(h5ad::read(&again).unwrap(), found);
}
