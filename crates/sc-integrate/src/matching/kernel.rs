//! Matchings whose weights fall with distance.

use ndarray::{Array2, ArrayView2};
use sc_data::Csr;

use super::{both, nearest, normalized};
use crate::Result;

/// Neighbours that set the scale of a cell.
const SCALE_OF: usize = 10;

/// Matches each `x` cell with its `k` nearest `y` cells. The weight at distance `d` is `exp(-(d / s)^2)`, where `s` is a tenth of the mean
/// distance of the first ten.
///
/// # Errors
/// As [`shared_neighbours`](super::shared_neighbours).
pub fn nearest_neighbours(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, k: usize) -> Result<Csr> {
    let exact = Exact::new(x, y);
    let (x, y) = both(x, y)?;
    let near = nearest(&y, &x, k)?;
    let rows = (0..x.nrows()).map(|i| {
        let columns = near.indices.row(i).to_vec();
        let distances: Vec<f64> = columns.iter().map(|&j| exact.between(i, j)).collect();
        let first = &distances[..distances.len().min(SCALE_OF)];
        weights(&columns, &distances, mean(first) / 10.0)
    });
    normalized(rows.collect(), y.nrows())
}

/// Matches each `x` cell with those of its `k` nearest `y` cells that have it among their `k` nearest. Weights as in
/// [`nearest_neighbours`], with a tenth of the mean distance of these partners. A cell without any has an empty row.
///
/// # Errors
/// As [`shared_neighbours`](super::shared_neighbours).
pub fn mutual_neighbours(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, k: usize) -> Result<Csr> {
    let exact = Exact::new(x, y);
    let (x, y) = both(x, y)?;
    let forth = nearest(&y, &x, k)?;
    let back = nearest(&x, &y, k)?;
    let rows = (0..x.nrows()).map(|i| {
        let mutual = forth.indices.row(i).into_iter().copied().filter(|&j| {
            let of_j = back.indices.row(j as usize);
            of_j.iter().any(|&b| b as usize == i)
        });
        let (columns, distances): (Vec<u32>, Vec<f64>) =
            mutual.map(|j| (j, exact.between(i, j))).unzip();
        weights(&columns, &distances, mean(&distances) / 10.0)
    });
    normalized(rows.collect(), y.nrows())
}

/// Distances in double precision: the exponent of a weight is a hundred times their relative error.
struct Exact {
    x: Array2<f64>,
    y: Array2<f64>,
}

impl Exact {
    fn new(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Self {
        let of = |a: ArrayView2<'_, f32>| {
            let mut a = a.mapv(f64::from);
            for mut row in a.rows_mut() {
                let length = row.dot(&row).sqrt();
                if length > 0.0 {
                    row /= length;
                }
            }
            a
        };
        Self { x: of(x), y: of(y) }
    }

    fn between(&self, i: usize, j: u32) -> f64 {
        let pairs = self.x.row(i).into_iter().zip(self.y.row(j as usize));
        pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len().max(1) as f64
}

/// `exp(-(d / scale)^2)`, relative to the nearest: rows are brought to sum 1 afterwards, and weights far below the smallest
/// number must not all become 0.
fn weights(columns: &[u32], distances: &[f64], scale: f64) -> Vec<(u32, f64)> {
    let exponent = |d: f64| match scale > 0.0 {
        true => (d / scale).powi(2),
        false => 0.0,
    };
    let least = distances
        .iter()
        .map(|&d| exponent(d))
        .fold(f64::INFINITY, f64::min);
    let of = |(&j, &d): (&u32, &f64)| (j, (least - exponent(d)).exp());
    let all = columns.iter().zip(distances).map(of);
    all.filter(|e| e.1 > 0.0).collect()
}
