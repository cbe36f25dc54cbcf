//! Points cut into blocks of neighbours.

use ndarray::ArrayView2;

/// Points of a block. The tiles of `screen` divide it evenly.
pub(crate) const BLOCK: usize = 192;

/// Points in an order in which those that lie close together mostly stand close together, cut into blocks of [`BLOCK`]
/// with a box around each. A place is a position in that order.
///
/// The blocks are the leaves of a k-d tree: the points are halved, by a multiple of a block, across the coordinate that
/// varies most, and the halves again.
pub(crate) struct Blocks {
    dimensions: usize,
    /// The row of the point at each place.
    order: Vec<u32>,
    /// The points, place after place.
    points: Vec<f32>,
    /// Smallest coordinates, block after block.
    low: Vec<f32>,
    /// Largest coordinates, block after block.
    high: Vec<f32>,
}

impl Blocks {
    pub(crate) fn new(points: ArrayView2<'_, f32>) -> Self {
        let (n, dimensions) = points.dim();
        let by_rows = points.as_standard_layout();
        let all: &[f32] = by_rows.as_slice().unwrap_or_default();
        let mut order: Vec<u32> = (0..n as u32).collect();
        split(all, dimensions, &mut order);
        let mut out = Self {
            dimensions,
            points: Vec::with_capacity(all.len()),
            low: Vec::new(),
            high: Vec::new(),
            order,
        };
        for &row in &out.order {
            out.points
                .extend_from_slice(point(all, dimensions, row as usize));
        }
        for block in 0..out.len() {
            let (low, high) = bounds(out.block(block), dimensions);
            out.low.extend(low);
            out.high.extend(high);
        }
        out
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.order.len().div_ceil(BLOCK)
    }

    /// The rows of a block's points.
    pub(crate) fn rows(&self, block: usize) -> &[u32] {
        &self.order[self.places(block)]
    }

    /// The places of a block.
    pub(crate) fn places(&self, block: usize) -> std::ops::Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.order.len())
    }

    /// A block's points, one after the other.
    pub(crate) fn block(&self, block: usize) -> &[f32] {
        let places = self.places(block);
        &self.points[places.start * self.dimensions..places.end * self.dimensions]
    }

    /// The row of a point.
    pub(crate) fn row(&self, place: usize) -> u32 {
        self.order[place]
    }

    pub(crate) fn point(&self, place: usize) -> &[f32] {
        point(&self.points, self.dimensions, place)
    }

    /// The middle of a block's box.
    pub(crate) fn middle(&self, block: usize) -> Vec<f32> {
        let (low, high) = self.bounds(block);
        low.iter().zip(high).map(|(&l, &h)| l.midpoint(h)).collect()
    }

    fn bounds(&self, block: usize) -> (&[f32], &[f32]) {
        (
            point(&self.low, self.dimensions, block),
            point(&self.high, self.dimensions, block),
        )
    }

    /// How far a block of `other` is from one of these: the square of the distance between the boxes, and of that between
    /// their middles.
    pub(crate) fn apart(&self, block: usize, other: &Self, its: usize) -> (f64, f64) {
        let ((low, high), (its_low, its_high)) = (self.bounds(block), other.bounds(its));
        let (mut boxes, mut middles) = (0.0, 0.0);
        for k in 0..self.dimensions {
            let (l, h) = (f64::from(low[k]), f64::from(high[k]));
            let (m, g) = (f64::from(its_low[k]), f64::from(its_high[k]));
            let gap = (m - h).max(l - g).max(0.0);
            boxes += gap * gap;
            let shift = (l + h - m - g) / 2.0;
            middles += shift * shift;
        }
        (boxes, middles)
    }
}

fn point(points: &[f32], dimensions: usize, at: usize) -> &[f32] {
    &points[at * dimensions..(at + 1) * dimensions]
}

/// Orders `rows` into blocks, each in ascending order.
fn split(points: &[f32], dimensions: usize, rows: &mut [u32]) {
    let blocks = rows.len().div_ceil(BLOCK);
    if blocks < 2 {
        rows.sort_unstable();
        return;
    }
    let axis = widest(points, dimensions, rows);
    let at = |row: u32| points[row as usize * dimensions + axis];
    let middle = blocks / 2 * BLOCK;
    if dimensions > 0 {
        rows.select_nth_unstable_by(middle, |&a, &b| at(a).total_cmp(&at(b)).then(a.cmp(&b)));
    }
    let (left, right) = rows.split_at_mut(middle);
    rayon::join(
        || split(points, dimensions, left),
        || split(points, dimensions, right),
    );
}

/// The coordinate with the largest variance, the first of equal ones.
fn widest(points: &[f32], dimensions: usize, rows: &[u32]) -> usize {
    let Some(&first) = rows.first() else { return 0 };
    let origin = point(points, dimensions, first as usize);
    let mut sums = vec![(0f64, 0f64); dimensions];
    for &row in rows {
        let point = point(points, dimensions, row as usize);
        for ((sum, &v), &o) in sums.iter_mut().zip(point).zip(origin) {
            let d = f64::from(v) - f64::from(o);
            *sum = (sum.0 + d, sum.1 + d * d);
        }
    }
    let n = rows.len() as f64;
    let variances = sums.iter().map(|&(s, q)| q - s * s / n);
    let mut best = (0, f64::NEG_INFINITY);
    for (axis, variance) in variances.enumerate() {
        if variance > best.1 {
            best = (axis, variance);
        }
    }
    best.0
}

/// The box around points.
fn bounds(points: &[f32], dimensions: usize) -> (Vec<f32>, Vec<f32>) {
    let mut low = vec![f32::INFINITY; dimensions];
    let mut high = vec![f32::NEG_INFINITY; dimensions];
    for point in points.chunks_exact(dimensions.max(1)) {
        for (k, &v) in point.iter().enumerate() {
            low[k] = low[k].min(v);
            high[k] = high[k].max(v);
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blobs, with_threads};

    #[test]
    fn every_point_once_and_inside_its_box() {
        let (x, _) = blobs(1000, 4, 3);
        let b = with_threads(3, || Blocks::new(x.view()));
        assert_eq!(b.len(), 6);
        let mut rows: Vec<u32> = (0..b.len()).flat_map(|i| b.rows(i).to_vec()).collect();
        assert_eq!(rows, with_threads(1, || Blocks::new(x.view())).order);
        rows.sort_unstable();
        assert_eq!(rows, (0..1000).collect::<Vec<u32>>());
        for block in 0..b.len() {
            let (low, high) = b.bounds(block);
            for place in b.places(block) {
                assert_eq!(b.point(place), x.row(b.row(place) as usize).to_vec());
                for (k, v) in b.point(place).iter().enumerate() {
                    assert!((low[k]..=high[k]).contains(v));
                }
            }
        }
    }

    #[test]
    fn boxes_are_never_further_apart_than_points() {
        let (x, _) = blobs(900, 5, 2);
        let b = Blocks::new(x.view());
        for i in 0..b.len() {
            for j in 0..b.len() {
                let nearest = b
                    .places(i)
                    .flat_map(|p| b.places(j).map(move |q| (p, q)))
                    .map(|(p, q)| crate::knn::squared_distance(b.point(p), b.point(q)))
                    .fold(f64::INFINITY, f64::min);
                assert!(b.apart(i, &b, j).0 <= nearest);
            }
            assert_eq!(b.apart(i, &b, i), (0.0, 0.0));
        }
    }
}
