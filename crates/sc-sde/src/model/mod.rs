//! scDiffEq's family of models: [`ScDiffEq`], with drift, diffusion and autoencoder to be combined freely.
//!
//! The original has sixteen classes for these combinations; here they are three settings ([`DriftKind`], [`DiffusionKind`],
//! `autoencoder`), and the regularisers ([`VelocityRatio`] and the functions beside it) are terms to be added to a loss.
//! [`Checkpoint`] opens what the original saved.

#[cfg(test)]
mod autoencoder_checkpoint_tests;
mod checkpoint;
mod config;
mod hyper_parameters;
mod losses;
#[expect(clippy::module_inception, reason = "the model itself")]
mod model;
mod nets;
mod params;
mod report;
#[cfg(test)]
mod tests;

pub use checkpoint::Checkpoint;
pub use config::{DiffusionKind, DriftKind, ScDiffEqConfig};
pub(crate) use losses::softmax;
pub use losses::{
    RatioMethod, RatioTerm, VelocityRatio, brownian_divergence, diffusion_floor, drift_energy,
    growth_weights, potential_contrast,
};
pub use model::ScDiffEq;
pub use nets::Equation;
pub use params::{ScDiffEqParams, ScDiffEqValidParams};
pub use report::{LoadReport, Mismatch};
