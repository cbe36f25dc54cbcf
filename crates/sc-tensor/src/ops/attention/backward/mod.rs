//! The gradient of attention. Tiles of weights are computed again from the logarithms of their sums (Dao et al. 2022).
//!
//! Here keys stand in the lanes and blocks of queries go by. With `P` the weights, `F` the factors of dropout, `O` the
//! output and `S` the scores: `dV = (P F)^T dO`, `dS = P (F (dO V^T) - rowsum(dO O))`, `dQ = dS K`, `dK = dS^T Q`. A task
//! is a head of a sequence, which visits panels of keys, and for each the blocks of queries, in order: that fixes the
//! order of all sums.

mod blocks;
mod keys;
mod own;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::blocks::{BLOCK, Blocks};
use self::keys::Keys;
use super::problem::{Problem, Sequence};
use crate::tiles::{Lanes, Rows, narrow_width, pad_to};

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
    let mut grads = crate::pool::take(problem.segments.rows() * width);
    let mut rest = &mut grads[..];
    let mut tasks = Vec::with_capacity(problem.segments.len());
    for sequence in problem.sequences(known.qkv) {
        let (mine, others) = std::mem::take(&mut rest).split_at_mut(sequence.segment.rows * width);
        rest = others;
        tasks.push((sequence, mine));
    }
    tasks.into_par_iter().for_each(|(sequence, grads)| {
        let heads: Vec<HeadGradients<T>> = (0..problem.heads)
            .into_par_iter()
            .map(|head| {
                let arch = pulp::Arch::new();
                arch.dispatch(Task {
                    problem,
                    known,
                    sequence: &sequence,
                    head,
                })
            })
            .collect();
        grads
            .par_chunks_mut(width)
            .enumerate()
            .for_each(|(i, row)| {
                let (dq, rest) = row.split_at_mut(problem.width());
                let (dk, dv) = rest.split_at_mut(problem.width());
                let d = problem.head;
                let parts = dq
                    .chunks_exact_mut(d)
                    .zip(dk.chunks_exact_mut(d))
                    .zip(dv.chunks_exact_mut(d));
                for (head, ((dq, dk), dv)) in heads.iter().zip(parts) {
                    head.write(i, dq, dk, dv);
                }
            });
    });
    grads
}

/// The gradients of a head of a sequence.
struct HeadGradients<T> {
    d: usize,
    rows: usize,
    /// Numbers of a row of a panel of `queries`.
    panel: usize,
    /// `[panel][row][number]`, rows padded.
    queries: Vec<T>,
    /// `[row][number]`
    keys: Vec<T>,
    values: Vec<T>,
}

impl<T: Lanes> HeadGradients<T> {
    fn write(&self, i: usize, dq: &mut [T], dk: &mut [T], dv: &mut [T]) {
        let stride = pad_to(self.rows, BLOCK) * self.panel;
        for (k, part) in dq.chunks_mut(self.panel).enumerate() {
            part.copy_from_slice(&self.queries[k * stride + i * self.panel..][..part.len()]);
        }
        dk.copy_from_slice(&self.keys[i * self.d..][..self.d]);
        dv.copy_from_slice(&self.values[i * self.d..][..self.d]);
    }
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

impl<T: Lanes> WithSimd for Task<'_, T> {
    type Output = HeadGradients<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> HeadGradients<T> {
        let (segment, d) = (self.sequence.segment, self.problem.head);
        let n = segment.rows;
        let panel = narrow_width::<S, T>();
        let mut grads = HeadGradients {
            d,
            rows: n,
            panel,
            queries: vec![T::ZERO; d.div_ceil(panel) * pad_to(n, BLOCK) * panel],
            keys: vec![T::ZERO; n * d],
            values: vec![T::ZERO; n * d],
        };
        let blocks = Blocks::new(&self);
        let mut keys = Keys::new(d, T::width::<S>(), panel);
        for from in (0..segment.keys).step_by(T::width::<S>()) {
            keys.load(&self, from);
            for block in (0..n).step_by(BLOCK) {
                if S::IS_SCALAR {
                    keys.visit::<S, false>(simd, &self, &blocks, block, &mut grads);
                } else {
                    keys.visit::<S, true>(simd, &self, &blocks, block, &mut grads);
                }
            }
            keys.store(&mut grads);
        }
        if self.problem.asks_itself(&segment) {
            own::own(&self, &blocks, &mut grads);
        }
        let scale = T::of(self.problem.scale());
        for v in &mut grads.queries {
            *v *= scale;
        }
        grads
    }
}
