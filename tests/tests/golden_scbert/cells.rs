//! Counts to tokens, and which of them are hidden.

use std::collections::HashMap;

use ndarray::Array2;
use sc_data::Csr;
use sc_model::Parity;
use sc_tests::{json, values};
use sc_transformer::scbert::{CellsConfig, GenePanel, MaskConfig, Masked, ScbertCells};

use crate::folder::*;

#[test]
fn cells_become_tokens() {
    let Some(golden) = Golden::open() else { return };
    let names = json(&golden.dir.join("preprocess.json"));
    let list = |key: &str| -> Vec<String> { serde_json::from_value(names[key].clone()).unwrap() };
    let (panel, genes) = (GenePanel::new(list("panel")).unwrap(), list("data_genes"));
    let file = golden.file("preprocess.safetensors");
    let counts = values(file.get("counts"))
        .iter()
        .map(|&v| v as f32)
        .collect();
    let counts = Csr::from_dense(&Array2::from_shape_vec((12, genes.len()), counts).unwrap());
    let cells = ScbertCells::new(&counts, &genes, &panel, 5, &CellsConfig::default()).unwrap();
    let kept: Vec<f64> = (0..12)
        .map(|c| f64::from(u8::from(cells.kept().contains(&c))))
        .collect();
    file.check("kept_cells", &kept);
    assert!(cells.dropped().iter().all(|&(_, detected)| detected < 200));
    let alignment = cells.alignment();
    let extra = genes.iter().filter(|g| g.starts_with('X')).count();
    assert_eq!(
        (alignment.duplicated().len(), alignment.n_extra()),
        (1, extra)
    );
    assert_eq!(alignment.n_found() + alignment.missing().len(), panel.len());
    let log2 = cells.expression(&[0, 1, 2]).unwrap().to_dense();
    file.check(
        "log2_first3",
        &log2.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(),
    );
    let all: Vec<usize> = (0..cells.len()).collect();
    let tokens = cells.tokens(&all).unwrap();
    file.check(
        "tokens",
        &tokens.iter().map(|&t| f64::from(t)).collect::<Vec<_>>(),
    );
}

#[test]
fn what_is_hidden() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("inputs.safetensors");
    let noise =
        |name: &str| -> Vec<f32> { values(inputs.get(name)).iter().map(|&v| v as f32).collect() };
    let (order, keep) = (noise("mask_uniform_topk"), noise("mask_uniform_replace"));
    let mut found = Masked::default();
    for (i, cell) in inputs.tokens("tokens").chunks(101).enumerate() {
        let at = |v: &[f32]| v[101 * i..101 * (i + 1)].to_vec();
        MaskConfig::default().apply(
            cell,
            6,
            &at(&order),
            &at(&keep),
            Parity::Upstream,
            &mut found,
        );
    }
    assert_eq!(found.tokens, inputs.tokens("masked_tokens"));
    let mut labels = vec![6; found.tokens.len()];
    for (&place, &target) in found.places.iter().zip(&found.targets) {
        labels[place as usize] = target;
    }
    assert_eq!(labels, inputs.tokens("mask_labels"));

    let counts = json(&golden.dir.join("mask_counts.json"));
    let differ: HashMap<usize, usize> = (counts["n_where_float32_differs_from_exact"]
        .as_array()
        .unwrap()
        .iter())
    .map(|p| {
        (
            p[0].as_u64().unwrap() as usize,
            p[1].as_u64().unwrap() as usize,
        )
    })
    .collect();
    let mask = MaskConfig::default();
    for n in 0..=3000usize {
        let exact = (n * 15).div_ceil(100);
        assert_eq!(mask.count(n, 16_907, Parity::Correct), exact, "{n}");
        let upstream = differ.get(&n).copied().unwrap_or(exact);
        // The list goes up to 3,000 and has all of them.
        assert_eq!(mask.count(n, 16_907, Parity::Upstream), upstream, "{n}");
    }
    assert_eq!(mask.count(2_000, 101, Parity::Correct), 16);
    let example = &counts["example_per_cell"];
    let list = |key: &str| -> Vec<usize> { serde_json::from_value(example[key].clone()).unwrap() };
    for (n, masked) in list("n_eligible").into_iter().zip(list("n_masked")) {
        assert_eq!(mask.count(n, 101, Parity::Upstream), masked, "{n}");
    }
}
