mod files;
mod golden;
mod training;

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, array};
use sc_data::{Categorical, Csr};
use sc_model::{Classify, Embed, Mode, Parity};
use sc_tensor::Rng;

use super::layout::layout;
use super::model::head_kind;
use super::*;
use crate::Error;

fn panel(n: usize) -> GenePanel {
    GenePanel::new((0..n).map(|i| format!("g{i}"))).unwrap()
}

/// A small model of `genes` genes.
fn small(genes: usize, dtype: DType) -> Scbert {
    let params = Scbert::params(panel(genes))
        .dim(12)
        .depth(3)
        .heads(2)
        .dim_head(6);
    let params = params.features(7).hidden(20).classifier_hidden([9, 5]);
    params
        .check()
        .unwrap()
        .init_with_dtype(&Device::Cpu, dtype, 7)
        .unwrap()
}

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|&n| n.to_owned()).collect()
}

/// Random counts, a share of them zero.
fn counts(cells: usize, genes: usize, seed: u64) -> Csr {
    let mut values = vec![0f64; cells * genes];
    Rng::new(seed).stream("counts").fill_normal(&mut values);
    let values = values
        .iter()
        .map(|v| (v * 4.0).max(0.0).floor() as f32)
        .collect();
    Csr::from_dense(&Array2::from_shape_vec((cells, genes), values).unwrap())
}

fn names(n: usize) -> Vec<String> {
    panel(n).names().to_vec()
}

fn any_number() -> CellsConfig {
    CellsConfig {
        min_genes: 1,
        ..CellsConfig::default()
    }
}

#[test]
fn the_layout_is_that_of_the_parameters() {
    let plain = small(11, DType::F32);
    let classes = plain.with_classes(&labels(&["a", "b", "c"]), 0).unwrap();
    for model in [plain, classes] {
        let head = head_kind(model.labels());
        let expected = layout(model.config(), 12, head);
        let found: Vec<_> = model
            .parameters()
            .iter()
            .map(|p| (p.name().to_owned(), p.export_shape()))
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn random_features_are_orthogonal_in_blocks() {
    let (m, d) = (23, 8);
    let mut stream = Rng::new(3).stream("features");
    let p = projection::draw(m, d, &mut stream, DType::F64, &Device::Cpu).unwrap();
    let p = p.to_vec2::<f64>().unwrap();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    for i in 0..m {
        for j in 0..i {
            let cosine = dot(&p[i], &p[j]) / (dot(&p[i], &p[i]) * dot(&p[j], &p[j])).sqrt();
            assert_eq!(cosine.abs() < 1e-12, i / d == j / d, "{i} {j}: {cosine}");
        }
    }
    // Lengths are those of Gaussian vectors: their squares are chi-squared with d degrees of freedom.
    let mut stream = Rng::new(4).stream("features");
    let many = projection::draw(800, d, &mut stream, DType::F64, &Device::Cpu).unwrap();
    let squares: Vec<f64> = many
        .to_vec2::<f64>()
        .unwrap()
        .iter()
        .map(|r| dot(r, r))
        .collect();
    let mean = squares.iter().sum::<f64>() / 800.0;
    let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / 800.0;
    // Four standard errors.
    assert!(
        (mean - 8.0).abs() < 0.6 && (variance - 16.0).abs() < 5.0,
        "{mean} {variance}"
    );
}

/// The attention that each position gets, by the full matrix of each head, one number at a time.
fn dense_importance(model: &Scbert, tokens: &[u32]) -> Vec<f64> {
    let (c, n, eval) = (model.config(), tokens.len(), Mode::eval());
    let (heads, d, m) = (c.heads, c.dim_head, c.n_features());
    let mut sum = vec![0.0; n];
    let segments = sc_tensor::ops::Segments::new([n]).unwrap();
    let mut x = model.nets.embed(tokens, &eval).unwrap();
    for block in &model.nets.blocks {
        let (q, k) = block.queries_and_keys(&x, &eval).unwrap();
        let (q, k) = (q.to_vec2::<f64>().unwrap(), k.to_vec2::<f64>().unwrap());
        let p = block.projection.value().to_vec2::<f64>().unwrap();
        let scale = (d as f64).powf(-0.25);
        let u = |row: &[f64], h: usize, f: usize| -> f64 {
            (0..d).map(|j| scale * row[h * d + j] * p[f][j]).sum()
        };
        let half = |row: &[f64], h: usize| -> f64 {
            (0..d)
                .map(|j| (scale * row[h * d + j]).powi(2))
                .sum::<f64>()
                / 2.0
        };
        let every = k
            .iter()
            .flat_map(|row| (0..heads).flat_map(move |h| (0..m).map(move |f| (row, h, f))));
        let top = every
            .map(|(row, h, f)| u(row, h, f))
            .fold(f64::NEG_INFINITY, f64::max);
        let phi = |row: &[f64], h: usize, max: f64| -> Vec<f64> {
            (0..m)
                .map(|f| (u(row, h, f) - half(row, h) - max).exp() + 1e-4)
                .collect()
        };
        for h in 0..heads {
            let keys: Vec<Vec<f64>> = k.iter().map(|row| phi(row, h, top)).collect();
            for row in &q {
                let max = (0..m)
                    .map(|f| u(row, h, f))
                    .fold(f64::NEG_INFINITY, f64::max);
                let query = phi(row, h, max);
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|key| key.iter().zip(&query).map(|(a, b)| a * b).sum())
                    .collect();
                let total: f64 = scores.iter().sum();
                sum.iter_mut()
                    .zip(&scores)
                    .for_each(|(s, v)| *s += v / total);
            }
        }
        x = block
            .attend(&x, heads, &segments, Stabiliser::PerSequence, &eval)
            .unwrap();
        x = block.feed(&x, &eval).unwrap();
    }
    let total: f64 = sum.iter().sum();
    sum.iter().map(|s| s / total).collect()
}

#[test]
fn importance_is_that_of_the_full_attention() {
    let model = small(30, DType::F64);
    let counts = counts(3, 30, 1);
    let cells = model.cells(&counts, &names(30), &any_number()).unwrap();
    for cell in 0..3 {
        let tokens = cells.tokens(&[cell]).unwrap();
        let found = model.position_importance(&tokens, Parity::Correct).unwrap();
        for (f, e) in found.iter().zip(dense_importance(&model, &tokens)) {
            assert!((f - e).abs() < 1e-13, "{f} {e}");
        }
    }
}

#[test]
fn a_cell_does_not_depend_on_others_or_on_threads() {
    let model = small(40, DType::F32)
        .with_classes(&labels(&["a", "b", "c"]), 1)
        .unwrap();
    let all = counts(9, 40, 2);
    let order = [4, 0, 8, 2, 7, 7, 1];
    let some = all.select_rows(&order).unwrap();
    let run = |threads: usize, counts: &Csr| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let cells = model.cells(counts, &names(40), &any_number()).unwrap();
            assert_eq!(cells.len(), counts.n_rows());
            let importance = model.gene_importance(&cells, Parity::Correct).unwrap();
            (
                model.classify(&cells).unwrap().values,
                model.embed(&cells).unwrap(),
                importance,
            )
        })
    };
    let one = run(1, &all);
    assert_eq!(one, run(3, &all));
    let others = run(2, &some);
    for (i, &cell) in order.iter().enumerate() {
        assert_eq!(others.0.row(i), one.0.row(cell));
        assert_eq!(others.1.row(i), one.1.row(cell));
        assert_eq!(others.2.row(i), one.2.row(cell));
    }
    // Upstream's stabiliser makes cells depend on each other.
    let cells = model.cells(&all, &names(40), &any_number()).unwrap();
    let (two, alone) = (cells.tokens(&[0, 1]).unwrap(), cells.tokens(&[0]).unwrap());
    let first = |tokens: &[u32], s| {
        model
            .encode(tokens, s)
            .unwrap()
            .narrow(0, 0, 41)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    assert_ne!(
        first(&two, Stabiliser::Batch),
        first(&alone, Stabiliser::Batch)
    );
}

#[test]
fn a_thousand_cells_embed_the_same_on_any_threads_and_in_any_order() {
    let model = small(24, DType::F32);
    let all = counts(1000, 24, 6);
    let embed = |threads: usize, counts: &Csr| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let run = || {
            let cells = model.cells(counts, &names(24), &any_number()).unwrap();
            model.embed(&cells).unwrap().mapv(f32::to_bits)
        };
        pool.unwrap().install(run)
    };
    let first = embed(1, &all);
    assert_eq!(first.dim(), (1000, 12));
    assert_eq!(first, embed(2, &all));
    let backwards: Vec<usize> = (0..1000).rev().collect();
    let shuffled = Rng::new(2).stream("order").permutation(1000);
    for order in [backwards, shuffled] {
        let turned = embed(2, &all.select_rows(&order).unwrap());
        assert_eq!(first.select(ndarray::Axis(0), &order), turned);
    }
}

#[test]
fn types_below_the_threshold_are_unassigned() {
    let model = small(20, DType::F32)
        .with_classes(&labels(&["a", "b"]), 1)
        .unwrap();
    let counts = counts(6, 20, 3);
    let cells = model.cells(&counts, &names(20), &any_number()).unwrap();
    let all = model.annotate(&cells, None).unwrap();
    let best = all.probabilities.best().1;
    let mut sorted = best.clone();
    sorted.sort_by(f32::total_cmp);
    let threshold = sorted[3];
    let some = model.annotate(&cells, Some(threshold)).unwrap();
    for (cell, name) in some.names().iter().enumerate() {
        assert_eq!(*name == UNASSIGNED, best[cell] < threshold);
    }
    assert_eq!(some.names().iter().filter(|n| **n == UNASSIGNED).count(), 3);
    assert!(all.names().iter().all(|n| *n != UNASSIGNED));
    assert!(matches!(
        model.annotate(&cells, Some(1.5)),
        Err(Error::InvalidSetting { .. })
    ));
}
