//! Flow matching: learning how cells move without simulating them.
//!
//! Cells of neighbouring times are paired by optimal transport, points are drawn on bridges between them, and a net learns the
//! velocity there by least squares. That takes minutes where training by simulation takes hours; in exchange, the noise is a
//! number, not a function of the state.
//!
//! | | velocity | noise | pairs |
//! |---|---|---|---|
//! | CFM | straight bridges of width `path_sigma` | none: an ODE | independent |
//! | OT-CFM, the default | straight bridges | none | exact transport of the minibatch |
//! | Schroedinger bridge, \[SF\]2M | Brownian bridges, and a net of the score | `sigma` | entropic transport, `reg = 2 sigma^2` |
//! | unbalanced | either, and a net of growth | either | transport that creates and destroys mass |
//!
//! A trained [`Flow`] makes an equation ([`Flow::equation`]) that is solved like any other. To begin the training of a neural
//! SDE with a drift that points the right way, see
//! [`ScDiffEq::pretrain_drift`](crate::model::ScDiffEq::pretrain_drift).
//!
//! Lipman et al., "Flow matching for generative modeling" (2023); Tong et al., "Improving and generalizing flow-based
//! generative models with minibatch optimal transport" (2024) and "Simulation-free Schroedinger bridges via score and flow
//! matching" (2024).

mod bridge;
mod config;
mod coupling;
mod drift;
mod equation;
#[expect(clippy::module_inception, reason = "the model itself")]
mod flow;
mod minibatch;
mod session;
#[cfg(test)]
mod tests;

pub use bridge::{Bridge, BridgePoints, score_weight};
pub use config::{FlowConfig, FlowParams, FlowTraining, FlowValidParams};
pub use coupling::Coupling;
pub use equation::FlowEquation;
pub use flow::Flow;
