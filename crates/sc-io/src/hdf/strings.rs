//! Text: HDF5 has four kinds and converts none of them into another.

use hdf5::types::{FixedAscii, FixedUnicode, H5Type, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, Dataset, Location};

use super::H5;
use crate::Result;

/// Fixed-length text is read this many bytes at a time, because the buffer may be wider than what is stored.
const BUFFER: usize = 16 << 20;

impl H5 {
    /// The texts of a dataset of any shape, row-major.
    pub(crate) fn strings(&self, from: &Dataset) -> Result<Vec<String>> {
        let n = self.shape(from)?.iter().product();
        self.dataset_texts(from, n)
    }

    /// The first `n` texts of a one-dimensional dataset.
    pub(crate) fn first_strings(&self, from: &Dataset, n: usize) -> Result<Vec<String>> {
        let n = self.length_1d(from)?.min(n);
        self.dataset_texts(from, n)
    }

    fn dataset_texts(&self, from: &Dataset, n: usize) -> Result<Vec<String>> {
        let variable = matches!(
            from.dtype().and_then(|t| t.to_descriptor()),
            Ok(TypeDescriptor::VarLenUnicode | TypeDescriptor::VarLenAscii)
        );
        if variable && n > 0 && self.has_plain_bytes(from) {
            return self.heap_strings(from, n);
        }
        self.texts(from, &from.name(), Some(n))
    }

    /// The text of an attribute; `None` if there is no such attribute or it is not one text.
    pub(crate) fn attr_string(&self, of: &Location, name: &str) -> Option<String> {
        let texts = self.attr_strings(of, name).ok().flatten()?;
        match <[String; 1]>::try_from(texts) {
            Ok([text]) => Some(text),
            Err(_) => None,
        }
    }

    /// The texts of an attribute; `None` if there is none. An empty one may be of any type, as h5py writes it.
    pub(crate) fn attr_strings(&self, of: &Location, name: &str) -> Result<Option<Vec<String>>> {
        let Ok(attr) = of.attr(name) else {
            return Ok(None);
        };
        let space = attr.space().map_err(self.at(&of.name()))?;
        if space.is_null() || space.size() == 0 {
            return Ok(Some(Vec::new()));
        }
        let location = format!("{} (attribute {name})", of.name());
        self.texts(&attr, &location, None).map(Some)
    }

    /// `rows` is how many rows of a dataset to read, `None` for an attribute, which must be read at once.
    fn texts(&self, from: &Container, location: &str, rows: Option<usize>) -> Result<Vec<String>> {
        let descriptor = from
            .dtype()
            .and_then(|t| t.to_descriptor())
            .map_err(self.at(location))?;
        macro_rules! fixed {
            ($ty:ident, $n:expr, $($size:literal)*) => {
                match $n {
                    $(n if n <= $size => in_slabs::<$ty<$size>>(from, rows, |s| text(s.as_bytes())),)*
                    n => return Err(self.wrong(location, format!("text of {n} bytes each"), "at most 65536 bytes")),
                }
            };
        }
        let texts = match descriptor {
            TypeDescriptor::VarLenUnicode => {
                in_slabs::<VarLenUnicode>(from, rows, |s| text(s.as_bytes()))
            }
            TypeDescriptor::VarLenAscii => {
                in_slabs::<VarLenAscii>(from, rows, |s| text(s.as_bytes()))
            }
            TypeDescriptor::FixedAscii(n) => {
                fixed!(FixedAscii, n, 8 16 32 64 128 256 1024 4096 16384 65536)
            }
            TypeDescriptor::FixedUnicode(n) => {
                fixed!(FixedUnicode, n, 8 16 32 64 128 256 1024 4096 16384 65536)
            }
            other => return Err(self.wrong(location, other.to_string(), "text")),
        };
        texts.map_err(self.at(location))
    }
}

/// Reads one-dimensional datasets a slab at a time, everything else at once.
fn in_slabs<T: H5Type>(
    from: &Container,
    rows: Option<usize>,
    convert: impl Fn(&T) -> String,
) -> hdf5::Result<Vec<String>> {
    let slab = BUFFER / size_of::<T>();
    match rows {
        Some(n) if from.ndim() == 1 && (n > slab || n < from.size()) => {
            let mut texts = Vec::with_capacity(n);
            for start in (0..n).step_by(slab) {
                let part = from.read_slice_1d::<T, _>(start..(start + slab).min(n))?;
                texts.extend(part.iter().map(&convert));
            }
            Ok(texts)
        }
        _ => Ok(from.read_raw::<T>()?.iter().map(convert).collect()),
    }
}

/// Bytes that are not UTF-8 (Latin-1 of old R files) are replaced rather than refused.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
