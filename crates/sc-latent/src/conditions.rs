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

    /// The cells in the order given, each as often as it is named.
    pub(crate) fn select(&self, rows: &[u32]) -> Result<Self> {
        // The rows were made from the length of these vectors.
        let pick = |v: &[u32]| rows.iter().map(|&r| v[r as usize]).collect::<Vec<_>>();
        Ok(Self {
            batch: pick(&self.batch),
            labels: pick(&self.labels),
            categorical: self.categorical.iter().map(|c| pick(c)).collect(),
            continuous: match &self.continuous {
                Some(t) => {
                    let index = Tensor::from_slice(rows, rows.len(), t.device())?;
                    Some(t.index_select(&index, 0)?)
                }
                None => None,
            },
        })
    }

    /// The cells of all parts, one after the other.
    pub(crate) fn cat(parts: &[&Self]) -> Result<Self> {
        let join = |of: &dyn Fn(&Self) -> &[u32]| {
            parts
                .iter()
                .flat_map(|p| of(p))
                .copied()
                .collect::<Vec<_>>()
        };
        let n_covariates = parts.first().map_or(0, |p| p.categorical.len());
        let continuous: Vec<&Tensor> = parts.iter().filter_map(|p| p.continuous.as_ref()).collect();
        Ok(Self {
            batch: join(&|p| &p.batch),
            labels: join(&|p| &p.labels),
            categorical: (0..n_covariates)
                .map(|k| join(&|p| &p.categorical[k]))
                .collect(),
            continuous: (!continuous.is_empty())
                .then(|| Tensor::cat(&continuous, 0))
                .transpose()?,
        })
    }
}
