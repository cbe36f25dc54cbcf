//! Sums over all pairs of two clouds of points, without a matrix of the pairs: what optimal transport and kernel
//! methods are made of.
//!
//! The pairs are gone through in tiles of 48 rows. The scalar products of a tile are one small matrix product; costs,
//! exponentials and sums follow while the tile is in the nearest cache. [`log_sums_both`] takes the sums along rows and
//! along columns from the same tile, and [`log_sums_within`] computes each pair of a cloud with itself once.
//!
//! Memory grows with the number of points, not of pairs. The bits depend neither on the number of threads nor on chance.
//!
//! ```
//! use sc_tensor::pairs::{Cost, Points, log_sums};
//! let x = Points::new(&[0.0f64, 0.0], 2, &[0.0; 2])?;
//! let y = Points::new(&[3.0f64, 4.0, 0.0, 0.0], 2, &[0.0; 2])?;
//! // The soft minimum of the distances 5 and 0, with two equal weights.
//! let half = 0.5f64.ln();
//! let sums = log_sums(&x, &y, Cost::Distance, 0.1, &[half, half])?;
//! assert!((-0.1 * sums[0] - 0.0694).abs() < 1e-3);
//! # Ok::<(), sc_tensor::Error>(())
//! ```

mod band;
mod exp2;
mod log_sums;
mod points;
mod tile;
mod weighted;

pub use log_sums::{log_sums, log_sums_both, log_sums_within};
pub use points::Points;
pub use weighted::{Weights, cost_gradients, cost_sums};

use crate::{Error, Result};

/// What it costs to go from one point to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Half of the squared Euclidean distance.
    HalfSquared,
    /// The Euclidean distance, but not less than 1e-4.
    Distance,
}

/// The square of the smallest [`Cost::Distance`].
const SMALLEST_SQUARE: f64 = 1e-8;

/// Checks what all sums ask for.
fn check(op: &'static str, x: &Points, y: &Points, epsilon: f64) -> Result<()> {
    if x.dim() != y.dim() {
        return Err(Error::Shape {
            op,
            what: "the second cloud",
            found: vec![y.n_points(), y.dim()],
            expected: format!("points of {} coordinates, as the first has", x.dim()),
        });
    }
    if !(epsilon > 0.0 && epsilon.is_finite()) {
        return Err(Error::Value {
            op,
            what: "epsilon",
            found: epsilon,
            expected: "a positive number",
        });
    }
    Ok(())
}

/// Checks one number per point.
fn check_terms(op: &'static str, what: &'static str, terms: &[f64], points: &Points) -> Result<()> {
    if terms.len() != points.n_points() {
        return Err(Error::Shape {
            op,
            what,
            found: vec![terms.len()],
            expected: format!("one for each of the {} points", points.n_points()),
        });
    }
    match terms.iter().find(|v| v.is_nan() || **v == f64::INFINITY) {
        Some(&found) => Err(Error::Value {
            op,
            what,
            found,
            expected: "numbers, or minus infinity",
        }),
        None => Ok(()),
    }
}

/// Two clouds of different precision.
fn mixed(op: &'static str) -> Error {
    Error::Shape {
        op,
        what: "the second cloud",
        found: Vec::new(),
        expected: "points of the same precision as the first cloud (both f32 or both f64)".into(),
    }
}

#[cfg(test)]
mod tests;
