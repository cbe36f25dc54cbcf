//! Training: learning how cells move from [`Snapshots`] of them.
//!
//! A model of scDiffEq's family is trained by simulation: cells of the first time are moved through all later times, and at
//! each the Sinkhorn divergence says how far they are from the cells that were observed there.
//!
//! ```
//! use candle_core::Device;
//! use ndarray::Array2;
//! use sc_sde::model::ScDiffEq;
//! use sc_sde::nets::NetConfig;
//! use sc_sde::train::{SdeTraining, Snapshots};
//!
//! // 40 cells at day 0 and 40 at day 1, which moved to the right.
//! let states = Array2::from_shape_fn((80, 2), |(i, j)| {
//!     let moved = if i < 40 { 0.0 } else { 1.0 };
//!     (0.1 * ((i * 7 + j * 3) % 10) as f32) + if j == 0 { moved } else { 0.0 }
//! });
//! let days: Vec<f64> = (0..80).map(|i| if i < 40 { 0.0 } else { 1.0 }).collect();
//! let cells = Snapshots::from_array(states.view(), &days)?;
//!
//! let params = ScDiffEq::params(2).mu(NetConfig::new([16, 16])).check()?;
//! let mut model = params.init(&Device::Cpu, 0)?;
//! let mut training = SdeTraining::new(model.config());
//! training.run.max_epochs = Some(2);
//! let fitted = model.fit(&cells, &training, &mut ())?;
//! assert_eq!(fitted.history.values("validation_loss").len(), 2);
//! # Ok::<(), sc_sde::Error>(())
//! ```
//!
//! | to | see |
//! |---|---|
//! | bring cells, their times and growth rates together | [`Snapshots`], [`bin_pseudotime`] |
//! | say how a model is trained | [`SdeTraining`] |
//! | train, and go on after an interruption | [`ScDiffEq::fit`](crate::model::ScDiffEq::fit), [`ScDiffEq::resume`](crate::model::ScDiffEq::resume) |
//! | compute the loss of one minibatch | [`Objective`] |
//! | train without simulating | [`crate::flow`] |

mod autoencoder;
mod average;
mod batches;
mod config;
mod fit;
mod minibatch;
mod objective;
mod pseudotime;
mod session;
mod snapshots;
#[cfg(test)]
pub(crate) mod tests;

pub use average::AverageWeights;
pub use batches::{BatchSize, Validation};
pub use config::{Contrast, Floor, Keep, Marginals, Paths, SdeTraining};
pub use minibatch::{Batch, Evaluated, Terms};
pub use objective::Objective;
pub use pseudotime::bin_pseudotime;
pub use snapshots::Snapshots;

pub(crate) use batches::minibatches;
pub(crate) use fit::keeping;
