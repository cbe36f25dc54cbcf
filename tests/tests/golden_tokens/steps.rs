use candle_core::Tensor;
use sc_data::{Categorical, RowSource};
use sc_tests::json;
use sc_transformer::tokens::preprocess::{PreprocessOptions, Target, check_logged, preprocess};
use sc_transformer::tokens::{Binner, Binning, Ties};

use crate::common::*;

#[test]
fn steps_before_tokens() {
    let Some(golden) = load("binning/preprocess.safetensors") else {
        return;
    };
    let about = json(
        &crate::common::golden()
            .unwrap()
            .join("binning/preprocess.json"),
    );
    let x = dense(&golden["X"]);
    let kept = |key: &str| -> Vec<usize> {
        let mask = numbers(&golden[key]);
        (0..mask.len()).filter(|&i| mask[i] != 0.0).collect()
    };
    // Filters, totals and logarithms.
    let mut options = PreprocessOptions {
        min_gene_counts: Some(3.0),
        min_cell_counts: Some(40.0),
        target: Some(Target::Total(1e4)),
        log1p: true,
        ..PreprocessOptions::default()
    };
    let found = preprocess(&x, &options, None).unwrap();
    assert_eq!(
        (&found.cells, &found.genes),
        (&kept("keep_cells"), &kept("keep_genes"))
    );
    close(&found.source(&x).unwrap(), &golden["log1p"], 2e-5);
    // What the reference calls normalised was log-transformed in place later on: the totals are checked.
    options.log1p = false;
    let found = preprocess(&x, &options, None).unwrap();
    let totals = found
        .source(&x)
        .unwrap()
        .read_range(0..20)
        .unwrap()
        .row_sums();
    assert!(totals.iter().all(|t| (t - 1e4).abs() < 1e-2));
    let median = PreprocessOptions {
        target: Some(Target::Median),
        ..PreprocessOptions::default()
    };
    let found = preprocess(&x, &median, None).unwrap();
    close(&found.source(&x).unwrap(), &golden["normed_median"], 2e-4);

    // The whole recipe, with batches.
    let batch: Vec<String> = numbers(&golden["batch"])
        .iter()
        .map(ToString::to_string)
        .collect();
    let batch = Categorical::from_labels(&batch);
    let recipe = PreprocessOptions::integration(32, true);
    let found = preprocess(&x, &recipe, Some(&batch)).unwrap();
    let all = texts(&about["gene_names"]);
    let names: Vec<&String> = found.genes.iter().map(|&g| &all[g]).collect();
    assert_eq!(
        names,
        texts(&about["pipeline"]["genes"])
            .iter()
            .collect::<Vec<_>>()
    );
    let source = found.source(&x).unwrap();
    let seed = about["pipeline"]["numpy_seed"].as_u64().unwrap() as u32;
    let binner = Binner::new(Binning {
        n_bins: 51,
        ties: Ties::NumpyGlobal { seed },
    })
    .unwrap();
    let expected = dense(&golden["pipeline.X_binned"]);
    let logs = source.read_range(0..x.nrows()).unwrap().to_dense();
    for (row, expected) in logs.rows().into_iter().zip(expected.rows()) {
        assert_eq!(binner.bin(&[], &row.to_vec()), expected.to_vec());
    }
    // Variable genes, of counts and of logarithms, over all cells and batch by batch.
    let lists = about["hvg"].as_object().unwrap();
    assert_eq!(lists.len(), 5);
    for (name, list) in lists {
        let of_counts = name.starts_with("seurat_v3");
        let n_top = list["n_top_genes"].as_u64().unwrap() as usize;
        let mut recipe = PreprocessOptions::integration(n_top, of_counts);
        recipe.log1p = true;
        let by_batch = name.contains("batch").then_some(&batch);
        let found = preprocess(&x, &recipe, by_batch).unwrap();
        let names: Vec<&String> = found.genes.iter().map(|&g| &all[g]).collect();
        let expected = texts(&list["selected_in_gene_order"]);
        assert_eq!(names, expected.iter().collect::<Vec<_>>(), "{name}");
    }

    for case in about["check_logged"].as_array().unwrap() {
        let found = check_logged(&matrix(&case["matrix"])).unwrap();
        assert_eq!(found.logged, case["logged"].as_bool().unwrap(), "{found:?}");
    }
}

/// The first rows of a source.
fn close(source: &dyn RowSource, expected: &Tensor, tolerance: f32) {
    let expected = dense(expected);
    let found = source.read_range(0..expected.nrows()).unwrap().to_dense();
    assert_eq!(found.dim(), expected.dim());
    let off = (&found - &expected)
        .mapv(f32::abs)
        .fold(0.0f32, |m, v| m.max(*v));
    let scale = expected.fold(1.0f32, |m, v| m.max(v.abs()));
    assert!(off <= tolerance.max(1e-5 * scale), "{off}");
}
