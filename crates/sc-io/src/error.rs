use std::path::{Path, PathBuf};

/// What can go wrong while reading or writing files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A part of the file is not what its format says.
    #[error("{}: {location}: found {found}; expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where in it: a path inside HDF5, or a line of a text file.
        location: String,
        /// What is there.
        found: String,
        /// What would work.
        expected: String,
    },
    /// libhdf5 failed, as it does on damaged files and full disks.
    #[error("{}: {location}: hdf5: {reason}", path.display())]
    Hdf5 {
        /// The file.
        path: PathBuf,
        /// The path inside it.
        location: String,
        /// What the library said.
        reason: String,
    },
    /// The whole file is of another kind.
    #[error("{}: this is {found}; {hint}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What would work.
        hint: String,
    },
    /// The parts of a file contradict each other.
    #[error("{}: {location}: {source}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Where in it.
        location: String,
        /// The contradiction.
        #[source]
        source: Box<sc_data::Error>,
    },
    /// A PyTorch checkpoint could not be read.
    #[error(transparent)]
    Pytorch(#[from] crate::pytorch::Error),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn data(
        path: &Path,
        location: impl Into<String>,
    ) -> impl FnOnce(sc_data::Error) -> Self {
        let (path, location) = (path.to_owned(), location.into());
        move |source| Self::Data {
            path,
            location,
            source: Box::new(source),
        }
    }

    pub(crate) fn content(
        path: &Path,
        location: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Content {
            path: path.to_owned(),
            location: location.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    #[cfg(feature = "hdf5")]
    pub(crate) fn hdf5(
        path: &Path,
        location: impl Into<String>,
    ) -> impl FnOnce(hdf5::Error) -> Self {
        let (path, location) = (path.to_owned(), location.into());
        move |e| Self::Hdf5 {
            path,
            location,
            reason: describe(&e),
        }
    }
}

/// The outermost and the innermost message of libhdf5's error stack: the latter says "no space left" or "filter missing".
#[cfg(feature = "hdf5")]
fn describe(error: &hdf5::Error) -> String {
    let hdf5::Error::HDF5(stack) = error else {
        return error.to_string();
    };
    let Ok(frames) = stack.clone().expand() else {
        return error.to_string();
    };
    let outer = frames.first().map_or("unknown error", |f| f.desc());
    let inner = frames.last().map_or("", |f| f.desc());
    if inner.contains("No space left") {
        return format!("no space left on the device ({outer})");
    }
    if inner.contains("lock file") {
        return format!(
            "another program holds the file open ({inner}); close it there, or set HDF5_USE_FILE_LOCKING=FALSE if the \
             file system has no locks"
        );
    }
    if inner.is_empty() || inner == outer {
        outer.to_owned()
    } else {
        format!("{outer} ({inner})")
    }
}
