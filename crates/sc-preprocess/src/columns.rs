//! Going over all stored entries of a source, block by block, several columns at a time on several threads.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use crate::Result;

/// Rows read at once. Fixed, because the order of sums depends on it.
pub(crate) const BLOCK: usize = 4096;

/// Columns that one thread takes. Narrower, and finding them in each row costs more than it gives.
const WIDTH: usize = 1024;

/// Rows that follow each other: read for this, or those of a matrix in memory, which are not copied.
pub(crate) struct Block<'a> {
    matrix: Cow<'a, Csr>,
    /// The rows within the matrix.
    rows: Range<usize>,
    /// The number of the first row in the source.
    pub(crate) first: usize,
}

impl Block<'_> {
    pub(crate) fn read(source: &dyn RowSource, rows: Range<usize>) -> Result<Block<'_>> {
        let first = rows.start;
        Ok(match source.in_memory() {
            Some(matrix) => Block {
                matrix: Cow::Borrowed(matrix),
                rows,
                first,
            },
            None => {
                let matrix = source.read_range(rows)?;
                Block {
                    rows: 0..matrix.n_rows(),
                    matrix: Cow::Owned(matrix),
                    first,
                }
            }
        })
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn n_cols(&self) -> usize {
        self.matrix.n_cols()
    }

    /// Columns and values of row `i` of the block.
    pub(crate) fn row(&self, i: usize) -> (&[u32], &[f32]) {
        self.matrix.row(self.rows.start + i)
    }

    /// Where the entries of all rows are.
    fn entries(&self) -> Range<usize> {
        let at = |row: usize| self.matrix.indptr().get(row).copied().unwrap_or_default();
        at(self.rows.start)..at(self.rows.end)
    }

    /// The columns of all entries, row after row.
    pub(crate) fn indices(&self) -> &[u32] {
        self.matrix
            .indices()
            .get(self.entries())
            .unwrap_or_default()
    }

    /// The values of all entries, row after row.
    pub(crate) fn data(&self) -> &[f32] {
        self.matrix.data().get(self.entries()).unwrap_or_default()
    }

    /// The matrix whose rows these are.
    pub(crate) fn matrix(&self) -> &Csr {
        &self.matrix
    }

    /// The share of entries that are stored.
    pub(crate) fn density(&self) -> f64 {
        self.data().len() as f64 / (self.n_rows() * self.n_cols()).max(1) as f64
    }

    /// The sum of each row.
    pub(crate) fn row_sums(&self) -> impl Iterator<Item = f64> {
        (0..self.n_rows()).map(|i| self.row(i).1.iter().map(|&v| f64::from(v)).sum())
    }
}

/// The runs of at most [`BLOCK`] rows that a source is read in.
pub(crate) fn blocks(source: &dyn RowSource) -> impl Iterator<Item = Result<Block<'_>>> {
    let n_rows = source.n_rows();
    let starts = (0..n_rows).step_by(BLOCK);
    starts.map(move |start| Block::read(source, start..(start + BLOCK).min(n_rows)))
}

/// Some columns and what was gathered of them.
pub(crate) struct Columns<A> {
    pub(crate) range: Range<usize>,
    pub(crate) state: A,
}

/// Reads the source once, block by block, and calls `visit(state, row, column, width, value)` for every stored entry, where
/// `column` counts from the start of the state's columns and `width` is their number. Entries of one column come in the
/// order of rows whatever the number of threads, so that sums have the same bits. `look` sees each block first.
pub(crate) fn over_columns<A: Send>(
    source: &dyn RowSource,
    mut new: impl FnMut(usize) -> A,
    mut look: impl FnMut(&Block<'_>) -> Result<()>,
    visit: impl Fn(&mut A, usize, usize, usize, f32) + Sync,
) -> Result<Vec<Columns<A>>> {
    let n = source.n_cols();
    let mut parts: Vec<Columns<A>> = (0..n)
        .step_by(WIDTH)
        .map(|start| {
            let range = start..(start + WIDTH).min(n);
            let state = new(range.len());
            Columns { range, state }
        })
        .collect();
    for block in blocks(source) {
        let block = block?;
        look(&block)?;
        parts.par_iter_mut().for_each(|part| {
            let width = part.range.len();
            for i in 0..block.n_rows() {
                let (columns, values) = block.row(i);
                let from = columns.partition_point(|&c| (c as usize) < part.range.start);
                for (&c, &v) in columns.iter().zip(values).skip(from) {
                    let c = c as usize;
                    if c >= part.range.end {
                        break;
                    }
                    let column = c - part.range.start;
                    visit(&mut part.state, block.first + i, column, width, v);
                }
            }
        });
    }
    Ok(parts)
}
