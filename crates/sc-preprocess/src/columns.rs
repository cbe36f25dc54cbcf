//! Going over all stored entries of a source, several columns at a time on several threads.

use std::ops::Range;

use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use crate::Result;

/// Rows read at once. Fixed, because the order of sums depends on it.
pub(crate) const BLOCK: usize = 4096;

/// Columns that one thread takes. Narrower, and finding them in each row costs more than it gives.
const WIDTH: usize = 1024;

/// The runs of at most [`BLOCK`] rows that a source is read in.
pub(crate) fn blocks(n_rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n_rows)
        .step_by(BLOCK)
        .map(move |start| start..(start + BLOCK).min(n_rows))
}

/// Some columns and what was gathered of them.
pub(crate) struct Columns<A> {
    pub(crate) range: Range<usize>,
    pub(crate) state: A,
}

/// Reads the source once, block by block, and calls `visit(state, row, column, width, value)` for every stored entry, where
/// `column` counts from the start of the state's columns and `width` is their number. Entries of one column come in the
/// order of rows whatever the number of threads, so that sums have the same bits. `block` sees each block first, with the
/// number of its first row.
pub(crate) fn over_columns<A: Send>(
    source: &dyn RowSource,
    mut new: impl FnMut(usize) -> A,
    mut block: impl FnMut(&Csr, usize) -> Result<()>,
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
    for rows in blocks(source.n_rows()) {
        let first = rows.start;
        let read = source.read_range(rows)?;
        block(&read, first)?;
        parts.par_iter_mut().for_each(|part| {
            let width = part.range.len();
            for i in 0..read.n_rows() {
                let (columns, values) = read.row(i);
                let from = columns.partition_point(|&c| (c as usize) < part.range.start);
                for (&c, &v) in columns.iter().zip(values).skip(from) {
                    let c = c as usize;
                    if c >= part.range.end {
                        break;
                    }
                    visit(&mut part.state, first + i, c - part.range.start, width, v);
                }
            }
        });
    }
    Ok(parts)
}
