//! How much attention each key gets on average, in linear time.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::keys::key_sums;
use super::problem::{EPS, Features, Sizes};
use super::queries::{Panel, by_rows};
use crate::ops::attention::Segment;
use crate::tiles::{GROUP, Lanes, pad_to, panel_of_rows, product};

/// `s_j = psi_j w` with `w = mean_i phi_i / (phi_i z)`, `[rows, heads]`; zero for rows that are no keys.
pub(super) fn importance<T: Lanes>(
    sizes: &Sizes,
    features: &Features<T>,
    queries: &[T],
    keys: &[T],
) -> Vec<T> {
    let (sums, largest) = key_sums(sizes, features, keys, None);
    let mut tasks = Vec::new();
    for (s, segment) in sizes
        .segments
        .iter()
        .enumerate()
        .filter(|(_, segment)| segment.keys > 0)
    {
        for head in 0..sizes.heads {
            tasks.extend(Sizes::chunks(segment.rows).map(|range| (s, segment, head, range)));
        }
    }
    let parts: Vec<(usize, usize, Vec<T>)> = tasks
        .into_par_iter()
        .map(|(s, segment, head, range)| {
            let z = sums[s][head].features();
            let task = Shares {
                sizes,
                features,
                queries,
                segment,
                head,
                range,
                z,
            };
            (s, head, pulp::Arch::new().dispatch(task))
        })
        .collect();
    let mut weights = vec![vec![vec![T::ZERO; sizes.m]; sizes.heads]; sizes.segments.len()];
    for (s, head, part) in parts {
        for (sum, v) in weights[s][head].iter_mut().zip(part) {
            *sum += v;
        }
    }
    let mut out = vec![T::ZERO; sizes.segments.rows() * sizes.heads];
    let segments: Vec<Segment> = sizes.segments.iter().collect();
    by_rows(sizes, &mut out, |s, from, out| {
        let used = segments[s]
            .keys
            .saturating_sub(from)
            .min(out.len() / sizes.heads);
        pulp::Arch::new().dispatch(Scores {
            sizes,
            features,
            keys,
            segment: segments[s],
            largest: largest[s].value,
            weights: &weights[s],
            from,
            out: &mut out[..used * sizes.heads],
        });
    });
    out
}

/// The sum of `phi_i / (phi_i z)` over a chunk of queries of a head.
struct Shares<'a, T> {
    sizes: &'a Sizes,
    features: &'a Features<T>,
    queries: &'a [T],
    segment: Segment,
    head: usize,
    range: std::ops::Range<usize>,
    z: Vec<T>,
}

impl<T: Lanes> WithSimd for Shares<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<T> {
        if S::IS_SCALAR {
            self.run::<S, false>(simd)
        } else {
            self.run::<S, true>(simd)
        }
    }
}

impl<T: Lanes> Shares<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(self, simd: S) -> Vec<T> {
        let (lanes, m) = (T::width::<S>(), self.sizes.m);
        let rows = self.sizes.rows(self.queries, &self.segment, self.head);
        let mut panel = Panel::new(self.features, lanes);
        let mut sums = vec![T::ZERO; m * lanes];
        let eps = T::of(EPS);
        for from in self.range.clone().step_by(lanes) {
            panel.load::<S, FMA>(simd, self.features, rows, from);
            let mut share = panel
                .totals::<S, FMA>(m, &self.z)
                .map(|total| T::ONE / total);
            for share in share.iter_mut().skip(self.range.end - from) {
                *share = T::ZERO;
            }
            for (sums, row) in sums
                .chunks_exact_mut(lanes)
                .zip(panel.tile.chunks_exact(lanes))
            {
                for j in 0..lanes {
                    sums[j] = (row[j] + eps).fma::<FMA>(share[j], sums[j]);
                }
            }
        }
        sums.chunks_exact(lanes)
            .map(|row| row.iter().fold(T::ZERO, |sum, &v| sum + v))
            .collect()
    }
}

/// The scores of a block of keys.
struct Scores<'a, T> {
    sizes: &'a Sizes,
    features: &'a Features<T>,
    keys: &'a [T],
    segment: Segment,
    largest: T,
    /// `[head][m]`, summed over the queries.
    weights: &'a [Vec<T>],
    from: usize,
    out: &'a mut [T],
}

impl<T: Lanes> WithSimd for Scores<'_, T> {
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

impl<T: Lanes> Scores<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(self, simd: S) {
        let (lanes, d, heads) = (T::width::<S>(), self.sizes.d, self.sizes.heads);
        let mut panel = vec![T::ZERO; d * lanes];
        let mut tile = vec![T::ZERO; pad_to(self.sizes.m, GROUP) * lanes];
        let (eps, share) = (T::of(EPS), T::of(1.0 / self.segment.rows as f64));
        for (k, out) in self.out.chunks_mut(lanes * heads).enumerate() {
            for (head, weights) in self.weights.iter().enumerate() {
                let rows = self.sizes.rows(self.keys, &self.segment, head);
                panel_of_rows(rows, self.from + k * lanes, lanes, T::ONE, &mut panel);
                product(simd, &self.features.by_feature, d, &panel, &mut tile, false);
                let norms = self.features.norms(&panel, lanes);
                let mut sums = vec![T::ZERO; lanes];
                for (row, &weight) in tile.chunks_exact(lanes).zip(weights) {
                    for j in 0..lanes {
                        let feature = (row[j] - norms[j] - self.largest).exp_lane::<FMA>() + eps;
                        sums[j] = feature.fma::<FMA>(weight, sums[j]);
                    }
                }
                for (out, &sum) in out.chunks_exact_mut(heads).zip(&sums) {
                    out[head] = sum * share;
                }
            }
        }
    }
}
