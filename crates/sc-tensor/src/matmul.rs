//! Matrix products into memory that is there already.
//!
//! candle's product allocates its result and fills it with zeros before it overwrites it. For the `[cells, genes]`
//! matrices of a decoder that costs as much as the product of a small layer. This is the same kernel, `gemm`, without that.
//! Its safe interface is this module, the only one of the crate that may use `unsafe`.
#![allow(unsafe_code)]

use candle_core::{Error, Result};

use crate::kernel::Real;
use crate::pool::{self, Pooled};

/// A matrix to be read: rows of a slice, or their transpose.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl<'a, T: Real> Matrix<'a, T> {
    /// `rows` rows of `cols` numbers, one after the other.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(Error::msg(format!(
                "a matrix of {rows} x {cols} was given {} numbers",
                data.len()
            )));
        }
        Ok(Self {
            data,
            rows,
            cols,
            transposed: false,
        })
    }

    /// The transpose; nothing is copied.
    pub(crate) fn t(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    fn dims(&self) -> (usize, usize) {
        match self.transposed {
            false => (self.rows, self.cols),
            true => (self.cols, self.rows),
        }
    }

    /// Distance from a row to the next, and from a column to the next.
    fn strides(&self) -> (isize, isize) {
        // A slice has at most `isize::MAX` bytes.
        match self.transposed {
            false => (self.cols as isize, 1),
            true => (1, self.cols as isize),
        }
    }
}

/// `out = a b`, or `out += a b`, with `out` in rows.
///
/// The bits don't depend on the number of threads.
pub(crate) fn multiply<T: Real>(
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    out: &mut [T],
    add: bool,
) -> Result<()> {
    if out.len() != elements(&a, &b)? {
        return Err(Error::msg(format!(
            "the product of {:?} and {:?} was given room for {} numbers",
            a.dims(),
            b.dims(),
            out.len()
        )));
    }
    if a.dims().1 == 0 {
        // Nothing to sum, and gemm's own business otherwise.
        if !add {
            out.fill(T::ZERO);
        }
        return Ok(());
    }
    // SAFETY: `out` has room for the product, was initialised, and is borrowed by nobody else.
    unsafe { gemm_into(a, b, out.as_mut_ptr(), add) };
    Ok(())
}

/// `a b` in rows.
pub(crate) fn product<T: Pooled>(a: Matrix<'_, T>, b: Matrix<'_, T>) -> Result<Vec<T>> {
    let mut out = pool::take(elements(&a, &b)?);
    multiply(a, b, &mut out, false)?;
    Ok(out)
}

/// The number of elements of the product.
fn elements<T: Real>(a: &Matrix<'_, T>, b: &Matrix<'_, T>) -> Result<usize> {
    let ((m, k), (k_b, n)) = (a.dims(), b.dims());
    match m.checked_mul(n) {
        Some(len) if k == k_b => Ok(len),
        _ => Err(Error::msg(format!(
            "no product of matrices of {m} x {k} and {k_b} x {n}"
        ))),
    }
}

/// # Safety
/// `out` must be valid for reads and writes of `m * n` elements for the `m x k` and `k x n` matrices `a` and `b` (the inner
/// dimensions agree), and must not overlap them.
unsafe fn gemm_into<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: *mut T, add: bool) {
    let ((m, k), (_, n)) = (a.dims(), b.dims());
    let ((a_rs, a_cs), (b_rs, b_cs)) = (a.strides(), b.strides());
    let threads = match rayon::current_num_threads() {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    // SAFETY: `Matrix::new` checked that rows x cols elements are there, which with these strides are all that gemm reads;
    // `out` is the caller's promise. `T` is `f32` or `f64`: `Real` has no other types, and gemm knows both.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a_cs,
            a_rs,
            b.data.as_ptr(),
            b_cs,
            b_rs,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_sums() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, -1.0, 2.0, 0.5, 0.0, 3.0];
        let (a, b) = (
            Matrix::new(&a, 2, 3).unwrap(),
            Matrix::new(&b, 3, 2).unwrap(),
        );
        assert_eq!(product(a, b).unwrap(), [5.0, 9.0, 14.0, 16.5]);
        let mut out = product(b.t(), a.t()).unwrap();
        assert_eq!(out, [5.0, 14.0, 9.0, 16.5]);
        multiply(b.t(), a.t(), &mut out, true).unwrap();
        assert_eq!(out, [10.0, 28.0, 18.0, 33.0]);
    }

    #[test]
    fn nothing_to_sum_is_zero() {
        let empty = Matrix::<f32>::new(&[], 2, 0).unwrap();
        assert_eq!(product(empty, empty.t()).unwrap(), [0.0; 4]);
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(Matrix::new(&[0.0f32; 5], 2, 3).is_err());
        let a = Matrix::new(&[0.0f32; 6], 2, 3).unwrap();
        assert!(product(a, a).is_err());
        assert!(multiply(a, a.t(), &mut [0.0; 3], false).is_err());
    }
}
