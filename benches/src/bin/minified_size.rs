//! What minifying a data set saves, and what the model makes of its cells without their counts:
//!
//! ```text
//! cargo run --release -p sc-benches --bin minified_size -- MODEL_FOLDER cells.h5ad
//! ```
//!
//! One line of JSON: bytes of the file with counts and of the minified one, each uncompressed and with gzip; and how well
//! the coefficient of variation of each cell over its genes, in counts drawn from the posterior predictive distribution,
//! agrees with that of the raw counts.
#![allow(clippy::print_stdout)]

use candle_core::Device;
use sc_data::{AnnData, Matrix};
use sc_io::h5ad::{self, WriteOptions};
use sc_latent::minify::{MinifyOptions, SizeInput, part_sizes};
use sc_latent::{AnyModel, Cells, Scvi};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Posterior predictive draws of each cell, as in the scvi-hub paper.
const DRAWS: usize = 2;
/// Cells whose draws are held at once.
const CELLS_AT_ONCE: usize = 512;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("give a folder with a model, and an .h5ad file".into());
    };
    let device = Device::Cpu;
    let model = AnyModel::load(&folder, &device)?;
    let model = model.scvi();
    let data = counts_only(h5ad::read(&file)?, model)?;
    let small = model.minify(&data, &MinifyOptions::default())?;
    let scratch = tempfile::tempdir()?;
    let size = |data: &AnnData, options: &WriteOptions| -> Result<u64> {
        let path = scratch.path().join("x.h5ad");
        h5ad::write(&path, data, options)?;
        Ok(std::fs::metadata(path)?.len())
    };
    let (plain, gzip) = (WriteOptions::default(), WriteOptions::gzip(4));
    let x = data.matrix(None)?.to_csr();
    let entries = x.n_stored() as f64;
    let parts = part_sizes(&small);
    let bytes_of = |prefix: &str| -> u64 {
        let of = parts.iter().filter(|(name, _)| name.starts_with(prefix));
        of.map(|(_, bytes)| bytes).sum()
    };
    let (n, g) = (data.n_obs() as f64, data.n_vars() as f64);
    let estimate = SizeInput::new(n, g, entries / (n * g), model.config().n_latent as f64);
    let (a, b) = (estimate.estimate(), estimate.gzipped().estimate());
    let cells = Cells::for_model(&small, model.registry())?;
    let (raw, drawn) = (
        raw_variation(&data)?,
        drawn_variation(model, &cells, &small)?,
    );
    println!(
        "{{\"cells\": {n}, \"genes\": {g}, \"density\": {:.4}, \"n_latent\": {}, \"counts_plain\": {}, \"counts_gzip\": {}, \
         \"minified_plain\": {}, \"minified_gzip\": {}, \"posterior_bytes\": {}, \"statistics_bytes\": {}, \
         \"estimated_ratio_plain\": {:.2}, \"estimated_ratio_gzip\": {:.2}, \"cv_r2\": {:.4}, \"cv_pearson\": {:.4}, \
         \"cv_mean_absolute_error\": {:.4}}}",
        entries / (n * g),
        model.config().n_latent,
        size(&data, &plain)?,
        size(&data, &gzip)?,
        size(&small, &plain)?,
        size(&small, &gzip)?,
        bytes_of("obsm/scvi_latent"),
        bytes_of("varm/sc_counts"),
        a.ratio(),
        b.ratio(),
        r2(&raw, &drawn),
        pearson(&raw, &drawn),
        raw.iter()
            .zip(&drawn)
            .map(|(a, b)| (a - b).abs())
            .sum::<f64>()
            / raw.len() as f64,
    );
    Ok(())
}

/// The counts of the model's genes as `X`, and the columns of `obs` that the model reads; nothing else, so that two files
/// differ by what minifying does alone.
fn counts_only(data: AnnData, model: &Scvi) -> Result<AnnData> {
    let registry = model.registry();
    let columns = {
        let index = data.var.index();
        let lookup: std::collections::HashMap<&str, usize> =
            index.iter().map(String::as_str).zip(0..).collect();
        let found = registry
            .genes
            .iter()
            .map(|g| lookup.get(g.as_str()).copied());
        found
            .collect::<Option<Vec<usize>>>()
            .ok_or("the data lack genes of the model")?
    };
    let data = data.select_vars(&columns)?;
    let x: Matrix = data
        .matrix(registry.setup.layer.as_deref())?
        .to_csr()
        .into();
    let mut out = AnnData::new(x, data.obs, data.var)?;
    if let Some(layer) = &registry.setup.layer {
        let x = out.matrix(None)?.clone();
        out.layers.insert(layer.clone(), x);
    }
    Ok(out)
}

/// Standard deviation over mean of the counts of a cell.
fn variation(counts: impl Iterator<Item = f64>, n: f64) -> f64 {
    let (sum, squares) = counts.fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    let mean = sum / n;
    (squares / n - mean * mean).max(0.0).sqrt() / mean
}

fn raw_variation(data: &AnnData) -> Result<Vec<f64>> {
    let x = data.matrix(None)?.to_csr();
    let row = |i| x.row(i).1.iter().map(|&v| f64::from(v));
    let n = x.n_cols() as f64;
    Ok((0..x.n_rows()).map(|i| variation(row(i), n)).collect())
}

/// The mean over draws.
fn drawn_variation(model: &Scvi, cells: &Cells<'_>, data: &AnnData) -> Result<Vec<f64>> {
    let mut out = Vec::with_capacity(cells.n_cells());
    for start in (0..cells.n_cells()).step_by(CELLS_AT_ONCE) {
        let rows: Vec<usize> = (start..(start + CELLS_AT_ONCE).min(cells.n_cells())).collect();
        let part = data.select_obs(&rows)?;
        let part = Cells::for_model(&part, model.registry())?;
        let draws = model.posterior_predictive_sample(&part, DRAWS, &[], None, start as u64)?;
        for i in 0..rows.len() {
            let one = |s: usize| {
                let draw = draws.index_axis(ndarray::Axis(0), s);
                let counts = draw.row(i);
                let values: Vec<f64> = counts.iter().map(|&v| f64::from(v)).collect();
                variation(values.iter().copied(), values.len() as f64)
            };
            // A draw without counts has none.
            let each: Vec<f64> = (0..DRAWS).map(one).filter(|v| v.is_finite()).collect();
            out.push(each.iter().sum::<f64>() / each.len() as f64);
        }
    }
    Ok(out)
}

/// The coefficient of determination of `found` for `truth`.
fn r2(truth: &[f64], found: &[f64]) -> f64 {
    let mean = truth.iter().sum::<f64>() / truth.len() as f64;
    let residual: f64 = truth.iter().zip(found).map(|(t, f)| (t - f).powi(2)).sum();
    let total: f64 = truth.iter().map(|t| (t - mean).powi(2)).sum();
    1.0 - residual / total
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| f(a - ma, b - mb)).sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores() {
        let truth = [1.0, 2.0, 3.0];
        assert!((r2(&truth, &truth) - 1.0).abs() < 1e-12);
        assert!(r2(&truth, &[2.0, 2.0, 2.0]).abs() < 1e-12);
        assert!((pearson(&truth, &[2.0, 4.0, 6.0]) - 1.0).abs() < 1e-12);
        // Counts 0, 2: mean 1, deviation 1.
        assert!((variation([0.0, 2.0].into_iter(), 2.0) - 1.0).abs() < 1e-12);
    }
}
