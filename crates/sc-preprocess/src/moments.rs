use std::ops::Range;

use sc_data::{Csr, RowSource};

use crate::{Error, Result};

/// Rows read at once. Fixed, because the order of sums depends on it.
pub(crate) const BLOCK: usize = 4096;

/// The runs of at most [`BLOCK`] rows that a source is read in.
pub(crate) fn blocks(n_rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n_rows)
        .step_by(BLOCK)
        .map(move |start| start..(start + BLOCK).min(n_rows))
}

/// The mean and the variance of every column.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub(crate) mean: Vec<f64>,
    /// With `n - 1` in the denominator.
    pub(crate) variance: Vec<f64>,
}

/// Reads the source once and returns the moments of `f(x)`, where `f(0)` must be 0. Refuses negative and non-finite values.
pub(crate) fn count_moments(source: &dyn RowSource, f: impl Fn(f32) -> f64) -> Result<Moments> {
    moments(source, f, check)
}

/// Reads the source once and returns the moments of the values. Refuses non-finite values.
pub(crate) fn value_moments(source: &dyn RowSource) -> Result<Moments> {
    moments(source, f64::from, check_finite)
}

fn moments(
    source: &dyn RowSource,
    f: impl Fn(f32) -> f64,
    check: impl Fn(&Csr, usize) -> Result<()>,
) -> Result<Moments> {
    let mut sum = vec![0.0; source.n_cols()];
    let mut sum_sq = vec![0.0; source.n_cols()];
    for rows in blocks(source.n_rows()) {
        let start = rows.start;
        let block = source.read_range(rows)?;
        check(&block, start)?;
        for (&c, &v) in block.indices().iter().zip(block.data()) {
            let v = f(v);
            sum[c as usize] += v;
            sum_sq[c as usize] += v * v;
        }
    }
    let n = source.n_rows() as f64;
    let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
    let variance = mean
        .iter()
        .zip(&sum_sq)
        .map(|(m, sq)| ((sq / n - m * m) * n / (n - 1.0)).max(0.0))
        .collect();
    Ok(Moments { mean, variance })
}

/// Refuses negative and non-finite values, naming the first. `first_row` is the number of the block's first row.
pub(crate) fn check(block: &Csr, first_row: usize) -> Result<()> {
    let expected = "a finite number that is not negative";
    refuse(block, first_row, |v| !(v.is_finite() && v >= 0.0), expected)
}

/// Refuses NaN and infinite values.
fn check_finite(block: &Csr, first_row: usize) -> Result<()> {
    refuse(block, first_row, |v| !v.is_finite(), "a finite number")
}

fn refuse(
    block: &Csr,
    first_row: usize,
    is_bad: impl Fn(f32) -> bool,
    expected: &'static str,
) -> Result<()> {
    match block.data().iter().position(|&v| is_bad(v)) {
        None => Ok(()),
        Some(k) => Err(Error::InvalidValue {
            row: first_row + block.indptr().partition_point(|&p| p <= k) - 1,
            column: block.indices()[k] as usize,
            value: block.data()[k],
            expected,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_over_several_blocks() {
        let n = BLOCK + 3;
        let dense = ndarray::Array2::from_shape_fn((n, 2), |(i, j)| ((i * (j + 1)) % 5) as f32);
        let m = value_moments(&dense).unwrap();
        for j in 0..2 {
            let col: Vec<f64> = dense.column(j).iter().map(|&v| f64::from(v)).collect();
            let mean = col.iter().sum::<f64>() / n as f64;
            let var = col.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
            assert!((m.mean[j] - mean).abs() < 1e-12);
            assert!((m.variance[j] - var).abs() < 1e-12);
        }
    }
}
