//! The gradient of attention. Tiles of weights are computed again from the logarithms of their sums (Dao et al. 2022).
//!
//! Here keys stand in the lanes and blocks of queries go by. With `P` the weights, `F` the factors of dropout, `O` the
//! output and `S` the scores: `dV = (P F)^T dO`, `dS = P (F (dO V^T) - rowsum(dO O))`, `dQ = dS K`, `dK = dS^T Q`. A task
//! is a head of a sequence and, where that is long, a part of its keys. It visits panels of keys, and for each the blocks
//! of queries, in order; what the parts give for the queries is added in order, too. The parts depend on the number of keys
//! only: that fixes the order of all sums.

mod blocks;
mod keys;
mod own;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::blocks::{BLOCK, Blocks};
use self::keys::Keys;
use super::problem::{Problem, Sequence};
use crate::pool;
use crate::simd::vectorised;
use crate::tiles::{Lanes, Rows, narrow_width, pad_to, widths};

/// What came in, what went out, and the gradient of that.
pub(super) struct Known<'a, T> {
    pub(super) qkv: &'a [T],
    pub(super) out: &'a [T],
    pub(super) grad: &'a [T],
    /// Logarithms of the sums of `exp(score)`, `[rows, heads]`.
    pub(super) sums: &'a [T],
}

/// The gradient of `qkv`.
pub(super) fn backward<T: Lanes>(problem: &Problem, known: &Known<'_, T>) -> Vec<T> {
    let width = 3 * problem.width();
    let mut grads = pool::take(problem.segments.rows() * width);
    let parts = problem.segments.split(&mut grads, width);
    let tasks: Vec<_> = problem.sequences(known.qkv).zip(parts).collect();
    tasks
        .into_par_iter()
        .filter(|(s, _)| s.segment.rows > 0)
        .for_each(|(sequence, grads)| {
            let shape = Shape::new(problem, &sequence);
            let mut by_head = pool::take(shape.len() * problem.heads);
            by_head
                .par_chunks_exact_mut(shape.len())
                .enumerate()
                .for_each(|(head, grads)| {
                    let task = Task {
                        problem,
                        known,
                        sequence: &sequence,
                        head,
                    };
                    task.run(&shape, grads);
                });
            grads
                .par_chunks_mut(ROWS * width)
                .enumerate()
                .for_each(|(k, rows)| {
                    for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                        for (head, grads) in by_head.chunks_exact(shape.len()).enumerate() {
                            shape.write(k * ROWS + i, head, grads, row);
                        }
                    }
                });
            pool::give(by_head);
        });
    grads
}

/// Rows that are put together at a time.
const ROWS: usize = 32;

/// How the gradients of a head of a sequence lie.
#[derive(Clone, Copy)]
struct Shape {
    d: usize,
    heads: usize,
    rows: usize,
    /// Numbers of a row of a panel of queries.
    panel: usize,
    /// Parts of the keys, and keys of a part.
    parts: usize,
    part: usize,
}

/// Keys are split in parts from twice this number on, in [`MOST_PARTS`] at most: each part needs memory for the gradients
/// of all queries. A multiple of every panel's width.
const PART: usize = 480;
const MOST_PARTS: usize = 4;

impl Shape {
    fn new<T: Lanes>(problem: &Problem, sequence: &Sequence<'_, T>) -> Self {
        let keys = sequence.segment.keys;
        let parts = (keys / PART).clamp(1, MOST_PARTS);
        Self {
            d: problem.head,
            heads: problem.heads,
            rows: sequence.segment.rows,
            panel: widths::<T>().1,
            parts,
            part: pad_to(keys.div_ceil(parts), 48).max(48),
        }
    }

    /// Numbers of a panel of queries.
    fn stride(&self) -> usize {
        pad_to(self.rows, BLOCK) * self.panel
    }

    fn queries(&self) -> usize {
        self.d.div_ceil(self.panel) * self.stride()
    }

    fn len(&self) -> usize {
        self.parts * self.queries() + 2 * self.rows * self.d
    }

    /// Writes row `i` of a head into that of all heads.
    fn write<T: Lanes>(&self, i: usize, head: usize, grads: &[T], row: &mut [T]) {
        let (d, width) = (self.d, self.heads * self.d);
        let (queries, rest) = grads.split_at(self.parts * self.queries());
        for (k, part) in row[head * d..][..d].chunks_mut(self.panel).enumerate() {
            let at = k * self.stride() + i * self.panel;
            part.copy_from_slice(&queries[at..][..part.len()]);
        }
        for (k, all) in rest.chunks_exact(self.rows * d).enumerate() {
            row[(k + 1) * width + head * d..][..d].copy_from_slice(&all[i * d..][..d]);
        }
    }
}

/// The gradients of a head of a sequence, those of keys and values for some of the keys.
struct HeadGradients<'a, T> {
    /// Numbers of a row of a panel of `queries`.
    panel: usize,
    /// `[panel][row][number]`, rows padded.
    queries: &'a mut [T],
    /// `[row][number]`
    keys: &'a mut [T],
    values: &'a mut [T],
}

struct Task<'a, T> {
    problem: &'a Problem,
    known: &'a Known<'a, T>,
    sequence: &'a Sequence<'a, T>,
    head: usize,
}

impl<'a, T: Lanes> Task<'a, T> {
    /// The head's part of the rows of `x`, which is `[rows, D]`.
    #[inline(always)]
    fn of_output(&self, x: &'a [T]) -> Rows<'a, T> {
        let (segment, width) = (self.sequence.segment, self.problem.width());
        let at = segment.start * width + self.head * self.problem.head;
        Rows::new(
            x.get(at..).unwrap_or_default(),
            width,
            segment.rows,
            self.problem.head,
        )
    }
}

impl<T: Lanes> Task<'_, T> {
    /// Computes the gradients of the head.
    fn run(&self, shape: &Shape, grads: &mut [T]) {
        let (segment, d) = (self.sequence.segment, shape.d);
        let blocks = vectorised(
            #[inline(always)]
            || Blocks::new(self),
        );
        let (queries, rest) = grads.split_at_mut(shape.parts * shape.queries());
        let (keys, values) = rest.split_at_mut(shape.rows * d);
        keys.fill(T::ZERO);
        values.fill(T::ZERO);
        queries
            .par_chunks_exact_mut(shape.queries())
            .zip(keys.par_chunks_mut(shape.part * d))
            .zip(values.par_chunks_mut(shape.part * d))
            .enumerate()
            .for_each(|(k, ((queries, keys), values))| {
                let from = k * shape.part;
                pulp::Arch::new().dispatch(Part {
                    task: self,
                    blocks: &blocks,
                    keys: from..(from + shape.part).min(segment.keys),
                    grads: HeadGradients {
                        panel: shape.panel,
                        queries,
                        keys,
                        values,
                    },
                });
            });
        let (first, others) = queries.split_at_mut(shape.queries());
        let scale = T::of(self.problem.scale());
        vectorised(
            #[inline(always)]
            || {
                for other in others.chunks_exact(shape.queries()) {
                    for (sum, &v) in first.iter_mut().zip(other) {
                        *sum += v;
                    }
                }
                for v in first.iter_mut() {
                    *v *= scale;
                }
            },
        );
        if self.problem.asks_itself(&segment) {
            let mut grads = HeadGradients {
                panel: shape.panel,
                queries: first,
                keys,
                values,
            };
            own::own(self, &blocks, &mut grads);
        }
        blocks.recycle();
    }
}

/// Some of the keys of a head.
struct Part<'a, T> {
    task: &'a Task<'a, T>,
    blocks: &'a Blocks<T>,
    keys: std::ops::Range<usize>,
    grads: HeadGradients<'a, T>,
}

impl<T: Lanes> WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (task, grads) = (self.task, &mut self.grads);
        let (n, d) = (task.sequence.segment.rows, task.problem.head);
        let scale = T::of(task.problem.scale());
        grads.queries.fill(T::ZERO);
        let first = self.keys.start;
        let mut keys = Keys::new(d, T::width::<S>(), narrow_width::<S, T>());
        for from in self.keys.step_by(T::width::<S>()) {
            keys.load(task, from);
            for block in (0..n).step_by(BLOCK) {
                if S::IS_SCALAR {
                    keys.visit::<S, false>(simd, task, self.blocks, block, grads);
                } else {
                    keys.visit::<S, true>(simd, task, self.blocks, block, grads);
                }
            }
            keys.store(first, scale, grads);
        }
    }
}
