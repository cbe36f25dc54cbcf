//! PyTorch checkpoints, read without executing anything and written so that `torch.load` reads them.
//!
//! A checkpoint is a pickle: a small program whose instructions build values, and may call any Python function. The
//! reader here runs the building instructions, rebuilds tensors, numpy arrays and containers itself, and records every
//! other object as an [`Opaque`] value: class, arguments, state. Files from strangers are safe to open: depth, size
//! and memory are limited in proportion to the file.
//!
//! [`read`] takes torch's zip archive (version 1.6 and later) and the layout before it; [`read_pickle`] takes a bare
//! pickle of protocol 0 to 5, such as the `attr.pkl` of old scvi-tools models. [`write()`] makes zip archives.
//!
//! ```
//! use sc_io::pytorch::{self, Dict, TorchTensor, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weight = TorchTensor::from_f32(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])?;
//! let state = Dict::ordered([("decoder.weight", Value::from(weight))]);
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("model.pt");
//! pytorch::write(&file, &Dict::from_pairs([("model_state_dict", Value::from(state))]).into())?;
//!
//! let model = pytorch::read(&file)?;
//! let weight = model.at(&["model_state_dict", "decoder.weight"])?.as_tensor().ok_or("not a tensor")?;
//! assert_eq!(weight.shape(), [2, 3]);
//! assert_eq!(weight.to_f32_vec()[4], 4.0);
//! # Ok(())
//! # }
//! ```

mod archive;
mod array;
mod cursor;
mod dtype;
mod error;
mod frame;
mod freeze;
mod machine;
mod node;
mod pickle_arrays;
mod pickler;
mod rebuild;
mod rebuild_arrays;
mod tensor;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod write;

use std::path::Path;

pub use array::{ArrayData, NumpyArray};
pub use dtype::DType;
pub use error::{Error, Result};
pub use frame::DataFrame;
pub use tensor::TorchTensor;
pub use value::{Construct, Dict, DictKind, Opaque, Value};
pub use write::write;

/// Reads a checkpoint that `torch.save` wrote.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Zip`], [`Error::Format`] or [`Error::Pickle`] if it is damaged,
/// is no checkpoint, or is out of proportion: nested too deep, or unpacking to far more than its own size.
pub fn read(path: impl AsRef<Path>) -> Result<Value> {
    archive::read(path.as_ref())
}

/// Reads a bare pickle file, of any protocol.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, otherwise as [`parse_pickle`].
pub fn read_pickle(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    unpickle(&bytes).map_err(|fault| fault.at(path))
}

/// Reads a bare pickle from memory, of any protocol.
///
/// # Errors
/// [`Error::Pickle`] if it is damaged, nested too deep, or holds far more than its own size.
pub fn parse_pickle(bytes: &[u8]) -> Result<Value> {
    unpickle(bytes).map_err(|fault| fault.at(Path::new("<memory>")))
}

fn unpickle(bytes: &[u8]) -> std::result::Result<Value, error::Fault> {
    freeze::freeze(machine::run(bytes, 0)?, bytes.len(), None)
}
