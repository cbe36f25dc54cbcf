//! Parameters of which a part is trained.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use candle_core::Tensor;

use super::Param;
use crate::{Error, Result};

/// Which entries of a parameter are trained, where not all are.
#[derive(Debug)]
pub(super) struct Partial {
    /// 1 for those, 0 for the others, in the layout the parameter is kept in.
    mask: Tensor,
    /// No slice before this one along the first dimension is trained.
    first: usize,
}

impl Param {
    /// Trains only some slices along dimension `dim` of the layout in files (the columns of a PyTorch weight have `dim` 1);
    /// the others keep their values. Without any slice it still has a gradient, which is all zero.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if there is no such dimension or slice, or it is a buffer.
    pub fn train_only(&self, dim: usize, slices: &[Range<usize>]) -> Result<()> {
        let dims = self.export_shape();
        let wrong = |reason: String| Error::InvalidSetting {
            name: "trained slices",
            value: format!("{slices:?} of dimension {dim}"),
            reason,
        };
        let len = dims
            .get(dim)
            .copied()
            .filter(|_| !self.is_buffer)
            .ok_or_else(|| wrong(format!("{} is a buffer or of shape {dims:?}", self.name)))?;
        if slices.iter().any(|s| s.end > len) {
            return Err(wrong(format!("{} has {len}", self.name)));
        }
        let trained = |i: usize| slices.iter().any(|s| s.contains(&i));
        let line: Vec<f64> = (0..len).map(|i| f64::from(u8::from(trained(i)))).collect();
        let mut shape = vec![1; dims.len()];
        shape[dim] = len;
        let value = self.frozen.clone();
        let line = Tensor::from_vec(line, len, value.device())?.to_dtype(value.dtype())?;
        let mask = line.reshape(shape)?.broadcast_as(dims)?;
        let mask = if self.transposed { mask.t()? } else { mask };
        // Kept transposed, the last dimension comes first.
        let leads = if self.transposed { dim == 1 } else { dim == 0 };
        let first = match (leads, (0..len).find(|&i| trained(i))) {
            (true, first) => first.unwrap_or(len),
            (false, _) => 0,
        };
        let partial = Partial {
            mask: mask.contiguous()?,
            first,
        };
        self.trainable.store(true, Ordering::Relaxed);
        *self.partial.write().unwrap_or_else(PoisonError::into_inner) = Some(partial);
        Ok(())
    }

    /// What gradients are multiplied by where only a part is trained, in the layout the parameter is kept in.
    pub fn mask(&self) -> Option<Tensor> {
        let partial = self.partial.read().unwrap_or_else(PoisonError::into_inner);
        partial.as_ref().map(|p| p.mask.clone())
    }

    /// How many slices along the first dimension, as the parameter is kept, come before the first that is trained; 0 if all
    /// are trained.
    pub(crate) fn frozen_lead(&self) -> usize {
        let partial = self.partial.read().unwrap_or_else(PoisonError::into_inner);
        partial.as_ref().map_or(0, |p| p.first)
    }
}
