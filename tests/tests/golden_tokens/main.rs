//! Vocabulary, bins, tokens, hidden values, preprocessing, gene networks and perturbation metrics, against scGPT.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod bins;
mod cells;
mod common;
mod network;
mod perturbation;
mod split;
mod steps;
mod vocabulary;
