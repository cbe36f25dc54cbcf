//! The stored bytes of a dataset, read past libhdf5: its safe interface reads records only of types known when the
//! program is compiled.

use std::collections::HashMap;
use std::fs::File;
#[cfg(not(unix))]
use std::io::Read;
use std::ops::Range;

use hdf5::Dataset;
use hdf5::dataset::Layout;
use hdf5::filters::Filter;

use super::H5;
use crate::{Error, Result};

/// Bytes of a reference to a text of variable length.
const REFERENCE: usize = 16;

impl H5 {
    /// Whether [`H5::bytes`] can read a dataset: how it lies in the file and how it is packed.
    pub(crate) fn has_plain_bytes(&self, of: &Dataset) -> bool {
        let known =
            |f: &Filter| matches!(f, Filter::Deflate(_) | Filter::Shuffle | Filter::Fletcher32);
        let placed = match of.layout() {
            Layout::Contiguous => self.offset(of).is_some(),
            // Listing the chunks takes the square of their number.
            Layout::Chunked => of.ndim() == 1 && of.num_chunks().is_some_and(|n| n <= 2000),
            _ => false,
        };
        placed && of.filters().iter().all(known)
    }

    /// Where the values of a contiguous dataset begin, behind a block of the user's (as in `.h5mu` files).
    pub(super) fn offset(&self, of: &Dataset) -> Option<u64> {
        of.offset()?.checked_sub(self.file.userblock())
    }

    /// The first `n` texts of variable length of a dataset for which [`H5::has_plain_bytes`].
    pub(crate) fn heap_strings(&self, of: &Dataset, n: usize) -> Result<Vec<String>> {
        let mut bytes = self.bytes(of, REFERENCE)?;
        bytes.truncate(n.saturating_mul(REFERENCE));
        let mut heap = Heap::new(RawFile::open(self)?);
        bytes
            .chunks_exact(REFERENCE)
            .map(|reference| heap.text(reference))
            .collect::<Result<_, _>>()
            .map_err(|e| self.wrong(&of.name(), e, "stored texts; the file is damaged"))
    }

    /// The values as they lie in the file, after undoing gzip and shuffle. `width` is the number of bytes that each
    /// takes there. Chunks must have one dimension.
    pub(crate) fn bytes(&self, of: &Dataset, width: usize) -> Result<Vec<u8>> {
        let at = of.name();
        let n: usize = self.shape(of)?.iter().product();
        let total = n.saturating_mul(width);
        if total == 0 {
            return Ok(Vec::new());
        }
        let file = RawFile::open(self)?;
        match of.layout() {
            Layout::Contiguous => {
                let offset = self
                    .offset(of)
                    .ok_or_else(|| self.wrong(&at, "no stored values", "values"))?;
                file.read(offset, total)
                    .map_err(|e| self.wrong(&at, e, "stored values"))
            }
            Layout::Chunked => self.chunks(of, &file, total, width),
            other => Err(self.wrong(
                &at,
                format!("records stored {other:?}"),
                "contiguous or chunked records",
            )),
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
            let chunk = of.chunk_info(k).ok_or_else(|| {
                self.wrong(&at, format!("no chunk {k}"), format!("{count} chunks"))
            })?;
            let packed = file
                .read_chunk(chunk.addr, chunk.size as usize)
                .map_err(|e| self.wrong(&at, e, "a stored chunk"))?;
            let plain = undo(&filters, chunk.filter_mask, packed, width, full).map_err(|e| {
                self.wrong(&at, e, "a chunk packed by gzip, with or without shuffle")
            })?;
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
pub(super) fn undo(
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
                flate2::Decompress::new(true)
                    .decompress_vec(&bytes, &mut plain, flate2::FlushDecompress::Finish)
                    .map_err(|e| e.to_string())?;
                plain
            }
            Filter::Shuffle if width > 1 => unshuffle(&bytes, width),
            Filter::Shuffle => bytes,
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
    match width {
        4 => interleave::<4>(bytes, n, &mut plain),
        8 => interleave::<8>(bytes, n, &mut plain),
        _ => {
            for k in 0..width {
                for i in 0..n {
                    plain[i * width + k] = bytes[k * n + i];
                }
            }
        }
    }
    plain
}

/// `W` runs of `n` bytes become `n` values of `W` bytes. The compiler makes vector instructions of it.
fn interleave<const W: usize>(bytes: &[u8], n: usize, values: &mut [u8]) {
    let runs: [&[u8]; W] = std::array::from_fn(|k| &bytes[k * n..(k + 1) * n]);
    for (i, value) in values.as_chunks_mut::<W>().0.iter_mut().enumerate().take(n) {
        *value = std::array::from_fn(|k| runs[k][i]);
    }
}

/// The file itself, beside libhdf5's view of it.
pub(crate) struct RawFile {
    file: File,
    length: u64,
    /// A block of the user's, before which no address points.
    base: u64,
    /// How much of it the addresses of chunks count.
    in_chunks: u64,
}

impl RawFile {
    pub(crate) fn open(h5: &H5) -> Result<Self> {
        let base = h5.file.userblock();
        // https://github.com/HDFGroup/hdf5/pull/4236
        let counted = hdf5::library_version() >= (1, 14, 4);
        Ok(Self {
            file: File::open(&h5.disk).map_err(Error::io(&h5.disk))?,
            length: h5.length,
            base,
            in_chunks: if counted { base } else { 0 },
        })
    }

    /// All threads read at once.
    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    /// One thread reads at a time, because seeking and reading are two steps.
    #[cfg(not(unix))]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        use std::io::{Seek, SeekFrom};
        static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _turn = TURN
            .lock()
            .map_err(|e| std::io::Error::other(e.to_string()))?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    /// The bytes at the address of a chunk.
    pub(super) fn read_chunk(&self, address: u64, length: usize) -> Result<Vec<u8>, String> {
        match address.checked_sub(self.in_chunks) {
            Some(offset) => self.read(offset, length),
            None => Err(format!("a chunk at {address}, before the data")),
        }
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        let end = offset
            .checked_add(self.base)
            .and_then(|o| o.checked_add(length as u64));
        if end.is_none_or(|e| e > self.length) {
            return Err(format!(
                "{length} bytes at {offset}, beyond the end of the file"
            ));
        }
        let mut bytes = vec![0u8; length];
        self.read_at(&mut bytes, offset + self.base)
            .map_err(|e| e.to_string())?;
        Ok(bytes)
    }
}

/// Variable-length texts lie in collections; a value holds the address of one and the number of the text in it.
///
/// libhdf5 1.10 believes whatever length a damaged collection declares and crashes; here every length is checked.
/// Looking a text up is also several times faster.
pub(crate) struct Heap {
    file: RawFile,
    collections: HashMap<u64, Collection>,
    held: usize,
}

struct Collection {
    bytes: Vec<u8>,
    /// Where each object lies, by its number.
    objects: Vec<Range<usize>>,
}

impl Heap {
    pub(crate) fn new(file: RawFile) -> Self {
        Self {
            file,
            collections: HashMap::new(),
            held: 0,
        }
    }

    /// The text that 16 bytes refer to: length, address, number.
    pub(crate) fn text(&mut self, reference: &[u8]) -> Result<String, String> {
        const HOLD_AT_MOST: usize = 64 << 20;
        let length = le(reference, 0, 4)? as usize;
        let address = le(reference, 4, 8)?;
        let number = le(reference, 12, 4)? as usize;
        if length == 0 || address == 0 || address == u64::MAX {
            return Ok(String::new());
        }
        if !self.collections.contains_key(&address) {
            if self.held > HOLD_AT_MOST {
                self.collections.clear();
                self.held = 0;
            }
            let collection = self.collection(address)?;
            self.held += collection.bytes.len();
            self.collections.insert(address, collection);
        }
        let bytes = self
            .collections
            .get(&address)
            .and_then(|c| c.bytes.get(c.objects.get(number)?.clone()))
            .and_then(|b| b.get(..length))
            .ok_or_else(|| format!("no text {number} of {length} bytes at {address}"))?;
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(length);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// "GCOL", version, 3 reserved, size; then objects: number, references, 4 reserved, size, bytes padded to 8.
    fn collection(&self, address: u64) -> Result<Collection, String> {
        let head = self.file.read(address, 16)?;
        let size = le(&head, 8, 8)?;
        if !head.starts_with(b"GCOL") || size > self.file.length {
            return Err(format!("no collection of texts at {address}"));
        }
        let bytes = self.file.read(address, size as usize)?;
        let mut objects = Vec::new();
        let mut at = 16usize;
        while at + 16 <= bytes.len() {
            let number = le(&bytes, at, 2)? as usize;
            let size = usize::try_from(le(&bytes, at + 8, 8)?).map_err(|e| e.to_string())?;
            if number == 0 {
                break;
            }
            let end = size
                .checked_add(at + 16)
                .filter(|&e| e <= bytes.len())
                .ok_or("a text beyond its collection")?;
            if objects.len() <= number {
                objects.resize(number + 1, 0..0);
            }
            objects[number] = at + 16..end;
            at = end.next_multiple_of(8);
        }
        Ok(Collection { bytes, objects })
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
        assert_eq!(unshuffle(b"aebfcgdhz", 4), b"abcdefghz");
        let apart: Vec<u8> = (0..24).map(|i| (i % 3) * 8 + i / 3).collect();
        assert_eq!(unshuffle(&apart, 8), (0..24).collect::<Vec<u8>>());
    }
}
