//! Between tensors and arrays.

use candle_core::{DType, Tensor};
use ndarray::Array2;

use crate::Result;

/// Cells of a minibatch at inference.
pub(crate) const BATCH: usize = 128;

/// The rows `0..n` in minibatches.
pub(crate) fn batches(n: usize) -> impl Iterator<Item = Vec<usize>> {
    in_batches(n, BATCH)
}

/// The rows `0..n` in minibatches of another size.
pub(crate) fn in_batches(n: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    let size = size.max(1);
    (0..n)
        .step_by(size)
        .map(move |start| (start..(start + size).min(n)).collect())
}

/// Cells that are encoded at once: enough that handing out work to threads costs nothing beside the work.
pub(crate) const ENCODED_AT_ONCE: usize = 1024;

/// Cells that are decoded at once: as many as keep a `[cells, genes]` block within a few megabytes.
pub(crate) fn decoded_at_once(n_genes: usize) -> usize {
    const ELEMENTS: usize = 1 << 20;
    (ELEMENTS / n_genes.max(1)).clamp(64, ENCODED_AT_ONCE)
}

/// A tensor of any shape as numbers.
pub(crate) fn to_vec(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// A tensor of any shape as numbers in single precision.
pub(crate) fn to_vec32(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// A matrix.
pub(crate) fn to_array2(t: &Tensor) -> Result<Array2<f32>> {
    let (n, k) = t.dims2()?;
    // The length is n * k by construction.
    Ok(Array2::from_shape_vec((n, k), to_vec32(t)?).unwrap_or_else(|_| Array2::zeros((n, k))))
}

/// Copies a matrix into some rows of another.
pub(crate) fn fill_rows(out: &mut Array2<f32>, start: usize, t: &Tensor) -> Result<()> {
    let part = to_array2(t)?;
    for (mut to, from) in out.rows_mut().into_iter().skip(start).zip(part.rows()) {
        to.assign(&from);
    }
    Ok(())
}

/// Copies a matrix into as many numbers, row by row.
pub(crate) fn fill(out: &mut [f32], t: &Tensor) -> Result<()> {
    for (to, from) in out.iter_mut().zip(to_vec32(t)?) {
        *to = from;
    }
    Ok(())
}
