use std::path::{Path, PathBuf};

use hdf5::File;
use hdf5::types::VarLenUnicode;
use ndarray::{Array1, Array2, array};
use sc_data::{Annotation, Column};

use super::*;

fn texts(values: &[&str]) -> Array1<VarLenUnicode> {
    values.iter().map(|v| v.parse().unwrap()).collect()
}

fn write(path: &Path, change: impl FnOnce(&File)) -> PathBuf {
    let file = File::create(path).unwrap();
    let matrix: Array2<f32> = array![[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]];
    let builder = file.new_dataset_builder().with_data(&matrix);
    builder.chunk((1, 2)).deflate(2).create("matrix").unwrap();
    let cells = file.create_group("col_attrs").unwrap();
    let put = |group: &Group, name: &str, values: &[&str]| {
        let values = texts(values);
        group
            .new_dataset_builder()
            .with_data(&values)
            .create(name)
            .unwrap();
    };
    put(&cells, "CellID", &["a", "b", "c"]);
    put(&cells, "Cluster", &["T", "B", "T"]);
    let age: Array2<f64> = array![[1.0], [2.0], [3.0]];
    cells
        .new_dataset_builder()
        .with_data(&age)
        .create("Age")
        .unwrap();
    let places: Array2<f64> = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    cells
        .new_dataset_builder()
        .with_data(&places)
        .create("XY")
        .unwrap();
    let genes = file.create_group("row_attrs").unwrap();
    put(&genes, "Gene", &["g1", "g2"]);
    let chromosome: Array1<i64> = array![1, 2];
    genes
        .new_dataset_builder()
        .with_data(&chromosome)
        .create("Chromosome")
        .unwrap();
    let layers = file.create_group("layers").unwrap();
    let spliced: Array2<i32> = array![[1, 0, 1], [0, 0, 2]];
    layers
        .new_dataset_builder()
        .with_data(&spliced)
        .create("spliced")
        .unwrap();
    let graph = file
        .create_group("col_graphs")
        .unwrap()
        .create_group("KNN")
        .unwrap();
    for (name, values) in [("a", [0i64, 2, 0]), ("b", [1, 0, 1])] {
        graph
            .new_dataset_builder()
            .with_data(&Array1::from(values.to_vec()))
            .create(name)
            .unwrap();
    }
    let weights: Array1<f64> = array![0.5, 1.0, 0.25];
    graph
        .new_dataset_builder()
        .with_data(&weights)
        .create("w")
        .unwrap();
    let version: VarLenUnicode = "2.0.1".parse().unwrap();
    file.new_attr::<VarLenUnicode>()
        .create("LOOM_SPEC_VERSION")
        .unwrap()
        .write_scalar(&version)
        .unwrap();
    change(&file);
    path.to_owned()
}

#[test]
fn every_part_finds_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let data = read(write(&folder.path().join("x.loom"), |_| {})).unwrap();
    let dense = |m: &Matrix| m.to_dense();
    assert_eq!(
        dense(data.x.as_ref().unwrap()),
        array![[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]
    );
    assert_eq!(
        dense(&data.layers["spliced"]),
        array![[1.0, 0.0], [0.0, 0.0], [1.0, 2.0]]
    );
    assert_eq!(data.obs.index(), ["a", "b", "c"]);
    assert_eq!(data.obs.index_name(), Some("CellID"));
    assert_eq!(data.var.index(), ["g1", "g2"]);
    assert_eq!(
        data.obs.get("Age"),
        Some(&Column::Float(vec![1.0, 2.0, 3.0]))
    );
    assert_eq!(data.var.get("Chromosome"), Some(&Column::Int(vec![1, 2])));
    let Some(Annotation::Matrix(places)) = data.obsm.get("XY") else {
        panic!("XY is no matrix");
    };
    assert_eq!((places.n_rows(), places.n_cols()), (3, 2));
    let graph = array![[0.0, 0.75, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]];
    assert_eq!(dense(&data.obsp["KNN"]), graph);
    assert_eq!(
        data.uns["LOOM_SPEC_VERSION"],
        sc_data::Uns::Str("2.0.1".into())
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.loom");
    let refused = |change: fn(&File), words: &str| {
        let error = read(write(&path, change)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(
        |f| {
            let group = f.group("col_attrs").unwrap();
            group.unlink("CellID").unwrap();
            let two = texts(&["a", "b"]);
            group
                .new_dataset_builder()
                .with_data(&two)
                .create("CellID")
                .unwrap();
        },
        "2 names",
    );
    refused(
        |f| {
            let graph = f.group("col_graphs/KNN").unwrap();
            graph.unlink("a").unwrap();
            let far: Array1<i64> = array![0, 3, -1];
            graph
                .new_dataset_builder()
                .with_data(&far)
                .create("a")
                .unwrap();
        },
        "an edge from 3 to 0",
    );
    refused(
        |f| {
            let layers = f.group("layers").unwrap();
            let wide: Array2<f32> = Array2::zeros((2, 4));
            layers
                .new_dataset_builder()
                .with_data(&wide)
                .create("wide")
                .unwrap();
        },
        "2 x 4",
    );
    refused(
        |f| f.unlink("row_attrs").unwrap(),
        "a loom file has them at its root",
    );
    refused(
        |f| {
            f.unlink("matrix").unwrap();
            let builder = f
                .new_dataset::<f32>()
                .shape((0, 1usize << 60))
                .chunk((1, 1));
            builder.create("matrix").unwrap();
        },
        "a matrix of numbers",
    );
}

#[test]
fn without_names_there_are_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder.path().join("x.loom"), |f| {
        f.unlink("col_attrs/CellID").unwrap();
        f.unlink("row_attrs/Gene").unwrap();
    });
    let data = read(path).unwrap();
    assert_eq!(
        (data.obs.index(), data.var.index()),
        (
            &["0", "1", "2"].map(String::from)[..],
            &["0", "1"].map(String::from)[..]
        )
    );
}
