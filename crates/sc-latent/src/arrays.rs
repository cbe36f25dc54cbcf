//! Between tensors and arrays.

use candle_core::{DType, Tensor};
use ndarray::Array2;

use crate::Result;

/// Cells of a minibatch at inference.
pub(crate) const BATCH: usize = 128;

/// The rows `0..n` in minibatches.
pub(crate) fn batches(n: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..n)
        .step_by(BATCH)
        .map(move |start| (start..(start + BATCH).min(n)).collect())
}

/// A tensor of any shape as numbers.
pub(crate) fn to_vec(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// A matrix.
pub(crate) fn to_array2(t: &Tensor) -> Result<Array2<f32>> {
    let (n, k) = t.dims2()?;
    let values = t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    // The length is n * k by construction.
    Ok(Array2::from_shape_vec((n, k), values).unwrap_or_else(|_| Array2::zeros((n, k))))
}

/// Copies a matrix into some rows of another.
pub(crate) fn fill_rows(out: &mut Array2<f32>, start: usize, t: &Tensor) -> Result<()> {
    let part = to_array2(t)?;
    for (mut to, from) in out.rows_mut().into_iter().skip(start).zip(part.rows()) {
        to.assign(&from);
    }
    Ok(())
}
