//! Tensors: strided views of a shared storage.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::dtype::DType;
use super::error::{Error, Result};

/// A torch tensor: numbers of one type, a shape, and how they lie in a storage that other tensors may share.
#[derive(Clone)]
pub struct TorchTensor {
    dtype: DType,
    shape: Vec<usize>,
    stride: Vec<usize>,
    offset: usize,
    numel: usize,
    storage: Arc<Vec<u8>>,
}

impl TorchTensor {
    /// A contiguous tensor over little-endian numbers, the last axis fastest.
    ///
    /// # Errors
    /// [`Error::Conversion`] if `bytes` does not hold exactly the numbers that `shape` asks for.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Result<Self> {
        let wanted = element_count(shape).and_then(|count| count.checked_mul(dtype.size()));
        if wanted != Some(bytes.len()) {
            return Err(Error::conversion(format!(
                "a {dtype} tensor of shape {shape:?} cannot be made of {} bytes",
                bytes.len()
            )));
        }
        Self::view(
            dtype,
            shape.to_vec(),
            contiguous_stride(shape),
            0,
            Arc::new(bytes),
        )
        .map_err(Error::conversion)
    }

    /// A contiguous `f32` tensor.
    ///
    /// # Errors
    /// [`Error::Conversion`] if there are more or fewer values than `shape` asks for.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Self> {
        Self::from_bytes(
            DType::F32,
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    /// A contiguous `f64` tensor.
    ///
    /// # Errors
    /// [`Error::Conversion`] if there are more or fewer values than `shape` asks for.
    pub fn from_f64(shape: &[usize], values: &[f64]) -> Result<Self> {
        Self::from_bytes(
            DType::F64,
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    /// A contiguous `i64` tensor.
    ///
    /// # Errors
    /// [`Error::Conversion`] if there are more or fewer values than `shape` asks for.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Result<Self> {
        Self::from_bytes(
            DType::I64,
            shape,
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
    }

    /// A view of a storage; `stride` and `offset` count numbers, not bytes.
    pub(super) fn view(
        dtype: DType,
        shape: Vec<usize>,
        stride: Vec<usize>,
        offset: usize,
        storage: Arc<Vec<u8>>,
    ) -> std::result::Result<Self, String> {
        if shape.len() != stride.len() {
            return Err(format!(
                "shape {shape:?} and stride {stride:?} differ in length"
            ));
        }
        let held = storage.len() / dtype.size();
        let numel = element_count(&shape).ok_or_else(|| format!("shape {shape:?} is too large"))?;
        // The largest position that the view touches.
        let last = shape
            .iter()
            .zip(&stride)
            .try_fold(offset, |at, (&extent, &step)| {
                extent
                    .saturating_sub(1)
                    .checked_mul(step)
                    .and_then(|span| at.checked_add(span))
            });
        match last {
            Some(last) if numel == 0 || last < held => {}
            _ => {
                return Err(format!(
                    "a view of shape {shape:?}, stride {stride:?} and offset {offset} leaves its storage of {held} numbers"
                ));
            }
        }
        let offset = if numel == 0 { 0 } else { offset };
        Ok(Self {
            dtype,
            shape,
            stride,
            offset,
            numel,
            storage,
        })
    }

    /// The type of the numbers.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extent of each axis; empty for a single number.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many numbers the tensor has.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.numel
    }

    pub(super) fn stride(&self) -> &[usize] {
        &self.stride
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn storage(&self) -> &Arc<Vec<u8>> {
        &self.storage
    }

    /// The numbers as little-endian bytes, the last axis fastest; borrowed where they already lie so.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        let width = self.dtype.size();
        let start = self.offset * width;
        if self.numel == 0 {
            return Cow::Borrowed(&[]);
        }
        let contiguous = contiguous_stride(&self.shape);
        let in_place = self
            .shape
            .iter()
            .zip(self.stride.iter().zip(&contiguous))
            .all(|(&extent, (have, want))| extent == 1 || have == want);
        if in_place && let Some(bytes) = self.storage.get(start..start + self.numel * width) {
            return Cow::Borrowed(bytes);
        }
        let mut gathered = Vec::with_capacity(self.numel * width);
        let mut index = vec![0_usize; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..self.numel {
            // `view` has checked that every position lies inside the storage.
            gathered.extend_from_slice(
                self.storage
                    .get(at * width..(at + 1) * width)
                    .unwrap_or(&[]),
            );
            at = self.advance(&mut index, at);
        }
        Cow::Owned(gathered)
    }

    /// Moves `index` to the next element, and returns its position in the storage.
    fn advance(&self, index: &mut [usize], mut at: usize) -> usize {
        for ((place, &extent), &step) in index.iter_mut().zip(&self.shape).zip(&self.stride).rev() {
            if *place + 1 < extent {
                *place += 1;
                return at + step;
            }
            at -= *place * step;
            *place = 0;
        }
        at
    }

    /// The numbers as `f32`, the last axis fastest; wider types are rounded.
    #[must_use]
    pub fn to_f32_vec(&self) -> Vec<f32> {
        let bytes = self.bytes();
        if self.dtype == DType::F32 {
            return bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|word| f32::from_le_bytes(*word))
                .collect();
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding to f32 is what was asked for"
        )]
        bytes
            .chunks_exact(self.dtype.size())
            .map(|number| self.dtype.decode(number).to_f64() as f32)
            .collect()
    }

    /// The numbers as `f64`, the last axis fastest; 64-bit integers above 2^53 are rounded.
    #[must_use]
    pub fn to_f64_vec(&self) -> Vec<f64> {
        self.bytes()
            .chunks_exact(self.dtype.size())
            .map(|number| self.dtype.decode(number).to_f64())
            .collect()
    }

    /// The numbers as `i64`, the last axis fastest; truth values are 0 and 1.
    ///
    /// # Errors
    /// [`Error::Conversion`] if the tensor holds floats, or a number above `i64::MAX`.
    pub fn to_i64_vec(&self) -> Result<Vec<i64>> {
        integers(self.dtype, &self.bytes())
    }
}

impl PartialEq for TorchTensor {
    /// Same type, same shape, same bits; where the numbers lie does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl fmt::Debug for TorchTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TorchTensor({} {:?})", self.dtype, self.shape)
    }
}

/// Decodes whole numbers.
pub(super) fn integers(dtype: DType, bytes: &[u8]) -> Result<Vec<i64>> {
    bytes
        .chunks_exact(dtype.size())
        .map(|number| {
            let number = dtype.decode(number);
            number.to_i64().ok_or_else(|| {
                Error::conversion(format!(
                    "wanted whole numbers up to 2^63, found {} in {dtype}",
                    number.to_f64()
                ))
            })
        })
        .collect()
}

/// The number of elements of a shape; `None` if it does not fit.
pub(super) fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .try_fold(1_usize, |count, &extent| count.checked_mul(extent))
}

/// The strides of an array whose last axis is fastest.
pub(super) fn contiguous_stride(shape: &[usize]) -> Vec<usize> {
    let mut stride = vec![1_usize; shape.len()];
    let mut step = 1_usize;
    for (to, &extent) in stride.iter_mut().zip(shape).rev() {
        *to = step;
        step = step.saturating_mul(extent.max(1));
    }
    stride
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn views_honour_offset_and_stride() {
        let storage = TorchTensor::from_f32(&[12], &(0..12_u8).map(f32::from).collect::<Vec<_>>())
            .unwrap()
            .storage;
        let view = |shape: &[usize], stride: &[usize], offset| {
            TorchTensor::view(
                DType::F32,
                shape.to_vec(),
                stride.to_vec(),
                offset,
                storage.clone(),
            )
        };
        // The transpose of the 2 x 3 block that starts at 4 in rows of 3.
        let transposed = view(&[3, 2], &[1, 3], 4).unwrap();
        assert_eq!(transposed.to_f32_vec(), [4.0, 7.0, 5.0, 8.0, 6.0, 9.0]);
        assert_eq!(
            view(&[2, 2], &[0, 1], 10).unwrap().to_f64_vec(),
            [10.0, 11.0, 10.0, 11.0]
        );
        assert_eq!(view(&[], &[], 11).unwrap().to_f32_vec(), [11.0]);
        assert!(view(&[0, 5], &[5, 1], 99).unwrap().to_f32_vec().is_empty());
        assert!(view(&[3, 2], &[1, 3], 7).is_err());
        assert!(view(&[2], &[usize::MAX], 0).is_err());
        assert!(view(&[usize::MAX, 3], &[0, 0], 0).is_err());
    }

    #[test]
    fn integers_refuse_floats() {
        assert!(
            TorchTensor::from_f32(&[1], &[1.0])
                .unwrap()
                .to_i64_vec()
                .is_err()
        );
        assert_eq!(
            TorchTensor::from_i64(&[2], &[-1, 1 << 60])
                .unwrap()
                .to_i64_vec()
                .unwrap(),
            [-1, 1 << 60]
        );
        assert!(
            TorchTensor::from_bytes(DType::U64, &[1], vec![0xff; 8])
                .unwrap()
                .to_i64_vec()
                .is_err()
        );
        assert!(TorchTensor::from_f32(&[3], &[1.0]).is_err());
    }
}
