use super::Task;
use crate::pool;
use crate::simd::dot;
use crate::tiles::{GROUP, Lanes, Rows, groups_of_columns, groups_of_rows, pad_to};

/// Queries of a tile; a multiple of [`GROUP`] and of what [`by_rows`](crate::tiles::by_rows) takes at a time.
pub(super) const BLOCK: usize = 48;

/// The queries of a head and the gradients of its output, in the orders that the products need.
pub(super) struct Blocks<T> {
    /// Queries and gradients: groups of rows; then the same, groups of numbers.
    packed: Vec<T>,
    by_row: usize,
    by_number: usize,
    /// Per row, the logarithm of its sum, and `dO O`.
    pub(super) sums: Vec<T>,
    pub(super) delta: Vec<T>,
}

impl<T: Lanes> Blocks<T> {
    #[inline(always)]
    pub(super) fn new(task: &Task<'_, T>) -> Self {
        let (n, d) = (task.sequence.segment.rows, task.problem.head);
        let (queries, grads) = (
            task.sequence.queries(task.head),
            task.of_output(task.known.grad),
        );
        let out = task.of_output(task.known.out);
        let (mut sums, mut delta) = (vec![T::ZERO; n], vec![T::ZERO; n]);
        let all = &task.known.sums[task.sequence.segment.start * task.problem.heads..];
        for i in 0..n {
            sums[i] = all[i * task.problem.heads + task.head];
            delta[i] = dot(grads.row(i), out.row(i));
        }
        let mut blocks = Self {
            packed: Vec::new(),
            by_row: pad_to(n, GROUP) * d,
            by_number: pad_to(d, GROUP) * n,
            sums,
            delta,
        };
        let mut packed = pool::take(2 * (blocks.by_row + blocks.by_number));
        let (rows, numbers) = packed.split_at_mut(2 * blocks.by_row);
        let (q_rows, g_rows) = rows.split_at_mut(blocks.by_row);
        let (q_numbers, g_numbers) = numbers.split_at_mut(blocks.by_number);
        pack(queries, q_rows, q_numbers);
        pack(grads, g_rows, g_numbers);
        blocks.packed = packed;
        blocks
    }

    /// Queries, and gradients of the output, in groups of rows.
    #[inline(always)]
    pub(super) fn rows(&self) -> [&[T]; 2] {
        let (queries, rest) = self.packed.split_at(self.by_row);
        [queries, &rest[..self.by_row]]
    }

    /// The same in groups of numbers.
    #[inline(always)]
    pub(super) fn numbers(&self) -> [&[T]; 2] {
        let (queries, grads) = self.packed[2 * self.by_row..].split_at(self.by_number);
        [queries, grads]
    }

    pub(super) fn recycle(self) {
        pool::give(self.packed);
    }
}

#[inline(always)]
fn pack<T: Lanes>(x: Rows<'_, T>, rows: &mut [T], numbers: &mut [T]) {
    groups_of_rows(x, rows);
    groups_of_columns(x, numbers);
}
