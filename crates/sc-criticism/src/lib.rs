//! # sc-criticism
//!
//! Is a model of single cells any good? Posterior predictive checks of any generative model, and the metrics by which
//! the field compares integrations, matchings and annotations.
// Views go by value, as is ndarray's custom.
#![allow(clippy::needless_pass_by_value)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod classification;
mod codes;
pub mod distribution;
mod error;
pub mod integration;
pub mod matching;
pub mod ppc;
pub mod report;
mod statistics;

pub use error::{Error, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
