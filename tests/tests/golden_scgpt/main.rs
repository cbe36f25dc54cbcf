//! scGPT against the numbers that the original computed.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod folder;

mod forward;
mod generative;
mod gradients;
mod layouts;
mod losses;
mod training;
mod variants;
