//! Whatever is written is read back equal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use indexmap::IndexMap;
use ndarray::{Array2, ArrayD, IxDyn};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use sc_data::{AnnData, Annotation, Categorical, Column, Csr, Matrix, Raw, Table, Uns};
use sc_io::h5ad::{self, Compression, WriteOptions};

/// Text without NUL, which HDF5 cannot hold.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_ .äß日-]{0,12}"
}

/// Names of columns and keys: no slash, not "_index".
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Zä][a-zA-Z0-9 .日-]{0,8}"
}

fn categorical(n: usize) -> impl Strategy<Value = Categorical> {
    (btree_set(text(), 1..200), any::<bool>()).prop_flat_map(move |(categories, ordered)| {
        let k = categories.len() as u32;
        let categories: Vec<String> = categories.into_iter().collect();
        vec(proptest::option::of(0..k), n)
            .prop_map(move |codes| Categorical::new(codes, categories.clone(), ordered).unwrap())
    })
}

fn column(n: usize) -> impl Strategy<Value = Column> {
    prop_oneof![
        vec(any::<bool>(), n).prop_map(Column::Bool),
        vec(any::<i32>(), n).prop_map(Column::Int32),
        vec(any::<i64>(), n).prop_map(Column::Int),
        vec(-1e30f32..1e30, n).prop_map(Column::Float32),
        vec(-1e300f64..1e300, n).prop_map(Column::Float),
        vec(text(), n).prop_map(Column::Str),
        categorical(n).prop_map(Column::Categorical),
        vec(any::<Option<bool>>(), n).prop_map(Column::OptBool),
        vec(any::<Option<i64>>(), n).prop_map(Column::OptInt),
        vec(proptest::option::of(text()), n).prop_map(|v| {
            // One that lacks nothing is written as plain text.
            if v.iter().all(Option::is_some) {
                Column::Str(v.into_iter().flatten().collect())
            } else {
                Column::OptStr(v)
            }
        }),
    ]
}

fn table(n: usize) -> impl Strategy<Value = Table> {
    let columns = vec((name(), column(n)), 0..5);
    (vec(text(), n), proptest::option::of(name()), columns).prop_map(|(index, title, columns)| {
        let title = title.filter(|t| columns.iter().all(|(n, _)| n != t));
        let mut table = Table::new(index).with_index_name(title);
        for (name, column) in columns {
            table.insert(name, column).unwrap();
        }
        table
    })
}

fn sparse(n: usize, g: usize) -> impl Strategy<Value = Csr> {
    vec(prop_oneof![3 => Just(0.0f32), 1 => -1e6f32..1e6], n * g)
        .prop_map(move |v| Csr::from_dense(&Array2::from_shape_vec((n, g), v).unwrap()))
}

fn matrix(n: usize, g: usize) -> impl Strategy<Value = Matrix> {
    prop_oneof![
        sparse(n, g).prop_map(Matrix::Sparse),
        vec(any::<i16>(), n * g).prop_map(move |v| {
            let v = v.into_iter().map(f32::from).collect();
            Matrix::Dense(Array2::from_shape_vec((n, g), v).unwrap())
        }),
        vec(-1e300f64..1e300, n * g)
            .prop_map(move |v| Matrix::Dense64(Array2::from_shape_vec((n, g), v).unwrap())),
    ]
}

fn annotations(n: usize) -> impl Strategy<Value = IndexMap<String, Annotation>> {
    let one = prop_oneof![
        (0usize..4)
            .prop_flat_map(move |k| matrix(n, k))
            .prop_map(Annotation::Matrix),
        table(n).prop_map(Annotation::Table),
    ];
    vec((name(), one), 0..3).prop_map(|v| v.into_iter().collect())
}

fn array<T: Clone + std::fmt::Debug>(
    one: impl Strategy<Value = T>,
) -> impl Strategy<Value = ArrayD<T>> {
    (vec(one, 24), 0usize..4).prop_map(|(v, k)| {
        let shape: &[usize] = [&[24][..], &[4, 6], &[2, 3, 4], &[0]][k];
        let n = shape.iter().product();
        ArrayD::from_shape_vec(IxDyn(shape), v[..n].to_vec()).unwrap()
    })
}

fn uns() -> impl Strategy<Value = Uns> {
    let leaf = prop_oneof![
        Just(Uns::Null),
        any::<bool>().prop_map(Uns::Bool),
        any::<i64>().prop_map(Uns::Int),
        (-1e300f64..1e300).prop_map(Uns::Float),
        text().prop_map(Uns::Str),
        array(any::<i64>()).prop_map(Uns::Ints),
        array(-1e300f64..1e300).prop_map(Uns::Floats),
        array(-1e30f32..1e30).prop_map(Uns::Floats32),
        array(any::<bool>()).prop_map(Uns::Bools),
        array(text()).prop_map(Uns::Strings),
        sparse(3, 2).prop_map(Uns::Sparse),
        table(2).prop_map(Uns::Table),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        vec((name(), inner), 0..3).prop_map(|v| Uns::Dict(v.into_iter().collect()))
    })
}

fn any_data() -> impl Strategy<Value = AnnData> {
    (0usize..7, 0usize..6, 0usize..4).prop_flat_map(|(n, g, r)| {
        let parts = (
            proptest::option::of(matrix(n, g)),
            table(n),
            table(g),
            vec((name(), matrix(n, g)), 0..3),
            annotations(n),
            annotations(g),
            proptest::option::of(matrix(n, n)),
            proptest::option::of(matrix(g, g)),
            vec((name(), uns()), 0..4),
            proptest::option::of((matrix(n, r), table(r), annotations(r))),
        );
        parts.prop_map(|(x, obs, var, layers, obsm, varm, obsp, varp, uns, raw)| {
            let mut data = AnnData::default();
            data.x = x;
            data.obs = obs;
            data.var = var;
            data.layers = layers.into_iter().collect();
            data.obsm = obsm;
            data.varm = varm;
            data.obsp = obsp.into_iter().map(|m| ("p".to_owned(), m)).collect();
            data.varp = varp.into_iter().map(|m| ("q".to_owned(), m)).collect();
            data.uns = uns.into_iter().collect();
            data.raw = raw.map(|(x, var, varm)| Raw { x, var, varm });
            data
        })
    })
}

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
