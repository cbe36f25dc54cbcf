use super::Task;
use crate::simd::dot;
use crate::tiles::{GROUP, Lanes, Rows, groups_of_columns, groups_of_rows, pad_to};

/// Queries of a tile; a multiple of [`GROUP`] and of what [`by_rows`](crate::tiles::by_rows) takes at a time.
pub(super) const BLOCK: usize = 48;

/// The queries of a head and the gradients of its output, in the orders that the products need.
pub(super) struct Blocks<T> {
    /// Queries divided by `sqrt(d)`, and gradients: groups of rows.
    pub(super) q_rows: Vec<T>,
    pub(super) g_rows: Vec<T>,
    /// The same, groups of numbers.
    pub(super) q_numbers: Vec<T>,
    pub(super) g_numbers: Vec<T>,
    /// Per row, the logarithm of its sum, and `dO O`.
    pub(super) sums: Vec<T>,
    pub(super) delta: Vec<T>,
}

impl<T: Lanes> Blocks<T> {
    #[inline(always)]
    pub(super) fn new(task: &Task<'_, T>) -> Self {
        let (n, d) = (task.sequence.segment.rows, task.problem.head);
        let scale = T::of(task.problem.scale());
        let (queries, grads) = (
            task.sequence.queries(task.head),
            task.of_output(task.known.grad),
        );
        let out = task.of_output(task.known.out);
        let mut scaled = Vec::with_capacity(n * d);
        let (mut sums, mut delta) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let all = &task.known.sums[task.sequence.segment.start * task.problem.heads..];
        for i in 0..n {
            scaled.extend(queries.row(i).iter().map(|&q| q * scale));
            sums.push(all[i * task.problem.heads + task.head]);
            delta.push(dot(grads.row(i), out.row(i)));
        }
        let scaled = Rows::new(&scaled, d, n, d);
        let pack = |x| {
            let mut rows = vec![T::ZERO; pad_to(n, GROUP) * d];
            let mut numbers = vec![T::ZERO; pad_to(d, GROUP) * n];
            groups_of_rows(x, &mut rows);
            groups_of_columns(x, &mut numbers);
            (rows, numbers)
        };
        let ((q_rows, q_numbers), (g_rows, g_numbers)) = (pack(scaled), pack(grads));
        Self {
            q_rows,
            g_rows,
            q_numbers,
            g_numbers,
            sums,
            delta,
        }
    }
}
