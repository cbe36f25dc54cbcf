//! The gradient of queries, and that of the sums over keys.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{EPS, Known, SumGradients};
use crate::ops::attention::Segment;
use crate::ops::favor::problem::{CHUNK, Features, Sums};
use crate::ops::favor::queries::Panel;
use crate::simd::dot;
use crate::tiles::{
    BY_ROWS, GROUP, Lanes, Rows, WIDEST, by_rows, groups_of_rows, narrow_width, pad_to,
    panel_of_rows, product,
};

/// The gradient of queries, and those of the sums of each sequence and head.
pub(super) fn backward<T: Lanes>(known: &Known<'_, T>) -> (Vec<T>, Vec<Vec<SumGradients<T>>>) {
    let sizes = known.sizes;
    let width = sizes.width();
    let mut grads = vec![T::ZERO; sizes.segments.rows() * width];
    let packed: Vec<Vec<Packed<T>>> = known
        .sums
        .iter()
        .map(|heads| {
            heads
                .par_iter()
                .map(|sums| Packed::new(known, sums))
                .collect()
        })
        .collect();
    let mut tasks = Vec::new();
    let mut rest = &mut grads[..];
    for (s, segment) in sizes.segments.iter().enumerate() {
        let (mine, others) = std::mem::take(&mut rest).split_at_mut(segment.rows * width);
        rest = others;
        // Without keys the output is zero whatever the queries are.
        if segment.keys > 0 {
            tasks.extend(
                mine.chunks_mut(CHUNK * width)
                    .enumerate()
                    .map(|(k, rows)| (s, segment, k * CHUNK, rows)),
            );
        }
    }
    let parts: Vec<(usize, Vec<SumGradients<T>>)> = tasks
        .into_par_iter()
        .map(|(s, segment, from, out)| {
            let task = Task {
                known,
                segment,
                packed: &packed[s],
                from,
                out,
            };
            (s, pulp::Arch::new().dispatch(task))
        })
        .collect();
    let none = SumGradients {
        values: vec![T::ZERO; sizes.m * sizes.d],
        features: vec![T::ZERO; sizes.m],
    };
    let mut sums = vec![vec![none; sizes.heads]; sizes.segments.len()];
    for (s, heads) in parts {
        for (sum, part) in sums[s].iter_mut().zip(heads) {
            add(&mut sum.values, &part.values);
            add(&mut sum.features, &part.features);
        }
    }
    (grads, sums)
}

fn add<T: Lanes>(sums: &mut [T], terms: &[T]) {
    for (sum, &term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

struct Packed<T> {
    /// `S`: groups of features, the inner dimension is a head's numbers.
    values: Vec<T>,
    /// `z`
    features: Vec<T>,
}

impl<T: Lanes> Packed<T> {
    fn new(known: &Known<'_, T>, sums: &Sums<T>) -> Self {
        let (m, d) = (known.sizes.m, known.sizes.d);
        let s = sums.feature_values();
        let mut values = vec![T::ZERO; pad_to(m, GROUP) * d];
        groups_of_rows(Rows::new(&s, d, m, d), &mut values);
        Self {
            values,
            features: sums.features(),
        }
    }
}

/// A chunk of rows.
struct Task<'a, T> {
    known: &'a Known<'a, T>,
    segment: Segment,
    packed: &'a [Packed<T>],
    from: usize,
    out: &'a mut [T],
}

impl<T: Lanes> WithSimd for Task<'_, T> {
    type Output = Vec<SumGradients<T>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        if S::IS_SCALAR {
            self.run::<S, false>(simd)
        } else {
            self.run::<S, true>(simd)
        }
    }
}

impl<T: Lanes> Task<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(mut self, simd: S) -> Vec<SumGradients<T>> {
        let (lanes, sizes) = (T::width::<S>(), self.known.sizes);
        let mut work = Work::<T>::new(&self, lanes, narrow_width::<S, T>());
        let rows = std::mem::take(&mut self.out);
        let mut all = Vec::with_capacity(sizes.heads);
        for head in 0..sizes.heads {
            work.sums.fill(T::ZERO);
            work.totals.fill(T::ZERO);
            for (k, out) in rows.chunks_mut(lanes * sizes.width()).enumerate() {
                let from = self.from + k * lanes;
                work.visit::<S, FMA>(simd, &self.at(head, from), out);
            }
            all.push(work.collect(lanes));
        }
        all
    }

    fn at(&self, head: usize, from: usize) -> At<'_, T> {
        let rows = |x| self.known.sizes.rows(x, &self.segment, head);
        At {
            features: self.known.features,
            packed: &self.packed[head],
            head,
            from,
            queries: rows(self.known.queries),
            out: rows(self.known.out),
            grads: rows(self.known.grad),
        }
    }
}

/// A panel of rows of a head.
struct At<'a, T> {
    features: &'a Features<T>,
    packed: &'a Packed<T>,
    head: usize,
    from: usize,
    queries: Rows<'a, T>,
    out: Rows<'a, T>,
    grads: Rows<'a, T>,
}

/// What a task works with, and what it has summed up for a head.
struct Work<T> {
    d: usize,
    m: usize,
    /// Columns of a narrow panel.
    narrow: usize,
    panel: Panel<T>,
    /// Gradients of the output, `[d, lanes]`.
    grads: Vec<T>,
    /// Gradients of features, then of exponents: `[m, lanes]` and some more rows.
    tile: Vec<T>,
    /// Gradients of the output over `D`, in narrow panels of `[lanes, number]`.
    by_row: Vec<T>,
    /// `[d, lanes]`
    d_queries: Vec<T>,
    /// `dS`, in narrow panels of `[m, number]`, and some more rows.
    sums: Vec<T>,
    /// `dz` by lane, `[m, lanes]`.
    totals: Vec<T>,
}

impl<T: Lanes> Work<T> {
    fn new(task: &Task<'_, T>, lanes: usize, narrow: usize) -> Self {
        let (m, d) = (task.known.sizes.m, task.known.sizes.d);
        let zeros = |n: usize| vec![T::ZERO; n];
        Self {
            d,
            m,
            narrow,
            panel: Panel::new(task.known.features, lanes),
            grads: zeros(d * lanes),
            tile: zeros(pad_to(m, GROUP) * lanes),
            by_row: zeros(pad_to(d, narrow) * lanes),
            d_queries: zeros(pad_to(d, GROUP) * lanes),
            sums: zeros(pad_to(d, narrow) * pad_to(m, BY_ROWS)),
            totals: zeros(m * lanes),
        }
    }

    #[inline(always)]
    fn visit<S: Simd, const FMA: bool>(&mut self, simd: S, at: &At<'_, T>, out: &mut [T]) {
        let (lanes, d, m) = (T::width::<S>(), self.d, self.m);
        let width = at.features.heads * d;
        let count = out.len() / width;
        self.panel
            .load::<S, FMA>(simd, at.features, at.queries, at.from);
        panel_of_rows(at.grads, at.from, lanes, T::ONE, &mut self.grads);
        let mut inner = [T::ZERO; WIDEST];
        for (j, inner) in inner.iter_mut().enumerate().take(count) {
            *inner = dot(at.grads.row(at.from + j), at.out.row(at.from + j));
        }
        let share = self
            .panel
            .totals::<S, FMA>(m, &at.packed.features)
            .map(|total| T::ONE / total);
        product(
            simd,
            &at.packed.values,
            d,
            &self.grads,
            &mut self.tile,
            false,
        );
        let below = self.exponents::<S, FMA>(&at.packed.features, &inner, &share);
        // The largest exponent of a row was subtracted from all of them.
        for j in 0..count {
            let best = self.panel.best[j].wide() as usize;
            self.tile[best.min(m - 1) * lanes + j] -= below[j];
        }
        product(
            simd,
            &at.features.by_number,
            m,
            &self.tile[..m * lanes],
            &mut self.d_queries,
            false,
        );
        let twice = at.features.half + at.features.half;
        for (j, row) in out.chunks_exact_mut(width).enumerate() {
            let columns = self
                .d_queries
                .chunks_exact(lanes)
                .zip(self.panel.queries.chunks_exact(lanes));
            for (out, (dq, q)) in row[at.head * d..][..d].iter_mut().zip(columns) {
                *out = dq[j] - twice * below[j] * q[j];
            }
        }
        self.sum_up(simd, at, count, &share);
    }

    /// Gradients of features become those of exponents, weights become features. Returns the sum over the features of
    /// each query's gradients of exponents.
    #[inline(always)]
    fn exponents<S: Simd, const FMA: bool>(
        &mut self,
        z: &[T],
        inner: &[T; WIDEST],
        share: &[T; WIDEST],
    ) -> [T; WIDEST] {
        let lanes = T::width::<S>();
        let eps = T::of(EPS);
        let mut below = [T::ZERO; WIDEST];
        let mut d_total = [T::ZERO; WIDEST];
        for j in 0..lanes {
            d_total[j] = -inner[j] * share[j];
        }
        let rows = self
            .tile
            .chunks_exact_mut(lanes)
            .zip(self.panel.tile.chunks_exact_mut(lanes));
        for ((grads, features), (totals, &z)) in
            rows.zip(self.totals.chunks_exact_mut(lanes).zip(z))
        {
            for j in 0..lanes {
                let d_feature = d_total[j].fma::<FMA>(z, grads[j] * share[j]);
                grads[j] = features[j] * d_feature;
                below[j] += grads[j];
                features[j] += eps;
                totals[j] = features[j].fma::<FMA>(d_total[j], totals[j]);
            }
        }
        below
    }

    /// Adds to the gradients of the sums over keys.
    #[inline(always)]
    fn sum_up<S: Simd>(&mut self, simd: S, at: &At<'_, T>, count: usize, share: &[T; WIDEST]) {
        let lanes = T::width::<S>();
        let sums = self
            .sums
            .chunks_exact_mut(pad_to(self.m, BY_ROWS) * self.narrow);
        for (k, (panel, sums)) in self
            .by_row
            .chunks_exact_mut(lanes * self.narrow)
            .zip(sums)
            .enumerate()
        {
            for (j, out) in panel.chunks_exact_mut(self.narrow).enumerate().take(count) {
                let row = &at.grads.row(at.from + j)[k * self.narrow..];
                for (out, &g) in out.iter_mut().zip(row) {
                    *out = g * share[j];
                }
            }
            by_rows(simd, &self.panel.tile, count, panel, sums);
        }
    }

    fn collect(&self, lanes: usize) -> SumGradients<T> {
        let stride = pad_to(self.m, BY_ROWS) * self.narrow;
        let mut values = Vec::with_capacity(self.m * self.d);
        for f in 0..self.m {
            let panels = self
                .sums
                .chunks_exact(stride)
                .map(|panel| &panel[f * self.narrow..][..self.narrow]);
            values.extend(panels.flatten().take(self.d));
        }
        let total = |row: &[T]| row.iter().fold(T::ZERO, |sum, &v| sum + v);
        SumGradients {
            values,
            features: self.totals.chunks_exact(lanes).map(total).collect(),
        }
    }
}
