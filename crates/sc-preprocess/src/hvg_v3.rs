use sc_data::RowSource;

use crate::Result;
use crate::loess::loess;
use crate::moments::{blocks, count_moments};

/// Share of the genes in a neighbourhood of the mean-variance curve.
const SPAN: f64 = 0.3;

/// Means, variances and standardised variances of [`crate::HvgFlavor::SeuratV3`].
pub(crate) fn seurat_v3(source: &dyn RowSource) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let m = count_moments(source, f64::from)?;
    let deviation = expected_deviation(&m.mean, &m.variance);
    let n = source.n_rows() as f64;
    let limit: Vec<f64> = deviation
        .iter()
        .zip(&m.mean)
        .map(|(s, mean)| s * n.sqrt() + mean)
        .collect();
    let mut sum = vec![0.0; limit.len()];
    let mut sum_sq = vec![0.0; limit.len()];
    for rows in blocks(source.n_rows()) {
        let block = source.read_range(rows)?;
        for (&c, &v) in block.indices().iter().zip(block.data()) {
            let c = c as usize;
            let v = f64::from(v).min(limit[c]);
            sum[c] += v;
            sum_sq[c] += v * v;
        }
    }
    let scores = (0..limit.len())
        .map(|g| {
            // The mean is that of the values before the cut-off.
            let squares = n * m.mean[g] * m.mean[g] + sum_sq[g] - 2.0 * sum[g] * m.mean[g];
            squares / ((n - 1.0) * deviation[g] * deviation[g])
        })
        .collect();
    Ok((m.mean, m.variance, scores))
}

/// The standard deviation that genes of each gene's mean usually have; 1 for constant genes.
fn expected_deviation(mean: &[f64], variance: &[f64]) -> Vec<f64> {
    let varying: Vec<usize> = (0..mean.len()).filter(|&g| variance[g] > 0.0).collect();
    let x: Vec<f64> = varying.iter().map(|&g| mean[g].log10()).collect();
    let y: Vec<f64> = varying.iter().map(|&g| variance[g].log10()).collect();
    let mut deviation = vec![1.0; mean.len()];
    if !x.is_empty() {
        for (&g, log_variance) in varying.iter().zip(loess(&x, &y, SPAN)) {
            deviation[g] = 10f64.powf(log_variance / 2.0);
        }
    }
    deviation
}
