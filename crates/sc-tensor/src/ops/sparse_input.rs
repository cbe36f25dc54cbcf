use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use sc_data::Csr;

use crate::Result;
use crate::pool::{self, Pooled};

/// Genes per block: the part of a weight that is worked on at a time stays in the second-level cache.
pub(super) const BLOCK: usize = 256;

/// What is done to each stored count before it enters a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transform {
    /// Nothing.
    Identity,
    /// `log(1 + x)`.
    Log1p,
}

/// A minibatch of counts as the input of a layer, `[N, G]`.
///
/// Holds the transformed values and an index by blocks of genes, computed once and used by every layer that the
/// minibatch enters. Cloning is free.
#[derive(Debug, Clone)]
pub struct SparseInput {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    csr: Arc<Csr>,
    transform: Transform,
    /// The transformed values; `None` means those of `csr`.
    values: Option<Vec<f32>>,
    /// The same in double precision, once somebody computes in it.
    wide: OnceLock<Vec<f64>>,
    /// Where each block of genes starts in each row, `[N, blocks + 1]`.
    starts: OnceLock<Vec<usize>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.values.take().into_iter().for_each(pool::give);
    }
}

impl SparseInput {
    /// The counts under a transform.
    pub fn new(csr: Arc<Csr>, transform: Transform) -> Self {
        let values = match transform {
            Transform::Identity => None,
            Transform::Log1p => Some(log1p(csr.data())),
        };
        Self {
            inner: Arc::new(Inner {
                csr,
                transform,
                values,
                wide: OnceLock::new(),
                starts: OnceLock::new(),
            }),
        }
    }

    /// The counts as they are.
    pub fn counts(csr: Arc<Csr>) -> Self {
        Self::new(csr, Transform::Identity)
    }

    /// `log(1 + counts)`.
    pub fn log1p(csr: Arc<Csr>) -> Self {
        Self::new(csr, Transform::Log1p)
    }

    /// The counts, not transformed.
    pub fn csr(&self) -> &Arc<Csr> {
        &self.inner.csr
    }

    /// The transform.
    pub fn transform(&self) -> Transform {
        self.inner.transform
    }

    /// The transformed values, in the order of the stored entries.
    pub fn values(&self) -> &[f32] {
        self.inner
            .values
            .as_deref()
            .unwrap_or_else(|| self.inner.csr.data())
    }

    /// The transformed values in double precision: transformed after widening, not before.
    fn wide(&self) -> &[f64] {
        self.inner.wide.get_or_init(|| {
            let counts = self.csr().data().iter().map(|&v| f64::from(v));
            match self.transform() {
                Transform::Identity => counts.collect(),
                Transform::Log1p => counts.map(f64::ln_1p).collect(),
            }
        })
    }

    /// Number of rows (cells).
    pub fn n_rows(&self) -> usize {
        self.inner.csr.n_rows()
    }

    /// Number of columns (genes).
    pub fn n_cols(&self) -> usize {
        self.inner.csr.n_cols()
    }

    /// The transformed values as a dense `[N, G]` tensor.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn to_dense(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let shape = (self.n_rows(), self.n_cols());
        Ok(if dtype == DType::F64 {
            Tensor::from_vec(self.dense(self.wide()), shape, device)?
        } else {
            Tensor::from_vec(self.dense(self.values()), shape, device)?.to_dtype(dtype)?
        })
    }

    fn dense<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let width = self.n_cols();
        let mut dense = vec![T::default(); self.n_rows() * width];
        let mut entries = self.csr().indices().iter().zip(values);
        for (i, w) in self.csr().indptr().windows(2).enumerate() {
            for (&column, &value) in entries.by_ref().take(w[1] - w[0]) {
                dense[i * width + column as usize] = value;
            }
        }
        dense
    }

    /// Number of blocks of [`BLOCK`] genes.
    pub(super) fn n_blocks(&self) -> usize {
        self.n_cols().div_ceil(BLOCK)
    }

    /// The stored entries of row `i` in block `k`.
    #[inline(always)]
    pub(super) fn block(&self, i: usize, k: usize) -> std::ops::Range<usize> {
        let starts = self.inner.starts.get_or_init(|| self.find_starts());
        let at = i * (self.n_blocks() + 1) + k;
        starts[at]..starts[at + 1]
    }

    fn find_starts(&self) -> Vec<usize> {
        let per_row = self.n_blocks() + 1;
        let (indptr, indices) = (self.csr().indptr(), self.csr().indices());
        let mut starts = vec![0usize; self.n_rows() * per_row];
        let fill = |(i, starts): (usize, &mut [usize])| {
            let (mut at, end) = (indptr[i], indptr[i + 1]);
            for (k, start) in starts.iter_mut().enumerate() {
                let first = k * BLOCK;
                at += indices[at..end].partition_point(|&c| (c as usize) < first);
                *start = at;
            }
        };
        if self.csr().n_stored() < crate::kernel::PARALLEL_FROM {
            starts.chunks_exact_mut(per_row).enumerate().for_each(fill);
        } else {
            let rows = starts.par_chunks_exact_mut(per_row).with_min_len(8);
            rows.enumerate().for_each(fill);
        }
        starts
    }
}

/// The stored values in the precision of the computation.
pub(super) trait Stored: Pooled {
    /// Those of `x`.
    fn stored(x: &SparseInput) -> &[Self];
}

impl Stored for f32 {
    fn stored(x: &SparseInput) -> &[Self] {
        x.values()
    }
}

impl Stored for f64 {
    fn stored(x: &SparseInput) -> &[Self] {
        x.wide()
    }
}

/// The whole numbers `1..COUNTS` have at most nine bits after the first, so their bits as `f32` say where in a table of
/// logarithms they are: no conversion to an integer is needed, which would cost more than the look-up.
const COUNTS: u32 = 1024;
const UNUSED_BITS: u32 = f32::MANTISSA_DIGITS - 1 - 9;
const FIRST: u32 = 1f32.to_bits() >> UNUSED_BITS;
const LAST: u32 = (COUNTS as f32).to_bits() >> UNUSED_BITS;

/// `log(1 + v)`. Most counts are small whole numbers, whose logarithms are looked up.
fn log1p(values: &[f32]) -> Vec<f32> {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    let of_key = |key| f32::from_bits(key << UNUSED_BITS).ln_1p();
    let table = TABLE.get_or_init(|| (FIRST..LAST).map(of_key).collect());
    let one = |v: f32| {
        let bits = v.to_bits();
        let key = (bits >> UNUSED_BITS).wrapping_sub(FIRST);
        match table.get(key as usize) {
            Some(&log) if bits & ((1 << UNUSED_BITS) - 1) == 0 => log,
            _ => v.ln_1p(),
        }
    };
    let mut out = pool::take::<f32>(values.len());
    crate::kernel::for_chunks(&mut out, |out, first| {
        for (o, &v) in out.iter_mut().zip(&values[first..]) {
            *o = one(v);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_changes_nothing() {
        // Hidden from the compiler, whose own logarithm of a constant may round differently.
        let values = std::hint::black_box([
            0.0f32,
            -0.0,
            1.0,
            1.5,
            2.5,
            1022.0,
            1023.0,
            1023.5,
            1024.0,
            1e9,
            1e-9,
            0.999,
            1.000_001,
            -0.5,
            -1.0,
            -2.0,
            f32::NAN,
            f32::INFINITY,
        ]);
        for (v, got) in values.iter().zip(log1p(&values)) {
            assert_eq!(got.to_bits(), v.ln_1p().to_bits(), "{v}");
        }
    }

    #[test]
    fn blocks_cover_each_row_once() {
        let g = 3 * BLOCK + 7;
        let dense =
            ndarray::Array2::from_shape_fn((5, g), |(i, j)| f32::from(u8::from((i * j) % 3 == 1)));
        let x = SparseInput::counts(Arc::new(Csr::from_dense(&dense)));
        for i in 0..5 {
            let mut at = x.csr().indptr()[i];
            for k in 0..x.n_blocks() {
                let r = x.block(i, k);
                assert_eq!(r.start, at);
                at = r.end;
                let columns = &x.csr().indices()[r];
                assert!(columns.iter().all(|&c| c as usize / BLOCK == k));
            }
            assert_eq!(at, x.csr().indptr()[i + 1]);
        }
    }
}
