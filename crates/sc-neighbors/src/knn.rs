use std::collections::BinaryHeap;

use ndarray::{Array2, ArrayView2, Axis, Slice};
use rayon::prelude::*;

use crate::{Error, Result};

/// Rows of the query per task.
const QUERY_TILE: usize = 64;
/// Rows of the reference per matrix product.
const REFERENCE_TILE: usize = 2048;

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
/// depend on the number of threads. Time is quadratic in the number of points, memory linear.
///
/// # Errors
/// [`Error::InvalidParameter`] unless `1 <= k < n`, [`Error::InvalidCoordinate`] if a coordinate is not finite.
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
    let available = reference.nrows().min(u32::MAX as usize);
    let available = available.saturating_sub(usize::from(exclude_self));
    if k == 0 || k > available {
        return Err(Error::InvalidParameter {
            name: "k",
            found: k.to_string(),
            expected: format!("1 to {available}, the number of possible neighbours"),
        });
    }
    let centre = centre(reference);
    let b = Centred::new(reference, &centre);
    let mut indices = Array2::zeros((query.nrows(), k));
    let mut distances = Array2::zeros((query.nrows(), k));
    indices
        .axis_chunks_iter_mut(Axis(0), QUERY_TILE)
        .into_par_iter()
        .zip(distances.axis_chunks_iter_mut(Axis(0), QUERY_TILE))
        .enumerate()
        .for_each(|(tile, (mut indices, mut distances))| {
            let first = tile * QUERY_TILE;
            let rows = query.slice_axis(Axis(0), Slice::from(first..first + indices.nrows()));
            let candidates = candidates(rows, &b, &centre, k, exclude_self.then_some(first));
            for (r, found) in candidates.iter().enumerate() {
                let exact = rank(rows.row(r), reference, found, k);
                for (c, (square, j)) in exact.into_iter().enumerate() {
                    indices[[r, c]] = j;
                    distances[[r, c]] = square.sqrt() as f32;
                }
            }
        });
    Ok(Neighbors { indices, distances })
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

/// The mean of each column: distances do not change when it is subtracted, but `f32` products become more exact.
fn centre(points: ArrayView2<'_, f32>) -> Vec<f32> {
    let n = points.nrows().max(1) as f64;
    points
        .columns()
        .into_iter()
        .map(|c| (c.iter().map(|&v| f64::from(v)).sum::<f64>() / n) as f32)
        .collect()
}

/// Points around a centre, and the squares of their lengths.
struct Centred {
    points: Array2<f32>,
    squares: Vec<f32>,
}

impl Centred {
    fn new(points: ArrayView2<'_, f32>, centre: &[f32]) -> Self {
        let mut points = points.to_owned();
        for mut row in points.rows_mut() {
            for (v, c) in row.iter_mut().zip(centre) {
                *v -= c;
            }
        }
        let squares = points
            .rows()
            .into_iter()
            .map(|r| r.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() as f32)
            .collect();
        Self { points, squares }
    }
}

/// A non-negative number that can be ordered.
#[derive(PartialEq)]
struct Ordered(f32);
impl Eq for Ordered {}
impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The reference rows that may be among the `k` nearest of one query row.
struct Candidates {
    /// The `k` smallest upper bounds of squared distances so far.
    upper: BinaryHeap<Ordered>,
    /// Row numbers with the lower bounds of their squared distances.
    rows: Vec<(f32, u32)>,
    /// The largest of `upper` once there are `k`: rows further away are out.
    limit: f32,
}

/// For each query row a list that contains its `k` nearest reference rows and few others.
///
/// `|a - b|^2 = |a|^2 + |b|^2 - 2 a.b` in `f32` is wrong by at most `slack (|a|^2 + |b|^2)`, which makes a lower and an
/// upper bound of each distance.
fn candidates(
    query: ArrayView2<'_, f32>,
    reference: &Centred,
    centre: &[f32],
    k: usize,
    first_row: Option<usize>,
) -> Vec<Candidates> {
    let a = Centred::new(query, centre);
    let slack = (query.ncols() + 16) as f32 * 2.0 * f32::EPSILON;
    let mut found: Vec<Candidates> = (0..query.nrows())
        .map(|_| Candidates {
            upper: BinaryHeap::with_capacity(k + 1),
            rows: Vec::with_capacity(4 * k),
            limit: f32::INFINITY,
        })
        .collect();
    let n = reference.points.nrows();
    for start in (0..n).step_by(REFERENCE_TILE) {
        let end = (start + REFERENCE_TILE).min(n);
        let part = reference
            .points
            .slice_axis(Axis(0), Slice::from(start..end));
        let products = a.points.dot(&part.t());
        let squares = &reference.squares[start..end];
        for (r, (products, out)) in products.rows().into_iter().zip(&mut found).enumerate() {
            let own = first_row.map(|f| f + r);
            for (j, (&product, &square)) in products.iter().zip(squares).enumerate() {
                let lengths = a.squares[r] + square;
                let margin = slack * lengths;
                let lower = lengths - 2.0 * product - margin;
                if lower > out.limit || own == Some(start + j) {
                    continue;
                }
                out.rows.push((lower, (start + j) as u32));
                let upper = lower + 2.0 * margin;
                if upper < out.limit {
                    out.upper.push(Ordered(upper));
                    if out.upper.len() > k {
                        out.upper.pop();
                    }
                    if out.upper.len() == k {
                        out.limit = out.upper.peek().map_or(f32::INFINITY, |u| u.0);
                    }
                }
            }
        }
    }
    found
}

/// The `k` nearest of the candidates, by squared distance in `f64`, then by row number.
fn rank(
    row: ndarray::ArrayView1<'_, f32>,
    reference: ArrayView2<'_, f32>,
    found: &Candidates,
    k: usize,
) -> Vec<(f64, u32)> {
    let mut exact: Vec<(f64, u32)> = found
        .rows
        .iter()
        .filter(|(lower, _)| *lower <= found.limit)
        .map(|&(_, j)| (squared_distance(row, reference.row(j as usize)), j))
        .collect();
    exact.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    exact.truncate(k);
    exact
}

/// `|a - b|^2` in `f64`.
pub(crate) fn squared_distance(
    a: ndarray::ArrayView1<'_, f32>,
    b: ndarray::ArrayView1<'_, f32>,
) -> f64 {
    a.iter()
        .zip(b.iter())
        .map(|(&x, &y)| {
            let d = f64::from(x) - f64::from(y);
            d * d
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blobs, with_threads};
    use ndarray::array;

    fn naive(reference: &Array2<f32>, query: &Array2<f32>, k: usize, own: bool) -> Vec<Vec<u32>> {
        query
            .rows()
            .into_iter()
            .enumerate()
            .map(|(i, q)| {
                let mut all: Vec<(f64, u32)> = (0..reference.nrows())
                    .filter(|&j| !(own && i == j))
                    .map(|j| (squared_distance(q, reference.row(j)), j as u32))
                    .collect();
                all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                all.iter().take(k).map(|e| e.1).collect()
            })
            .collect()
    }

    fn rows(n: &Neighbors) -> Vec<Vec<u32>> {
        n.indices.rows().into_iter().map(|r| r.to_vec()).collect()
    }

    #[test]
    fn the_same_as_all_pairs() {
        // More rows than two reference tiles; far from the origin, where plain f32 products lose the distances.
        for offset in [0.0, 1000.0] {
            let (mut x, _) = blobs(4500, 6, 5);
            x.mapv_inplace(|v| v + offset);
            let found = knn(x.view(), 10).unwrap();
            assert_eq!(rows(&found), naive(&x, &x, 10, true));
            let q = x.slice_axis(Axis(0), Slice::from(..70)).to_owned();
            let found = knn_query(x.view(), q.view(), 3).unwrap();
            assert_eq!(rows(&found), naive(&x, &q, 3, false));
            assert!(found.distances.column(0).iter().all(|&d| d == 0.0));
        }
    }

    #[test]
    fn ties_go_to_the_lower_row() {
        let x = array![[0.0f32], [1.0], [-1.0], [1.0], [0.0]];
        let n = knn(x.view(), 4).unwrap();
        assert_eq!(n.indices.row(0).to_vec(), vec![4, 1, 2, 3]);
        assert_eq!(n.distances.row(0).to_vec(), vec![0.0, 1.0, 1.0, 1.0]);
        let same = Array2::<f32>::ones((300, 3));
        assert_eq!(
            knn(same.view(), 2).unwrap().indices.row(5).to_vec(),
            vec![0, 1]
        );
    }

    /// Reference: scikit-learn 1.9.1, brute force, on the points of `testing::lattice`.
    #[test]
    fn distances_agree_with_scikit_learn() {
        let n = knn(crate::testing::lattice().view(), 5).unwrap();
        assert_eq!(n.indices.row(0).to_vec(), vec![9, 3, 11, 6, 1]);
        assert_eq!(n.indices.row(1).to_vec(), vec![3, 11, 7, 10, 6]);
        let expected = [3.3166247903554, 3.528455448809421, 4.885693126602183];
        for (d, e) in n.distances.row(0).iter().zip(expected) {
            assert!((f64::from(*d) - e).abs() < 1e-6);
        }
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let (x, _) = blobs(1000, 4, 8);
        let run = |threads| with_threads(threads, || knn(x.view(), 12).unwrap());
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn bad_input_is_refused() {
        let x = array![[0.0f32, 1.0], [1.0, f32::NAN]];
        assert!(matches!(
            knn(x.view(), 1),
            Err(Error::InvalidCoordinate {
                row: 1,
                column: 1,
                ..
            })
        ));
        let x = array![[0.0f32, 1.0], [1.0, 0.0]];
        assert!(knn(x.view(), 0).is_err());
        assert!(knn(x.view(), 2).is_err());
        assert!(knn_query(x.view(), x.view(), 2).is_ok());
        assert!(knn_query(x.view(), array![[1.0f32]].view(), 1).is_err());
        assert!(knn(Array2::zeros((0, 2)).view(), 1).is_err());
    }
}
