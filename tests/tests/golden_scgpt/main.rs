//! scGPT against the numbers that the original computed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod folder;

mod embedding;
mod forward;
mod generative;
mod gradients;
mod layer;
mod layouts;
mod losses;
mod perturbation;
mod training;
mod variants;
