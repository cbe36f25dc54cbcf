//! Parts of a long array of numbers, read past libhdf5 by all threads: neither its lock nor its cache of chunks is in the way.

use std::ops::Range;

use hdf5::Dataset;
use hdf5::dataset::Layout;
use hdf5::datatype::ByteOrder;
use hdf5::filters::Filter;
use rayon::prelude::*;

use super::bytes::{RawFile, undo};
use super::{H5, Kind};
use crate::Result;

/// Listing the chunks takes the square of their number.
const MOST_CHUNKS: usize = 50_000;
/// The largest chunk, in bytes.
const LARGEST_CHUNK: usize = 1 << 28;
/// Numbers of an unpacked array that are read by one thread at a time.
const PIECE: usize = 1 << 18;
/// Unwanted numbers between two wanted ones that are read rather than skipped.
const GAP: usize = 1 << 12;

/// A one-dimensional array of which any ranges can be read.
pub(crate) struct Entries {
    file: RawFile,
    at: String,
    width: usize,
    kind: Kind,
    place: Place,
}

enum Place {
    /// The offset of the first number in the file.
    Contiguous(u64),
    Chunked {
        filters: Vec<Filter>,
        /// Address, stored bytes and filter mask of each chunk.
        chunks: Vec<(u64, usize, u32)>,
        /// Numbers in a chunk.
        each: usize,
    },
}

/// A number that is wanted of whatever is stored.
pub(crate) trait Entry: Copy + Default + Send {
    fn of_float(value: f64) -> Self;
    fn of_int(value: i64) -> Self;
}

impl Entry for f32 {
    fn of_float(value: f64) -> Self {
        value as Self
    }
    fn of_int(value: i64) -> Self {
        value as Self
    }
}

/// A column; what is negative or too large becomes one that is refused later.
impl Entry for u32 {
    fn of_float(_: f64) -> Self {
        Self::MAX
    }
    fn of_int(value: i64) -> Self {
        Self::try_from(value).unwrap_or(Self::MAX)
    }
}

/// Ranges that lie in one chunk or near each other, and how many numbers they have in all.
struct Piece {
    span: Range<usize>,
    wanted: Vec<Range<usize>>,
    length: usize,
}

impl H5 {
    /// `None` if the array is not stored in one of the usual ways, so that libhdf5 has to read it.
    pub(crate) fn entries(&self, of: &Dataset) -> Result<Option<Entries>> {
        let at = of.name();
        let kind = self.kind(of, &at)?;
        let width = match kind {
            Kind::Int(w @ (1 | 2 | 4 | 8), _) | Kind::Float(w @ (4 | 8)) => w,
            _ => return Ok(None),
        };
        let little = of
            .dtype()
            .is_ok_and(|t| width == 1 || t.byte_order() == ByteOrder::LittleEndian);
        if !little {
            return Ok(None);
        }
        let n = self.length_1d(of)?;
        let place = match of.layout() {
            Layout::Contiguous => self.offset(of).map(Place::Contiguous),
            Layout::Chunked => chunks(of, n, width),
            _ => None,
        };
        let Some(place) = place else { return Ok(None) };
        let file = RawFile::open(self)?;
        Ok(Some(Entries {
            file,
            at,
            width,
            kind,
            place,
        }))
    }
}

fn chunks(of: &Dataset, n: usize, width: usize) -> Option<Place> {
    let [each] = of.chunk()?[..] else { return None };
    let count = of.num_chunks()?;
    let filters = of.filters();
    let known = |f: &Filter| matches!(f, Filter::Deflate(_) | Filter::Shuffle);
    let usual = each > 0
        && each.checked_mul(width).is_some_and(|b| b <= LARGEST_CHUNK)
        && count <= MOST_CHUNKS
        && count == n.div_ceil(each)
        && filters.iter().all(known);
    if !usual {
        return None;
    }
    let mut chunks = Vec::with_capacity(count);
    for k in 0..count {
        let chunk = of.chunk_info(k)?;
        if chunk.offset[..] != [(k * each) as u64] {
            return None;
        }
        chunks.push((chunk.addr, chunk.size as usize, chunk.filter_mask));
    }
    Some(Place::Chunked {
        filters,
        chunks,
        each,
    })
}

impl Entries {
    /// The numbers of ascending ranges that do not overlap, one behind the other. `h5` is the file they are in, for messages.
    pub(crate) fn read<T: Entry>(&self, h5: &H5, ranges: &[Range<usize>]) -> Result<Vec<T>> {
        let pieces = self.pieces(ranges);
        let total = pieces.iter().map(|p| p.length).sum();
        let mut values = vec![T::default(); total];
        let mut targets = Vec::with_capacity(pieces.len());
        let mut rest = values.as_mut_slice();
        for piece in &pieces {
            let (target, after) = rest.split_at_mut(piece.length);
            targets.push((piece, target));
            rest = after;
        }
        targets
            .into_par_iter()
            .try_for_each(|(piece, target)| self.fill(piece, target))
            .map_err(|e| h5.wrong(&self.at, e, "stored numbers; the file is damaged"))?;
        Ok(values)
    }

    /// Reads the stored bytes of ranges and forgets them, so that the system has them at hand when they are asked for.
    pub(crate) fn fetch(&self, ranges: &[Range<usize>]) {
        for piece in self.pieces(ranges) {
            // Whoever needs them will see what is wrong.
            let _ = self.stored(&piece.span);
        }
    }

    fn pieces(&self, ranges: &[Range<usize>]) -> Vec<Piece> {
        match &self.place {
            Place::Contiguous(_) => near(ranges),
            Place::Chunked { each, .. } => by_chunk(ranges, *each),
        }
    }

    fn fill<T: Entry>(&self, piece: &Piece, target: &mut [T]) -> Result<(), String> {
        let (start, bytes) = self.bytes(&piece.span)?;
        let mut rest = target;
        for range in &piece.wanted {
            let part = (range.start - start) * self.width..(range.end - start) * self.width;
            let (now, after) = rest.split_at_mut(range.len());
            let stored = bytes
                .get(part)
                .ok_or_else(|| format!("{} bytes where more should be", bytes.len()))?;
            self.decode(stored, now);
            rest = after;
        }
        Ok(())
    }

    /// The bytes that hold a piece as they lie in the file, and the filters that are not to be undone.
    fn stored(&self, span: &Range<usize>) -> Result<(Vec<u8>, u32), String> {
        match &self.place {
            Place::Contiguous(offset) => {
                let from = offset + (span.start * self.width) as u64;
                Ok((self.file.read(from, span.len() * self.width)?, 0))
            }
            Place::Chunked { chunks, each, .. } => {
                let (address, size, mask) =
                    *chunks.get(span.start / each).ok_or("no such chunk")?;
                Ok((self.file.read_chunk(address, size)?, mask))
            }
        }
    }

    /// The bytes that hold a piece, unpacked, and the number of the first value in them.
    fn bytes(&self, span: &Range<usize>) -> Result<(usize, Vec<u8>), String> {
        let (stored, mask) = self.stored(span)?;
        match &self.place {
            Place::Contiguous(_) => Ok((span.start, stored)),
            Place::Chunked { filters, each, .. } => {
                let plain = undo(filters, mask, stored, self.width, each * self.width)?;
                Ok((span.start / each * each, plain))
            }
        }
    }

    fn decode<T: Entry>(&self, bytes: &[u8], into: &mut [T]) {
        macro_rules! each {
            ($width:literal, $ty:ty, $convert:expr) => {
                for (value, stored) in into.iter_mut().zip(bytes.as_chunks::<$width>().0) {
                    *value = $convert(<$ty>::from_le_bytes(*stored));
                }
            };
        }
        match self.kind {
            Kind::Float(4) => each!(4, f32, |v| T::of_float(f64::from(v))),
            Kind::Float(_) => each!(8, f64, T::of_float),
            Kind::Int(1, true) => each!(1, i8, |v| T::of_int(i64::from(v))),
            Kind::Int(1, false) => each!(1, u8, |v| T::of_int(i64::from(v))),
            Kind::Int(2, true) => each!(2, i16, |v| T::of_int(i64::from(v))),
            Kind::Int(2, false) => each!(2, u16, |v| T::of_int(i64::from(v))),
            Kind::Int(4, true) => each!(4, i32, |v| T::of_int(i64::from(v))),
            Kind::Int(4, false) => each!(4, u32, |v| T::of_int(i64::from(v))),
            Kind::Int(_, true) => each!(8, i64, T::of_int),
            // Beyond i64: nothing that counts cells or molecules.
            _ => each!(8, u64, |v| T::of_int(i64::try_from(v).unwrap_or(i64::MAX))),
        }
    }
}

/// Ranges that lie near each other, and no more of them than one thread should read.
fn near(ranges: &[Range<usize>]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for range in ranges.iter().filter(|r| !r.is_empty()) {
        let mut start = range.start;
        while start < range.end {
            let part = start..range.end.min(start + PIECE);
            start = part.end;
            match pieces.last_mut() {
                Some(p) if part.start <= p.span.end + GAP && p.length + part.len() <= PIECE => {
                    p.span.end = part.end;
                    p.length += part.len();
                    p.wanted.push(part);
                }
                _ => pieces.push(Piece {
                    span: part.clone(),
                    length: part.len(),
                    wanted: vec![part],
                }),
            }
        }
    }
    pieces
}

/// Ranges cut at the borders of chunks, those of a chunk together.
fn by_chunk(ranges: &[Range<usize>], each: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for range in ranges.iter().filter(|r| !r.is_empty()) {
        let mut start = range.start;
        while start < range.end {
            let part = start..range.end.min((start / each + 1) * each);
            start = part.end;
            match pieces.last_mut() {
                Some(p) if p.span.start / each == part.start / each => {
                    p.span.end = part.end;
                    p.length += part.len();
                    p.wanted.push(part);
                }
                _ => pieces.push(Piece {
                    span: part.clone(),
                    length: part.len(),
                    wanted: vec![part],
                }),
            }
        }
    }
    pieces
}
