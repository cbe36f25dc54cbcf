//! Products of whole matrices whose rows don't know of each other.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    Aligned, GROUP, Lanes, Rows, block, groups_of_columns, groups_of_rows, pad_to, panel_of_rows,
    widths,
};

/// How much of the inner dimension is gone through at a time: with that, a panel fits the nearest cache. It has no
/// influence on the bits.
const DEPTH: usize = 192;
/// Rows of a task, at most and at least; multiples of [`GROUP`].
const ROWS: (usize, usize) = (192, 48);
/// Tasks for each thread, so that all end at about the same time.
const TASKS: usize = 4;

/// A left operand: the rows of a matrix, or its columns.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a, T> {
    Rows(Rows<'a, T>),
    Columns(Rows<'a, T>),
}

impl<T: Lanes> Left<'_, T> {
    fn len(&self) -> usize {
        match self {
            Self::Rows(x) => x.rows,
            Self::Columns(x) => x.width,
        }
    }

    fn range(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Rows(x) => Self::Rows(x.range(range)),
            Self::Columns(x) => Self::Columns(x.columns(range)),
        }
    }

    #[inline(always)]
    fn pack(&self, out: &mut [T]) {
        match self {
            Self::Rows(x) => groups_of_rows(*x, out),
            Self::Columns(x) => groups_of_columns(*x, out),
        }
    }
}

/// A right operand, packed in panels.
pub(crate) struct Panels<T> {
    data: Aligned<T>,
    depth: usize,
    columns: usize,
    lanes: usize,
}

impl<T: Lanes> Panels<T> {
    /// The transpose of `w`: its rows are the columns.
    pub(crate) fn of_transposed(w: Rows<'_, T>) -> Self {
        Self::fill(
            w.width,
            w.rows,
            #[inline(always)]
            |from, lanes, out| panel_of_rows(w, from, lanes, T::ONE, out),
        )
    }

    /// `w` as it is.
    pub(crate) fn of(w: Rows<'_, T>) -> Self {
        Self::fill(w.rows, w.width, |from, lanes, out| {
            let n = lanes.min(w.width - from);
            for (i, out) in out.chunks_exact_mut(lanes).enumerate() {
                out[..n].copy_from_slice(&w.row(i)[from..from + n]);
                out[n..].fill(T::ZERO);
            }
        })
    }

    fn fill(depth: usize, columns: usize, f: impl Fn(usize, usize, &mut [T]) + Sync) -> Self {
        let lanes = widths::<T>().0;
        let mut data = Aligned::take(pad_to(columns, lanes) * depth);
        if depth > 0 {
            data.par_chunks_exact_mut(lanes * depth)
                .enumerate()
                .for_each(|(k, panel)| {
                    crate::simd::vectorised(
                        #[inline(always)]
                        || f(k * lanes, lanes, panel),
                    );
                });
        }
        Self {
            data,
            depth,
            columns,
            lanes,
        }
    }

    /// `y = f(x times this)`, with `f(row, first column, sums, part of the row of y)` what becomes of the sums; where `add` is
    /// set the sums go on from `y`.
    ///
    /// The bits of a row of `y` depend on its row of `x` only, not on the others, and not on how many there are.
    pub(crate) fn left_multiplied(
        &self,
        x: Left<'_, T>,
        y: &mut [T],
        add: bool,
        f: impl Fn(usize, usize, &[T], &mut [T]) + Sync,
    ) {
        if x.len() == 0 || self.columns == 0 {
            return;
        }
        let (rows, columns) = self.task(x.len());
        let mut tasks: Vec<(usize, usize, Vec<&mut [T]>)> = Vec::new();
        for (k, y) in y.chunks_mut(rows * self.columns).enumerate() {
            let first = tasks.len();
            for from in (0..self.columns).step_by(columns) {
                tasks.push((k * rows, from, Vec::with_capacity(rows)));
            }
            for row in y.chunks_exact_mut(self.columns) {
                for (task, part) in tasks[first..].iter_mut().zip(row.chunks_mut(columns)) {
                    task.2.push(part);
                }
            }
        }
        tasks.into_par_iter().for_each(|(from, column, y)| {
            let x = x.range(from..from + y.len());
            pulp::Arch::new().dispatch(Task {
                panels: self,
                x,
                row: from,
                column,
                y,
                add,
                f: &f,
            });
        });
    }

    /// Rows and columns of a task.
    fn task(&self, n: usize) -> (usize, usize) {
        let wanted = TASKS * rayon::current_num_threads();
        let rows = pad_to(n.div_ceil(wanted), GROUP).clamp(ROWS.1, ROWS.0);
        let columns = n.div_ceil(rows) * self.columns;
        // As few columns as make enough tasks, in whole panels.
        let columns = pad_to(columns.div_ceil(wanted), self.lanes);
        (
            rows,
            columns.clamp(self.lanes, pad_to(self.columns, self.lanes)),
        )
    }

    pub(crate) fn recycle(self) {
        self.data.recycle();
    }
}

struct Task<'a, 'y, T, F> {
    panels: &'a Panels<T>,
    x: Left<'a, T>,
    /// The first row and column.
    row: usize,
    column: usize,
    y: Vec<&'y mut [T]>,
    add: bool,
    f: &'a F,
}

impl<T: Lanes, F: Fn(usize, usize, &[T], &mut [T])> WithSimd for Task<'_, '_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (lanes, depth, rows) = (T::width::<S>(), self.panels.depth, self.y.len());
        let mut left = Aligned::take(pad_to(rows, GROUP) * depth);
        self.x.pack(&mut left);
        let mut sums = Aligned::zeros(pad_to(rows, GROUP) * lanes);
        let width = self.y.first().map_or(0, |row| row.len());
        for from in (0..width).step_by(lanes) {
            let (at, n) = (self.column + from, lanes.min(width - from));
            if self.add {
                for (y, sums) in self.y.iter().zip(sums.chunks_exact_mut(lanes)) {
                    sums[..n].copy_from_slice(&y[from..from + n]);
                }
            }
            let panel = &self.panels.data[at * depth..][..lanes * depth];
            for (k, panel) in panel.chunks(DEPTH * lanes).enumerate() {
                for (left, sums) in left
                    .chunks_exact(depth * GROUP)
                    .zip(sums.chunks_exact_mut(GROUP * lanes))
                {
                    let left = &left[k * DEPTH * GROUP..];
                    block(simd, left, panel, sums, self.add || k > 0);
                }
            }
            for (i, (y, sums)) in self.y.iter_mut().zip(sums.chunks_exact(lanes)).enumerate() {
                (self.f)(self.row + i, at, &sums[..n], &mut y[from..from + n]);
            }
        }
        left.recycle();
        sums.recycle();
    }
}
