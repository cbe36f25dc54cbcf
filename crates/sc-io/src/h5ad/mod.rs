//! AnnData's HDF5 files, of anndata 0.5 to 0.12.
//!
//! | part of the format | read | written |
//! |---|---|---|
//! | `X`, layers, `obsp`, `varp`: dense, CSR | yes | yes |
//! | the same as CSC | yes, converted to CSR | no |
//! | no `X` at all | yes | yes |
//! | `float64` dense matrices | kept | kept |
//! | any other number type, and sparse `float64` | as `f32`, the nearest there is | as `float32` |
//! | columns: numbers, truth values, text, categories | yes | yes |
//! | columns: nullable integers, truth values, text (also as the index) | yes | yes |
//! | categories that are numbers or truth values | as text ("1", "2.5", "True") | as text |
//! | integers of 8 and 16 bits, unsigned ones | widened to 64 bits | as 64 bits |
//! | `obsm`, `varm`: matrices, CSR/CSC, tables | yes | yes |
//! | `raw` | yes, also `raw.X` at the root | yes |
//! | `uns`: text, numbers, truth values, null, arrays, sparse matrices, tables, dictionaries of any depth | yes | yes |
//! | `uns`: record arrays | as a table | as a table; left out with a warning if a field has a slash in its name |
//! | `uns`: anything else (awkward arrays, complex numbers, bytes) | skipped with a warning | |
//! | tables of anndata 0.7 (`__categories`) | yes | no |
//! | `obs`, `var` of anndata < 0.7 (records) | yes | no |
//! | gzip, shuffle, LZF | yes | gzip with shuffle, or nothing |
//! | Blosc, Zstandard and other plug-in filters | an error that names the filter | no |

mod backed;
mod legacy;
mod matrix;
mod read;
mod rewrite;
mod rows;
mod table;
mod uns;
mod write;
mod write_parts;

pub use backed::BackedMatrix;
pub use read::{read, read_annotations};
pub use rewrite::{NewMatrix, write_annotations, write_changed};
pub use write::{Compression, WriteOptions, write};

use std::path::Path;

use crate::Result;

/// Opens a matrix to be read by rows without loading it: `X`, or a layer.
///
/// # Errors
/// [`crate::Error`] if there is no such matrix, if it is stored by columns, or if its parts contradict each other.
pub fn read_backed(path: impl AsRef<Path>, layer: Option<&str>) -> Result<BackedMatrix> {
    BackedMatrix::open(path.as_ref(), layer)
}

pub(crate) use read::is_annotated;
pub(crate) use rewrite::{copy_file, n_rows};
pub(crate) use write_parts::Out;
