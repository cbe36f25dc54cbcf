use std::collections::BinaryHeap;

use ndarray::{Array2, ArrayView2};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::blocks::Blocks;
use crate::screen::{Panels, Screen};
use crate::{Error, Result};

/// Points of the nearest block that are compared first.
const SEEDS: usize = 32;

/// The nearest neighbours of each point, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Row numbers in the reference, `[n, k]`.
    pub indices: Array2<u32>,
    /// Euclidean distances, ascending in each row, `[n, k]`.
    pub distances: Array2<f32>,
}

impl Neighbors {
    /// Number of points.
    pub fn n_points(&self) -> usize {
        self.indices.nrows()
    }

    /// Number of neighbours of each point.
    pub fn k(&self) -> usize {
        self.indices.ncols()
    }
}

/// The `k` nearest other points of each point, `points` being `[n, dimensions]`; a point is not its own neighbour.
///
/// Exact: matrix products in `f32` narrow the candidates down, with a bound on their rounding errors, and the candidates
/// are ranked by distances computed in `f64`. Of equal distances the lower row number comes first. The result does not
/// depend on the number of threads.
///
/// Points are cut into blocks that lie close together, and blocks too far apart to hold neighbours of each other are not
/// compared. Time is quadratic in the number of points at worst, memory linear.
///
/// # Errors
/// [`Error::InvalidParameter`] unless `1 <= k < n` and there is a column, [`Error::InvalidCoordinate`] if a coordinate is
/// not finite.
pub fn knn(points: ArrayView2<'_, f32>, k: usize) -> Result<Neighbors> {
    search(points, points, k, true)
}

/// The `k` nearest rows of `reference` for each row of `query`, by the rules of [`knn`].
///
/// # Errors
/// As [`knn`], and [`Error::LengthMismatch`] if the numbers of columns differ.
pub fn knn_query(
    reference: ArrayView2<'_, f32>,
    query: ArrayView2<'_, f32>,
    k: usize,
) -> Result<Neighbors> {
    if reference.ncols() != query.ncols() {
        return Err(Error::LengthMismatch {
            what: "a row of the query",
            found: query.ncols(),
            expected: reference.ncols(),
        });
    }
    search(reference, query, k, false)
}

fn search(
    reference: ArrayView2<'_, f32>,
    query: ArrayView2<'_, f32>,
    k: usize,
    exclude_self: bool,
) -> Result<Neighbors> {
    check_coordinates(reference)?;
    check_coordinates(query)?;
    check_k(k, reference, exclude_self)?;
    let reference = Blocks::new(reference);
    let other = (!exclude_self).then(|| Blocks::new(query));
    let searcher = Searcher {
        panels: (0..reference.len())
            .map(|b| Panels::new(reference.block(b), reference.dimensions()))
            .collect(),
        query: other.as_ref().unwrap_or(&reference),
        reference: &reference,
        k,
        exclude_self,
    };
    let found: Vec<Vec<(u32, f32)>> = (0..searcher.query.len())
        .into_par_iter()
        .map(|block| searcher.block(block))
        .collect();
    let mut indices = Array2::zeros((query.nrows(), k));
    let mut distances = Array2::zeros((query.nrows(), k));
    for (block, found) in found.into_iter().enumerate() {
        for (&row, found) in searcher.query.rows(block).iter().zip(found.chunks_exact(k)) {
            for (c, &(neighbour, distance)) in found.iter().enumerate() {
                indices[[row as usize, c]] = neighbour;
                distances[[row as usize, c]] = distance;
            }
        }
    }
    Ok(Neighbors { indices, distances })
}

/// Whether there are `k` neighbours to be found, and distances at all.
pub(crate) fn check_k(k: usize, reference: ArrayView2<'_, f32>, exclude_self: bool) -> Result<()> {
    if reference.ncols() == 0 {
        return Err(Error::InvalidParameter {
            name: "the number of columns of the points",
            found: "0".into(),
            expected: "at least 1".into(),
        });
    }
    // Row numbers are `u32`.
    let available = reference.nrows().min(u32::MAX as usize);
    let available = available.saturating_sub(usize::from(exclude_self));
    if k == 0 || k > available || reference.nrows() > u32::MAX as usize {
        return Err(Error::InvalidParameter {
            name: "k",
            found: k.to_string(),
            expected: format!("1 to {available}, the number of possible neighbours"),
        });
    }
    Ok(())
}

/// Refuses coordinates whose squares would overflow.
pub(crate) fn check_coordinates(points: ArrayView2<'_, f32>) -> Result<()> {
    match points
        .indexed_iter()
        .find(|(_, v)| !v.is_finite() || v.abs() > 1e15)
    {
        None => Ok(()),
        Some(((row, column), &value)) => Err(Error::InvalidCoordinate { row, column, value }),
    }
}

/// Searches the reference for the neighbours of a block of the query.
struct Searcher<'a> {
    reference: &'a Blocks,
    /// The reference, block after block.
    panels: Vec<Panels>,
    query: &'a Blocks,
    k: usize,
    exclude_self: bool,
}

impl Searcher<'_> {
    /// The neighbours of each point of a block, nearest first, `k` for each.
    ///
    /// Blocks of the reference that are near come first: after a few of them the limits are small, and few points pass
    /// the screen.
    fn block(&self, block: usize) -> Vec<(u32, f32)> {
        let query = self.query.block(block);
        let mut screen = Screen::new(query, self.query.middle(block));
        let mut nearest: Vec<Nearest> = query
            .chunks_exact(self.query.dimensions())
            .map(|_| Nearest::new(self.k))
            .collect();
        for (n, (apart, other)) in self.by_distance(block).into_iter().enumerate() {
            let limit = nearest.iter().map(Nearest::limit).fold(0.0, f64::max);
            // The distance is rounded.
            if apart * (1.0 - 1e-9) > limit {
                break;
            }
            let mut skip = 0;
            if n == 0 {
                // Limits to begin with: a few points of the nearest block, whatever their distance.
                skip = self
                    .reference
                    .places(other)
                    .len()
                    .min(SEEDS.max(self.k + 1)) as u32;
                let rows = 0..nearest.len() as u32;
                let seeds: Vec<(u32, u32)> =
                    rows.flat_map(|i| (0..skip).map(move |j| (i, j))).collect();
                self.offer((block, other), &seeds, 0, &mut nearest);
            }
            let hits = screen.near(&self.panels[other], nearest.iter().map(Nearest::limit));
            self.offer((block, other), hits, skip, &mut nearest);
        }
        nearest
            .into_iter()
            .flat_map(|n| n.heap.into_sorted_vec())
            .map(|found| (found.row, found.square.sqrt() as f32))
            .collect()
    }

    /// Offers pairs of a query point and a reference point, as numbers within these blocks, by their true distances.
    fn offer(
        &self,
        (query, reference): (usize, usize),
        pairs: &[(u32, u32)],
        skip: u32,
        nearest: &mut [Nearest],
    ) {
        Arch::new().dispatch(Offer {
            query: self.query.block(query),
            own: self.exclude_self.then(|| self.query.places(query).start),
            reference: self.reference,
            first: self.reference.places(reference).start,
            pairs,
            skip,
            nearest,
        });
    }

    /// The blocks of the reference with their squared distances from a block of the query, ascending; where boxes overlap,
    /// those first whose middles are near.
    fn by_distance(&self, block: usize) -> Vec<(f64, usize)> {
        let mut blocks: Vec<(f64, f64, usize)> = (0..self.reference.len())
            .map(|other| {
                let (boxes, middles) = self.query.apart(block, self.reference, other);
                (boxes, middles, other)
            })
            .collect();
        blocks.sort_unstable_by(|a, b| {
            a.0.total_cmp(&b.0)
                .then(a.1.total_cmp(&b.1))
                .then(a.2.cmp(&b.2))
        });
        blocks.into_iter().map(|b| (b.0, b.2)).collect()
    }
}

/// See [`Searcher::offer`].
struct Offer<'a> {
    query: &'a [f32],
    /// The place of the first query point among the reference points, if these are the same.
    own: Option<usize>,
    reference: &'a Blocks,
    /// The place of the reference block's first point.
    first: usize,
    pairs: &'a [(u32, u32)],
    /// Reference points before this one were offered already.
    skip: u32,
    nearest: &'a mut [Nearest],
}

impl WithSimd for Offer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dimensions = self.reference.dimensions();
        for &(i, j) in self.pairs {
            let (i, place) = (i as usize, self.first + j as usize);
            if j < self.skip || self.own.is_some_and(|own| own + i == place) {
                continue;
            }
            let point = &self.query[i * dimensions..][..dimensions];
            let square = squared_distance(point, self.reference.point(place));
            self.nearest[i].offer(square, self.reference.row(place));
        }
    }
}

/// A reference point and its squared distance; ordered by that, then by row.
#[derive(PartialEq)]
struct Found {
    square: f64,
    row: u32,
}
impl Eq for Found {}
impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.square
            .total_cmp(&other.square)
            .then(self.row.cmp(&other.row))
    }
}

/// The `k` nearest reference points so far.
struct Nearest {
    heap: BinaryHeap<Found>,
    k: usize,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(k + 1),
            k,
        }
    }

    /// The squared distance beyond which nothing is wanted.
    fn limit(&self) -> f64 {
        match self.heap.peek() {
            Some(last) if self.heap.len() == self.k => last.square,
            _ => f64::INFINITY,
        }
    }

    fn offer(&mut self, square: f64, row: u32) {
        let found = Found { square, row };
        if self.heap.len() < self.k {
            self.heap.push(found);
        } else if let Some(mut last) = self.heap.peek_mut()
            && found < *last
        {
            *last = found;
        }
    }
}

/// `|a - b|^2` in `f64`, in eight partial sums.
#[inline(always)]
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let square = |x: f32, y: f32| {
        let d = f64::from(x) - f64::from(y);
        d * d
    };
    let mut sums = [0f64; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            sums[l] += square(a[l], b[l]);
        }
    }
    for (l, (&x, &y)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[l] += square(x, y);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[cfg(test)]
#[path = "knn_tests.rs"]
mod tests;
