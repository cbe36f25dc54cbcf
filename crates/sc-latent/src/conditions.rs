//! What the decoder is told about each cell.

use candle_core::{DType, Device, Tensor};

use crate::{Minibatch, Result};

/// What the decoder knows of each cell besides its place in the latent space.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    pub(crate) batch: Vec<u32>,
    pub(crate) labels: Vec<u32>,
    pub(crate) categorical: Vec<Vec<u32>>,
    /// `[N, K]`.
    pub(crate) continuous: Option<Tensor>,
}

impl Conditions {
    /// Those of the cells of a minibatch, once for each of `repeats` samples.
    pub(crate) fn of(
        batch: &Minibatch,
        dtype: DType,
        device: &Device,
        repeats: usize,
    ) -> Result<Self> {
        let tile = |v: &[u32]| v.repeat(repeats);
        let (n, k) = batch.continuous.dim();
        let continuous = if k == 0 {
            None
        } else {
            let values: Vec<f32> = batch.continuous.iter().copied().collect();
            let one = Tensor::from_vec(values, (n, k), device)?.to_dtype(dtype)?;
            Some(if repeats == 1 {
                one
            } else {
                one.repeat((repeats, 1))?
            })
        };
        Ok(Self {
            batch: tile(&batch.batch),
            labels: tile(&batch.labels),
            categorical: batch.categorical.iter().map(|c| tile(c)).collect(),
            continuous,
        })
    }
}
