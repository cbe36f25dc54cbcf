//! # sc-transformer
//!
//! scGPT and scBERT: transformers that read the genes of a cell as tokens.
//!
//! | to | see |
//! |---|---|
//! | open, use, fine-tune or pre-train scGPT | [`scgpt`]: [`ScGpt`](scgpt::ScGpt), [`Recipe`](scgpt::Recipe) |
//! | the same of scBERT | [`scbert`]: [`Scbert`](scbert::Scbert) |
//! | look up genes, and say which are missing | [`vocab`]: [`GeneVocab`](vocab::GeneVocab) |
//! | turn expression into tokens: bins, masks, minibatches, the steps before | [`tokens`]: [`Tokenizer`](tokens::Tokenizer) |
//! | group genes, compare attention, test gene sets | [`network`] |
//! | give new cells the labels of the most similar cells | [`mapping`]: [`Reference`](mapping::Reference) |
//! | judge predictions of perturbations beside simple baselines | [`perturb_metrics`] |
//!
//! Cells are never padded: the tokens of all cells of a minibatch lie one after the other, and attention knows where each
//! cell starts. What a cell gives depends neither on the cells beside it, nor on the size of minibatches, nor on the
//! number of threads. Where the originals have errors that change numbers, the right thing is the default, and
//! [`Parity::Upstream`](sc_model::Parity) repeats theirs.
//!
//! Models are trained by [`sc_model::train::fit`], with its checkpoints, observers and schedules. Cells come from any
//! [`RowSource`](sc_data::RowSource): a matrix in memory, or the rows of a file as they are needed.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr
    )
)]

mod error;
#[cfg(test)]
mod golden;
pub mod mapping;
pub mod network;
pub mod perturb_metrics;
pub mod scbert;
pub mod scgpt;
pub mod tokens;
pub mod vocab;

pub use error::{Error, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
