//! Files of several modalities that other programs wrote otherwise, or that are wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod mosaic;

use std::path::Path;

use mosaic::{Place, mosaic};
use ndarray::{Array2, array};
use sc_data::RowSource;
use sc_io::h5ad::{self, WriteOptions};
use sc_io::h5mu;

/// A map as other programs write it: signed, in one column, or not at all.
#[test]
fn maps_of_any_kind_are_understood() {
    let place = Place::new();
    let replace = |file: &hdf5::File, rows: Option<&[i64]>| {
        let maps = file.group("obsmap").unwrap();
        maps.unlink("adt").unwrap();
        if let Some(rows) = rows {
            let column = Array2::from_shape_vec((rows.len(), 1), rows.to_vec()).unwrap();
            maps.new_dataset_builder()
                .with_data(&column)
                .create("adt")
                .unwrap();
        }
    };
    for rows in [
        Some(&[0, 0, 2, 1][..]),
        None,
        Some(&[0, 0, 1, 2]),
        Some(&[0, 9, 9, 0]),
    ] {
        let path = place.changed(|file| replace(file, rows));
        assert_eq!(h5mu::read(&path).unwrap(), mosaic(), "{rows:?}");
    }
    let path = place.changed(|file| {
        file.unlink("obsmap").unwrap();
        file.unlink("varmap").unwrap();
    });
    assert_eq!(h5mu::read(&path).unwrap(), mosaic());
    // Cells that the joint table lacks: the names can't help.
    let path = place.changed(|file| {
        let names = file.dataset("mod/adt/obs/_index").unwrap();
        let other: Vec<hdf5::types::VarLenUnicode> =
            vec!["x".parse().unwrap(), "c3".parse().unwrap()];
        names.write_raw(&other).unwrap();
    });
    assert_eq!(h5mu::read(&path).unwrap().obsmap, mosaic().obsmap);
    let path = place.changed(|file| {
        replace(file, Some(&[0, 0, 5, 1]));
        let names = file.dataset("mod/adt/obs/_index").unwrap();
        let other: Vec<hdf5::types::VarLenUnicode> =
            vec!["x".parse().unwrap(), "c3".parse().unwrap()];
        names.write_raw(&other).unwrap();
    });
    let message = h5mu::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("obsmap of the modality \"adt\" names row 4"),
        "{message}"
    );
}

#[test]
fn files_that_are_wrong_say_where() {
    type Change = fn(&hdf5::File);
    let changes: [(Change, &str); 9] = [
        (|f| f.unlink("mod").unwrap(), "no modalities"),
        (|f| f.unlink("obs").unwrap(), "no \"obs\""),
        (|f| f.unlink("mod/rna/var").unwrap(), "/mod/rna"),
        (
            |f| {
                f.unlink("mod/rna").unwrap();
                let all = f.group("mod").unwrap();
                all.new_dataset::<i32>().create("rna").unwrap();
            },
            "/mod/rna: found a dataset",
        ),
        (
            |f| {
                f.unlink("mod").unwrap();
                f.new_dataset::<i32>().create("mod").unwrap();
            },
            "/mod: found a dataset",
        ),
        // A circle: the file is a modality of itself.
        (
            |f| f.link_hard("/", "mod/self").unwrap(),
            "modalities inside a modality",
        ),
        (
            |f| f.attr("axis").unwrap().write_scalar(&7i64).unwrap(),
            "the axis 7",
        ),
        (
            |f| {
                let maps = f.group("obsmap").unwrap();
                maps.unlink("rna").unwrap();
                let negative = [-1i32, 0, 0, 0];
                maps.new_dataset_builder()
                    .with_data(&negative)
                    .create("rna")
                    .unwrap();
            },
            "/obsmap/rna: found row -1",
        ),
        (
            |f| {
                let maps = f.group("obsmap").unwrap();
                maps.unlink("rna").unwrap();
                maps.new_dataset_builder()
                    .with_data(&array![[1i32, 2], [3, 4]])
                    .create("rna")
                    .unwrap();
            },
            "/obsmap/rna: found the shape",
        ),
    ];
    let place = Place::new();
    for (change, expected) in changes {
        let path = place.changed(change);
        let message = h5mu::read(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        try_everything(&path);
    }
    // No names at all, and names that are not there.
    let path = place.changed(|f| f.group("mod").unwrap().delete_attr("mod-order").unwrap());
    assert!(
        h5mu::read(&path)
            .unwrap()
            .modalities
            .keys()
            .eq(["adt", "rna"])
    );
}

fn try_everything(path: &Path) {
    if let Ok(data) = h5mu::read(path) {
        data.check().unwrap();
    }
    h5mu::read_annotations(path).ok();
    if let Ok(backed) = h5ad::read_backed(path.join("rna"), None) {
        let rows: Vec<usize> = (0..backed.n_rows().min(3)).collect();
        backed.read_rows(&rows).ok();
    }
    sc_io::inspect(path).ok();
    sc_io::read(path.join("adt")).ok();
}

#[test]
fn truncated_files_are_errors() {
    let place = Place::new();
    let path = place.path("x.h5mu");
    h5mu::write(&path, &mosaic(), &WriteOptions::default()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for k in 0..64 {
        std::fs::write(&path, &whole[..whole.len() * k / 64]).unwrap();
        assert!(h5mu::read(&path).is_err(), "{k}/64 of the file");
        try_everything(&path);
    }
}

/// The file is the committed one, so that the same bytes are flipped everywhere.
#[test]
fn flipped_bytes_do_no_harm() {
    let place = Place::new();
    let path = place.path("x.h5mu");
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/formats/mudata_0_3.h5mu"
    );
    let whole = std::fs::read(fixture).unwrap();
    let mut state = 12345u64;
    for _ in 0..300 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = whole.clone();
        let at = (state >> 20) as usize % bytes.len();
        bytes[at] ^= 1 << (state >> 60 & 7);
        std::fs::write(&path, &bytes).unwrap();
        try_everything(&path);
    }
}
