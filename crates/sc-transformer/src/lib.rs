//! # sc-transformer
//!
//! scGPT and scBERT: transformers that read the genes of a cell as tokens.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
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
