//! Files of several modalities: what is written is read back equal, and a modality is read as a file of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod mosaic;
mod strategies;

use indexmap::IndexMap;
use mosaic::{Place, mosaic};
use ndarray::{Array2, array};
use proptest::prelude::*;
use sc_data::{AnnData, Annotation, Column, Csr, MuData, RowSource, Shared, Table, Uns};
use sc_io::h5ad::{self, WriteOptions};
use sc_io::{Format, h5mu};

fn any_mudata() -> impl Strategy<Value = MuData> {
    let modalities = proptest::collection::vec((strategies::name(), strategies::any_data()), 0..4);
    let joint = (
        strategies::table(40),
        strategies::annotations(40),
        strategies::uns(),
    );
    let axis = prop_oneof![
        Just(Shared::Cells),
        Just(Shared::Features),
        Just(Shared::Both)
    ];
    (modalities, joint, axis).prop_map(|(modalities, (columns, obsm, uns), shared)| {
        let mut all = IndexMap::new();
        for (k, (name, mut data)) in modalities.into_iter().enumerate() {
            // Names of cells and features must differ to be joined; some are in several modalities.
            data.obs = renamed(&data.obs, |i| format!("c{}", i + 2 * k));
            data.var = renamed(&data.var, |i| format!("g{}", i + k));
            all.insert(name, data);
        }
        let mut m = MuData::with_shared(all, shared).unwrap();
        let rows: Vec<usize> = (0..m.n_obs()).collect();
        for (name, column) in columns.columns() {
            m.obs.insert(name, some_rows(column, &rows)).unwrap();
        }
        for (key, annotation) in obsm {
            if !m.modalities.contains_key(&key) {
                let annotation = match annotation {
                    Annotation::Table(t) => {
                        let mut some = Table::new(t.index()[..rows.len()].to_vec());
                        for (name, column) in t.columns() {
                            some.insert(name, some_rows(column, &rows)).unwrap();
                        }
                        Annotation::Table(some)
                    }
                    other => other.select_rows(&rows).unwrap(),
                };
                m.obsm.insert(key, annotation);
            }
        }
        m.uns.insert("any".into(), uns);
        m.check().unwrap();
        m
    })
}

/// Text of which nothing is missing is written as plain text.
fn some_rows(column: &Column, rows: &[usize]) -> Column {
    match column.select(rows).unwrap() {
        Column::OptStr(v) if v.iter().all(Option::is_some) => {
            Column::Str(v.into_iter().flatten().collect())
        }
        other => other,
    }
}

fn renamed(table: &Table, name: impl Fn(usize) -> String) -> Table {
    let mut new = Table::new((0..table.n_rows()).map(name).collect())
        .with_index_name(table.index_name().map(str::to_owned));
    for (name, column) in table.columns() {
        new.insert(name, column.clone()).unwrap();
    }
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_mudata_survives(data in any_mudata(), gzip in any::<bool>()) {
        let place = Place::new();
        let path = place.path("x.h5mu");
        let options = if gzip { WriteOptions::gzip(1) } else { WriteOptions::default() };
        h5mu::write(&path, &data, &options).unwrap();
        let again = h5mu::read(&path).unwrap();
        prop_assert!(again.modalities.keys().eq(data.modalities.keys()));
        prop_assert_eq!(again, data);
    }
}

#[test]
fn the_file_says_what_it_is() {
    let place = Place::new();
    let path = place.path("x.h5mu");
    h5mu::write(&path, &mosaic(), &WriteOptions::default()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"MuData (format-version=0.1.0;creator=sc-io;creator-version="));
    assert_eq!(&bytes[512..516], b"\x89HDF");
    assert!(bytes[100..512].iter().all(|&b| b == 0));
    assert_eq!(sc_io::format_of(&path).unwrap(), Format::H5mu);
    let message = sc_io::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("rna, adt") && message.contains("x.h5mu/rna"),
        "{message}"
    );
    assert!(h5ad::write(&path, &AnnData::default(), &WriteOptions::default()).is_ok());
    let message = h5mu::read(&path).unwrap_err().to_string();
    assert!(message.contains("no modalities"), "{message}");
}

#[test]
fn a_modality_is_read_as_a_file() {
    let place = Place::new();
    let path = place.path("x.h5mu");
    let data = mosaic();
    h5mu::write(&path, &data, &WriteOptions::gzip(4)).unwrap();
    for name in ["rna", "mod/rna"] {
        let path = path.join(name);
        assert_eq!(sc_io::format_of(&path).unwrap(), Format::H5ad);
        assert_eq!(sc_io::read(&path).unwrap(), data.modalities["rna"]);
        let rows = h5ad::read_backed(&path, None).unwrap();
        let x = data.modalities["rna"].x.as_ref().unwrap();
        assert_eq!(
            rows.read_rows(&[2, 0]).unwrap(),
            x.read_rows(&[2, 0]).unwrap()
        );
        assert!(h5ad::read_annotations(&path).unwrap().x.is_none());
    }
    let found = sc_io::inspect(&path).unwrap();
    assert_eq!((found.n_obs, found.n_vars, found.n_paired), (4, 4, Some(1)));
    assert_eq!(found.modalities["adt"].n_obs, 2);
    assert!(found.modalities["adt"].file_bytes > 0);
    assert!(found.obsm.keys().eq(["X_joint"]));
    // The protein and the gene CD19.
    assert!(found.notes.len() == 1 && found.notes[0].contains("CD19"));
    let alone = sc_io::inspect(path.join("rna")).unwrap();
    assert_eq!(alone, found.modalities["rna"]);
    let message = sc_io::read(path.join("atac")).unwrap_err().to_string();
    assert!(message.contains("only: adt, rna"), "{message}");
    // It cannot be annotated in its place.
    let rna = h5ad::read(path.join("rna")).unwrap();
    let out = place.path("out.h5ad");
    let refused = h5ad::write_annotations(path.join("rna"), &out, &rna, &WriteOptions::default());
    assert!(refused.unwrap_err().to_string().contains("a modality"));
}

#[test]
fn joint_parts_are_replaced_around_modalities_that_stay() {
    let place = Place::new();
    let from = place.changed(|file| {
        let more = file.create_group("more").unwrap();
        more.new_dataset_builder()
            .with_data(&[1, 2, 3])
            .create("numbers")
            .unwrap();
        let rna = file.group("mod/rna").unwrap();
        rna.create_group("unknown").unwrap();
    });
    let mut data = h5mu::read_annotations(&from).unwrap();
    assert!(data.modalities["rna"].x.is_none());
    data.obsm.shift_remove("X_joint");
    data.obsm
        .insert("X_CLUE".into(), Array2::<f32>::ones((4, 2)).into());
    data.uns.clear();
    let to = place.path("to.h5mu");
    h5mu::write_annotations(&from, &to, &data, &WriteOptions::default()).unwrap();
    let found = h5mu::read(&to).unwrap();
    assert_eq!(
        (&found.obs, &found.obsm, &found.uns),
        (&data.obs, &data.obsm, &data.uns)
    );
    assert_eq!(found.modalities, mosaic().modalities);
    // What this crate does not know stays, and so does the mark of the format.
    let file = hdf5::File::open(&to).unwrap();
    assert_eq!(
        file.dataset("more/numbers")
            .unwrap()
            .read_raw::<i32>()
            .unwrap(),
        [1, 2, 3]
    );
    assert!(file.group("mod/rna/unknown").is_ok());
    assert!(file.dataset("obsm/rna").is_ok());
    assert!(std::fs::read(&to).unwrap().starts_with(b"MuData"));
    // Other modalities and other cells are refused, and the file stays.
    let other = data.select_obs(&[0, 1]).unwrap();
    let refused = |m: &MuData| {
        h5mu::write_annotations(&from, &to, m, &WriteOptions::default())
            .unwrap_err()
            .to_string()
    };
    let message = refused(&other);
    assert!(message.contains("obs of the modality \"rna\""), "{message}");
    let mut other = data.clone();
    for map in [&mut other.obsmap, &mut other.varmap] {
        map.shift_remove("adt");
    }
    other.modalities.shift_remove("adt");
    let message = refused(&other);
    assert!(message.contains("rna, adt"), "{message}");
    assert_eq!(h5mu::read(&to).unwrap(), found);
}

/// What mudata 0.3 for Python wrote (`make_h5mu_fixture.py`).
#[test]
fn files_of_python_are_read() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/formats/mudata_0_3.h5mu"
    );
    let data = h5mu::read(path).unwrap();
    assert!(data.modalities.keys().eq(["rna", "adt"]));
    assert_eq!(data.obs.index(), ["c1", "c2", "c3", "c4"]);
    assert_eq!(data.var.index(), ["CD3E", "CD19", "GATA1", "CD3", "CD19"]);
    assert_eq!(data.obsmap["adt"], [None, None, Some(1), Some(0)]);
    assert_eq!(data.varmap["adt"], [None, None, None, Some(0), Some(1)]);
    let Some(Column::Categorical(batch)) = data.obs.get("batch") else {
        panic!("{:?}", data.obs)
    };
    assert_eq!(batch.complete_codes("batch").unwrap(), [0, 1, 0, 1]);
    let joint = array![[0.0f32, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]];
    assert_eq!(
        data.obsm,
        IndexMap::from([("X_joint".to_owned(), joint.into())])
    );
    assert_eq!(data.uns["said"], Uns::Str("yes".into()));
    let (rna, adt) = (&data.modalities["rna"], &data.modalities["adt"]);
    let x = array![[1.0, 0.0, 2.0], [0.0, 0.0, 5.0], [3.0, 1.0, 0.0]];
    assert_eq!(rna.x.as_ref().unwrap().to_dense(), x);
    assert_eq!(rna.layers["counts"].to_dense(), x);
    assert_eq!(rna.obs.get("n"), Some(&Column::Int(vec![1, 2, 3])));
    assert_eq!(
        adt.x.as_ref().unwrap(),
        &array![[7.0f32, 8.0], [9.0, 10.0]].into()
    );
    // Put together by name it would be the same.
    let again = MuData::new(data.modalities.clone()).unwrap();
    assert_eq!((again.obsmap, again.varmap), (data.obsmap, data.varmap));
}

/// Packed and unpacked arrays of many chunks, read past libhdf5 behind the 512 bytes of the format.
#[test]
fn large_modalities_are_read_in_parts() {
    let place = Place::new();
    let n = 30_000;
    let names =
        |prefix: &str, n: usize| Table::new((0..n).map(|i| format!("{prefix}{i}")).collect());
    let x = Array2::from_shape_fn((n, 20), |(i, j)| ((i * 31 + j * 7) % 5) as f32);
    let x = Csr::from_dense(&x);
    let rna = AnnData::new(x.clone(), names("cell", n), names("g", 20)).unwrap();
    let data = MuData::new(IndexMap::from([("rna".to_owned(), rna)])).unwrap();
    for options in [WriteOptions::default(), WriteOptions::gzip(1)] {
        let path = place.path("x.h5mu");
        h5mu::write(&path, &data, &options).unwrap();
        assert!(h5mu::read(&path).unwrap() == data);
        let backed = h5ad::read_backed(path.join("rna"), None).unwrap();
        let rows: Vec<usize> = (0..500).map(|k| k * 7919 % n).collect();
        assert_eq!(
            backed.read_rows(&rows).unwrap(),
            x.read_rows(&rows).unwrap()
        );
        assert_eq!(backed.read_range(0..n).unwrap(), x);
    }
}
