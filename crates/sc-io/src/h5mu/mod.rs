//! MuData's HDF5 files: several modalities of the same and of other cells, each stored as an `.h5ad` file stores its own.
//!
//! | part of the format | read | written |
//! |---|---|---|
//! | modalities, in the order of `mod-order` | as in [`h5ad`](crate::h5ad) | yes |
//! | joint `obs`, `var`, `obsm`, `varm`, `obsp`, `varp`, `uns` | yes | yes |
//! | `obsmap`, `varmap` (from 1; 0 for a cell that the modality lacks), of one or two dimensions | yes | one, `uint32` |
//! | maps that are missing, or do not fit any more | found anew by the names of cells and features, with a warning | |
//! | which cells have a modality (`obsm/NAME`, `varm/NAME`) | not looked at: the maps say it | yes |
//! | `axis` 0, 1 and -1 | yes | yes |
//! | the 512 bytes before the HDF5 data that say "MuData" | not needed | yes |
//! | modalities that have modalities of their own | an error | no |
//! | anything else at the root | left out | [`write_annotations`] keeps it |
//!
//! Wherever this crate reads an `.h5ad` file it takes a modality too: `cells.h5mu/rna` or `cells.h5mu/mod/rna`, as mudata
//! does. So rows are read from a file larger than the memory with
//! [`h5ad::read_backed`](crate::h5ad::read_backed)`("cells.h5mu/rna", None)`.

mod read;
mod write;

pub use read::{read, read_annotations};
pub use write::{write, write_annotations};

/// Whether a path is named as an `.h5mu` file is.
pub fn is_named_so(path: impl AsRef<std::path::Path>) -> bool {
    crate::hdf::is_named_h5mu(path.as_ref())
}
