//! What the readers share: opening, errors with a place, types, lengths that are checked before memory is taken.

mod bytes;
mod entries;
mod numbers;
mod parallel;
mod place;
pub(crate) mod records;
mod strings;

use std::path::{Path, PathBuf};

use hdf5::types::{CompoundType, FloatSize, IntSize, TypeDescriptor};
use hdf5::{Container, Dataset, File, Group, LocationType};

use crate::{Error, Result};

pub(crate) use entries::Entries;
pub(crate) use place::{Place, is_named_h5mu};

/// An open file that knows its name and length.
pub(crate) struct H5 {
    /// What was opened, for messages: a file, or a modality in one.
    pub(crate) path: PathBuf,
    /// The file on the disk.
    pub(crate) disk: PathBuf,
    pub(crate) file: File,
    /// Where the data begin: the root of the file, or the group of the modality.
    pub(crate) root: Group,
    length: u64,
}

/// What a link leads to.
pub(crate) enum Node {
    Group(Group),
    Dataset(Dataset),
}

/// What the values of a dataset or attribute are, as far as readers care.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Bool,
    /// Bytes, signed.
    Int(usize, bool),
    /// Bytes.
    Float(usize),
    Str,
    Compound(CompoundType),
    /// Anything else, in words.
    Other(String),
}

impl Kind {
    /// The name numpy would give it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::Int(bytes, true) => format!("int{}", bytes * 8),
            Self::Int(bytes, false) => format!("uint{}", bytes * 8),
            Self::Float(bytes) => format!("float{}", bytes * 8),
            Self::Str => "text".into(),
            Self::Compound(c) => format!("records of {} fields", c.fields.len()),
            Self::Other(what) => what.clone(),
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Bool | Self::Int(..) | Self::Float(_))
    }
}

impl H5 {
    /// Opens a file for reading.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_with_cache(path, None)
    }

    /// Opens a file for reading, with a cache of so many bytes for the chunks of each dataset.
    pub(crate) fn open_with_cache(path: &Path, cache: Option<usize>) -> Result<Self> {
        let place = Place::of(path);
        let length = signature(&place.file)?;
        hdf5::silence_errors(true);
        let mut options = File::with_options();
        if let Some(bytes) = cache {
            options.with_fapl(move |p| p.chunk_cache(12421, bytes, 0.75));
        }
        let file = options.open(&place.file).map_err(Error::hdf5(path, "/"))?;
        let mut h5 = Self {
            path: path.to_owned(),
            disk: place.file,
            root: Group::clone(&file),
            file,
            length,
        };
        if let Some(name) = place.modality {
            h5.root = h5.modality(&name)?;
        }
        Ok(h5)
    }

    /// Creates a file behind so many bytes of a user's block.
    ///
    /// Without libhdf5's lock: only the writer knows the temporary name, and libhdf5 lets a program that another thread starts
    /// meanwhile inherit the lock, so that nobody could open the finished file until that program ends.
    pub(crate) fn create(path: &Path, userblock: u64) -> hdf5::Result<File> {
        File::with_options()
            .with_fcpl(|p| p.userblock(userblock))
            .with_fapl(|p| p.file_locking(false))
            .create(path)
    }

    /// Opens a file for changes, without a lock as [`Self::create`].
    pub(crate) fn open_rw(path: &Path) -> hdf5::Result<File> {
        File::with_options()
            .with_fapl(|p| p.file_locking(false))
            .open_as(path, hdf5::OpenMode::ReadWrite)
    }

    /// Turns an error of libhdf5 into ours.
    pub(crate) fn at(&self, location: &str) -> impl FnOnce(hdf5::Error) -> Error {
        Error::hdf5(&self.path, location)
    }

    /// Turns an error of `sc-data` into ours.
    pub(crate) fn data(&self, location: &str) -> impl FnOnce(sc_data::Error) -> Error {
        Error::data(&self.path, location)
    }

    /// Something else was found than expected.
    pub(crate) fn wrong(
        &self,
        location: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Error {
        Error::content(&self.path, location, found, expected)
    }

    /// The member called `name`, `None` if there is no such link.
    pub(crate) fn member(&self, parent: &Group, name: &str) -> Result<Option<Node>> {
        if !parent.link_exists(name) {
            return Ok(None);
        }
        let at = child(&parent.name(), name);
        match parent.loc_type_by_name(name).map_err(self.at(&at))? {
            LocationType::Group => Ok(Some(Node::Group(parent.group(name).map_err(self.at(&at))?))),
            LocationType::Dataset => Ok(Some(Node::Dataset(
                parent.dataset(name).map_err(self.at(&at))?,
            ))),
            _ => Err(self.wrong(&at, "a named datatype", "a group or a dataset")),
        }
    }

    /// The member called `name`, which must be there.
    pub(crate) fn require(&self, parent: &Group, name: &str) -> Result<Node> {
        self.member(parent, name)?.ok_or_else(|| {
            let names = parent.member_names().unwrap_or_default();
            self.wrong(
                &parent.name(),
                format!("no \"{name}\" (only: {})", names.join(", ")),
                format!("a member \"{name}\""),
            )
        })
    }

    /// The dataset called `name`, which must be there.
    pub(crate) fn dataset(&self, parent: &Group, name: &str) -> Result<Dataset> {
        match self.require(parent, name)? {
            Node::Dataset(d) => Ok(d),
            Node::Group(g) => Err(self.wrong(&g.name(), "a group", "a dataset")),
        }
    }

    /// The names in a group.
    pub(crate) fn names(&self, group: &Group) -> Result<Vec<String>> {
        group.member_names().map_err(self.at(&group.name()))
    }

    /// What a dataset or attribute holds.
    pub(crate) fn kind(&self, of: &Container, location: &str) -> Result<Kind> {
        let dtype = of.dtype().map_err(self.at(location))?;
        let size = |s: IntSize| s as usize;
        Ok(match dtype.to_descriptor() {
            Ok(TypeDescriptor::Boolean) => Kind::Bool,
            Ok(TypeDescriptor::Integer(s)) => Kind::Int(size(s), true),
            Ok(TypeDescriptor::Unsigned(s)) => Kind::Int(size(s), false),
            Ok(TypeDescriptor::Float(s)) => Kind::Float(match s {
                FloatSize::U4 => 4,
                _ => 8,
            }),
            Ok(
                TypeDescriptor::VarLenUnicode
                | TypeDescriptor::VarLenAscii
                | TypeDescriptor::FixedAscii(_)
                | TypeDescriptor::FixedUnicode(_),
            ) => Kind::Str,
            Ok(TypeDescriptor::Compound(c)) => Kind::Compound(c),
            Ok(other) => Kind::Other(other.to_string()),
            // Half and long-double precision have no descriptor, but libhdf5 converts them.
            Err(_) if dtype.conv_to::<f64>().is_some() => Kind::Float(dtype.size()),
            Err(e) => Kind::Other(e.to_string()),
        })
    }

    /// The shape of a dataset, after making sure that the file can hold that much: a damaged or hostile file may
    /// declare any number.
    pub(crate) fn shape(&self, of: &Dataset) -> Result<Vec<usize>> {
        // Deflate packs at most 1032 bytes into one.
        const MOST_PACKED: u64 = 1032;
        const ALWAYS_FINE: u64 = 16 << 20;
        let location = of.name();
        let space = of.space().map_err(self.at(&location))?;
        if space.is_null() {
            return Err(self.wrong(&location, "nothing (a null dataspace)", "values"));
        }
        let shape = space.shape();
        let each = of.dtype().map_err(self.at(&location))?.size().max(1);
        let bytes = shape
            .iter()
            .try_fold(each as u64, |n, &d| n.checked_mul(d as u64));
        let stored = of.storage_size().min(self.length);
        let packed = if of.filters().is_empty() {
            1
        } else {
            MOST_PACKED
        };
        let possible = ALWAYS_FINE.saturating_add(stored.saturating_mul(packed));
        match bytes {
            Some(b) if b <= possible => Ok(shape),
            _ => Err(self.wrong(
                &location,
                format!("a shape of {shape:?} with {stored} bytes stored"),
                "a shape that the stored bytes can fill; the file is damaged or incomplete",
            )),
        }
    }

    /// The length of a one-dimensional dataset, checked as in [`H5::shape`].
    pub(crate) fn length_1d(&self, of: &Dataset) -> Result<usize> {
        let shape = self.shape(of)?;
        match shape[..] {
            [n] => Ok(n),
            _ => Err(self.wrong(
                &of.name(),
                format!("{} dimensions", shape.len()),
                "one dimension",
            )),
        }
    }
}

/// `a/b`, without doubling the slash of the root.
pub(crate) fn child(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

/// Checks that a file is HDF5 and returns its length. A block of the user's may precede the signature.
fn signature(path: &Path) -> Result<u64> {
    use std::io::{Read, Seek, SeekFrom};
    const MAGIC: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    let mut first = [0u8; 8];
    for offset in [0u64, 512, 1024, 2048, 4096] {
        let mut head = [0u8; 8];
        if file.seek(SeekFrom::Start(offset)).is_ok() && file.read_exact(&mut head).is_ok() {
            if head == MAGIC {
                return Ok(length);
            }
            if offset == 0 {
                first = head;
            }
        }
    }
    let (found, hint) = match first {
        [0x1f, 0x8b, ..] => (
            "a gzip file",
            "decompress it first (gunzip), or give a folder of matrix.mtx.gz",
        ),
        [b'P', b'K', 3, 4, ..] => ("a zip file", "unpack it first"),
        [b'%', b'%', b'M', b'a', ..] => (
            "a MatrixMarket file",
            "give the folder that holds it with its barcodes and features",
        ),
        _ if length < 8 => (
            "an empty or nearly empty file",
            "the copy or download did not finish",
        ),
        _ => (
            "not an HDF5 file",
            "h5ad and 10x .h5 files start with \\x89HDF",
        ),
    };
    Err(Error::Unsupported {
        path: path.to_owned(),
        found: found.into(),
        hint: hint.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lock_outlives_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        for open in [|p: &Path| H5::create(p, 512), H5::open_rw] {
            let file = open(&path).unwrap();
            let other = std::fs::File::open(&path).unwrap();
            other.try_lock().unwrap();
            other.unlock().unwrap();
            file.close().unwrap();
        }
    }
}
