//! Chunked arrays read and inflated by all threads. libhdf5 would do it chunk after chunk under its lock.

use hdf5::Dataset;
use hdf5::dataset::ChunkInfo;
use hdf5::datatype::ByteOrder;
use hdf5::filters::Filter;
use hdf5::types::H5Type;
use rayon::prelude::*;

use super::H5;
use super::bytes::{RawFile, undo};
use crate::Result;

/// Listing the chunks takes the square of their number.
const MOST_CHUNKS: usize = 5000;
/// Fewer values are left to libhdf5.
const FEW: usize = 1 << 14;

/// Four little-endian bytes in the file are this in memory.
pub(super) trait Plain: H5Type + Copy + Default + Send {
    fn from_bytes(bytes: [u8; 4]) -> Self;
}

impl Plain for f32 {
    fn from_bytes(bytes: [u8; 4]) -> Self {
        Self::from_le_bytes(bytes)
    }
}

impl Plain for i32 {
    fn from_bytes(bytes: [u8; 4]) -> Self {
        Self::from_le_bytes(bytes)
    }
}

impl H5 {
    /// All values of a one-dimensional array; `None` if it is not chunked, packed and typed in the usual way, so that
    /// libhdf5 has to read it.
    pub(super) fn parallel<T: Plain>(&self, from: &Dataset) -> Result<Option<Vec<T>>> {
        let Some((filters, chunks, each)) = self.usual_chunks::<T>(from) else {
            return Ok(None);
        };
        let n = self.length_1d(from)?;
        let file = RawFile::open(self)?;
        let mut values = vec![T::default(); n];
        values
            .par_chunks_mut(each)
            .zip(&chunks)
            .try_for_each(|(target, chunk)| {
                let packed = file.read_chunk(chunk.addr, chunk.size as usize)?;
                let plain = undo(&filters, chunk.filter_mask, packed, 4, each * 4)?;
                if plain.len() < target.len() * 4 {
                    return Err(format!("a chunk of {} bytes", plain.len()));
                }
                for (value, bytes) in target.iter_mut().zip(plain.as_chunks::<4>().0) {
                    *value = T::from_bytes(*bytes);
                }
                Ok(())
            })
            .map_err(|e: String| {
                self.wrong(&from.name(), e, "whole chunks; the file is damaged")
            })?;
        Ok(Some(values))
    }

    /// The filters, the chunks in order without a gap, and the values of each.
    fn usual_chunks<T: Plain>(
        &self,
        from: &Dataset,
    ) -> Option<(Vec<Filter>, Vec<ChunkInfo>, usize)> {
        let dtype = from.dtype().ok()?;
        let [n] = from.shape()[..] else { return None };
        let [each] = from.chunk()?[..] else {
            return None;
        };
        let count = from.num_chunks()?;
        let filters = from.filters();
        let known = |f: &Filter| matches!(f, Filter::Deflate(_) | Filter::Shuffle);
        let usual = n >= FEW
            && (1..=1 << 26).contains(&each)
            && count <= MOST_CHUNKS
            && count == n.div_ceil(each)
            && filters.iter().all(known)
            && dtype.is::<T>()
            && dtype.byte_order() == ByteOrder::LittleEndian;
        if !usual {
            return None;
        }
        let chunks: Vec<ChunkInfo> = (0..count)
            .map(|k| from.chunk_info(k))
            .collect::<Option<_>>()?;
        let in_order = chunks
            .iter()
            .enumerate()
            .all(|(k, c)| c.offset[..] == [(k * each) as u64]);
        in_order.then_some((filters, chunks, each))
    }
}
