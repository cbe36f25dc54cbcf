use ndarray::{ArrayView1, ArrayView2};
use sc_tensor::math::Float;

use crate::{Error, Result};

/// Cells of one time point (or of anything else): a point for each, and how much it weighs.
#[derive(Debug, Clone)]
pub struct Cloud<'a, T> {
    points: ArrayView2<'a, T>,
    weights: Vec<f64>,
}

impl<'a, T: Float> Cloud<'a, T> {
    /// Cells x coordinates, all of the same weight, which sum to 1.
    ///
    /// # Errors
    /// [`Error::Empty`] without cells or coordinates, [`Error::NotFinite`] if a coordinate is NaN or infinite.
    pub fn new(points: ArrayView2<'a, T>) -> Result<Self> {
        let (n, dim) = points.dim();
        if n == 0 || dim == 0 {
            return Err(Error::Empty {
                what: "the cloud of points",
                found: vec![n, dim],
            });
        }
        for ((row, column), value) in points.indexed_iter() {
            if !value.wide().is_finite() {
                return Err(Error::NotFinite {
                    what: "the cloud of points",
                    row,
                    column,
                    value: value.wide(),
                });
            }
        }
        Ok(Self {
            points,
            weights: vec![1.0 / n as f64; n],
        })
    }

    /// With a weight for each cell. They need not sum to 1: where mass may be created and destroyed
    /// ([`reach`](super::SinkhornParams::reach)), the sums matter. A cell may weigh nothing, but not all of them.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one for each cell, [`Error::Weights`] if one is negative or not finite, or all are 0.
    pub fn with_weights<W: Float>(mut self, weights: ArrayView1<'_, W>) -> Result<Self> {
        const WHAT: &str = "the weights of a cloud";
        if weights.len() != self.n_points() {
            return Err(Error::Shape {
                what: WHAT,
                found: vec![weights.len()],
                expected: format!("[{}], one for each point", self.n_points()),
            });
        }
        self.weights = weights.iter().map(|w| w.wide()).collect();
        for (i, w) in self.weights.iter().enumerate() {
            if !(*w >= 0.0 && w.is_finite()) {
                return Err(Error::Weights {
                    what: WHAT,
                    reason: format!(
                        "weight {i} is {w}; weights are finite and not negative (growth rates become weights by `exp`)"
                    ),
                });
            }
        }
        if self.mass() <= 0.0 {
            return Err(Error::Weights {
                what: WHAT,
                reason: format!(
                    "all {} weights are 0; at least one point must weigh something",
                    self.n_points()
                ),
            });
        }
        Ok(self)
    }

    /// Cells x coordinates.
    #[must_use]
    pub fn points(&self) -> ArrayView2<'a, T> {
        self.points
    }

    /// How much each cell weighs.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The sum of the weights.
    #[must_use]
    pub fn mass(&self) -> f64 {
        self.weights.iter().sum()
    }

    /// How many cells there are.
    #[must_use]
    pub fn n_points(&self) -> usize {
        self.points.nrows()
    }

    /// How many coordinates a cell has.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.points.ncols()
    }

    /// The coordinates, one cell after the other.
    pub(super) fn coordinates(&self) -> Vec<T> {
        self.points.iter().copied().collect()
    }
}

/// Fails unless two clouds have the same coordinates.
pub(super) fn same_dim<T: Float>(x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Result<()> {
    if x.dim() != y.dim() {
        return Err(Error::Shape {
            what: "the second cloud",
            found: vec![y.n_points(), y.dim()],
            expected: format!("points of {} coordinates, as in the first cloud", x.dim()),
        });
    }
    Ok(())
}

/// Where all points are on the average, coordinate by coordinate.
pub(super) fn centre<T: Float>(x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Vec<f64> {
    let mut sum = vec![0.0; x.dim()];
    for row in x.points.rows().into_iter().chain(y.points.rows()) {
        for (sum, v) in sum.iter_mut().zip(row) {
            *sum += v.wide();
        }
    }
    let n = (x.n_points() + y.n_points()) as f64;
    sum.iter().map(|v| v / n).collect()
}
