//! scBERT against the numbers of the original: preprocessing, logits, losses, gradients, importance.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod folder;

mod cells;
mod forward;
mod labels;
mod training;
