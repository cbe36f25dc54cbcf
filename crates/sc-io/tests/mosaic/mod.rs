//! Genes of three cells and proteins of two, one of them the same, in a file.
#![allow(dead_code)]

use std::path::PathBuf;

use indexmap::IndexMap;
use ndarray::{Array2, array};
use sc_data::{AnnData, Column, Csr, MuData, Table, Uns};
use sc_io::h5ad::WriteOptions;
use sc_io::h5mu;

pub(crate) fn table(names: &[&str]) -> Table {
    Table::new(names.iter().map(|&n| n.to_owned()).collect())
}

pub(crate) fn modality(cells: &[&str], features: &[&str]) -> AnnData {
    let x = Array2::from_shape_fn((cells.len(), features.len()), |(i, j)| ((i + 1) * j) as f32);
    AnnData::new(Csr::from_dense(&x), table(cells), table(features)).unwrap()
}

pub(crate) fn mosaic() -> MuData {
    let mut m = MuData::new(IndexMap::from([
        (
            "rna".to_owned(),
            modality(&["c1", "c2", "c3"], &["CD3E", "CD19"]),
        ),
        ("adt".to_owned(), modality(&["c4", "c3"], &["CD3", "CD19"])),
    ]))
    .unwrap();
    m.obs
        .insert("batch", Column::Int(vec![1, 1, 2, 2]))
        .unwrap();
    m.obsm.insert(
        "X_joint".into(),
        array![[0.5f32], [1.0], [1.5], [2.0]].into(),
    );
    m.uns.insert("said".into(), Uns::Str("yes".into()));
    m
}

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The mosaic in a file, changed by hand.
    pub(crate) fn changed(&self, change: impl FnOnce(&hdf5::File)) -> PathBuf {
        let path = self.path("changed.h5mu");
        h5mu::write(&path, &mosaic(), &WriteOptions::default()).unwrap();
        let file = hdf5::File::open_rw(&path).unwrap();
        change(&file);
        file.close().unwrap();
        path
    }
}
