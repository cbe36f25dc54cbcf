//! The names of classes that the original leaves beside a fine-tuned checkpoint.

use candle_core::Device;
use ndarray::Array2;
use sc_data::Csr;
use sc_tests::json;
use sc_transformer::scbert::{
    CellsConfig, Scbert, UNASSIGNED, UpstreamOptions, read_label_dict, read_labels,
};

use crate::folder::*;

const CLASSES: [&str; 4] = ["B cell", "Monocyte", "NK cell", "T cell"];

#[test]
fn pickles_of_numpy_are_read() {
    let dir = sc_tests::data().join("scbert");
    // Arrays of objects and of text.
    for name in ["label_dict", "label_dict_text"] {
        assert_eq!(read_label_dict(dir.join(name)).unwrap(), CLASSES);
    }
    let cells = read_labels(dir.join("label_dict"), dir.join("label")).unwrap();
    let found: Vec<&str> = cells.iter().flatten().collect();
    assert_eq!(found, ["T cell", "B cell", "Monocyte", "T cell", "NK cell"]);
    // The wrong file, no pickle, no file.
    let error = |label_dict: &str, label: &str| {
        let read = read_labels(dir.join(label_dict), dir.join(label));
        read.unwrap_err().to_string()
    };
    let said = error("label", "label");
    assert!(said.contains("\"3\" twice"), "{said}");
    let said = error("label_dict", "label_dict");
    assert!(said.contains("holds text"), "{said}");
    let said = error("label_dict", "../README.md");
    assert!(said.contains("README.md"), "{said}");
    let said = error("none", "label");
    assert!(said.contains("none"), "{said}");
}

#[test]
fn cells_get_the_names_of_the_file() {
    let Some(golden) = Golden::open() else { return };
    let names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"];
    let mut options = UpstreamOptions::default();
    options.labels = Some(names.map(str::to_owned).to_vec());
    let path = golden.dir.join(FINE_TUNED);
    let model = Scbert::from_scbert(&path, panel(100), &options, &Device::Cpu).unwrap();
    let counts = Array2::from_shape_fn((4, 100), |(c, g)| ((c * g) % 7) as f32);
    let counts = Csr::from_dense(&counts);
    let mut config = CellsConfig::default();
    config.min_genes = 1;
    let cells = model.cells(&counts, panel(100).names(), &config).unwrap();
    let readme = json(&golden.dir.join("README.json"));
    let threshold = readme["predict"]["threshold"].as_f64().unwrap() as f32;
    let sure = model.annotate(&cells, None).unwrap();
    assert_eq!(sure.probabilities.labels, names);
    assert!(sure.names().iter().all(|n| names.contains(n)));
    // No class of this small model reaches the threshold.
    let unsure = model.annotate(&cells, Some(threshold)).unwrap();
    for (row, name) in unsure
        .probabilities
        .values
        .rows()
        .into_iter()
        .zip(unsure.names())
    {
        let best = row.fold(0.0f32, |m, &p| m.max(p));
        assert_eq!(name == UNASSIGNED, best < threshold);
    }
    options.labels = Some(CLASSES.map(str::to_owned).to_vec());
    let said = Scbert::from_scbert(&path, panel(100), &options, &Device::Cpu);
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains("labels = 4 of them") && said.contains("6 classes"),
        "{said}"
    );
}
