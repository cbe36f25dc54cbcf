//! Solvers, nets and checkpoints of neural SDEs against torchsde's and scDiffEq's numbers (`$SC_SHARED/golden/sde`).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod analytic;
mod checkpoint;
mod effects;
mod fates;
mod flow;
mod golden;
mod interpolation;
mod nets;
mod paths;
mod sinkhorn;
mod training;
