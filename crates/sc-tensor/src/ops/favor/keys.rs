//! The sums over keys, in one pass: each chunk of keys has its own running maximum per feature, and all are brought to the
//! common maximum at the end.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Stabiliser;
use super::problem::{Features, Largest, Sizes, Sums};
use crate::ops::attention::Segment;
use crate::tiles::{
    GROUP, Lanes, Rows, WIDEST, block, groups_of_columns, groups_of_rows, multiply_rows, pad_to,
};

/// Keys whose features are there at a time.
const TILE: usize = 128;

/// The sums of each sequence and head, `[sequence][head]`, and the maximum of each sequence. Without `values` only the
/// weights are summed.
pub(super) fn key_sums<T: Lanes>(
    sizes: &Sizes,
    features: &Features<T>,
    keys: &[T],
    values: Option<&[T]>,
) -> (Vec<Vec<Sums<T>>>, Vec<Largest<T>>) {
    let mut tasks = Vec::new();
    for (s, segment) in sizes.segments.iter().enumerate() {
        for head in 0..sizes.heads {
            tasks.extend(Sizes::chunks(segment.keys).map(|range| (s, segment, head, range)));
        }
    }
    let chunks: Vec<(usize, usize, Chunk<T>)> = tasks
        .into_par_iter()
        .map(|(s, segment, head, range)| {
            let part = |x| sizes.rows(x, &segment, head).range(range.clone());
            let (keys, values) = (part(keys), values.map(part));
            (
                s,
                head,
                pulp::Arch::new().dispatch(Task {
                    features,
                    keys,
                    values,
                }),
            )
        })
        .collect();
    let largest = largest(sizes, &chunks);
    let mut sums: Vec<Vec<Sums<T>>> = sizes
        .segments
        .iter()
        .map(|s| empty(sizes, &s, values.is_some()))
        .collect();
    let mut rest = &chunks[..];
    let mut parts = Vec::new();
    for (s, heads) in sums.iter_mut().enumerate() {
        for (head, sum) in heads.iter_mut().enumerate() {
            let n = rest.iter().take_while(|c| (c.0, c.1) == (s, head)).count();
            let (mine, others) = rest.split_at(n);
            rest = others;
            parts.push((sum, mine, largest[s].value));
        }
    }
    parts.into_par_iter().for_each(|(sum, chunks, largest)| {
        for (_, _, chunk) in chunks {
            chunk.add_to(sum, largest);
        }
    });
    (sums, largest)
}

fn empty<T: Lanes>(sizes: &Sizes, segment: &Segment, values: bool) -> Vec<Sums<T>> {
    let d = if values { sizes.d } else { 0 };
    let one = Sums {
        products: vec![T::ZERO; sizes.m * d],
        weights: vec![T::ZERO; sizes.m],
        values: vec![T::ZERO; d],
        keys: segment.keys,
    };
    vec![one; sizes.heads]
}

/// The maximum of each sequence over its heads, keys and features; of all sequences together if that is asked for.
fn largest<T: Lanes>(sizes: &Sizes, chunks: &[(usize, usize, Chunk<T>)]) -> Vec<Largest<T>> {
    let none = Largest {
        value: T::NEG_INFINITY,
        ties: 0.0,
    };
    let mut all = vec![none; sizes.segments.len()];
    for (s, _, chunk) in chunks {
        for (&value, &ties) in chunk.largest.iter().zip(&chunk.ties) {
            all[*s] = larger(
                all[*s],
                Largest {
                    value,
                    ties: ties.wide(),
                },
            );
        }
    }
    if sizes.stabiliser == Stabiliser::Batch {
        let of_all = all.iter().fold(none, |a, &b| larger(a, b));
        all.fill(of_all);
    }
    all
}

fn larger<T: Lanes>(a: Largest<T>, b: Largest<T>) -> Largest<T> {
    if a.value == b.value {
        return Largest {
            value: a.value,
            ties: a.ties + b.ties,
        };
    }
    let value = a.value.larger(b.value);
    Largest {
        value,
        ties: if value == a.value { a.ties } else { b.ties },
    }
}

/// The sums of some keys, each feature relative to its own maximum.
struct Chunk<T> {
    /// `[m]`
    largest: Vec<T>,
    /// How many keys reach it.
    ties: Vec<T>,
    weights: Vec<T>,
    /// `[m, d]`
    products: Vec<T>,
    /// `[d]`
    values: Vec<T>,
}

impl<T: Lanes> Chunk<T> {
    /// Adds itself to sums that are relative to `largest`.
    fn add_to(&self, sums: &mut Sums<T>, largest: T) {
        let mut factors: Vec<T> = self.largest.iter().map(|&own| own - largest).collect();
        crate::math::exp(&mut factors);
        let d = self.values.len();
        for (f, &factor) in factors.iter().enumerate() {
            sums.weights[f] += factor * self.weights[f];
            let products = &self.products[f * d..][..d];
            for (sum, &p) in sums.products[f * d..][..d].iter_mut().zip(products) {
                *sum += factor * p;
            }
        }
        for (sum, &v) in sums.values.iter_mut().zip(&self.values) {
            *sum += v;
        }
    }
}

struct Task<'a, T> {
    features: &'a Features<T>,
    keys: Rows<'a, T>,
    values: Option<Rows<'a, T>>,
}

impl<T: Lanes> WithSimd for Task<'_, T> {
    type Output = Chunk<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Chunk<T> {
        if S::IS_SCALAR {
            self.run::<S, false>(simd)
        } else {
            self.run::<S, true>(simd)
        }
    }
}

impl<T: Lanes> Task<'_, T> {
    #[inline(always)]
    fn run<S: Simd, const FMA: bool>(self, simd: S) -> Chunk<T> {
        let lanes = T::width::<S>();
        let (m, d) = (self.features.m, self.features.d);
        let numbers = if self.values.is_some() {
            pad_to(d, GROUP)
        } else {
            0
        };
        let mut panels: Vec<Panel<T>> = (0..m.div_ceil(lanes))
            .map(|_| Panel::new(numbers, lanes))
            .collect();
        let mut tile = vec![T::ZERO; TILE * lanes];
        let mut keys = vec![T::ZERO; TILE * d];
        let mut values = vec![T::ZERO; TILE * numbers];
        let mut norms = Vec::with_capacity(TILE);
        let mut totals = vec![T::ZERO; if self.values.is_some() { d } else { 0 }];
        for from in (0..self.keys.rows).step_by(TILE) {
            let to = self.keys.rows.min(from + TILE);
            let count = to - from;
            let rows = self.keys.range(from..to);
            let keys = &mut keys[..pad_to(count, GROUP) * d];
            groups_of_rows(rows, keys);
            norms.clear();
            norms.extend(
                (0..count).map(|i| crate::simd::dot(rows.row(i), rows.row(i)) * self.features.half),
            );
            let values = &mut values[..count * numbers];
            if let Some(all) = self.values {
                let rows = all.range(from..to);
                groups_of_columns(rows, values);
                sum_rows(rows, &mut totals);
            }
            let features = self.features.panels.chunks_exact(d * lanes);
            for (panel, features) in panels.iter_mut().zip(features) {
                for (keys, tile) in keys
                    .chunks_exact(GROUP * d)
                    .zip(tile.chunks_exact_mut(GROUP * lanes))
                {
                    block(simd, keys, features, tile, false);
                }
                let tile = &mut tile[..count * lanes];
                panel.weigh::<S, FMA>(tile, &norms);
                panel.add(simd, values, tile);
            }
        }
        collect(&panels, totals, m, lanes)
    }
}

/// Adds up the rows: their sum, then that to `totals`.
#[inline(always)]
fn sum_rows<T: Lanes>(rows: Rows<'_, T>, totals: &mut [T]) {
    let mut sums = vec![T::ZERO; rows.width];
    for i in 0..rows.rows {
        for (sum, &v) in sums.iter_mut().zip(rows.row(i)) {
            *sum += v;
        }
    }
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total += sum;
    }
}

fn collect<T: Lanes>(panels: &[Panel<T>], values: Vec<T>, m: usize, lanes: usize) -> Chunk<T> {
    let d = values.len();
    let lane = |f: usize| (&panels[f / lanes], f % lanes);
    let mut products = Vec::with_capacity(m * d);
    for f in 0..m {
        let (panel, j) = lane(f);
        products.extend(panel.products.iter().skip(j).step_by(lanes).take(d));
    }
    let each = |get: fn(&Panel<T>) -> &[T; WIDEST]| -> Vec<T> {
        (0..m).map(|f| get(lane(f).0)[lane(f).1]).collect()
    };
    Chunk {
        largest: each(|p| &p.largest),
        ties: each(|p| &p.ties),
        weights: each(|p| &p.weights),
        products,
        values,
    }
}

/// A panel of features, and what has been summed up for them.
struct Panel<T> {
    largest: [T; WIDEST],
    ties: [T; WIDEST],
    weights: [T; WIDEST],
    /// What the sums are to be multiplied by before the next tile is added.
    factor: [T; WIDEST],
    /// `[d, lanes]`
    products: Vec<T>,
    /// The products of one tile.
    tile: Vec<T>,
}

impl<T: Lanes> Panel<T> {
    fn new(numbers: usize, lanes: usize) -> Self {
        Self {
            largest: [T::NEG_INFINITY; WIDEST],
            ties: [T::ZERO; WIDEST],
            weights: [T::ZERO; WIDEST],
            factor: [T::ZERO; WIDEST],
            products: vec![T::ZERO; numbers * lanes],
            tile: vec![T::ZERO; numbers * lanes],
        }
    }

    /// Exponents `u` of a tile of keys become weights `exp(u - norm - largest)`.
    #[inline(always)]
    fn weigh<S: Simd, const FMA: bool>(&mut self, tile: &mut [T], norms: &[T]) {
        let lanes = T::width::<S>();
        let mut largest = self.largest;
        for row in tile.chunks_exact(lanes) {
            for j in 0..lanes {
                largest[j] = row[j].larger(largest[j]);
            }
        }
        for j in 0..lanes {
            self.factor[j] = (self.largest[j] - largest[j]).exp_lane::<FMA>();
            self.ties[j] = if largest[j] == self.largest[j] {
                self.ties[j]
            } else {
                T::ZERO
            };
        }
        let (mut sums, mut ties) = ([T::ZERO; WIDEST], self.ties);
        for (row, &norm) in tile.chunks_exact_mut(lanes).zip(norms) {
            for j in 0..lanes {
                ties[j] += if row[j] == largest[j] {
                    T::ONE
                } else {
                    T::ZERO
                };
                row[j] = (row[j] - norm - largest[j]).exp_lane::<FMA>();
                sums[j] += row[j];
            }
        }
        for j in 0..lanes {
            self.weights[j] = self.weights[j] * self.factor[j] + sums[j];
        }
        (self.largest, self.ties) = (largest, ties);
    }

    /// Adds weight times value of a tile: first among themselves, so that long sums lose little.
    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, values: &[T], tile: &[T]) {
        let lanes = T::width::<S>();
        let count = tile.len() / lanes;
        let groups = values
            .chunks_exact(count * GROUP)
            .zip(self.tile.chunks_exact_mut(GROUP * lanes));
        for (values, out) in groups {
            block(simd, values, tile, out, false);
        }
        multiply_rows(simd, &mut self.products, &self.factor, Some(&self.tile[..]));
    }
}
