//! The gradients of keys and values, row by row.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{EPS, Known, SumGradients};
use crate::ops::attention::Segment;
use crate::ops::favor::problem::ROWS;
use crate::tiles::{
    GROUP, Lanes, Rows, WIDEST, groups_of_columns, groups_of_rows, pad_to, panel_of_rows, product,
};

pub(super) fn backward<T: Lanes>(
    known: &Known<'_, T>,
    grads: &[Vec<SumGradients<T>>],
    shares: &[T],
) -> [Vec<T>; 2] {
    let sizes = known.sizes;
    let width = sizes.width();
    let packed: Vec<Vec<Packed<T>>> = grads
        .iter()
        .map(|heads| {
            heads
                .par_iter()
                .map(|grads| Packed::new(known, grads))
                .collect()
        })
        .collect();
    let zeros = || vec![T::ZERO; sizes.segments.rows() * width];
    let (mut dk, mut dv) = (zeros(), zeros());
    let mut tasks = Vec::new();
    let split = sizes
        .segments
        .split(&mut dk, width)
        .into_iter()
        .zip(sizes.segments.split(&mut dv, width));
    for (s, (segment, (dk, dv))) in sizes.segments.iter().zip(split).enumerate() {
        // Rows that are no keys keep their zeros.
        let (dk, dv) = (
            &mut dk[..segment.keys * width],
            &mut dv[..segment.keys * width],
        );
        let parts = dk
            .chunks_mut(ROWS * width)
            .zip(dv.chunks_mut(ROWS * width))
            .enumerate();
        tasks.extend(parts.map(|(k, (dk, dv))| Task {
            known,
            segment,
            packed: &packed[s],
            largest: known.largest[s].value,
            share: shares[s],
            from: k * ROWS,
            dk,
            dv,
        }));
    }
    tasks
        .into_par_iter()
        .for_each(|task| pulp::Arch::new().dispatch(task));
    [dk, dv]
}

/// The gradients of the sums of a head as left operands.
struct Packed<T> {
    /// `dS`: groups of features, the inner dimension is a head's numbers.
    by_feature: Vec<T>,
    /// `dS`: groups of numbers, the inner dimension is the features.
    by_number: Vec<T>,
    /// `dz`
    features: Vec<T>,
}

impl<T: Lanes> Packed<T> {
    fn new(known: &Known<'_, T>, grads: &SumGradients<T>) -> Self {
        let (m, d) = (known.sizes.m, known.sizes.d);
        let rows = Rows::new(&grads.values, d, m, d);
        let mut by_feature = vec![T::ZERO; pad_to(m, GROUP) * d];
        let mut by_number = vec![T::ZERO; pad_to(d, GROUP) * m];
        groups_of_rows(rows, &mut by_feature);
        groups_of_columns(rows, &mut by_number);
        Self {
            by_feature,
            by_number,
            features: grads.features.clone(),
        }
    }
}

/// A block of keys, all heads.
struct Task<'a, T> {
    known: &'a Known<'a, T>,
    segment: Segment,
    packed: &'a [Packed<T>],
    largest: T,
    share: T,
    from: usize,
    dk: &'a mut [T],
    dv: &'a mut [T],
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
        let (lanes, sizes) = (T::width::<S>(), self.known.sizes);
        let (width, d) = (sizes.width(), sizes.d);
        let mut panel = Panel::<T>::new(sizes.m, d, lanes);
        let parts = self
            .dk
            .chunks_mut(lanes * width)
            .zip(self.dv.chunks_mut(lanes * width));
        for (k, (dk, dv)) in parts.enumerate() {
            let from = self.from + k * lanes;
            for (head, packed) in self.packed.iter().enumerate() {
                let keys = sizes.rows(self.known.keys, &self.segment, head);
                let values = sizes.rows(self.known.values, &self.segment, head);
                panel_of_rows(keys, from, lanes, T::ONE, &mut panel.keys);
                panel_of_rows(values, from, lanes, T::ONE, &mut panel.values);
                let features = self.known.features;
                product(
                    simd,
                    &features.by_feature,
                    d,
                    &panel.keys,
                    &mut panel.tile,
                    false,
                );
                product(
                    simd,
                    &packed.by_feature,
                    d,
                    &panel.values,
                    &mut panel.grads,
                    false,
                );
                let norms = features.norms(&panel.keys, lanes);
                let below =
                    panel.exponents::<S, FMA>(&packed.features, &norms, self.largest, self.share);
                let (m, used) = (sizes.m, sizes.m * lanes);
                product(
                    simd,
                    &features.by_number,
                    m,
                    &panel.grads[..used],
                    &mut panel.d_keys,
                    false,
                );
                product(
                    simd,
                    &packed.by_number,
                    m,
                    &panel.tile[..used],
                    &mut panel.d_values,
                    false,
                );
                let twice = features.half + features.half;
                let rows = dk.chunks_exact_mut(width).zip(dv.chunks_exact_mut(width));
                for (j, (dk, dv)) in rows.enumerate() {
                    let (dk, dv) = (&mut dk[head * d..][..d], &mut dv[head * d..][..d]);
                    for i in 0..d {
                        let at = i * lanes + j;
                        dk[i] = panel.d_keys[at] - twice * below[j] * panel.keys[at];
                        dv[i] = panel.d_values[at];
                    }
                }
            }
        }
    }
}

/// A panel of keys of a head.
struct Panel<T> {
    m: usize,
    /// `[d, lanes]`
    keys: Vec<T>,
    values: Vec<T>,
    /// Exponents, then features: `[m, lanes]` and some more rows.
    tile: Vec<T>,
    /// Gradients of features, then of exponents.
    grads: Vec<T>,
    /// `[d, lanes]` and some more rows.
    d_keys: Vec<T>,
    d_values: Vec<T>,
}

impl<T: Lanes> Panel<T> {
    fn new(m: usize, d: usize, lanes: usize) -> Self {
        let zeros = |n: usize| vec![T::ZERO; n * lanes];
        Self {
            m,
            keys: zeros(d),
            values: zeros(d),
            tile: zeros(pad_to(m, GROUP)),
            grads: zeros(pad_to(m, GROUP)),
            d_keys: zeros(pad_to(d, GROUP)),
            d_values: zeros(pad_to(d, GROUP)),
        }
    }

    /// Exponents become features, and gradients of features those of exponents. Returns what the norms were subtracted
    /// from: the sum over features of a key's gradients.
    #[inline(always)]
    fn exponents<S: Simd, const FMA: bool>(
        &mut self,
        dz: &[T],
        norms: &[T; WIDEST],
        largest: T,
        share: T,
    ) -> [T; WIDEST] {
        let lanes = T::width::<S>();
        let eps = T::of(EPS);
        let mut below = [T::ZERO; WIDEST];
        let rows = self
            .tile
            .chunks_exact_mut(lanes)
            .zip(self.grads.chunks_exact_mut(lanes));
        for ((tile, grads), &dz) in rows.take(self.m).zip(dz) {
            for j in 0..lanes {
                let through_maximum = if tile[j] == largest { share } else { T::ZERO };
                let weight = (tile[j] - norms[j] - largest).exp_lane::<FMA>();
                let grad = weight * (grads[j] + dz);
                below[j] += grad;
                grads[j] = grad - through_maximum;
                tile[j] = weight + eps;
            }
        }
        below
    }
}
