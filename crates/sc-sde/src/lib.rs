//! # sc-sde
//!
//! From snapshots of cells to how they move: neural stochastic differential equations in the manner of scDiffEq, and the
//! optimal transport that they are trained with.
//!
//! | to | see |
//! |---|---|
//! | describe how cells move, with the nets of scDiffEq's family, and open its checkpoints | [`model`], [`nets`] |
//! | train it on cells of several times: by simulation, or without by flow matching | [`train`], [`flow`] |
//! | predict fates, judge withheld days, map drift and diffusion, perturb genes | [`downstream`] |
//! | solve stochastic differential equations, with gradients | [`solve`] |
//! | compare or match two clouds of cells: Sinkhorn divergence, exact transport, Bures, MMD | [`transport`] |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod downstream;
mod error;
pub mod flow;
pub mod model;
pub mod nets;
pub mod solve;
pub mod train;
pub mod transport;

pub use error::{Error, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
