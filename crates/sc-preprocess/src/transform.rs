//! Steps that change values cell by cell, in memory or while rows are read.

use std::ops::Range;

use sc_data::{Csr, RowSource};

use crate::{Error, Result};

/// A step that changes the values of cells, each from its own counts and what was learned from all cells before:
/// [`crate::NormalizeTotal`], [`crate::Log1p`], [`crate::Scaler`], [`crate::TfIdf`], [`crate::Clr`].
///
/// New cells are treated with what was learned from the old ones. A pair of steps is a step: the first, then the second.
///
/// ```
/// use sc_data::{Csr, RowSource};
/// use sc_preprocess::{Log1p, NormalizeTotal, Streamed, Transform};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let counts = Csr::from_dense(&ndarray::array![[1.0f32, 3.0], [2.0, 0.0]]);
/// let steps = (NormalizeTotal::to(1e4)?, Log1p);
/// // In memory:
/// let x = steps.apply(counts.clone())?;
/// // Or while reading, so that the counts may lie on disk:
/// let streamed = Streamed::new(&counts, &steps);
/// assert_eq!(streamed.read_range(0..2)?, x);
/// # Ok(())
/// # }
/// ```
pub trait Transform: Send + Sync {
    /// The same cells with other values.
    ///
    /// # Errors
    /// [`Error::InvalidValue`], whose row counts within `block`, or [`Error::InvalidParameter`] if the block has another number
    /// of genes than the step was fitted to.
    fn apply(&self, block: Csr) -> Result<Csr>;
}

impl<T: Transform + ?Sized> Transform for &T {
    fn apply(&self, block: Csr) -> Result<Csr> {
        (**self).apply(block)
    }
}

impl<T: Transform + ?Sized> Transform for Box<T> {
    fn apply(&self, block: Csr) -> Result<Csr> {
        (**self).apply(block)
    }
}

impl<A: Transform, B: Transform> Transform for (A, B) {
    fn apply(&self, block: Csr) -> Result<Csr> {
        self.1.apply(self.0.apply(block)?)
    }
}

/// The rows of another source, changed by a [`Transform`] as they are read.
#[derive(Debug, Clone)]
pub struct Streamed<S, T> {
    source: S,
    transform: T,
}

impl<S: RowSource, T: Transform> Streamed<S, T> {
    /// `transform` applied to the rows of `source`.
    pub fn new(source: S, transform: T) -> Self {
        Self { source, transform }
    }

    /// `row` tells the number of a row of the block in the source.
    fn change(&self, block: Csr, row: impl Fn(usize) -> usize) -> sc_data::Result<Csr> {
        self.transform.apply(block).map_err(|e| match e {
            Error::Data(e) => e,
            other => sc_data::Error::Source(Box::new(renumbered(other, row))),
        })
    }
}

/// The error with the row's number in the source.
fn renumbered(error: Error, in_source: impl Fn(usize) -> usize) -> Error {
    match error {
        Error::InvalidValue {
            row,
            column,
            value,
            expected,
        } => Error::InvalidValue {
            row: in_source(row),
            column,
            value,
            expected,
        },
        Error::EmptyCell { row } => Error::EmptyCell {
            row: in_source(row),
        },
        other => other,
    }
}

impl<S: RowSource, T: Transform> RowSource for Streamed<S, T> {
    fn n_rows(&self) -> usize {
        self.source.n_rows()
    }

    fn n_cols(&self) -> usize {
        self.source.n_cols()
    }

    fn read_rows(&self, rows: &[usize]) -> sc_data::Result<Csr> {
        let block = self.source.read_rows(rows)?;
        self.change(block, |i| rows.get(i).copied().unwrap_or(i))
    }

    fn read_range(&self, rows: Range<usize>) -> sc_data::Result<Csr> {
        let start = rows.start;
        self.change(self.source.read_range(rows)?, |i| start + i)
    }
}

/// Calls `f(row, columns, values)` for every row of a matrix, on several threads, and returns it with the values changed.
pub(crate) fn map_rows(
    block: Csr,
    f: impl Fn(usize, &[u32], &mut [f32]) + Sync + Send,
) -> Result<Csr> {
    use rayon::prelude::*;

    let (n_rows, n_cols) = (block.n_rows(), block.n_cols());
    let (indptr, indices, mut data) = block.into_raw();
    let mut rest: &mut [f32] = &mut data;
    let mut rows = Vec::with_capacity(n_rows);
    for w in indptr.windows(2) {
        let (row, tail) = std::mem::take(&mut rest).split_at_mut(w[1] - w[0]);
        rows.push((w[0]..w[1], row));
        rest = tail;
    }
    rows.into_par_iter()
        .enumerate()
        .with_min_len(64)
        .for_each(|(i, (span, values))| f(i, indices.get(span).unwrap_or_default(), values));
    Ok(Csr::new(n_rows, n_cols, indptr, indices, data)?)
}

/// Refuses a block with other genes than a step was fitted to.
pub(crate) fn same_genes(found: usize, fitted: usize) -> Result<()> {
    if found == fitted {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "the number of genes",
        found: found.to_string(),
        expected: format!("the {fitted} genes that the step was fitted to"),
    })
}
