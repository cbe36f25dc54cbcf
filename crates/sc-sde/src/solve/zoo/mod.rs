//! Equations whose solutions are known: to test solvers with, and to validate what is learned from data against.
//!
//! | equation | what is known |
//! |---|---|
//! | [`OrnsteinUhlenbeck`] | mean and variance at every time, of Euler's chain too |
//! | [`GeometricBrownian`] | the path itself, given the Brownian motion; moments |
//! | [`Arctan`] | the path itself, given the Brownian motion |
//! | [`RankOneLinear`] | mean and second moments; the default noise of scDiffEq: one motion for all coordinates |
//! | [`DoubleWell`] | the stationary density, and the probability of ending in either well (the committor) |
//! | [`Bifurcation`] | branches of equal probability at their known places, like Waddington's valleys |
//! | [`ToggleSwitch`] | two stable states of two genes that repress each other, and the saddle between |
//! | [`Lorenz`] | the divergence of the drift; a drift that is no gradient |

mod linear;
mod switches;
mod wells;

pub use linear::{Arctan, GeometricBrownian, OrnsteinUhlenbeck, RankOneLinear};
pub use switches::{Lorenz, ToggleSwitch};
pub use wells::{Bifurcation, DoubleWell};

use candle_core::Tensor;

use crate::{Error, Result};

/// The columns of a state of a system of this many coordinates.
fn columns<const D: usize>(name: &'static str, y: &Tensor) -> Result<[Tensor; D]> {
    if y.rank() != 2 || y.dim(1)? != D {
        return Err(Error::Shape {
            what: name,
            found: y.dims().to_vec(),
            expected: format!("[cells, {D}]"),
        });
    }
    let column = |j: usize| y.narrow(1, j, 1)?.contiguous();
    let all = (0..D)
        .map(column)
        .collect::<candle_core::Result<Vec<_>>>()?;
    all.try_into().map_err(|_| Error::Empty {
        what: name,
        found: y.dims().to_vec(),
    })
}

/// A tensor like `y` that holds `value` everywhere.
fn filled(y: &Tensor, value: f64) -> Result<Tensor> {
    Ok((y.zeros_like()? + value)?)
}
