//! # sc-preprocess
//!
//! From raw counts to a few informative numbers per cell.
//!
//! | function | what it does |
//! |---|---|
//! | [`normalize_total`] | scales every cell to the same total |
//! | [`log1p`] | `ln(1 + x)` |
//! | [`highly_variable_genes`] | the genes that vary more than genes of their mean usually do |
//! | [`pca`] | principal components of a sparse matrix, never centred in memory |
//!
//! Genes are chosen and components are found from any [`sc_data::RowSource`], block by block: the data may lie on disk.
//! Results are the same, bit for bit, on any number of threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod covariance;
mod error;
mod hvg;
mod hvg_v3;
mod lanczos;
mod loess;
mod moments;
mod normalize;
mod pca;

pub use error::{Error, Result};
pub use hvg::{HighlyVariable, HvgFlavor, highly_variable_genes};
pub use normalize::{log1p, normalize_total};
pub use pca::{Pca, pca};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
