use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use sprs::{CsMatI, CsMatViewI};

use crate::{Error, Result};

/// A sparse matrix in compressed rows: `f32` values, `u32` column indices, `usize` row pointers.
///
/// Rows are cells, columns are features. Within a row the columns ascend and none occurs twice; every way of
/// building a `Csr` makes sure of it, so that code which reads one may rely on it.
///
/// [`Csr::as_sprs`] shows it to `sprs`, `From` takes one over. The arrays are our own because `sprs` checks its
/// invariants again, on one thread, whenever a matrix is made: once for each minibatch.
#[derive(Clone, PartialEq)]
pub struct Csr {
    n_cols: usize,
    indptr: Vec<usize>,
    indices: Vec<u32>,
    data: Vec<f32>,
}

impl Csr {
    /// Builds a matrix from its three arrays, sorting the columns of each row and summing duplicates if needed.
    ///
    /// # Errors
    /// [`Error::InvalidCsr`] if the lengths disagree, `indptr` descends, or a column index is too large.
    pub fn new(
        n_rows: usize,
        n_cols: usize,
        indptr: Vec<usize>,
        indices: Vec<u32>,
        data: Vec<f32>,
    ) -> Result<Self> {
        let invalid = |reason: String| Error::InvalidCsr {
            rows: n_rows,
            cols: n_cols,
            reason,
        };
        if n_cols > u32::MAX as usize {
            return Err(invalid(format!("more than {} columns", u32::MAX)));
        }
        if n_rows.checked_add(1) != Some(indptr.len()) {
            return Err(invalid(format!(
                "indptr has length {}, expected rows + 1",
                indptr.len()
            )));
        }
        if indptr.first() != Some(&0) {
            return Err(invalid("indptr does not start at 0".into()));
        }
        if let Some(row) = indptr.windows(2).position(|w| w[1] < w[0]) {
            return Err(invalid(format!("indptr descends at row {row}")));
        }
        let stored = indptr.last().copied().unwrap_or(0);
        if stored != indices.len() || indices.len() != data.len() {
            return Err(invalid(format!(
                "indptr ends at {stored}, indices has length {}, data has length {}",
                indices.len(),
                data.len()
            )));
        }
        // In ascending columns only the last can be too large.
        let canonical = indptr.par_windows(2).all(|w| {
            let row = &indices[w[0]..w[1]];
            row.windows(2).all(|c| c[0] < c[1]) && row.last().is_none_or(|&c| (c as usize) < n_cols)
        });
        if canonical {
            return Ok(Self {
                n_cols,
                indptr,
                indices,
                data,
            });
        }
        if let Some(k) = indices.par_iter().position_any(|&c| c as usize >= n_cols) {
            return Err(invalid(format!("column index {} at entry {k}", indices[k])));
        }
        let (indptr, indices, data) = canonicalise(&indptr, &indices, &data);
        Ok(Self {
            n_cols,
            indptr,
            indices,
            data,
        })
    }

    /// An `n_rows` x `n_cols` matrix with nothing stored.
    pub fn zeros(n_rows: usize, n_cols: usize) -> Self {
        Self {
            n_cols,
            indptr: vec![0; n_rows + 1],
            indices: Vec::new(),
            data: Vec::new(),
        }
    }

    /// The non-zero entries of a dense matrix.
    pub fn from_dense(dense: &Array2<f32>) -> Self {
        Self::from_dense_view(dense.view())
    }

    /// The non-zero entries of a view of a dense matrix.
    pub fn from_dense_view(dense: ArrayView2<'_, f32>) -> Self {
        let mut indptr = Vec::with_capacity(dense.nrows() + 1);
        let (mut indices, mut data) = (Vec::new(), Vec::new());
        indptr.push(0);
        for row in dense.rows() {
            for (j, &v) in row.iter().enumerate() {
                if v != 0.0 {
                    indices.push(j as u32);
                    data.push(v);
                }
            }
            indptr.push(indices.len());
        }
        Self {
            n_cols: dense.ncols(),
            indptr,
            indices,
            data,
        }
    }

    /// Number of rows (cells).
    pub fn n_rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// Number of columns (features).
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Number of stored entries (explicit zeros count).
    pub fn n_stored(&self) -> usize {
        self.data.len()
    }

    /// Where each row starts in [`indices`](Self::indices) and [`data`](Self::data): length `n_rows + 1`, from 0.
    pub fn indptr(&self) -> &[usize] {
        &self.indptr
    }

    /// The column of each stored entry, ascending within a row.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The value of each stored entry.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The columns and values stored in row `i`; empty if there is no such row.
    pub fn row(&self, i: usize) -> (&[u32], &[f32]) {
        let indptr = self.indptr();
        match (indptr.get(i), indptr.get(i + 1)) {
            (Some(&a), Some(&b)) => (&self.indices()[a..b], &self.data()[a..b]),
            _ => (&[], &[]),
        }
    }

    /// The same entries with other values, e.g. `x.map(f32::ln_1p)`. `f(0)` must be 0 for the result to make sense.
    pub fn map(&self, f: impl Fn(f32) -> f32 + Sync) -> Self {
        let data = self.data().par_iter().map(|&v| f(v)).collect();
        Self {
            n_cols: self.n_cols,
            indptr: self.indptr.clone(),
            indices: self.indices.clone(),
            data,
        }
    }

    /// The rows in the order given; a row may be asked for more than once.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self> {
        let source = self.indptr();
        let mut indptr = Vec::with_capacity(rows.len() + 1);
        indptr.push(0);
        let mut stored = 0;
        for &r in rows {
            if r >= self.n_rows() {
                return Err(Error::OutOfRange {
                    what: "row",
                    index: r,
                    len: self.n_rows(),
                });
            }
            stored += source[r + 1] - source[r];
            indptr.push(stored);
        }
        let mut indices = Vec::with_capacity(stored);
        let mut data = Vec::with_capacity(stored);
        for &r in rows {
            let (i, v) = self.row(r);
            indices.extend_from_slice(i);
            data.extend_from_slice(v);
        }
        Ok(Self {
            n_cols: self.n_cols,
            indptr,
            indices,
            data,
        })
    }

    /// The columns in the order given. `None` makes an empty column (a feature that this data set lacks).
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a column does not exist, [`Error::Duplicate`] if one is asked for twice.
    pub fn select_columns(&self, columns: &[Option<usize>]) -> Result<Self> {
        let mut target = vec![u32::MAX; self.n_cols()];
        for (new, old) in columns.iter().enumerate() {
            let Some(old) = *old else { continue };
            let slot = target.get_mut(old).ok_or(Error::OutOfRange {
                what: "column",
                index: old,
                len: self.n_cols,
            })?;
            if *slot != u32::MAX {
                return Err(Error::Duplicate {
                    what: "the selection of columns".into(),
                    name: old.to_string(),
                });
            }
            *slot = new as u32;
        }
        let mut indptr = Vec::with_capacity(self.n_rows() + 1);
        let (mut indices, mut data) = (Vec::new(), Vec::new());
        indptr.push(0);
        for i in 0..self.n_rows() {
            let (cols, values) = self.row(i);
            for (&c, &v) in cols.iter().zip(values) {
                let new = target[c as usize];
                if new != u32::MAX {
                    indices.push(new);
                    data.push(v);
                }
            }
            indptr.push(indices.len());
        }
        Self::new(self.n_rows(), columns.len(), indptr, indices, data)
    }

    /// Rows stacked on top of each other.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if the numbers of columns differ.
    pub fn vstack(parts: &[&Self]) -> Result<Self> {
        let n_cols = parts.first().map_or(0, |p| p.n_cols());
        let stored = parts.iter().map(|p| p.n_stored()).sum();
        let mut indptr = vec![0];
        let mut indices = Vec::with_capacity(stored);
        let mut data = Vec::with_capacity(stored);
        for (k, part) in parts.iter().enumerate() {
            if part.n_cols() != n_cols {
                return Err(Error::LengthMismatch {
                    what: format!("the columns of part {k}"),
                    found: part.n_cols(),
                    expected: n_cols,
                });
            }
            let base = indices.len();
            indptr.extend(part.indptr()[1..].iter().map(|p| base + p));
            indices.extend_from_slice(part.indices());
            data.extend_from_slice(part.data());
        }
        Ok(Self {
            n_cols,
            indptr,
            indices,
            data,
        })
    }

    /// The transpose: columns become rows. Linear in the number of stored entries.
    pub fn transpose(&self) -> Self {
        let mut indptr = vec![0usize; self.n_cols() + 1];
        for &c in self.indices() {
            indptr[c as usize + 1] += 1;
        }
        for c in 0..self.n_cols() {
            indptr[c + 1] += indptr[c];
        }
        let mut next = indptr.clone();
        let mut indices = vec![0u32; self.n_stored()];
        let mut data = vec![0f32; self.n_stored()];
        for i in 0..self.n_rows() {
            let (cols, values) = self.row(i);
            for (&c, &v) in cols.iter().zip(values) {
                let slot = &mut next[c as usize];
                indices[*slot] = i as u32;
                data[*slot] = v;
                *slot += 1;
            }
        }
        Self {
            n_cols: self.n_rows(),
            indptr,
            indices,
            data,
        }
    }

    /// A dense copy, row-major.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut dense = Array2::zeros((self.n_rows(), self.n_cols()));
        for (i, mut out) in dense.rows_mut().into_iter().enumerate() {
            let (cols, values) = self.row(i);
            for (&c, &v) in cols.iter().zip(values) {
                out[c as usize] = v;
            }
        }
        dense
    }

    /// The sum of each row, accumulated in `f64`: the library size of each cell.
    pub fn row_sums(&self) -> Vec<f64> {
        self.indptr()
            .windows(2)
            .map(|w| self.data()[w[0]..w[1]].iter().map(|&v| f64::from(v)).sum())
            .collect()
    }

    /// The same matrix as `sprs` sees it, without copying (but checked by `sprs`, in time linear in the stored entries).
    ///
    /// # Errors
    /// [`Error::InvalidCsr`] if `sprs` does not take it.
    pub fn as_sprs(&self) -> Result<CsMatViewI<'_, f32, u32, usize>> {
        let shape = (self.n_rows(), self.n_cols);
        CsMatViewI::try_new(shape, &self.indptr, &self.indices, &self.data).map_err(|(.., e)| {
            Error::InvalidCsr {
                rows: shape.0,
                cols: shape.1,
                reason: e.to_string(),
            }
        })
    }

    /// The three arrays `(indptr, indices, data)`, without copying.
    pub fn into_raw(self) -> (Vec<usize>, Vec<u32>, Vec<f32>) {
        (self.indptr, self.indices, self.data)
    }
}

impl std::fmt::Debug for Csr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Csr {} x {}, {} stored",
            self.n_rows(),
            self.n_cols(),
            self.n_stored()
        )
    }
}

impl From<CsMatI<f32, u32, usize>> for Csr {
    /// Takes over a `sprs` matrix; one in compressed columns is converted.
    fn from(m: CsMatI<f32, u32, usize>) -> Self {
        let m = if m.is_csr() { m } else { m.to_csr() };
        let n_cols = m.cols();
        let indptr = m.indptr().to_proper().to_vec();
        let (_, indices, data) = m.into_raw_storage();
        Self {
            n_cols,
            indptr,
            indices,
            data,
        }
    }
}

/// Sorts the columns of each row and adds up entries of the same column.
fn canonicalise(
    indptr: &[usize],
    indices: &[u32],
    data: &[f32],
) -> (Vec<usize>, Vec<u32>, Vec<f32>) {
    let mut out_ptr = Vec::with_capacity(indptr.len());
    let mut out_idx: Vec<u32> = Vec::with_capacity(indices.len());
    let mut out_val: Vec<f32> = Vec::with_capacity(data.len());
    let mut row: Vec<(u32, f32)> = Vec::new();
    out_ptr.push(0);
    for w in indptr.windows(2) {
        row.clear();
        row.extend(
            indices[w[0]..w[1]]
                .iter()
                .copied()
                .zip(data[w[0]..w[1]].iter().copied()),
        );
        row.sort_by_key(|e| e.0);
        let start = out_idx.len();
        for &(c, v) in &row {
            if out_idx.len() > start && out_idx.last() == Some(&c) {
                if let Some(last) = out_val.last_mut() {
                    *last += v;
                }
            } else {
                out_idx.push(c);
                out_val.push(v);
            }
        }
        out_ptr.push(out_idx.len());
    }
    (out_ptr, out_idx, out_val)
}

#[cfg(test)]
#[path = "csr_tests.rs"]
mod tests;
