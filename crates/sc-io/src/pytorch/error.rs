//! What can go wrong with a PyTorch checkpoint.

use std::path::{Path, PathBuf};

/// The result of an operation on a PyTorch checkpoint.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a PyTorch checkpoint could not be read, converted or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write the file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The zip archive around the checkpoint is damaged.
    #[error("{}: the zip archive is damaged: {source}", path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// What the zip reader found.
        source: zip::result::ZipError,
    },
    /// The file is not a checkpoint that this reader knows.
    #[error("{}: {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found, and what would work.
        what: String,
    },
    /// The pickle program inside the file is malformed.
    #[error("{}: pickle byte {position}: {what}", path.display())]
    Pickle {
        /// The file; `<memory>` for bytes that did not come from a file.
        path: PathBuf,
        /// Where the failing instruction starts, in bytes from the start of the pickle.
        position: usize,
        /// What was found there.
        what: String,
    },
    /// A value has another type, shape or range than the caller asked for.
    #[error("{what}")]
    Conversion {
        /// What was found and what was wanted.
        what: String,
    },
    /// A value cannot be written.
    #[error("{}: cannot write {what}", path.display())]
    Unwritable {
        /// The file that was to be written.
        path: PathBuf,
        /// The value, and what would work.
        what: String,
    },
}

impl Error {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(super) fn zip(path: &Path, source: zip::result::ZipError) -> Self {
        Self::Zip {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(super) fn format(path: &Path, what: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }

    pub(super) fn conversion(what: impl Into<String>) -> Self {
        Self::Conversion { what: what.into() }
    }
}

/// An error inside a pickle, before the name of the file is known.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) position: usize,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn new(position: usize, what: impl Into<String>) -> Self {
        Self {
            position,
            what: what.into(),
        }
    }

    pub(super) fn at(self, path: &Path) -> Error {
        Error::Pickle {
            path: path.to_path_buf(),
            position: self.position,
            what: self.what,
        }
    }
}
