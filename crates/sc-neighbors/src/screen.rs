//! The screening of pairs of points: which may be close enough to matter, by products in `f32`.
//!
//! `|a - b|^2 = |a|^2 + |b|^2 - 2 a.b`, computed in `f32` in any order, is wrong by at most `slack (|a|^2 + |b|^2)`. What
//! is subtracted from all points is near both blocks, so that these are small. The tiles of the product stay in
//! registers: each is compared with the limits at once and forgotten.

use pulp::{Arch, Simd, WithSimd};

use crate::blocks::BLOCK;

/// Rows of the query whose products with a vector of reference points are summed at the same time.
const ROWS: usize = 6;
/// Reference points that stand together in memory.
const PANEL: usize = 64;
/// Nothing is further away.
const FAR: f32 = f32::MAX / 4.0;

const _: () = assert!(BLOCK.is_multiple_of(ROWS) && BLOCK.is_multiple_of(PANEL));

/// A block of reference points, coordinate by coordinate: `[BLOCK / PANEL, dimensions, PANEL]`.
pub(crate) struct Panels {
    values: Vec<f32>,
    points: usize,
}

impl Panels {
    /// Of points that stand one after the other.
    pub(crate) fn new(points: &[f32], dimensions: usize) -> Self {
        let mut values = vec![0f32; BLOCK * dimensions];
        let rows = points.chunks_exact(dimensions.max(1));
        let n = rows.len();
        for (i, point) in rows.enumerate() {
            let start = i / PANEL * PANEL * dimensions + i % PANEL;
            for (k, &v) in point.iter().enumerate() {
                values[start + k * PANEL] = v;
            }
        }
        Self { values, points: n }
    }
}

/// A block of query points and how near a reference point must be to each. It is used for one block of reference points
/// after the other.
pub(crate) struct Screen {
    dimensions: usize,
    /// What is subtracted from all points.
    origin: Vec<f32>,
    /// `-2 a`: `[BLOCK / ROWS, dimensions, ROWS]`.
    rows: Vec<f32>,
    /// `(1 - slack) |a|^2`.
    squares: Vec<f64>,
    /// A point is near if `(1 - slack) |b|^2 - 2 a.b` is at most this.
    thresholds: Vec<f32>,
    /// The reference points less the origin.
    panels: Vec<f32>,
    /// `(1 - slack) |b|^2`.
    norms: Vec<f32>,
    /// Pairs of a query point and a reference point that may be near, as numbers within their blocks.
    hits: Vec<(u32, u32)>,
}

impl Screen {
    /// For points that stand one after the other, seen from `origin`.
    pub(crate) fn new(points: &[f32], origin: Vec<f32>) -> Self {
        let dimensions = origin.len();
        let mut rows = vec![0f32; BLOCK * dimensions];
        let mut squares = Vec::with_capacity(BLOCK);
        for (i, point) in points.chunks_exact(dimensions.max(1)).enumerate() {
            let start = i / ROWS * ROWS * dimensions + i % ROWS;
            let mut square = 0.0;
            for (k, (&v, &o)) in point.iter().zip(&origin).enumerate() {
                let v = v - o;
                rows[start + k * ROWS] = -2.0 * v;
                square += f64::from(v) * f64::from(v);
            }
            squares.push(square * (1.0 - slack(dimensions)));
        }
        Self {
            dimensions,
            origin,
            rows,
            squares,
            // Rows that are not there are near nothing.
            thresholds: vec![-f32::MAX; BLOCK],
            panels: vec![0.0; BLOCK * dimensions],
            norms: vec![0.0; BLOCK],
            hits: Vec::new(),
        }
    }

    /// The pairs of a query point `i` and a point of `reference` whose squared distance may be at most `limits[i]`: all
    /// such pairs and few others.
    pub(crate) fn near(
        &mut self,
        reference: &Panels,
        limits: impl Iterator<Item = f64>,
    ) -> &[(u32, u32)] {
        let wider = 1.0 + slack(self.dimensions);
        for ((threshold, square), limit) in
            self.thresholds.iter_mut().zip(&self.squares).zip(limits)
        {
            // The last term covers squares so small that `f32` rounds them to zero.
            let t = limit * wider - square + 1e-36;
            *threshold = t.min(f64::from(f32::MAX)) as f32;
        }
        self.hits.clear();
        let keep = (1.0 - slack(self.dimensions)) as f32;
        let arch = Arch::new();
        arch.dispatch(Shift {
            panels: &reference.values,
            origin: &self.origin,
            keep,
            out: &mut self.panels,
            norms: &mut self.norms,
        });
        self.norms[reference.points..].fill(FAR);
        arch.dispatch(Products {
            dimensions: self.dimensions,
            rows: &self.rows,
            thresholds: &self.thresholds,
            panels: &self.panels,
            norms: &self.norms,
            points: reference.points,
            hits: &mut self.hits,
        });
        &self.hits
    }
}

/// Twice the rounding errors of a sum of `dimensions` products, and of subtracting the origin.
fn slack(dimensions: usize) -> f64 {
    (dimensions + 16) as f64 * 2.0 * f64::from(f32::EPSILON)
}

/// Subtracts the origin from panels, and sums the squares.
struct Shift<'a> {
    panels: &'a [f32],
    origin: &'a [f32],
    /// What the sums are multiplied with.
    keep: f32,
    out: &'a mut [f32],
    norms: &'a mut [f32],
}

impl WithSimd for Shift<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let size = PANEL * self.origin.len().max(1);
        let panels = self.panels.chunks_exact(size);
        let out = self.out.chunks_exact_mut(size);
        let norms = self.norms.as_chunks_mut::<PANEL>().0.iter_mut();
        for ((panel, out), norms) in panels.zip(out).zip(norms) {
            let mut squares = [0f32; PANEL];
            let columns = panel.as_chunks::<PANEL>().0.iter();
            let out = out.as_chunks_mut::<PANEL>().0.iter_mut();
            for ((column, out), &o) in columns.zip(out).zip(self.origin) {
                for j in 0..PANEL {
                    let v = column[j] - o;
                    out[j] = v;
                    squares[j] += v * v;
                }
            }
            *norms = squares.map(|s| s * self.keep);
        }
    }
}

/// The products of a block of rows with a block of panels, and which of them are small enough.
struct Products<'a> {
    dimensions: usize,
    rows: &'a [f32],
    thresholds: &'a [f32],
    panels: &'a [f32],
    norms: &'a [f32],
    points: usize,
    hits: &'a mut Vec<(u32, u32)>,
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as fit into the registers beside a vector of each side.
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, 4>(simd);
        } else {
            self.run::<S, 2>(simd);
        }
    }
}

impl Products<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let width = V * S::F32_LANES;
        let groups = self.rows.as_chunks::<ROWS>().0;
        let thresholds = self.thresholds.as_chunks::<ROWS>().0;
        let columns = self.panels.as_chunks::<PANEL>().0;
        let norms = self.norms.as_chunks::<PANEL>().0;
        for (p, norms) in norms.iter().enumerate() {
            if p * PANEL >= self.points {
                break;
            }
            let panel = &columns[p * self.dimensions..][..self.dimensions];
            for start in (0..PANEL).step_by(width) {
                for (g, thresholds) in thresholds.iter().enumerate() {
                    let group = &groups[g * self.dimensions..][..self.dimensions];
                    let sums = tile::<S, V>(simd, group, thresholds, panel, norms, start);
                    if least(simd, &sums) <= 0.0 {
                        let first = (g * ROWS, p * PANEL + start);
                        collect(simd, &sums, first, self.points, self.hits);
                    }
                }
            }
        }
    }
}

/// `norm - threshold + row . column` for [`ROWS`] rows and `V` vectors of columns from `start`: not positive where the
/// pair is near.
#[inline(always)]
fn tile<S: Simd, const V: usize>(
    simd: S,
    rows: &[[f32; ROWS]],
    thresholds: &[f32; ROWS],
    panel: &[[f32; PANEL]],
    norms: &[f32; PANEL],
    start: usize,
) -> [[S::f32s; V]; ROWS] {
    let mut sums = [[simd.splat_f32s(0.0); V]; ROWS];
    let Some(norms) = vectors::<S, V>(norms, start) else {
        return sums;
    };
    for r in 0..ROWS {
        let threshold = simd.splat_f32s(thresholds[r]);
        for v in 0..V {
            sums[r][v] = simd.sub_f32s(norms[v], threshold);
        }
    }
    for (row, column) in rows.iter().zip(panel) {
        let Some(column) = vectors::<S, V>(column, start) else {
            return sums;
        };
        for r in 0..ROWS {
            let a = simd.splat_f32s(row[r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(a, column[v], sums[r][v]);
            }
        }
    }
    sums
}

/// `V` vectors of a panel, from `start` on.
#[inline(always)]
fn vectors<S: Simd, const V: usize>(panel: &[f32; PANEL], start: usize) -> Option<&[S::f32s; V]> {
    let part = panel.get(start..start + V * S::F32_LANES)?;
    S::as_simd_f32s(part).0.first_chunk()
}

#[inline(always)]
fn least<S: Simd, const V: usize>(simd: S, sums: &[[S::f32s; V]]) -> f32 {
    let mut least = sums[0][0];
    for row in sums {
        for &v in row {
            least = simd.min_f32s(least, v);
        }
    }
    simd.reduce_min_f32s(least)
}

/// Notes the pairs of a tile that are near.
#[inline(always)]
fn collect<S: Simd, const V: usize>(
    simd: S,
    sums: &[[S::f32s; V]; ROWS],
    first: (usize, usize),
    points: usize,
    hits: &mut Vec<(u32, u32)>,
) {
    let width = (V * S::F32_LANES).min(points.saturating_sub(first.1));
    for (r, row) in sums.iter().enumerate() {
        if least(simd, std::slice::from_ref(row)) > 0.0 {
            continue;
        }
        let mut values = [0f32; PANEL];
        for (out, v) in S::as_mut_simd_f32s(&mut values).0.iter_mut().zip(row) {
            *out = *v;
        }
        for (j, &v) in values.iter().take(width).enumerate() {
            if v <= 0.0 {
                hits.push(((first.0 + r) as u32, (first.1 + j) as u32));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knn::squared_distance;
    use crate::testing::blobs;

    /// No pair that is near is missed, and those that are far are not taken, in odd sizes and far from the origin.
    #[test]
    fn near_pairs_are_found() {
        for (n, m, d, offset) in [
            (BLOCK, BLOCK, 30, 0.0f32),
            (5, 70, 3, 1e4),
            (100, 1, 1, -50.0),
        ] {
            let (x, _) = blobs(n, 3, d);
            let (y, _) = blobs(n + m, 3, d);
            let x: Vec<f32> = x.iter().map(|v| v + offset).collect();
            let y: Vec<f32> = y.iter().skip(n * d).map(|v| v + offset).collect();
            let mut screen = Screen::new(&x, x[..d].to_vec());
            let limits: Vec<f64> = (0..n).map(|i| 0.5 * (i % 40 * d) as f64).collect();
            let hits = screen.near(&Panels::new(&y, d), limits.iter().copied());
            for (i, a) in x.chunks(d).enumerate() {
                for (j, b) in y.chunks(d).enumerate() {
                    let square = squared_distance(a, b);
                    let hit = hits.contains(&(i as u32, j as u32));
                    assert!(hit || square > limits[i], "{i} {j}");
                    assert!(!hit || square < 1.01 * limits[i] + 1.0, "{i} {j}");
                }
            }
            let all = screen.near(&Panels::new(&y, d), std::iter::repeat(f64::INFINITY));
            assert_eq!(all.len(), n * m);
        }
    }
}
