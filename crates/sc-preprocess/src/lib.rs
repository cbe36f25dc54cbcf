//! # sc-preprocess
//!
//! From raw counts to a few informative numbers per cell.
//!
//! | function or type | what it does |
//! |---|---|
//! | [`qc_metrics`] | counts, genes and shares of gene sets of each cell; cells and counts of each gene |
//! | [`CellFilter`], [`GeneFilter`] | which cells and genes stay |
//! | [`NormalizeTotal`], [`normalize_total`] | scales every cell to the same total |
//! | [`Log1p`], [`log1p`] | `ln(1 + x)` |
//! | [`highly_variable_genes`] | the genes that vary more than genes of their mean usually do |
//! | [`Scaler`] | unit variance, with or without centring |
//! | [`pca`] | principal components of a sparse matrix, never centred in memory |
//! | [`TfIdf`], [`Lsi`] | open chromatin: weights of peaks, and singular vectors |
//! | [`Clr`] | centred log ratio of protein counts |
//! | [`harmony`] | an embedding without the effects of batches |
//!
//! What is learned from cells is learned from any [`sc_data::RowSource`], block by block: the data may lie on disk. Steps that
//! change values are [`Transform`]s, applied to a matrix in memory, or with [`Streamed`] while rows are read.
//! Results are the same, bit for bit, on any number of threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod clr;
mod columns;
mod covariance;
mod error;
mod filter;
mod gram;
mod groups;
mod harmony;
mod hvg;
mod lanczos;
mod lsi;
mod moments;
mod normalize;
mod pca;
mod qc;
mod scale;
mod simd;
mod stats;
mod tfidf;
mod transform;
mod values;

pub use clr::{Clr, ClrMargin};
pub use error::{Error, Result};
pub use filter::{CellFilter, GeneFilter};
pub use harmony::{Harmony, HarmonyOptions, harmony};
pub use hvg::{
    HighlyVariable, HvgFlavor, HvgOptions, HvgSelection, highly_variable_genes,
    highly_variable_genes_with,
};
pub use lsi::Lsi;
pub use normalize::{Log1p, NormalizeTotal, log1p, normalize_total};
pub use pca::{Pca, PcaOptions, PcaSolver, pca, pca_with};
pub use qc::{CellQc, GeneQc, GeneSet, GeneSetCounts, qc_metrics};
pub use scale::{ScaleOptions, Scaler};
pub use tfidf::{TfIdf, TfIdfFlavor};
pub use transform::{Streamed, Transform};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
