//! Attention in one pass over the keys: a tile of scores at a time, with a running maximum and sum (Dao et al. 2022).
//!
//! A panel of queries stands in the lanes of the registers and the keys go by, so that maxima, sums and weights are plain
//! element-wise operations, and a tile of weights is at once the right operand of its product with the values.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::problem::{Problem, Sequence};
use crate::simd::vectorised;
use crate::tiles::{
    Aligned, GROUP, Lanes, WIDEST, block, groups_of_columns, groups_of_rows, multiply_rows, pad_to,
    panel_of_rows,
};

/// Rows of a task; a multiple of every panel's width.
const ROWS: usize = 48;
/// Keys whose scores are there at a time; even, and a multiple of [`GROUP`].
const TILE: usize = 128;

/// The output `[rows, D]` and the logarithm of the sum of `exp(score)` of each row and head.
pub(super) fn forward<T: Lanes>(problem: &Problem, qkv: &[T]) -> (Vec<T>, Vec<T>) {
    let (width, heads) = (problem.width(), problem.heads);
    let rows = problem.segments.rows();
    let (mut out, mut sums) = (crate::pool::take(rows * width), vec![T::ZERO; rows * heads]);
    let outs = problem.segments.split(&mut out, width);
    let tasks: Vec<_> = problem
        .sequences(qkv)
        .zip(
            outs.into_iter()
                .zip(problem.segments.split(&mut sums, heads)),
        )
        .collect();
    tasks
        .into_par_iter()
        .filter(|(s, _)| s.segment.rows > 0)
        .for_each(|(sequence, (out, sums))| {
            let packed = Packed::new(problem, &sequence);
            out.par_chunks_mut(ROWS * width)
                .zip(sums.par_chunks_mut(ROWS * heads))
                .enumerate()
                .for_each(|(k, (out, sums))| {
                    let from = k * ROWS;
                    let task = Task {
                        problem,
                        sequence: &sequence,
                        packed: &packed,
                        from,
                        out,
                        sums,
                    };
                    pulp::Arch::new().dispatch(task);
                });
            packed.recycle();
        });
    (out, sums)
}

/// Keys and values of a sequence, head by head.
struct Packed<T> {
    /// Groups of keys: the inner dimension is the numbers of a head.
    keys: Vec<T>,
    /// Groups of the values' numbers: the inner dimension is the keys.
    values: Vec<T>,
    keys_per_head: usize,
    values_per_head: usize,
}

impl<T: Lanes> Packed<T> {
    fn new(problem: &Problem, sequence: &Sequence<'_, T>) -> Self {
        let (d, n) = (problem.head, sequence.segment.keys);
        let keys_per_head = pad_to(n, GROUP) * d;
        let values_per_head = pad_to(d, GROUP) * n;
        let mut keys = crate::pool::take(keys_per_head * problem.heads);
        let mut values = crate::pool::take(values_per_head * problem.heads);
        if n > 0 {
            keys.par_chunks_mut(keys_per_head)
                .zip(values.par_chunks_mut(values_per_head))
                .enumerate()
                .for_each(|(h, (keys, values))| {
                    vectorised(
                        #[inline(always)]
                        || {
                            groups_of_rows(sequence.keys(h).first(n), keys);
                            groups_of_columns(sequence.values(h).first(n), values);
                        },
                    );
                });
        }
        Self {
            keys,
            values,
            keys_per_head,
            values_per_head,
        }
    }

    fn recycle(self) {
        crate::pool::give(self.keys);
        crate::pool::give(self.values);
    }
}

/// The rows from `from` on, all heads.
struct Task<'a, T> {
    problem: &'a Problem,
    sequence: &'a Sequence<'a, T>,
    packed: &'a Packed<T>,
    from: usize,
    out: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Lanes> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (width, heads) = (self.problem.width(), self.problem.heads);
        let lanes = T::width::<S>();
        let mut panel = Panel::<T>::new(self.problem.head, lanes);
        let parts = self
            .out
            .chunks_mut(lanes * width)
            .zip(self.sums.chunks_mut(lanes * heads));
        for (k, (out, sums)) in parts.enumerate() {
            panel.from = self.from + k * lanes;
            for head in 0..heads {
                panel.start(self.problem, self.sequence, head);
                if S::IS_SCALAR {
                    panel.attend::<S, false>(simd, self.problem, self.sequence, self.packed);
                } else {
                    panel.attend::<S, true>(simd, self.problem, self.sequence, self.packed);
                }
                panel.finish(self.problem, out, sums);
            }
        }
    }
}

/// A panel of queries of one head, and what has been summed up for them.
struct Panel<T> {
    /// The first row.
    from: usize,
    head: usize,
    lanes: usize,
    /// `[d, lanes]`, divided by `sqrt(d)`.
    queries: Aligned<T>,
    /// Scores, then weights: `[TILE, lanes]`.
    tile: Aligned<T>,
    /// Sums of weight times value, `[d, lanes]`.
    sums: Aligned<T>,
    /// The largest score so far.
    largest: [T; WIDEST],
    /// The sum of weights so far, `exp(score - largest)`.
    total: [T; WIDEST],
    /// Where the random numbers of each row begin.
    drop: [u64; WIDEST],
}

impl<T: Lanes> Panel<T> {
    fn new(d: usize, lanes: usize) -> Self {
        Self {
            from: 0,
            head: 0,
            lanes,
            queries: Aligned::zeros(d * lanes),
            tile: Aligned::zeros(TILE * lanes),
            sums: Aligned::zeros(pad_to(d, GROUP) * lanes),
            largest: [T::NEG_INFINITY; WIDEST],
            total: [T::ZERO; WIDEST],
            drop: [0; WIDEST],
        }
    }

    #[inline(always)]
    fn start(&mut self, problem: &Problem, sequence: &Sequence<'_, T>, head: usize) {
        self.head = head;
        let scale = T::of(problem.scale());
        panel_of_rows(
            sequence.queries(head),
            self.from,
            self.lanes,
            scale,
            &mut self.queries,
        );
        self.sums.fill(T::ZERO);
        self.largest = [T::NEG_INFINITY; WIDEST];
        self.total = [T::ZERO; WIDEST];
        if let Some(dropout) = &problem.dropout {
            for (j, key) in self.drop.iter_mut().enumerate() {
                *key = dropout.row(sequence.index, head, self.from + j);
            }
        }
    }

    #[inline(always)]
    fn attend<S: Simd, const FMA: bool>(
        &mut self,
        simd: S,
        problem: &Problem,
        sequence: &Sequence<'_, T>,
        packed: &Packed<T>,
    ) {
        let (lanes, d, n) = (T::width::<S>(), problem.head, sequence.segment.keys);
        if n > 0 {
            let keys = &packed.keys[self.head * packed.keys_per_head..][..packed.keys_per_head];
            let values =
                &packed.values[self.head * packed.values_per_head..][..packed.values_per_head];
            for from in (0..n).step_by(TILE) {
                let count = TILE.min(n - from);
                let keys = keys[from * d..].chunks_exact(GROUP * d);
                for (keys, tile) in keys.zip(self.tile.chunks_exact_mut(GROUP * lanes)) {
                    block(simd, keys, &self.queries, tile, false);
                }
                self.weigh::<S, FMA>(simd, count);
                self.drop::<S>(problem, from, count);
                let values = values.chunks_exact(n * GROUP);
                for (values, sums) in values.zip(self.sums.chunks_exact_mut(GROUP * lanes)) {
                    block(
                        simd,
                        &values[from * GROUP..],
                        &self.tile[..count * lanes],
                        sums,
                        true,
                    );
                }
            }
        }
        if problem.asks_itself(&sequence.segment) && self.from + lanes > n {
            self.own::<S, FMA>(simd, problem, sequence);
        }
    }

    /// Scores of `count` keys become weights relative to the largest score so far, to which all sums are brought.
    #[inline(always)]
    fn weigh<S: Simd, const FMA: bool>(&mut self, simd: S, count: usize) {
        let lanes = T::width::<S>();
        let tile = &mut self.tile[..count * lanes];
        let mut largest = self.largest;
        for row in tile.chunks_exact(lanes) {
            for j in 0..lanes {
                largest[j] = row[j].larger(largest[j]);
            }
        }
        let mut total = [T::ZERO; WIDEST];
        for row in tile.chunks_exact_mut(lanes) {
            for j in 0..lanes {
                row[j] = (row[j] - largest[j]).exp_lane::<FMA>();
                total[j] += row[j];
            }
        }
        self.rescale::<S, FMA>(simd, &largest);
        for j in 0..lanes {
            self.total[j] += total[j];
        }
    }

    #[inline(always)]
    fn rescale<S: Simd, const FMA: bool>(&mut self, simd: S, largest: &[T; WIDEST]) {
        let lanes = T::width::<S>();
        let mut factor = [T::ZERO; WIDEST];
        for j in 0..lanes {
            factor[j] = (self.largest[j] - largest[j]).exp_lane::<FMA>();
            self.total[j] *= factor[j];
        }
        multiply_rows(simd, &mut self.sums, &factor, None);
        self.largest = *largest;
    }

    #[inline(always)]
    fn drop<S: Simd>(&mut self, problem: &Problem, from: usize, count: usize) {
        let Some(dropout) = problem.dropout else {
            return;
        };
        let lanes = T::width::<S>();
        for (i, pair) in self.tile[..count * lanes].chunks_mut(2 * lanes).enumerate() {
            let (even, odd) = pair.split_at_mut(lanes);
            for j in 0..lanes {
                let bits = super::Dropout::bits(self.drop[j], from / 2 + i);
                even[j] *= dropout.even(bits);
                // The last odd column may be missing.
                if let Some(odd) = odd.get_mut(j) {
                    *odd *= dropout.odd(bits);
                }
            }
        }
    }

    /// Adds the row itself to what rows attend to that are no keys.
    #[inline(always)]
    fn own<S: Simd, const FMA: bool>(
        &mut self,
        simd: S,
        problem: &Problem,
        sequence: &Sequence<'_, T>,
    ) {
        let (lanes, d, n) = (T::width::<S>(), problem.head, sequence.segment.keys);
        let mut theirs = vec![T::ZERO; d * lanes];
        panel_of_rows(
            sequence.keys(self.head),
            self.from,
            lanes,
            T::ONE,
            &mut theirs,
        );
        let mut score = [T::ZERO; WIDEST];
        for (q, k) in self
            .queries
            .chunks_exact(lanes)
            .zip(theirs.chunks_exact(lanes))
        {
            for j in 0..lanes {
                score[j] = q[j].fma::<FMA>(k[j], score[j]);
            }
        }
        let mut largest = self.largest;
        for j in 0..lanes {
            if self.from + j < n {
                score[j] = T::NEG_INFINITY;
            }
            largest[j] = score[j].larger(largest[j]);
        }
        self.rescale::<S, FMA>(simd, &largest);
        let mut weight = [T::ZERO; WIDEST];
        for j in 0..lanes {
            weight[j] = (score[j] - largest[j]).exp_lane::<FMA>();
            self.total[j] += weight[j];
            if let Some(dropout) = &problem.dropout {
                weight[j] *= dropout.column(self.drop[j], n);
            }
        }
        panel_of_rows(
            sequence.values(self.head),
            self.from,
            lanes,
            T::ONE,
            &mut theirs,
        );
        for (sums, v) in self
            .sums
            .chunks_exact_mut(lanes)
            .zip(theirs.chunks_exact(lanes))
        {
            for j in 0..lanes {
                sums[j] = weight[j].fma::<FMA>(v[j], sums[j]);
            }
        }
    }

    /// Writes the head's part of the rows.
    #[inline(always)]
    fn finish(&self, problem: &Problem, out: &mut [T], sums: &mut [T]) {
        let (d, h) = (problem.head, self.head);
        let rows = out
            .chunks_exact_mut(problem.width())
            .zip(sums.chunks_exact_mut(problem.heads));
        for (j, (out, sum)) in rows.enumerate() {
            sum[h] = self.largest[j] + self.total[j].ln();
            let out = &mut out[h * d..][..d];
            if self.total[j] == T::ZERO {
                // Nobody to attend to.
                out.fill(T::ZERO);
                continue;
            }
            let share = T::ONE / self.total[j];
            for (out, sums) in out.iter_mut().zip(self.sums.chunks_exact(self.lanes)) {
                *out = sums[j] * share;
            }
        }
    }
}
