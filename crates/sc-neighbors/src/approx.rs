use ann_search_rs::build_knn_graph_nndescent;
use ann_search_rs::prelude::{KNN_GRAPH_EMPTY, NNDescentKnnParams, Verbosity};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::knn::{check_coordinates, check_k, squared_distance};
use crate::{Error, Neighbors, Result, knn, knn_query};

/// Up to so many points [`Knn::auto`] searches exactly.
pub const EXACT_UP_TO: usize = 100_000;
/// Fewer points are always searched exactly: it is faster.
const SMALLEST: usize = 5_000;
/// The fewest neighbours that are kept of each point while they are improved.
const NARROWEST: usize = 15;

/// Settings of [`knn_approx`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ApproxParams {
    /// Chooses the trees at the start, and the pairs that are tried.
    pub seed: u64,
    /// Neighbours that are kept of each point while they are improved; the best `k` are returned. More find more of the
    /// true neighbours and take longer. `None`: `k + k / 3`, and at least 15.
    pub width: Option<usize>,
    /// The most rounds of improvement. `None`: `log2(n)`.
    pub max_rounds: Option<usize>,
}

/// How neighbours are searched: the choice that a program leaves to its user.
///
/// ```
/// use sc_neighbors::Knn;
///
/// # fn main() -> Result<(), sc_neighbors::Error> {
/// let points = ndarray::Array2::from_shape_fn((50, 2), |(i, j)| ((i * 7 + j * 3) % 11) as f32);
/// let neighbors = Knn::auto(points.nrows()).neighbors(points.view(), 5)?;
/// assert_eq!(neighbors.indices.dim(), (50, 5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Knn {
    /// By [`knn`].
    Exact,
    /// By [`knn_approx`].
    Approximate(ApproxParams),
}

impl Knn {
    /// [`Knn::Exact`] for up to [`EXACT_UP_TO`] points, else [`Knn::Approximate`] with its defaults.
    pub fn auto(n_points: usize) -> Self {
        if n_points <= EXACT_UP_TO {
            Self::Exact
        } else {
            Self::Approximate(ApproxParams::default())
        }
    }

    /// The `k` nearest other points of each point.
    ///
    /// # Errors
    /// As [`knn`] and [`knn_approx`].
    pub fn neighbors(&self, points: ArrayView2<'_, f32>, k: usize) -> Result<Neighbors> {
        match self {
            Self::Exact => knn(points, k),
            Self::Approximate(params) => knn_approx(points, k, params),
        }
    }
}

/// Most of the `k` nearest other points of each point, by nearest-neighbour descent (Dong, Moses and Li, WWW 2011) as
/// the `ann-search-rs` crate implements it: neighbours of neighbours are tried, beginning with a forest of random trees.
///
/// Time grows little faster than the number of points. The neighbours found are ordered as by [`knn`], with distances
/// computed in `f64`; [`recall`] says how many are the true ones. Fewer than 5,000 points are searched exactly. The same
/// seed gives the same neighbours on any number of threads.
///
/// # Errors
/// As [`knn`], and [`Error::Approximate`] if the search fails.
pub fn knn_approx(
    points: ArrayView2<'_, f32>,
    k: usize,
    params: &ApproxParams,
) -> Result<Neighbors> {
    check_coordinates(points)?;
    check_k(k, points, true)?;
    let width = params.width.unwrap_or((k + k / 3).max(NARROWEST)).max(k);
    let (n, dimensions) = points.dim();
    if n < SMALLEST || width >= n / 4 {
        return knn(points, k);
    }
    let descent = NNDescentKnnParams {
        k: width,
        max_iter: params.max_rounds,
        return_dist: false,
        ..NNDescentKnnParams::default()
    };
    let flat = centred(points);
    let graph = build_knn_graph_nndescent(
        (flat.as_slice(), n, dimensions),
        "euclidean",
        Some(descent),
        params.seed as usize,
        Verbosity::Quiet,
    )
    .map_err(|e| Error::Approximate(e.to_string()))?;
    let rows = points.as_standard_layout();
    let rows: &[f32] = rows.as_slice().unwrap_or_default();
    let point = |i: usize| &rows[i * dimensions..(i + 1) * dimensions];
    let found: Vec<Vec<(f64, u32)>> = graph
        .indices
        .par_chunks(width)
        .enumerate()
        .map(|(i, candidates)| {
            let mut ranked: Vec<(f64, u32)> = candidates
                .iter()
                .filter(|&&j| j != KNN_GRAPH_EMPTY && j as usize != i && (j as usize) < n)
                .map(|&j| (squared_distance(point(i), point(j as usize)), j))
                .collect();
            ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            ranked.dedup_by_key(|r| r.1);
            ranked.truncate(k);
            ranked
        })
        .collect();
    assemble(points, k, &found)
}

/// The points less their mean, so that products of them round less.
fn centred(points: ArrayView2<'_, f32>) -> Vec<f32> {
    let n = points.nrows().max(1) as f64;
    let mean: Vec<f32> = points
        .columns()
        .into_iter()
        .map(|c| (c.iter().map(|&v| f64::from(v)).sum::<f64>() / n) as f32)
        .collect();
    points
        .rows()
        .into_iter()
        .flat_map(|row| {
            let shifted: Vec<f32> = row.iter().zip(&mean).map(|(v, m)| v - m).collect();
            shifted
        })
        .collect()
}

/// Neighbours from ranked lists; points whose list is too short (descent does not reach every point) are searched exactly.
fn assemble(points: ArrayView2<'_, f32>, k: usize, found: &[Vec<(f64, u32)>]) -> Result<Neighbors> {
    let mut out = Neighbors {
        indices: Array2::zeros((found.len(), k)),
        distances: Array2::zeros((found.len(), k)),
    };
    let mut short = Vec::new();
    for (i, ranked) in found.iter().enumerate() {
        if ranked.len() < k {
            short.push(i);
        }
        for (c, &(square, j)) in ranked.iter().enumerate() {
            out.indices[[i, c]] = j;
            out.distances[[i, c]] = square.sqrt() as f32;
        }
    }
    if short.is_empty() {
        return Ok(out);
    }
    let exact = knn_query(points, points.select(Axis(0), &short).view(), k + 1)?;
    for (r, &i) in short.iter().enumerate() {
        let others = exact.indices.row(r).into_iter().zip(exact.distances.row(r));
        let others = others.filter(|(j, _)| **j as usize != i).take(k);
        for (c, (&j, &distance)) in others.enumerate() {
            out.indices[[i, c]] = j;
            out.distances[[i, c]] = distance;
        }
    }
    Ok(out)
}

/// The share of the true neighbours that were found, 0 to 1.
///
/// # Errors
/// [`Error::LengthMismatch`] if the two differ in shape.
pub fn recall(found: &Neighbors, exact: &Neighbors) -> Result<f64> {
    if found.indices.dim() != exact.indices.dim() {
        return Err(Error::LengthMismatch {
            what: "the neighbours found",
            found: found.indices.len(),
            expected: exact.indices.len(),
        });
    }
    let hits: usize = (0..exact.n_points())
        .into_par_iter()
        .map(|i| {
            let mut found: Vec<u32> = found.indices.row(i).to_vec();
            found.sort_unstable();
            let truth = exact.indices.row(i);
            truth
                .iter()
                .filter(|j| found.binary_search(j).is_ok())
                .count()
        })
        .sum();
    Ok(hits as f64 / exact.indices.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blobs, with_threads};

    #[test]
    fn most_neighbours_are_found_and_always_the_same() {
        let (mut x, _) = blobs(8000, 6, 20);
        x.mapv_inplace(|v| v + 300.0);
        // Some points coincide.
        for i in 0..50 {
            let row = x.row(0).to_owned();
            x.row_mut(100 + i).assign(&row);
        }
        let params = ApproxParams::default();
        let exact = knn(x.view(), 14).unwrap();
        let run = |threads| with_threads(threads, || knn_approx(x.view(), 14, &params).unwrap());
        let found = run(1);
        let share = recall(&found, &exact).unwrap();
        assert!(share > 0.95, "{share}");
        assert_eq!(found, run(2));
        assert_eq!(found, run(3));
        for i in 0..x.nrows() {
            let row = found.indices.row(i);
            assert!(row.iter().all(|&j| j as usize != i));
            let d = found.distances.row(i);
            assert!(d.iter().zip(d.iter().skip(1)).all(|(a, b)| a <= b));
        }
        let other = ApproxParams { seed: 1, ..params };
        let other = knn_approx(x.view(), 14, &other).unwrap();
        assert!(recall(&other, &exact).unwrap() > 0.95);
    }

    #[test]
    fn few_points_are_searched_exactly() {
        let (x, _) = blobs(300, 2, 3);
        let exact = knn(x.view(), 7).unwrap();
        let found = knn_approx(x.view(), 7, &ApproxParams::default()).unwrap();
        assert_eq!(found, exact);
        assert_eq!(recall(&found, &exact).unwrap(), 1.0);
        assert_eq!(Knn::auto(EXACT_UP_TO), Knn::Exact);
        assert_ne!(Knn::auto(EXACT_UP_TO + 1), Knn::Exact);
    }

    #[test]
    fn lists_that_are_too_short_are_completed() {
        let (x, _) = blobs(200, 2, 3);
        let exact = knn(x.view(), 3).unwrap();
        let mut lists: Vec<Vec<(f64, u32)>> = (0..200)
            .map(|i| {
                let d = exact.distances.row(i);
                let d = d.iter().map(|&d| f64::from(d).powi(2));
                d.zip(exact.indices.row(i).iter().copied()).collect()
            })
            .collect();
        lists[17].truncate(1);
        lists[150].clear();
        let out = assemble(x.view(), 3, &lists).unwrap();
        assert_eq!(out.indices, exact.indices);
    }

    #[test]
    fn bad_input_is_refused() {
        let (x, _) = blobs(20, 2, 3);
        let params = ApproxParams::default();
        assert!(knn_approx(x.view(), 20, &params).is_err());
        assert!(knn_approx(x.view(), 0, &params).is_err());
        let found = knn(x.view(), 3).unwrap();
        assert!(recall(&found, &knn(x.view(), 4).unwrap()).is_err());
    }
}
