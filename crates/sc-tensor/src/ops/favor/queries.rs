//! The output rows, from the sums over keys.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::problem::{EPS, Features, ROWS, Sizes, Sums};
use crate::ops::attention::Segment;
use crate::tiles::{GROUP, Lanes, Rows, WIDEST, groups_of_columns, pad_to, panel_of_rows, product};

/// What the rows of a tile of features are padded to: a multiple of [`GROUP`] and of
/// [`BY_ROWS`](crate::tiles::BY_ROWS).
const TILE_ROWS: usize = 24;

/// `out_i = phi_i S / (phi_i z)` for all rows.
pub(super) fn outputs<T: Lanes>(
    sizes: &Sizes,
    features: &Features<T>,
    queries: &[T],
    sums: &[Vec<Sums<T>>],
) -> Vec<T> {
    let width = sizes.width();
    let mut out = vec![T::ZERO; sizes.segments.rows() * width];
    let sequences: Vec<(Segment, Vec<Packed<T>>)> = sizes
        .segments
        .iter()
        .zip(sums)
        .map(|(segment, heads)| {
            (
                segment,
                heads.par_iter().map(|s| Packed::new(sizes, s)).collect(),
            )
        })
        .collect();
    by_rows(sizes, &mut out, |s, from, out| {
        let (segment, heads) = &sequences[s];
        if segment.keys > 0 {
            let task = Task {
                sizes,
                features,
                queries,
                segment,
                heads,
                from,
                out,
            };
            pulp::Arch::new().dispatch(task);
        }
    });
    out
}

/// Calls `f(sequence, first row in it, rows)` for blocks of rows, in parallel.
pub(super) fn by_rows<T: Send>(
    sizes: &Sizes,
    out: &mut [T],
    f: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    let width = match sizes.segments.rows() {
        0 => return,
        n => out.len() / n,
    };
    let mut tasks = Vec::new();
    for (s, rows) in sizes.segments.split(out, width).into_iter().enumerate() {
        let parts = rows.chunks_mut(ROWS * width).enumerate();
        tasks.extend(parts.map(|(k, rows)| (s, k * ROWS, rows)));
    }
    tasks
        .into_par_iter()
        .for_each(|(s, from, rows)| f(s, from, rows));
}

/// The sums of a head as left operands.
struct Packed<T> {
    /// `S`: groups of numbers, the inner dimension is the features.
    values: Vec<T>,
    /// `z`
    features: Vec<T>,
}

impl<T: Lanes> Packed<T> {
    fn new(sizes: &Sizes, sums: &Sums<T>) -> Self {
        let s = sums.feature_values();
        let mut values = vec![T::ZERO; pad_to(sizes.d, GROUP) * sizes.m];
        groups_of_columns(Rows::new(&s, sizes.d, sizes.m, sizes.d), &mut values);
        Self {
            values,
            features: sums.features(),
        }
    }
}

struct Task<'a, T> {
    sizes: &'a Sizes,
    features: &'a Features<T>,
    queries: &'a [T],
    segment: &'a Segment,
    heads: &'a [Packed<T>],
    from: usize,
    out: &'a mut [T],
}

impl<T: Lanes> WithSimd for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::IS_SCALAR {
            self.run::<S, false>(simd);
        } else {
            self.run::<S, true>(simd);
        }
    }
}

impl<T: Lanes> Task<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(self, simd: S) {
        let (lanes, d) = (T::width::<S>(), self.sizes.d);
        let mut panel = Panel::new(self.features, lanes);
        let mut sums = vec![T::ZERO; pad_to(d, GROUP) * lanes];
        for (k, out) in self.out.chunks_mut(lanes * self.sizes.width()).enumerate() {
            for (h, packed) in self.heads.iter().enumerate() {
                let rows = self.sizes.rows(self.queries, self.segment, h);
                panel.load::<S, FMA>(simd, self.features, rows, self.from + k * lanes);
                let m = self.sizes.m;
                let total = panel.totals::<S, FMA>(m, &packed.features);
                panel.lift(m * lanes);
                product(
                    simd,
                    &packed.values,
                    m,
                    &panel.tile[..m * lanes],
                    &mut sums,
                    false,
                );
                for (j, row) in out.chunks_exact_mut(self.sizes.width()).enumerate() {
                    let share = T::ONE / total[j];
                    for (out, sums) in row[h * d..][..d].iter_mut().zip(sums.chunks_exact(lanes)) {
                        *out = sums[j] * share;
                    }
                }
            }
        }
    }
}

/// A panel of queries of a head and their weights.
pub(super) struct Panel<T> {
    /// `[d, lanes]`
    pub(super) queries: Vec<T>,
    /// Weights, that is features less `eps`: `[m, lanes]`, and some more rows.
    pub(super) tile: Vec<T>,
    /// Which feature of a query has the largest exponent; the first if several have.
    pub(super) best: [T; WIDEST],
}

impl<T: Lanes> Panel<T> {
    pub(super) fn new(features: &Features<T>, lanes: usize) -> Self {
        Self {
            queries: vec![T::ZERO; features.d * lanes],
            tile: vec![T::ZERO; pad_to(features.m, TILE_ROWS) * lanes],
            best: [T::ZERO; WIDEST],
        }
    }

    /// Goes to the rows from `from` on: the weights are `exp(u - norm - max u)`.
    #[inline(always)]
    pub(super) fn load<S: Simd, const FMA: bool>(
        &mut self,
        simd: S,
        features: &Features<T>,
        rows: Rows<'_, T>,
        from: usize,
    ) {
        let (lanes, m) = (T::width::<S>(), features.m);
        panel_of_rows(rows, from, lanes, T::ONE, &mut self.queries);
        product(
            simd,
            &features.by_feature,
            features.d,
            &self.queries,
            &mut self.tile,
            false,
        );
        let mut shift = [T::NEG_INFINITY; WIDEST];
        self.best = [T::ZERO; WIDEST];
        let mut index = T::ZERO;
        for row in self.tile.chunks_exact(lanes).take(m) {
            for j in 0..lanes {
                self.best[j] = if row[j] > shift[j] {
                    index
                } else {
                    self.best[j]
                };
                shift[j] = row[j].larger(shift[j]);
            }
            index += T::ONE;
        }
        let norms = features.norms(&self.queries, lanes);
        for j in 0..lanes {
            shift[j] += norms[j];
        }
        for row in self.tile.chunks_exact_mut(lanes).take(m) {
            for j in 0..lanes {
                row[j] = (row[j] - shift[j]).exp_lane::<FMA>();
            }
        }
    }

    /// `phi z` of each query.
    #[inline(always)]
    pub(super) fn totals<S: Simd, const FMA: bool>(&self, m: usize, z: &[T]) -> [T; WIDEST] {
        let lanes = T::width::<S>();
        let eps = T::of(EPS);
        let mut totals = [T::ZERO; WIDEST];
        for (row, &z) in self.tile.chunks_exact(lanes).take(m).zip(z) {
            for j in 0..lanes {
                totals[j] = (row[j] + eps).fma::<FMA>(z, totals[j]);
            }
        }
        totals
    }

    /// Weights become features.
    #[inline(always)]
    pub(super) fn lift(&mut self, len: usize) {
        let eps = T::of(EPS);
        for v in &mut self.tile[..len] {
            *v += eps;
        }
    }
}
