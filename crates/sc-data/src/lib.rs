//! # sc-data
//!
//! What single cells look like in memory. Nothing here knows files, tensors or models.
//!
//! | type | what it is |
//! |---|---|
//! | [`Csr`] | counts of cells x genes, stored entries only (`f32` values, `u32` columns) |
//! | [`Matrix`] | dense or CSR |
//! | [`Categorical`] | codes and categories, missing values allowed |
//! | [`Column`], [`Table`] | named columns of one length with an index, like `obs` and `var` |
//! | [`AnnData`] | `X`, `obs`, `var`, `layers`, `obsm`, `varm`, `obsp`, `varp`, `uns`, `raw` |
//! | [`MuData`] | several modalities, each an [`AnnData`], of the same and of other cells |
//! | [`RowSource`] | the trait by which models read rows, from memory or from disk |
//!
//! ```
//! use sc_data::{Csr, RowSource};
//!
//! // Three cells, four genes.
//! let counts = Csr::from_dense(&ndarray::array![
//!     [1.0, 0.0, 2.0, 0.0],
//!     [0.0, 0.0, 0.0, 5.0],
//!     [3.0, 1.0, 0.0, 0.0],
//! ]);
//! assert_eq!(counts.n_stored(), 5);
//!
//! // A minibatch by any list of rows, in any order.
//! let batch = counts.read_rows(&[2, 0])?;
//! assert_eq!(batch.row_sums(), vec![4.0, 3.0]);
//! # Ok::<(), sc_data::Error>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod anndata;
mod categorical;
mod csr;
mod error;
mod genome;
mod matrix;
mod mudata;
mod source;
mod table;

pub use anndata::{AnnData, Annotation, Raw, Uns};
pub use categorical::Categorical;
pub use csr::Csr;
pub use error::{Error, Result};
pub use genome::{Interval, Strand};
pub use matrix::Matrix;
pub use mudata::{MuData, Places, Shared};
pub use source::{Columns, CountProblem, CountReport, RowSource, Rows, check_counts};
pub use table::{Column, Table};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
