//! # sc-io
//!
//! Single-cell files from and to [`sc_data::AnnData`] and [`sc_data::MuData`].
//!
//! | | read | write |
//! |---|---|---|
//! | `.h5ad` of anndata 0.5 to 0.12: [`h5ad`] | yes | as anndata 0.12 |
//! | rows of an `.h5ad` file larger than the memory: [`h5ad::read_backed`] | CSR and dense | |
//! | `.h5mu` of mudata 0.1 to 0.4, whole or one modality: [`h5mu`] | yes | as mudata 0.4 |
//! | Cell Ranger `.h5` of versions 2, 3 and later: [`tenx`] | yes | no |
//! | MatrixMarket folders, gzipped or not: [`mtx`] | yes | as Cell Ranger 3 |
//! | loom 1 to 3: [`loom`] | yes | no |
//! | tables of text (`.csv`, `.tsv`, umi_tools), gzipped or not: [`csv`] | yes | `X` with names |
//! | places of genes and peaks, GTF and BED: [`genome`] | yes | no |
//! | PyTorch checkpoints: [`mod@pytorch`] | yes | see there |
//! | Zarr | an error that says what the file is | no |
//!
//! [`read()`] and [`write()`] choose by the contents and the name; [`inspect()`] says what a file holds without reading
//! its matrices. What exactly survives in `.h5ad` files is listed in the table of [`h5ad`].
//!
//! Rules that hold everywhere:
//! - A file that is written appears whole or not at all ([`atomic`]).
//! - Nothing is renamed, dropped or made unique in silence: what cannot be represented is left out with a `tracing`
//!   warning that names it, and duplicate names are reported ([`names`]).
//! - Errors name the file, the place in it, what was found there and what would work.
//! - What a file declares is checked against what it stores before memory is taken.
//!
//! ```no_run
//! let cells = sc_io::read("filtered_feature_bc_matrix.h5")?;
//! println!("{} cells, {} genes", cells.n_obs(), cells.n_vars());
//! sc_io::write("cells.h5ad", &cells, &sc_io::h5ad::WriteOptions::gzip(4))?;
//! # Ok::<(), sc_io::Error>(())
//! ```
//!
//! # libhdf5
//! HDF5 is read by libhdf5: the system's (`libhdf5-dev`, `brew install hdf5`), or a bundled one with the feature `static`
//! (needs cmake 3.26). One lock guards the library, so threads that read do so in turns. Version 1.10, which Debian 12
//! and Ubuntu 22.04 have, can crash on files whose attributes were damaged on purpose, or ask for memory without end (`fuzz h5ad`
//! of the benches, execution 17); use `static` to read files of strangers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(feature = "hdf5")]
mod any;
pub mod atomic;
pub mod csv;
mod error;
pub mod genome;
#[cfg(feature = "hdf5")]
pub mod h5ad;
#[cfg(feature = "hdf5")]
pub mod h5mu;
#[cfg(feature = "hdf5")]
mod hdf;
#[cfg(feature = "hdf5")]
mod inspect;
mod lines;
#[cfg(feature = "hdf5")]
pub mod loom;
pub mod mtx;
pub mod names;
pub mod pytorch;
mod read_ahead;
#[cfg(feature = "hdf5")]
pub mod tenx;

#[cfg(feature = "hdf5")]
pub use any::{Format, format_of, read, write};
pub use error::{Error, Result};
#[cfg(feature = "hdf5")]
pub use inspect::{ColumnInfo, Inspection, MatrixInfo, TableInfo, inspect};
pub use read_ahead::ReadAhead;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
