//! # sc-criticism
//!
//! Is a model of single cells any good? Posterior predictive checks of any generative model, and the metrics by which
//! the field compares integrations, matchings and annotations.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
pub mod ppc;
pub mod report;

pub use error::{Error, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
