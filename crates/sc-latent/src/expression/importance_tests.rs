use super::*;
use crate::elbo::Noise;
use crate::{DrawOptions, Weights};
use candle_core::Device;
use ndarray::Array2;
use sc_data::{AnnData, Categorical, Column, Table};
use serde::Deserialize;
use std::path::{Path, PathBuf};

const CELLS: usize = 48;
const GENES: usize = 12;

/// What scvi-tools computed for a model, on the cells of [`data`]; `tests/make_de_fixtures.py` writes it.
#[derive(Deserialize)]
struct Expected {
    name: String,
    /// `[samples][cells]`, centred within each sample.
    log_weights: Vec<Vec<f64>>,
    log_weights_error: Vec<Vec<f64>>,
    uniform_mean: Vec<f64>,
    importance_mean: Vec<f64>,
    importance_error: Vec<f64>,
}

#[derive(Deserialize)]
struct File {
    sets: Vec<Expected>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/de")
}

fn for_each_model(check: impl Fn(&Scvi, &Cells<'_>, &Expected)) {
    let text = std::fs::read_to_string(folder().join("importance.json")).unwrap();
    let file: File = serde_json::from_str(&text).unwrap();
    assert_eq!(file.sets.len(), 4);
    let data = data();
    for expected in &file.sets {
        let model = Scvi::from_scvi_tools(folder().join(&expected.name), &Device::Cpu).unwrap();
        let cells = Cells::for_model(&data, model.registry()).unwrap();
        check(&model, &cells, expected);
    }
}

/// The same cells as in the script.
fn data() -> AnnData {
    let counts = Array2::from_shape_fn((CELLS, GENES), |(i, g)| {
        let marker = if g % 3 == i % 3 { 9 } else { 0 };
        ((i * 5 + g * 7 + i * i * (g + 1)) % 13 + marker) as f32
    });
    let names = |what: &str, n: usize| (0..n).map(|i| format!("{what} {i}")).collect();
    let mut obs = Table::new(names("cell", CELLS));
    let batch: Vec<&str> = (0..CELLS)
        .map(|i| if i % 2 == 0 { "x" } else { "y" })
        .collect();
    let batch = Categorical::from_labels(&batch);
    obs.insert("batch", Column::Categorical(batch)).unwrap();
    let size = |(i, row): (usize, ndarray::ArrayView1<'_, f32>)| {
        f64::from(row.sum()) / 100.0 + (i % 5) as f64 * 0.1
    };
    let sizes = counts.outer_iter().enumerate().map(size).collect();
    obs.insert("size", Column::Float(sizes)).unwrap();
    AnnData::new(
        Csr::from_dense(&counts),
        obs,
        Table::new(names("gene", GENES)),
    )
    .unwrap()
}

/// Draws of z at given noise have the weights that scvi-tools gives them.
#[test]
fn weights_are_those_of_scvi_tools() {
    for_each_model(|model, cells, expected| {
        let all: Vec<usize> = (0..CELLS).collect();
        let options = Importance {
            n_samples: 20_000,
            ..Importance::default()
        };
        let mut anchors = model.anchors(cells, &all, &options, &Rng::new(0)).unwrap();
        let batch = cells.minibatch(&all, model.config.log_variational).unwrap();
        // scvi-tools takes the observed library size of anchors even where the model has another.
        let observed = batch.library_size().into_iter().map(|s| s.ln() as f32);
        anchors.log_library = vec![Tensor::from_iter(observed, &Device::Cpu).unwrap()];
        let encoded = model.encode_rows(&batch).unwrap();
        let mut spread = 0f64;
        for (s, (logs, errors)) in expected
            .log_weights
            .iter()
            .zip(&expected.log_weights_error)
            .enumerate()
        {
            let eps = Array2::from_shape_fn((CELLS, 3), |(i, j)| {
                ((5 * i + 3 * j + 2 * s) % 7) as f32 / 3.0 - 1.0
            });
            let eps = Tensor::from_iter(eps, &Device::Cpu).unwrap();
            let noise = Noise {
                z: Some(eps.reshape((CELLS, 3)).unwrap()),
                ..Noise::default()
            };
            let z = crate::elbo::draw(&encoded.qz, noise.z.as_ref()).unwrap();
            let decoded = model.decode_rows(&encoded, &noise, None).unwrap();
            let mut found = anchors.log_weights(&z, &decoded).unwrap();
            let mean = found.iter().sum::<f64>() / CELLS as f64;
            found.iter_mut().for_each(|w| *w -= mean);
            for (i, (f, e)) in found.iter().zip(logs).enumerate() {
                // Both estimate the likelihoods of the anchors with draws.
                let allowed = 0.01 + 7.0 * errors[i];
                let name = &expected.name;
                assert!(
                    (f - e).abs() < allowed,
                    "{name}, {s}, cell {i}: {f} for {e}"
                );
                spread = spread.max(e.abs());
            }
        }
        // Weights that are all alike would show nothing.
        assert!(spread > 1.0, "{}: {spread}", expected.name);
    });
}

/// Draws by weight have the mean that those of scvi-tools have, which is not the one of uniform draws.
#[test]
fn draws_have_the_mean_of_scvi_tools() {
    for_each_model(|model, cells, expected| {
        if ["learned_library", "size_factor"].contains(&expected.name.as_str()) {
            return; // ours are those of the model's own library sizes
        }
        let options = DrawOptions {
            n_draws: 20_000,
            among: Some((0..CELLS).step_by(2).collect()),
            weights: Weights::Importance(Importance::default()),
            ..DrawOptions::default()
        };
        let draws = model.expression_draws(cells, &options).unwrap();
        let found = draws.values.mean_axis(ndarray::Axis(0)).unwrap();
        let mut apart = 0;
        for (g, (f, e)) in found.iter().zip(&expected.importance_mean).enumerate() {
            let error = expected.importance_error[g];
            let off = (f64::from(*f) - e).abs();
            let name = &expected.name;
            assert!(
                off < 6.0 * error + 0.002 * e,
                "{name}, gene {g}: {f} for {e} +- {error}"
            );
            apart +=
                usize::from((expected.uniform_mean[g] - e).abs() > 2.0 * (6.0 * error + 0.002 * e));
        }
        assert!(apart > 0, "{}: importance changes nothing", expected.name);
    });
}

#[test]
fn rows_are_drawn_by_weight() {
    let rows: Vec<Row> = (0..3).map(|cell| Row { cell, copy: 0 }).collect();
    let log_weights = [-1000.0, -1000.0 + 3f64.ln(), f64::NEG_INFINITY];
    let drawn = resample(&rows, &log_weights, 40_000, Rng::new(0).stream("t")).unwrap();
    let n = |cell| drawn.iter().filter(|r| r.cell == cell).count();
    assert_eq!(n(2), 0);
    // 10,000 expected, standard deviation 87.
    assert!(n(0).abs_diff(10_000) < 450, "{}", n(0));
    assert!(resample(&rows, &[f64::NAN; 3], 1, Rng::new(0).stream("t")).is_err());
}

#[test]
fn few_cells_are_all_candidates_and_of_many_as_many_as_draws() {
    let stream = || Rng::new(0).stream("t");
    let all = candidates(&[4, 2], 5, stream());
    assert_eq!(all.len(), 6);
    assert!(all.is_sorted());
    let among: Vec<usize> = (0..100).collect();
    let some = candidates(&among, 7, stream());
    assert_eq!(some.len(), 7);
    assert!(some.windows(2).all(|w| w[0].cell < w[1].cell));
}
