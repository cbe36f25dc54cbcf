use pulp::Simd;

use super::blocks::{BLOCK, Blocks};
use super::{HeadGradients, Task};
use crate::ops::attention::Dropout;
use crate::tiles::{Aligned, GROUP, Lanes, WIDEST, block, by_rows, pad_to, panel_of_rows};

/// A panel of keys, and what has been summed up for them.
pub(super) struct Keys<T> {
    d: usize,
    lanes: usize,
    /// Columns of a narrow panel.
    narrow: usize,
    /// The first key, and how many there are.
    from: usize,
    count: usize,
    /// `[d, lanes]`, keys divided by `sqrt(d)`.
    keys: Aligned<T>,
    values: Aligned<T>,
    /// Keys again, in narrow panels of `[key, number]`.
    by_key: Aligned<T>,
    /// Tiles of `[BLOCK, lanes]`: scores, which become weights; gradients of weights, which become those of scores.
    weights: Aligned<T>,
    scores: Aligned<T>,
    /// `[d, lanes]`
    d_keys: Aligned<T>,
    d_values: Aligned<T>,
}

impl<T: Lanes> Keys<T> {
    pub(super) fn new(d: usize, lanes: usize, narrow: usize) -> Self {
        let zeros = Aligned::zeros;
        Self {
            d,
            lanes,
            narrow,
            from: 0,
            count: 0,
            keys: zeros(d * lanes),
            values: zeros(d * lanes),
            by_key: zeros(pad_to(d, narrow) * lanes),
            weights: zeros(BLOCK * lanes),
            scores: zeros(BLOCK * lanes),
            d_keys: zeros(pad_to(d, GROUP) * lanes),
            d_values: zeros(pad_to(d, GROUP) * lanes),
        }
    }

    /// Goes to the keys from `from` on.
    #[inline(always)]
    pub(super) fn load(&mut self, task: &Task<'_, T>, from: usize) {
        let n = task.sequence.segment.keys;
        let keys = task.sequence.keys(task.head).first(n);
        let values = task.sequence.values(task.head).first(n);
        self.from = from;
        self.count = self.lanes.min(n - from);
        let scale = T::of(task.problem.scale());
        panel_of_rows(keys, from, self.lanes, scale, &mut self.keys);
        panel_of_rows(values, from, self.lanes, T::ONE, &mut self.values);
        for (k, panel) in self
            .by_key
            .chunks_exact_mut(self.lanes * self.narrow)
            .enumerate()
        {
            for (i, out) in panel
                .chunks_exact_mut(self.narrow)
                .take(self.count)
                .enumerate()
            {
                let row = &keys.row(from + i)[k * self.narrow..];
                let len = self.narrow.min(row.len());
                out[..len].copy_from_slice(&row[..len]);
            }
        }
        self.d_keys.fill(T::ZERO);
        self.d_values.fill(T::ZERO);
    }

    /// Adds what a block of queries, from row `from` on, contributes.
    #[inline(always)]
    pub(super) fn visit<S: Simd, const FMA: bool>(
        &mut self,
        simd: S,
        task: &Task<'_, T>,
        blocks: &Blocks<T>,
        from: usize,
        grads: &mut HeadGradients<'_, T>,
    ) {
        let (lanes, d, n) = (T::width::<S>(), self.d, task.sequence.segment.rows);
        let count = BLOCK.min(n - from);
        let groups = count.div_ceil(GROUP);
        let tile = GROUP * lanes;
        let [q_rows, g_rows] = blocks.rows();
        for (rows, panel, out) in [
            (q_rows, &self.keys, &mut self.weights),
            (g_rows, &self.values, &mut self.scores),
        ] {
            let rows = rows[from * d..].chunks_exact(GROUP * d).take(groups);
            for (rows, out) in rows.zip(out.chunks_exact_mut(tile)) {
                block(simd, rows, panel, out, false);
            }
        }
        self.weigh::<S, FMA>(task, blocks, from, count);
        let [q_numbers, g_numbers] = blocks.numbers();
        for (numbers, tile, sums) in [
            (g_numbers, &self.weights, &mut self.d_values),
            (q_numbers, &self.scores, &mut self.d_keys),
        ] {
            for (numbers, sums) in numbers
                .chunks_exact(n * GROUP)
                .zip(sums.chunks_exact_mut(GROUP * lanes))
            {
                block(
                    simd,
                    &numbers[from * GROUP..],
                    &tile[..count * lanes],
                    sums,
                    true,
                );
            }
        }
        let stride = pad_to(n, BLOCK) * self.narrow;
        let panels = self
            .by_key
            .chunks_exact(lanes * self.narrow)
            .zip(grads.queries.chunks_exact_mut(stride));
        for (keys, out) in panels {
            let out = &mut out[from * self.narrow..][..BLOCK * self.narrow];
            by_rows(simd, &self.scores, self.count, keys, out);
        }
    }

    /// Weights and the gradients of scores, from scores and the gradients of weights.
    #[inline(always)]
    fn weigh<S: Simd, const FMA: bool>(
        &mut self,
        task: &Task<'_, T>,
        blocks: &Blocks<T>,
        from: usize,
        count: usize,
    ) {
        let lanes = T::width::<S>();
        let tiles = self
            .weights
            .chunks_exact_mut(lanes)
            .zip(self.scores.chunks_exact_mut(lanes));
        for (i, (weights, scores)) in tiles.take(count).enumerate() {
            let (sum, delta) = (blocks.sums[from + i], blocks.delta[from + i]);
            match &task.problem.dropout {
                None => {
                    for j in 0..lanes {
                        let weight = (weights[j] - sum).exp_lane::<FMA>();
                        weights[j] = weight;
                        scores[j] = weight * (scores[j] - delta);
                    }
                }
                Some(dropout) => {
                    let row = dropout.row(task.sequence.index, task.head, from + i);
                    let factors = factors::<S, T>(dropout, row, self.from);
                    for j in 0..lanes {
                        let weight = (weights[j] - sum).exp_lane::<FMA>();
                        weights[j] = weight * factors[j];
                        scores[j] = weight * (scores[j] * factors[j] - delta);
                    }
                }
            }
        }
    }

    /// Writes the gradients of the keys and values of the panel, where key `first` comes first.
    #[inline(always)]
    pub(super) fn store(&self, first: usize, scale: T, grads: &mut HeadGradients<'_, T>) {
        let (d, lanes) = (self.d, self.lanes);
        for (sums, scale, out) in [
            (&self.d_keys, scale, &mut *grads.keys),
            (&self.d_values, T::ONE, &mut *grads.values),
        ] {
            let rows = out[(self.from - first) * d..]
                .chunks_exact_mut(d)
                .take(self.count);
            for (i, row) in rows.enumerate() {
                for (out, sums) in row.iter_mut().zip(sums.chunks_exact(lanes)) {
                    *out = sums[i] * scale;
                }
            }
        }
    }
}

/// What the weights of a panel of columns are multiplied by in a row.
#[inline(always)]
fn factors<S: Simd, T: Lanes>(dropout: &Dropout, row: u64, from: usize) -> [T; WIDEST] {
    let lanes = T::width::<S>();
    let mut factors = [T::ZERO; WIDEST];
    if lanes % 2 == 0 {
        for pair in 0..lanes / 2 {
            let bits = Dropout::bits(row, from / 2 + pair);
            factors[2 * pair] = dropout.even(bits);
            factors[2 * pair + 1] = dropout.odd(bits);
        }
    } else {
        for j in 0..lanes {
            factors[j] = dropout.column(row, from + j);
        }
    }
    factors
}
