use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use sc_neighbors::{Neighbors, knn_query};

use super::arrays::check_places;
use crate::error::invalid;
use crate::{Error, Result};

/// What cosines are multiplied by before they become weights.
const SHARPNESS: f64 = 10.0;
/// The share of confidences above which a cell keeps nothing to itself.
const CONFIDENT: f64 = 0.98;
/// Grid points along an axis at density 1.
const POINTS: f64 = 50.0;
/// What is added to each side of the grid, of its range.
const MARGIN: f64 = 0.01;
/// Grid points with less mass than this share of the largest are left out.
const LEAST_MASS: f64 = 1e-3;

/// Where cells point to among the cells around them: the graph by which velocities are drawn in a picture that was not made for
/// them, as a UMAP is.
///
/// A cell's candidates are its neighbours and theirs. For each the cosine between the way there (less its mean over coordinates)
/// and the cell's velocity becomes a weight `exp(10 cos) - 1`, or `1 - exp(-10 cos)` where it is negative; the weights of a cell
/// are divided by the sum of their sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct VelocityGraph {
    rows: Vec<Vec<(u32, f64)>>,
    confidence: Vec<f64>,
}

impl VelocityGraph {
    /// From the places of cells and their velocities (the drift), `[cells, D]` both, and their neighbours.
    ///
    /// # Errors
    /// [`Error::Shape`] if these are of different cells, [`Error::Empty`], [`Error::NotFinite`].
    pub fn new(
        places: ArrayView2<'_, f32>,
        velocities: ArrayView2<'_, f32>,
        near: &Neighbors,
    ) -> Result<Self> {
        check_places("the places of cells", places)?;
        check_places("the velocities", velocities)?;
        let n = places.nrows();
        if velocities.dim() != places.dim() {
            return Err(Error::Shape {
                what: "the velocities",
                found: velocities.shape().to_vec(),
                expected: format!("{:?}, as the places", places.shape()),
            });
        }
        if near.n_points() != n || near.indices.iter().any(|&i| i as usize >= n) {
            return Err(Error::Shape {
                what: "the neighbours",
                found: vec![near.n_points(), near.k()],
                expected: format!("[{n}, k]: those of the same cells, among themselves"),
            });
        }
        let cosines: Vec<Vec<(u32, f64)>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let way = |&j: &u32| (j, cosine(places, velocities, i, j as usize));
                candidates(near, i).iter().map(way).collect()
            })
            .collect();
        let best = |row: &Vec<(u32, f64)>| row.iter().map(|c| c.1.max(0.0)).fold(0.0, f64::max);
        Ok(Self {
            confidence: cosines.iter().map(best).collect(),
            rows: cosines.into_iter().map(weights).collect(),
        })
    }

    /// The cells that each points to, or with a negative weight away from. The sizes of a row's weights sum to 1.
    pub fn rows(&self) -> &[Vec<(u32, f64)>] {
        &self.rows
    }

    /// The largest cosine of each cell: how well its velocity leads to other cells.
    pub fn confidence(&self) -> &[f64] {
        &self.confidence
    }

    /// The share of each cell that stays where it is: what its confidence lacks to that of the most confident.
    pub fn self_weights(&self) -> Vec<f64> {
        let mut sorted = self.confidence.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let place = (CONFIDENT * sorted.len().saturating_sub(1) as f64).round() as usize;
        let top = sorted.get(place).copied().unwrap_or(0.0);
        let rest = self.confidence.iter().map(|c| (top - c).clamp(0.0, 1.0));
        rest.collect()
    }

    /// The velocities in an embedding of the cells, `[cells, 2]` or more: the mean direction to others by weight, less that by
    /// equal weights, which corrects for where cells happen to be dense.
    ///
    /// # Errors
    /// [`Error::Shape`] if the embedding is of other cells, [`Error::NotFinite`].
    pub fn embed(&self, embedding: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
        check_places("the embedding", embedding)?;
        let (n, d) = embedding.dim();
        if n != self.rows.len() {
            return Err(Error::Shape {
                what: "the embedding",
                found: vec![n, d],
                expected: format!("[{}, dimensions]", self.rows.len()),
            });
        }
        let mut all = Array2::zeros((n, d));
        for (i, (mut out, row)) in all.rows_mut().into_iter().zip(&self.rows).enumerate() {
            let mean = row.iter().map(|w| w.1).sum::<f64>() / row.len().max(1) as f64;
            for (j, weight) in row {
                let way: Vec<f64> = difference(embedding, i, *j as usize).collect();
                let length = norm(&way);
                if length > 0.0 {
                    let pairs = out.iter_mut().zip(&way);
                    pairs.for_each(|(o, w)| *o += (weight - mean) * w / length);
                }
            }
        }
        Ok(all)
    }
}

/// Velocities on a grid, for arrows or stream lines.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VelocityGrid {
    /// Grid points, `[points, 2]`.
    pub points: Array2<f32>,
    /// The mean velocity around each, `[points, 2]`.
    pub velocities: Array2<f64>,
    /// How many cells there are around each, by their weight.
    pub mass: Vec<f64>,
}

/// The mean velocities around the points of a grid over an embedding (`[cells, 2]`), 50 times `density` along each axis: over the
/// nearest `n / 50` cells, with Gaussian weights of half the mean width of a grid cell. Points with hardly any cells around are
/// left out.
///
/// # Errors
/// [`Error::Shape`] unless both are `[cells, 2]`, [`Error::InvalidSetting`] if `density` isn't above 0 and at most 20, or all
/// cells are in one place.
pub fn velocity_grid(
    embedding: ArrayView2<'_, f32>,
    velocities: ArrayView2<'_, f64>,
    density: f64,
) -> Result<VelocityGrid> {
    check_places("the embedding", embedding)?;
    let n = embedding.nrows();
    if embedding.ncols() != 2 || velocities.dim() != (n, 2) {
        return Err(Error::Shape {
            what: "the velocities in the embedding",
            found: velocities.shape().to_vec(),
            expected: format!("[{n}, 2], and an embedding of as many cells in a plane"),
        });
    }
    if !(density > 0.0 && density <= 20.0) {
        return Err(invalid("density", density, "above 0, and at most 20"));
    }
    let (points, width) = grid(embedding, (POINTS * density).round().max(2.0) as usize)?;
    let near = knn_query(embedding, points.view(), (n / 50).clamp(1, n))?;
    let mut found = VelocityGrid {
        velocities: Array2::zeros(points.dim()),
        mass: Vec::with_capacity(points.nrows()),
        points,
    };
    let rows = near.indices.rows().into_iter().zip(near.distances.rows());
    for ((cells, distances), mut out) in rows.zip(found.velocities.rows_mut()) {
        let mut mass = 0.0;
        for (&cell, &distance) in cells.iter().zip(distances) {
            let weight = (-0.5 * (f64::from(distance) / (0.5 * width)).powi(2)).exp();
            out.scaled_add(weight, &velocities.row(cell as usize));
            mass += weight;
        }
        if mass > 0.0 {
            out.mapv_inplace(|v| v / mass);
        }
        found.mass.push(mass);
    }
    Ok(found.dense())
}

impl VelocityGrid {
    /// Only points with enough cells around.
    fn dense(self) -> Self {
        let most = self.mass.iter().copied().fold(0.0, f64::max);
        let kept: Vec<usize> = (0..self.mass.len())
            .filter(|&i| self.mass.get(i).is_some_and(|m| *m > LEAST_MASS * most))
            .collect();
        Self {
            points: self.points.select(ndarray::Axis(0), &kept),
            velocities: self.velocities.select(ndarray::Axis(0), &kept),
            mass: kept
                .iter()
                .filter_map(|&i| self.mass.get(i).copied())
                .collect(),
        }
    }
}

/// The points of a grid over an embedding, and the mean width of its cells.
fn grid(embedding: ArrayView2<'_, f32>, n: usize) -> Result<(Array2<f32>, f64)> {
    let axis = |j: usize| {
        let column = embedding.column(j);
        let (low, high) = column
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| {
                (a.min(f64::from(v)), b.max(f64::from(v)))
            });
        let margin = MARGIN * (high - low);
        (low - margin, high - low + 2.0 * margin)
    };
    let (x, y) = (axis(0), axis(1));
    let step = |range: f64| range / (n - 1) as f64;
    let width = 0.5 * (step(x.1) + step(y.1));
    if width <= 0.0 {
        return Err(invalid(
            "the embedding",
            "one place",
            "cells that are apart",
        ));
    }
    let points = Array2::from_shape_fn((n * n, 2), |(i, j)| match j {
        0 => (x.0 + step(x.1) * (i % n) as f64) as f32,
        _ => (y.0 + step(y.1) * (i / n) as f64) as f32,
    });
    Ok((points, width))
}

/// The neighbours of a cell and theirs, without itself.
fn candidates(near: &Neighbors, i: usize) -> Vec<u32> {
    let of = |i: usize| near.indices.row(i).to_vec();
    let mut all = of(i);
    for j in of(i) {
        all.extend(of(j as usize));
    }
    all.sort_unstable();
    all.dedup();
    all.retain(|&j| j as usize != i);
    all
}

fn difference(places: ArrayView2<'_, f32>, i: usize, j: usize) -> impl Iterator<Item = f64> {
    let (a, b) = (places.row(i).to_vec(), places.row(j).to_vec());
    a.into_iter()
        .zip(b)
        .map(|(a, b)| f64::from(b) - f64::from(a))
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The cosine between the way from cell `i` to cell `j`, less its mean, and the velocity of `i`; 0 without a way or a velocity.
fn cosine(places: ArrayView2<'_, f32>, velocities: ArrayView2<'_, f32>, i: usize, j: usize) -> f64 {
    let mut way: Vec<f64> = difference(places, i, j).collect();
    let mean = way.iter().sum::<f64>() / way.len() as f64;
    way.iter_mut().for_each(|w| *w -= mean);
    let v: Vec<f64> = velocities.row(i).iter().map(|v| f64::from(*v)).collect();
    let dot: f64 = way.iter().zip(&v).map(|(a, b)| a * b).sum();
    let c = dot / (norm(&way) * norm(&v));
    if c.is_finite() {
        c.clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

/// Cosines to weights whose sizes sum to 1.
fn weights(cosines: Vec<(u32, f64)>) -> Vec<(u32, f64)> {
    let weight = |c: f64| match c > 0.0 {
        true => (SHARPNESS * c).exp_m1(),
        false => -(-SHARPNESS * c).exp_m1(),
    };
    let all: Vec<(u32, f64)> = cosines.into_iter().map(|(j, c)| (j, weight(c))).collect();
    let sum: f64 = all.iter().map(|w| w.1.abs()).sum();
    let share = |(j, w)| (j, if sum > 0.0 { w / sum } else { 0.0 });
    all.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use sc_neighbors::knn;
    use sc_tensor::Rng;

    use super::*;

    /// Cells in a square within four dimensions, and their places in the plane.
    fn square() -> (Array2<f32>, Array2<f32>) {
        let mut values = vec![0f32; 900 * 2];
        let mut stream = Rng::new(7).stream("square");
        stream.fill_uniform(-1.0, 1.0, &mut values);
        let plane = Array2::from_shape_vec((900, 2), values).unwrap();
        let places = Array2::from_shape_fn((900, 4), |(i, j)| match j {
            0 => plane[[i, 0]],
            1 => -plane[[i, 0]],
            2 => plane[[i, 1]],
            _ => -plane[[i, 1]],
        });
        (places, plane)
    }

    /// Cells that turn around the middle turn around it in the picture.
    #[test]
    fn directions_are_kept_in_the_picture() {
        let (places, plane) = square();
        let velocities = Array2::from_shape_fn((900, 4), |(i, j)| match j {
            0 => -plane[[i, 1]],
            1 => plane[[i, 1]],
            2 => plane[[i, 0]],
            _ => -plane[[i, 0]],
        });
        let near = knn(places.view(), 15).unwrap();
        let graph = VelocityGraph::new(places.view(), velocities.view(), &near).unwrap();
        let sizes = graph.rows()[0].iter().map(|w| w.1.abs()).sum::<f64>();
        assert!((sizes - 1.0).abs() < 1e-9);
        assert!(graph.confidence().iter().all(|c| (0.0..=1.0).contains(c)));
        assert!(graph.self_weights().iter().all(|w| (0.0..=1.0).contains(w)));
        let found = graph.embed(plane.view()).unwrap();
        let right =
            |x: f64, y: f64, v: [f64; 2]| (-y * v[0] + x * v[1]) / (x.hypot(y) * v[0].hypot(v[1]));
        // Away from the border, where there are cells on all sides.
        let inner: Vec<usize> = (0..900)
            .filter(|&i| (0.2..0.8).contains(&plane[[i, 0]].hypot(plane[[i, 1]])))
            .collect();
        let cosines = inner.iter().map(|&i| {
            let (x, y) = (f64::from(plane[[i, 0]]), f64::from(plane[[i, 1]]));
            right(x, y, [found[[i, 0]], found[[i, 1]]])
        });
        let mean = cosines.sum::<f64>() / inner.len() as f64;
        assert!(mean > 0.95, "{mean}");

        let on_grid = velocity_grid(plane.view(), found.view(), 0.4).unwrap();
        assert!(on_grid.points.nrows() > 300);
        let cosines = on_grid
            .points
            .rows()
            .into_iter()
            .zip(on_grid.velocities.rows());
        let cosines = cosines.filter_map(|(p, v)| {
            let (x, y) = (f64::from(p[0]), f64::from(p[1]));
            (0.2..0.8)
                .contains(&x.hypot(y))
                .then(|| right(x, y, [v[0], v[1]]))
        });
        let cosines: Vec<f64> = cosines.collect();
        assert!(cosines.iter().sum::<f64>() / cosines.len() as f64 > 0.95);
    }

    #[test]
    fn bad_input_is_refused() {
        let (places, plane) = square();
        let near = knn(places.view(), 5).unwrap();
        assert!(VelocityGraph::new(places.view(), plane.view(), &near).is_err());
        let some = places.slice_axis(ndarray::Axis(0), (..10).into());
        assert!(VelocityGraph::new(some, some, &near).is_err());
        let still = Array2::zeros((900, 4));
        let graph = VelocityGraph::new(places.view(), still.view(), &near).unwrap();
        assert!(graph.embed(plane.view()).unwrap().iter().all(|v| *v == 0.0));
        assert!(graph.embed(some).is_err());
        let v = Array2::zeros((900, 2));
        assert!(velocity_grid(plane.view(), v.view(), 0.0).is_err());
        assert!(velocity_grid(places.view(), v.view(), 1.0).is_err());
        let one_place = Array2::zeros((900, 2));
        assert!(velocity_grid(one_place.view(), v.view(), 1.0).is_err());
    }
}
