//! The stored bytes of a dataset, read past libhdf5: its safe interface reads records only of types known when the
//! program is compiled.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Mutex;

use hdf5::Dataset;
use hdf5::dataset::Layout;
use hdf5::filters::Filter;

use super::H5;
use crate::{Error, Result};

impl H5 {
    /// The values of a one-dimensional dataset as they lie in the file, after undoing gzip and shuffle. `width` is the
    /// number of bytes that each takes there.
    pub(crate) fn bytes(&self, of: &Dataset, width: usize) -> Result<Vec<u8>> {
        let at = of.name();
        let total = self.length_1d(of)?.saturating_mul(width);
        if total == 0 {
            return Ok(Vec::new());
        }
        let file = RawFile::open(self)?;
        match of.layout() {
            Layout::Contiguous => {
                let offset = of
                    .offset()
                    .ok_or_else(|| self.wrong(&at, "no stored values", "values"))?;
                file.read(offset, total)
                    .map_err(|e| self.wrong(&at, e, "stored values"))
            }
            Layout::Chunked => self.chunks(of, &file, total, width),
            other => Err(self.wrong(&at, format!("records stored {other:?}"), "contiguous or chunked records")),
        }
    }

    fn chunks(&self, of: &Dataset, file: &RawFile, total: usize, width: usize) -> Result<Vec<u8>> {
        let at = of.name();
        let filters = of.filters();
        let each = of.chunk().and_then(|c| c.first().copied()).unwrap_or(0);
        let full = each.saturating_mul(width);
        let count = of.num_chunks().unwrap_or(0);
        let mut bytes = vec![0u8; total];
        if full > (1 << 31) {
            return Err(self.wrong(&at, format!("chunks of {full} bytes"), "chunks below 2 GiB"));
        }
        for k in 0..count {
            let chunk = of
                .chunk_info(k)
                .ok_or_else(|| self.wrong(&at, format!("no chunk {k}"), format!("{count} chunks")))?;
            let packed = file
                .read(chunk.addr, chunk.size as usize)
                .map_err(|e| self.wrong(&at, e, "a stored chunk"))?;
            let plain = undo(&filters, chunk.filter_mask, packed, width, full)
                .map_err(|e| self.wrong(&at, e, "a chunk packed by gzip, with or without shuffle"))?;
            let start = chunk.offset.first().map_or(0, |&o| o as usize) * width;
            let length = plain.len().min(total.saturating_sub(start));
            if let Some(target) = bytes.get_mut(start..start + length) {
                target.copy_from_slice(&plain[..length]);
            }
        }
        Ok(bytes)
    }
}

/// Undoes the filters of a chunk, last one first. `full` is the size of a whole chunk.
fn undo(
    filters: &[Filter],
    mask: u32,
    mut bytes: Vec<u8>,
    width: usize,
    full: usize,
) -> Result<Vec<u8>, String> {
    for (k, filter) in filters.iter().enumerate().rev() {
        if mask & (1 << k) != 0 {
            continue;
        }
        bytes = match filter {
            Filter::Deflate(_) => {
                let mut plain = Vec::with_capacity(full);
                flate2::read::ZlibDecoder::new(&bytes[..])
                    .take(full as u64)
                    .read_to_end(&mut plain)
                    .map_err(|e| e.to_string())?;
                plain
            }
            Filter::Shuffle => unshuffle(&bytes, width),
            Filter::Fletcher32 => {
                bytes.truncate(bytes.len().saturating_sub(4));
                bytes
            }
            other => return Err(format!("the filter {other:?}")),
        };
    }
    Ok(bytes)
}

/// Puts the bytes of each value together again.
fn unshuffle(bytes: &[u8], width: usize) -> Vec<u8> {
    let n = bytes.len() / width.max(1);
    let mut plain = bytes.to_vec();
    for k in 0..width {
        for i in 0..n {
            plain[i * width + k] = bytes[k * n + i];
        }
    }
    plain
}

/// The file itself, beside libhdf5's view of it.
pub(crate) struct RawFile {
    file: Mutex<File>,
    length: u64,
    base: u64,
}

impl RawFile {
    pub(crate) fn open(h5: &H5) -> Result<Self> {
        Ok(Self {
            file: Mutex::new(File::open(&h5.path).map_err(Error::io(&h5.path))?),
            length: h5.length,
            base: h5.file.userblock(),
        })
    }

    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        let end = offset
            .checked_add(self.base)
            .and_then(|o| o.checked_add(length as u64));
        if end.is_none_or(|e| e > self.length) {
            return Err(format!("{length} bytes at {offset}, beyond the end of the file"));
        }
        let mut bytes = vec![0u8; length];
        let mut file = self.file.lock().map_err(|e| e.to_string())?;
        file.seek(SeekFrom::Start(offset + self.base))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}

/// Variable-length texts lie in collections; a record holds the address of one and the number of the text in it.
pub(crate) struct Heap {
    file: RawFile,
    collections: HashMap<u64, HashMap<u16, Vec<u8>>>,
}

impl Heap {
    pub(crate) fn new(file: RawFile) -> Self {
        Self {
            file,
            collections: HashMap::new(),
        }
    }

    /// The text that 16 bytes of a record refer to: length, address, number.
    pub(crate) fn text(&mut self, reference: &[u8]) -> Result<String, String> {
        let length = le(reference, 0, 4)? as usize;
        let address = le(reference, 4, 8)?;
        let number = le(reference, 12, 4)? as u16;
        if length == 0 || address == 0 || address == u64::MAX {
            return Ok(String::new());
        }
        if !self.collections.contains_key(&address) {
            let collection = self.collection(address)?;
            self.collections.insert(address, collection);
        }
        let bytes = self
            .collections
            .get(&address)
            .and_then(|c| c.get(&number))
            .and_then(|b| b.get(..length))
            .ok_or_else(|| format!("no text {number} at {address}"))?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(length);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// "GCOL", version, 3 reserved, size; then objects: number, references, 4 reserved, size, bytes padded to 8.
    fn collection(&self, address: u64) -> Result<HashMap<u16, Vec<u8>>, String> {
        let head = self.file.read(address, 16)?;
        let size = le(&head, 8, 8)?;
        if !head.starts_with(b"GCOL") || size > self.file.length {
            return Err(format!("no global heap at {address}"));
        }
        let bytes = self.file.read(address, size as usize)?;
        let mut objects = HashMap::new();
        let mut at = 16usize;
        while at + 16 <= bytes.len() {
            let number = le(&bytes, at, 2)? as u16;
            let size = usize::try_from(le(&bytes, at + 8, 8)?).map_err(|e| e.to_string())?;
            if number == 0 {
                break;
            }
            let end = size
                .checked_add(at + 16)
                .filter(|&e| e <= bytes.len())
                .ok_or("an object beyond its heap")?;
            objects.insert(number, bytes[at + 16..end].to_vec());
            at = end.next_multiple_of(8);
        }
        Ok(objects)
    }
}

/// A little-endian unsigned integer.
fn le(bytes: &[u8], at: usize, length: usize) -> Result<u64, String> {
    let part = bytes
        .get(at..at + length)
        .ok_or("bytes that end too early")?;
    Ok(part
        .iter()
        .rev()
        .fold(0u64, |value, &b| value << 8 | u64::from(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_bytes_come_back() {
        // Two values of three bytes each, and one byte that is left over.
        assert_eq!(unshuffle(b"adbecfz", 3), b"abcdefz");
    }
}
