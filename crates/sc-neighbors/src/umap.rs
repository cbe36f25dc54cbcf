use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sc_data::Csr;

use crate::community::check_graph;
use crate::curve::fit_curve;
use crate::knn::check_coordinates;
use crate::{Error, Result};

/// No coordinate moves further than this times the learning rate at once.
const MAX_GRADIENT: f32 = 4.0;

/// Settings of [`umap`]. The defaults are those of scanpy.
#[derive(Debug, Clone, PartialEq)]
pub struct UmapParams {
    /// Rounds over the edges. `None`: 500 for up to 10 000 points, else 200.
    pub n_epochs: Option<usize>,
    /// How close together points may lie in the embedding (umap-learn itself has 0.1).
    pub min_dist: f64,
    /// The scale of the embedding.
    pub spread: f64,
    /// Random points that each point is pushed away from, per neighbour that it is pulled to.
    pub negative_samples: usize,
    /// The first learning rate; it falls linearly to 0.
    pub learning_rate: f64,
    /// Weight of pushing against pulling.
    pub repulsion: f64,
    /// Chooses the random points, and the noise added to the start.
    pub seed: u64,
}

impl Default for UmapParams {
    fn default() -> Self {
        Self {
            n_epochs: None,
            min_dist: 0.5,
            spread: 1.0,
            negative_samples: 5,
            learning_rate: 1.0,
            repulsion: 1.0,
            seed: 0,
        }
    }
}

/// Lays a neighbour graph out in a few dimensions by UMAP (McInnes, Healy and Melville, arXiv:1802.03426):
/// `[n, dimensions]`, as many as `start` has.
///
/// `graph` is that of [`connectivities`](crate::connectivities), `start` usually [`principal_axes`] of the points: a start
/// that knows the large structure keeps it (Kobak and Linderman, Nat Biotechnol 2021). Points `i`, `j` at distance `d` in
/// the embedding count as neighbours with probability `1 / (1 + a d^2b)`, where `a` and `b` follow from
/// `min_dist` and `spread`; stochastic gradient descent minimises the cross entropy to the weights of the graph. An edge of
/// weight `w` is visited every `max(w) / w` epochs.
///
/// The descent runs on one thread, point after point, so that the seed decides the result.
///
/// # Errors
/// [`Error::InvalidGraph`] if the graph is not square and symmetric with finite non-negative weights,
/// [`Error::LengthMismatch`] if `start` has another number of rows, [`Error::InvalidCoordinate`] if it is not finite,
/// [`Error::InvalidParameter`] if a setting is out of range.
pub fn umap(graph: &Csr, start: ArrayView2<'_, f32>, params: &UmapParams) -> Result<Array2<f32>> {
    check_params(params)?;
    check_graph(graph)?;
    check_coordinates(start)?;
    if start.nrows() != graph.n_rows() {
        return Err(Error::LengthMismatch {
            what: "the start",
            found: start.nrows(),
            expected: graph.n_rows(),
        });
    }
    if start.ncols() == 0 {
        return Err(Error::InvalidParameter {
            name: "the number of columns of the start",
            found: "0".into(),
            expected: "the dimensions of the embedding, usually 2".into(),
        });
    }
    let (a, b) = fit_curve(params.min_dist, params.spread);
    let n_epochs = params
        .n_epochs
        .unwrap_or(if start.nrows() <= 10_000 { 500 } else { 200 });
    let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
    let mut layout = Layout {
        positions: scaled_start(start, &mut rng),
        dimensions: start.ncols(),
        a: a as f32,
        b: b as f32,
        repulsion: params.repulsion as f32,
    };
    let mut edges = edges(graph, n_epochs);
    for epoch in 0..n_epochs {
        let step = params.learning_rate * (1.0 - epoch as f64 / n_epochs as f64);
        layout.epoch(
            epoch as f32,
            step as f32,
            &mut edges,
            params.negative_samples,
            &mut rng,
        );
    }
    let found = layout.positions.len();
    Array2::from_shape_vec(start.dim(), layout.positions).map_err(|_| Error::LengthMismatch {
        what: "the embedding",
        found,
        expected: start.len(),
    })
}

fn check_params(params: &UmapParams) -> Result<()> {
    let positive = |v: f64| v.is_finite() && v > 0.0;
    let checks = [
        ("spread", params.spread, positive(params.spread)),
        (
            "learning_rate",
            params.learning_rate,
            positive(params.learning_rate),
        ),
        (
            "repulsion",
            params.repulsion,
            params.repulsion.is_finite() && params.repulsion >= 0.0,
        ),
        (
            "min_dist",
            params.min_dist,
            (0.0..3.0 * params.spread).contains(&params.min_dist),
        ),
    ];
    match checks.into_iter().find(|c| !c.2) {
        None => Ok(()),
        Some((name, value, _)) => Err(Error::InvalidParameter {
            name,
            found: value.to_string(),
            expected: "a positive finite number, min_dist below 3 x spread".into(),
        }),
    }
}

/// The points seen along the axes in which they vary most, `[n, dimensions]`: a start for [`umap`]. More dimensions
/// than the points have are filled with zeros.
///
/// # Errors
/// [`Error::InvalidCoordinate`] if a coordinate is not finite.
pub fn principal_axes(points: ArrayView2<'_, f32>, dimensions: usize) -> Result<Array2<f32>> {
    /// Enough for a start; axes of nearly the same variance need not be told apart.
    const STEPS: usize = 300;
    check_coordinates(points)?;
    let mut x = points.mapv(f64::from);
    if let Some(mean) = x.mean_axis(ndarray::Axis(0)) {
        x -= &mean;
    }
    let mut covariance = x.t().dot(&x);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut out = Array2::zeros((x.nrows(), dimensions));
    for mut column in out.columns_mut().into_iter().take(x.ncols()) {
        let mut axis =
            ndarray::Array1::from_shape_fn(x.ncols(), |_| StandardNormal.sample(&mut rng));
        for _ in 0..STEPS {
            let next = covariance.dot(&axis);
            let length: f64 = next.dot(&next).sqrt();
            if length > 0.0 {
                axis = next / length;
            }
        }
        axis /= axis.dot(&axis).sqrt();
        let image = covariance.dot(&axis);
        let variance = axis.dot(&image);
        // What is left varies in the directions across this one only.
        for ((i, j), c) in covariance.indexed_iter_mut() {
            *c -= variance * axis[i] * axis[j];
        }
        column.assign(&x.dot(&axis).mapv(|v: f64| v as f32));
    }
    Ok(out)
}

/// The start, point after point, moved to the middle, its longest reach made 10, with a little noise that separates equal points.
fn scaled_start(start: ArrayView2<'_, f32>, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut x = start.mapv(f64::from);
    if let Some(mean) = x.mean_axis(ndarray::Axis(0)) {
        x -= &mean;
    }
    let reach = x.iter().fold(0f64, |m, v| m.max(v.abs()));
    let factor = if reach > 0.0 { 10.0 / reach } else { 0.0 };
    x.iter()
        .map(|v| {
            let noise: f64 = StandardNormal.sample(rng);
            (v * factor + 1e-4 * noise) as f32
        })
        .collect()
}

/// An edge and when it is visited.
struct Edge {
    from: u32,
    to: u32,
    /// Epochs between two visits, at least 1.
    period: f32,
    /// The epoch of the next visit.
    next: f32,
}

/// The edges that are visited at least once, each in both directions, by rows.
fn edges(graph: &Csr, n_epochs: usize) -> Vec<Edge> {
    let largest = graph.data().iter().copied().fold(0f32, f32::max);
    let mut edges = Vec::with_capacity(graph.n_stored());
    for i in 0..graph.n_rows() {
        let (columns, weights) = graph.row(i);
        for (&j, &w) in columns.iter().zip(weights) {
            let period = largest / w;
            if j as usize != i && w > 0.0 && period <= n_epochs as f32 {
                edges.push(Edge {
                    from: i as u32,
                    to: j,
                    period,
                    next: period,
                });
            }
        }
    }
    edges
}

struct Layout {
    /// The coordinates, point after point.
    positions: Vec<f32>,
    dimensions: usize,
    a: f32,
    b: f32,
    repulsion: f32,
}

impl Layout {
    fn epoch(
        &mut self,
        epoch: f32,
        step: f32,
        edges: &mut [Edge],
        negative_samples: usize,
        rng: &mut ChaCha8Rng,
    ) {
        let n = (self.positions.len() / self.dimensions) as u32;
        for edge in edges {
            if edge.next > epoch {
                continue;
            }
            edge.next += edge.period;
            self.pull(edge.from as usize, edge.to as usize, step);
            for _ in 0..negative_samples {
                let other = rng.random_range(0..n);
                if other != edge.from {
                    self.push(edge.from as usize, other as usize, step);
                }
            }
        }
    }

    /// Where the coordinates of two points start, and the square of their distance.
    fn pair(&self, i: usize, j: usize) -> (usize, usize, f32) {
        let (i, j) = (i * self.dimensions, j * self.dimensions);
        let x = &self.positions[i..i + self.dimensions];
        let y = &self.positions[j..j + self.dimensions];
        let square = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
        (i, j, square)
    }

    /// Both points move along the gradient of `-ln q`, `q = 1 / (1 + a d^2b)`.
    fn pull(&mut self, i: usize, j: usize, step: f32) {
        let (i, j, square) = self.pair(i, j);
        if square <= 0.0 {
            return;
        }
        let power = square.powf(self.b);
        let factor = -2.0 * self.a * self.b * power / (square * (1.0 + self.a * power));
        for d in 0..self.dimensions {
            let difference = self.positions[i + d] - self.positions[j + d];
            let gradient = (factor * difference).clamp(-MAX_GRADIENT, MAX_GRADIENT);
            self.positions[i + d] += step * gradient;
            self.positions[j + d] -= step * gradient;
        }
    }

    /// Point `i` moves along the gradient of `-ln(1 - q)`.
    fn push(&mut self, i: usize, j: usize, step: f32) {
        let (i, j, square) = self.pair(i, j);
        if square <= 0.0 {
            return;
        }
        let power = square.powf(self.b);
        let factor = 2.0 * self.repulsion * self.b / ((0.001 + square) * (1.0 + self.a * power));
        for d in 0..self.dimensions {
            let difference = self.positions[i + d] - self.positions[j + d];
            let gradient = (factor * difference).clamp(-MAX_GRADIENT, MAX_GRADIENT);
            self.positions[i + d] += step * gradient;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::blobs;
    use crate::{connectivities, knn, silhouette};

    #[test]
    fn clouds_stay_apart_and_neighbours_together() {
        let (x, group) = blobs(500, 5, 10);
        let near = knn(x.view(), 14).unwrap();
        let g = connectivities(&near).unwrap();
        let start = principal_axes(x.view(), 2).unwrap();
        let params = UmapParams::default();
        let y = umap(&g, start.view(), &params).unwrap();
        assert_eq!(y.dim(), (500, 2));
        assert!(silhouette(y.view(), &group).unwrap() > 0.7);
        // How many of the neighbours are still neighbours: by chance 14 of 99 within a cloud.
        let after = knn(y.view(), 14).unwrap();
        let kept: usize = (0..500)
            .map(|i| {
                let old = near.indices.row(i);
                after
                    .indices
                    .row(i)
                    .iter()
                    .filter(|j| old.iter().any(|o| o == *j))
                    .count()
            })
            .sum();
        assert!(kept as f64 / (500.0 * 14.0) > 0.3, "{kept}");
        assert_eq!(y, umap(&g, start.view(), &params).unwrap());
        let other = UmapParams { seed: 1, ..params };
        assert_ne!(y, umap(&g, start.view(), &other).unwrap());
    }

    #[test]
    fn principal_axes_of_an_ellipse() {
        let x = Array2::from_shape_fn((200, 3), |(i, j)| {
            let t = i as f32 / 200.0 * std::f32::consts::TAU;
            [10.0 * t.cos(), 0.1 * (7.0 * t).sin(), 3.0 * t.sin()][j] + 5.0
        });
        let p = principal_axes(x.view(), 4).unwrap();
        for i in 0..200 {
            assert!((p[[i, 0]].abs() - (x[[i, 0]] - 5.0).abs()).abs() < 1e-3);
            assert!((p[[i, 1]].abs() - (x[[i, 2]] - 5.0).abs()).abs() < 1e-3);
            assert_eq!(p[[i, 3]], 0.0);
        }
    }

    /// Two parts without an edge between them, and points that coincide: all places are finite.
    #[test]
    fn parts_and_copies() {
        let (mut x, part) = blobs(200, 2, 3);
        for (mut row, p) in x.rows_mut().into_iter().zip(&part) {
            row.mapv_inplace(|v| v + 1e4 * *p as f32);
        }
        for i in 0..60 {
            let copy = x.row(0).to_owned();
            x.row_mut(2 * i).assign(&copy);
        }
        let g = connectivities(&knn(x.view(), 8).unwrap()).unwrap();
        let start = principal_axes(x.view(), 2).unwrap();
        let y = umap(&g, start.view(), &UmapParams::default()).unwrap();
        assert!(y.iter().all(|v| v.is_finite()));
        assert!(silhouette(y.view(), &part).unwrap() > 0.5);
        let mut bad = start.clone();
        bad[[3, 1]] = f32::NAN;
        assert!(umap(&g, bad.view(), &UmapParams::default()).is_err());
    }

    #[test]
    fn odd_input() {
        let g = Csr::zeros(3, 3);
        let start = Array2::<f32>::zeros((3, 2));
        let y = umap(&g, start.view(), &UmapParams::default()).unwrap();
        assert!(y.iter().all(|v| v.is_finite()));
        assert!(umap(&Csr::zeros(4, 4), start.view(), &UmapParams::default()).is_err());
        let bad = UmapParams {
            min_dist: -1.0,
            ..UmapParams::default()
        };
        assert!(umap(&g, start.view(), &bad).is_err());
        let empty = Array2::<f32>::zeros((0, 2));
        assert!(umap(&Csr::zeros(0, 0), empty.view(), &UmapParams::default()).is_ok());
    }
}
