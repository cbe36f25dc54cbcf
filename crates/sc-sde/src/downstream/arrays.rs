//! Between `ndarray` and tensors.

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, ArrayView2};

use crate::{Error, Result};

/// Cells x dimensions as a tensor of this type, on the CPU.
///
/// # Errors
/// [`Error::Empty`] without cells or dimensions, [`Error::NotFinite`] if a coordinate is NaN or infinite.
pub fn to_tensor(cells: ArrayView2<'_, f32>, dtype: DType) -> Result<Tensor> {
    check_places("the cells", cells)?;
    let values: Vec<f32> = cells.iter().copied().collect();
    Ok(Tensor::from_vec(values, cells.dim(), &Device::Cpu)?.to_dtype(dtype)?)
}

/// A tensor of two dimensions as an array.
///
/// # Errors
/// [`Error::Shape`] if it has another number of dimensions.
pub fn to_array(cells: &Tensor) -> Result<Array2<f32>> {
    let Ok(shape) = cells.dims2() else {
        return Err(Error::Shape {
            what: "the states of cells",
            found: cells.dims().to_vec(),
            expected: "[cells, dimensions]".into(),
        });
    };
    let values = cells
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    array(shape, values)
}

/// The numbers of a matrix row by row.
pub(super) fn array<T>((n, d): (usize, usize), values: Vec<T>) -> Result<Array2<T>> {
    let found = values.len();
    Array2::from_shape_vec((n, d), values).map_err(|_| Error::Shape {
        what: "a matrix",
        found: vec![found],
        expected: format!("{n} x {d} numbers"),
    })
}

/// The lengths of the rows of `[cells, ...]`.
pub(super) fn norms(rows: &Tensor) -> Result<Vec<f64>> {
    let squares = rows.detach().flatten_from(1)?.to_dtype(DType::F64)?.sqr()?;
    Ok(squares.sum(1)?.sqrt()?.to_vec1()?)
}

/// Refuses places that are empty or not finite.
pub(super) fn check_places(what: &'static str, places: ArrayView2<'_, f32>) -> Result<()> {
    if places.is_empty() {
        return Err(Error::Empty {
            what,
            found: places.shape().to_vec(),
        });
    }
    match places.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some(((row, column), &value)) => Err(Error::NotFinite {
            what,
            row,
            column,
            value: f64::from(value),
        }),
    }
}
