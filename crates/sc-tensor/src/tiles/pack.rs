//! Copies of matrices in the order in which [`block`](super::block) reads them.

use super::GROUP;
use crate::kernel::Real;

/// The smallest multiple of `unit` that is not below `n`.
pub(crate) fn pad_to(n: usize, unit: usize) -> usize {
    n.div_ceil(unit) * unit
}

/// The first `width` numbers of some rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    data: &'a [T],
    stride: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl<'a, T: Real> Rows<'a, T> {
    /// `rows` rows of `width` numbers each of which begins `stride` after the one before.
    pub(crate) fn new(data: &'a [T], stride: usize, rows: usize, width: usize) -> Self {
        Self {
            data,
            stride,
            rows,
            width,
        }
    }

    /// The first `n` of them.
    #[inline(always)]
    pub(crate) fn first(self, n: usize) -> Self {
        Self {
            rows: n.min(self.rows),
            ..self
        }
    }

    /// Some of them.
    #[inline(always)]
    pub(crate) fn range(self, range: std::ops::Range<usize>) -> Self {
        let data = self
            .data
            .get(range.start * self.stride..)
            .unwrap_or_default();
        Self {
            data,
            rows: range.end.min(self.rows) - range.start,
            ..self
        }
    }

    /// Some of the numbers of each.
    #[inline(always)]
    pub(crate) fn columns(self, range: std::ops::Range<usize>) -> Self {
        Self {
            data: self.data.get(range.start..).unwrap_or_default(),
            width: range.end.min(self.width) - range.start,
            ..self
        }
    }

    #[inline(always)]
    pub(crate) fn row(&self, i: usize) -> &'a [T] {
        &self.data[i * self.stride..][..self.width]
    }
}

/// The columns become a group's rows: eight columns at a time, `out[group][row][GROUP]`, zeros for columns past the end.
/// With `a` the matrix, `block` computes with `a^T`: the inner dimension is the rows.
#[inline(always)]
pub(crate) fn groups_of_columns<T: Real>(x: Rows<'_, T>, out: &mut [T]) {
    if x.rows == 0 {
        return;
    }
    for (g, out) in out.chunks_exact_mut(x.rows * GROUP).enumerate() {
        let from = g * GROUP;
        let n = GROUP.min(x.width - from);
        for (i, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let row = &x.row(i)[from..];
            if n == GROUP {
                out.copy_from_slice(&row[..GROUP]);
            } else {
                out.fill(T::ZERO);
                out[..n].copy_from_slice(&row[..n]);
            }
        }
    }
}

/// Eight rows at a time, `out[group][column][GROUP]`, zeros for rows past the end: the inner dimension is the columns.
#[inline(always)]
pub(crate) fn groups_of_rows<T: Real>(x: Rows<'_, T>, out: &mut [T]) {
    if x.width == 0 {
        return;
    }
    for (g, out) in out.chunks_exact_mut(x.width * GROUP).enumerate() {
        panel_of_rows::<T>(x, g * GROUP, GROUP, T::ONE, out);
    }
}

/// Columns that [`panel_of_rows`] transposes at a time.
const COLUMNS: usize = 64;

/// `wide` rows from row `from` on side by side, `out[column][wide]`, times `scale`; zeros for rows past the end.
#[inline(always)]
pub(crate) fn panel_of_rows<T: Real>(
    x: Rows<'_, T>,
    from: usize,
    wide: usize,
    scale: T,
    out: &mut [T],
) {
    // A few columns at a time, so that what is written stays in the nearest cache.
    for (k, out) in out.chunks_mut(COLUMNS * wide).enumerate() {
        for i in 0..wide {
            let out = out[i..].iter_mut().step_by(wide);
            if from + i < x.rows {
                let row = &x.row(from + i)[k * COLUMNS..];
                for (out, &v) in out.zip(row) {
                    *out = v * scale;
                }
            } else {
                for out in out {
                    *out = T::ZERO;
                }
            }
        }
    }
}
