//! placeholder
pub mod atomic;
mod any;
mod error;
pub mod h5ad;
mod hdf;
mod inspect;
pub mod mtx;
pub mod names;
pub mod pytorch;
pub mod tenx;
pub use any::{Format, format_of, read, write};
pub use error::{Error, Result};
pub use inspect::{ColumnInfo, Inspection, MatrixInfo, TableInfo, inspect};
