//! Sums over all pairs of two sets of points, in tiles that stay in the processor's cache: no matrix of distances is
//! ever made.

use ndarray::{ArrayView2, Axis};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::knn::check_coordinates;
use crate::{Error, Result};

/// Points that stand together in memory, coordinate by coordinate.
const PANEL: usize = 16;
/// Rows whose distances to a vector of points are summed at the same time.
const ROWS: usize = 4;
/// Rows of a task.
const TASK: usize = 64;
/// So many groups are believed in whatever the number of points.
const MANY: usize = 1 << 16;
/// Panels that one task compares with all of its rows before it goes on.
const CHUNK: usize = 64;

/// Points sorted by group, for sums over all pairs of them and others: the quadratic part of silhouettes, energy
/// distances and the like. Time is quadratic, memory linear in the number of points.
///
/// Distances are computed in `f64` from differences of coordinates, so that points at one place are exactly 0 apart.
/// Sums have one order on any number of threads.
///
/// ```
/// use sc_neighbors::GroupedPoints;
///
/// # fn main() -> Result<(), sc_neighbors::Error> {
/// let points = ndarray::array![[0.0f32, 0.0], [3.0, 4.0], [6.0, 8.0]];
/// let grouped = GroupedPoints::new(points.view(), &[0, 1, 1])?;
/// // For each point the sums of its distances to the points of each group.
/// let sums = grouped.distance_sums(points.view(), |_, sums| sums.to_vec())?;
/// assert_eq!(sums, [[0.0, 15.0], [5.0, 5.0], [10.0, 5.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GroupedPoints {
    dimensions: usize,
    /// Points of each group.
    sizes: Vec<usize>,
    panels: Vec<Panel>,
    /// `[n_panels, dimensions, PANEL]`; what is beyond the points of a panel is 0.
    values: Vec<f64>,
}

/// Some points of one group.
#[derive(Debug, Clone)]
struct Panel {
    group: usize,
    points: usize,
}

impl GroupedPoints {
    /// Of points `[n, dimensions]` and the number of the group of each. There are as many groups as the highest number
    /// says; those without points have sums of 0.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] unless there is a group for each point, [`Error::InvalidCoordinate`] if a coordinate is not
    /// finite, [`Error::InvalidParameter`] if the numbers of groups are far beyond that of the points.
    pub fn new(points: ArrayView2<'_, f32>, groups: &[u32]) -> Result<Self> {
        if groups.len() != points.nrows() {
            return Err(Error::LengthMismatch {
                what: "the groups of the points",
                found: groups.len(),
                expected: points.nrows(),
            });
        }
        check_coordinates(points)?;
        let n_groups = groups.iter().max().map_or(0, |&g| g as usize + 1);
        if n_groups > points.nrows().max(MANY) {
            return Err(Error::InvalidParameter {
                name: "the highest number of a group",
                found: (n_groups - 1).to_string(),
                expected: "numbers from 0 without large gaps".into(),
            });
        }
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); n_groups];
        for (row, &group) in groups.iter().enumerate() {
            rows[group as usize].push(row);
        }
        let dimensions = points.ncols();
        let mut out = Self {
            dimensions,
            sizes: rows.iter().map(Vec::len).collect(),
            panels: Vec::new(),
            values: Vec::new(),
        };
        for (group, rows) in rows.iter().enumerate() {
            for part in rows.chunks(PANEL) {
                let start = out.values.len();
                out.values.resize(start + dimensions * PANEL, 0.0);
                for (lane, &row) in part.iter().enumerate() {
                    for (k, &v) in points.row(row).iter().enumerate() {
                        out.values[start + k * PANEL + lane] = f64::from(v);
                    }
                }
                out.panels.push(Panel {
                    group,
                    points: part.len(),
                });
            }
        }
        Ok(out)
    }

    /// Points of each group.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// What `each` makes of a query point's number and the sums of its Euclidean distances to the points of each group.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if the queries have other dimensions, [`Error::InvalidCoordinate`] if a coordinate is not
    /// finite.
    pub fn distance_sums<T: Send>(
        &self,
        query: ArrayView2<'_, f32>,
        each: impl Fn(usize, &[f64]) -> T + Sync,
    ) -> Result<Vec<T>> {
        self.sums(query, |_, square| square.sqrt(), each)
    }

    /// What `each` makes of a query point's number and the sums of `exp(-gamma d^2)` over the points of each group.
    ///
    /// # Errors
    /// As [`GroupedPoints::distance_sums`].
    pub fn gaussian_sums<T: Send>(
        &self,
        query: ArrayView2<'_, f32>,
        gamma: f64,
        each: impl Fn(usize, &[f64]) -> T + Sync,
    ) -> Result<Vec<T>> {
        self.sums(query, |_, square| (-gamma * square).exp(), each)
    }

    /// For each query point how many of all points are strictly nearer to it than the point in the same row of `partners`.
    ///
    /// # Errors
    /// As [`GroupedPoints::distance_sums`], and [`Error::LengthMismatch`] unless there is a partner for each query point.
    pub fn count_nearer(
        &self,
        query: ArrayView2<'_, f32>,
        partners: ArrayView2<'_, f32>,
    ) -> Result<Vec<u64>> {
        self.check(partners)?;
        if partners.nrows() != query.nrows() {
            return Err(Error::LengthMismatch {
                what: "the partners",
                found: partners.nrows(),
                expected: query.nrows(),
            });
        }
        self.check(query)?;
        let arch = Arch::new();
        let limits: Vec<f64> = query
            .outer_iter()
            .zip(partners.outer_iter())
            .map(|(a, b)| {
                let pairs = a.iter().zip(b).map(|(&a, &b)| (a.into(), b.into()));
                arch.dispatch(Square(&pairs.collect::<Vec<_>>()))
            })
            .collect();
        let nearer = |row: usize, square: f64| f64::from(u8::from(square < limits[row]));
        self.sums(query, nearer, |_, counts| counts.iter().sum::<f64>() as u64)
    }

    fn check(&self, query: ArrayView2<'_, f32>) -> Result<()> {
        if query.ncols() != self.dimensions {
            return Err(Error::LengthMismatch {
                what: "a row of the query",
                found: query.ncols(),
                expected: self.dimensions,
            });
        }
        check_coordinates(query)
    }

    /// Sums of `f(row, squared distance)`.
    fn sums<T: Send>(
        &self,
        query: ArrayView2<'_, f32>,
        f: impl Fn(usize, f64) -> f64 + Sync,
        each: impl Fn(usize, &[f64]) -> T + Sync,
    ) -> Result<Vec<T>> {
        self.check(query)?;
        let groups = self.sizes.len();
        let starts: Vec<usize> = (0..query.nrows()).step_by(TASK).collect();
        let parts: Vec<Vec<T>> = starts
            .into_par_iter()
            .map(|start| {
                let rows = (query.nrows() - start).min(TASK);
                let mut sums = vec![0.0; rows.next_multiple_of(ROWS) * groups];
                Arch::new().dispatch(Task {
                    points: self,
                    rows: &quads(query, start, rows),
                    start,
                    last: start + rows - 1,
                    f: &f,
                    sums: &mut sums,
                });
                (0..rows)
                    .map(|r| each(start + r, &sums[r * groups..(r + 1) * groups]))
                    .collect()
            })
            .collect();
        Ok(parts.into_iter().flatten().collect())
    }
}

/// Rows of the query, [`ROWS`] at a time, coordinate by coordinate; zeros beyond the last.
fn quads(query: ArrayView2<'_, f32>, start: usize, rows: usize) -> Vec<[f64; ROWS]> {
    let dimensions = query.ncols();
    let mut out = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * dimensions];
    for r in 0..rows {
        let row = query.index_axis(Axis(0), start + r);
        for (k, &v) in row.iter().enumerate() {
            out[r / ROWS * dimensions + k][r % ROWS] = f64::from(v);
        }
    }
    out
}

/// The squared distance of the points of which these are the coordinates, as a [`Task`] would compute it.
struct Square<'a>(&'a [(f64, f64)]);

impl WithSimd for Square<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let mut sum = simd.splat_f64s(0.0);
        for &(a, b) in self.0 {
            let d = simd.sub_f64s(simd.splat_f64s(a), simd.splat_f64s(b));
            sum = simd.mul_add_e_f64s(d, d, sum);
        }
        // All lanes are the same.
        simd.reduce_max_f64s(sum)
    }
}

/// Some rows and all points.
struct Task<'a, F> {
    points: &'a GroupedPoints,
    rows: &'a [[f64; ROWS]],
    /// The numbers of the first row and of the last.
    start: usize,
    last: usize,
    f: &'a F,
    /// `[rows, groups]`.
    sums: &'a mut [f64],
}

impl<F: Fn(usize, f64) -> f64> WithSimd for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let dimensions = self.points.dimensions;
        let columns = self.points.values.as_chunks::<PANEL>().0;
        let quads = self.sums.len() / (ROWS * self.points.sizes.len()).max(1);
        for (c, chunk) in self.points.panels.chunks(CHUNK).enumerate() {
            for quad in 0..quads {
                let rows = &self.rows[quad * dimensions..][..dimensions];
                let mut run = Run {
                    group: chunk.first().map_or(0, |p| p.group),
                    lanes: [[0.0; PANEL]; ROWS],
                };
                for (p, panel) in chunk.iter().enumerate() {
                    if panel.group != run.group {
                        run.flush(quad, self.points.sizes.len(), self.sums);
                        run.group = panel.group;
                    }
                    let at = (c * CHUNK + p) * dimensions;
                    let squares = squares(simd, rows, &columns[at..][..dimensions]);
                    for r in 0..ROWS {
                        // Rows beyond the last are computed like it and not looked at.
                        let row = (self.start + quad * ROWS + r).min(self.last);
                        if panel.points == PANEL {
                            for l in 0..PANEL {
                                run.lanes[r][l] += (self.f)(row, squares[r][l]);
                            }
                        } else {
                            for l in 0..panel.points {
                                run.lanes[r][l] += (self.f)(row, squares[r][l]);
                            }
                        }
                    }
                }
                run.flush(quad, self.points.sizes.len(), self.sums);
            }
        }
    }
}

/// Sums over some panels of one group.
struct Run {
    group: usize,
    lanes: [[f64; PANEL]; ROWS],
}

impl Run {
    #[inline(always)]
    fn flush(&mut self, quad: usize, groups: usize, sums: &mut [f64]) {
        for (r, lanes) in self.lanes.iter_mut().enumerate() {
            sums[(quad * ROWS + r) * groups + self.group] += lanes.iter().sum::<f64>();
            *lanes = [0.0; PANEL];
        }
    }
}

/// The squared distances of [`ROWS`] rows and the points of a panel.
#[inline(always)]
fn squares<S: Simd>(simd: S, rows: &[[f64; ROWS]], panel: &[[f64; PANEL]]) -> [[f64; PANEL]; ROWS] {
    let mut out = [[0.0; PANEL]; ROWS];
    let width = (2 * S::F64_LANES).min(PANEL);
    for start in (0..PANEL).step_by(width) {
        let mut sums = [[simd.splat_f64s(0.0); 2]; ROWS];
        for (row, column) in rows.iter().zip(panel) {
            let Some(&[a, b]) = S::as_simd_f64s(&column[start..start + width])
                .0
                .first_chunk()
            else {
                return out;
            };
            for r in 0..ROWS {
                let x = simd.splat_f64s(row[r]);
                let (p, q) = (simd.sub_f64s(a, x), simd.sub_f64s(b, x));
                sums[r][0] = simd.mul_add_e_f64s(p, p, sums[r][0]);
                sums[r][1] = simd.mul_add_e_f64s(q, q, sums[r][1]);
            }
        }
        for (out, sums) in out.iter_mut().zip(&sums) {
            let lanes = S::as_mut_simd_f64s(&mut out[start..start + width]).0;
            for (out, &sum) in lanes.iter_mut().zip(sums) {
                *out = sum;
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "pairwise_tests.rs"]
mod tests;
