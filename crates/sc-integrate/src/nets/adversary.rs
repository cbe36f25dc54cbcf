//! The adversary, which guesses from an embedding which modality it was made from.

use candle_core::Tensor;
use sc_model::layers::Linear;
use sc_model::{Mode, ParamBuilder};
use sc_tensor::ops;

use super::{SLOPE, dropped};
use crate::registry::Registry;
use crate::{ClueConfig, Result};

/// Blocks of linear, leaky ReLU and dropout on the whole embedding, then a logit of each modality.
#[derive(Debug, Clone)]
pub(crate) struct Adversary {
    blocks: Vec<(String, Linear)>,
    pred: Linear,
    n_batches: usize,
    sees_batch: bool,
    dropout: f64,
}

impl Adversary {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ClueConfig, r: &Registry) -> Result<Self> {
        let n_batches = r.n_batches();
        let extra = if c.adversary_sees_batch { n_batches } else { 0 };
        let mut width = c.latent_dim * r.n_modalities() + extra;
        let blocks = (0..c.adversary_depth).map(|i| {
            let linear = Linear::new(&p.pp(format!("linear_{i}")), width, c.adversary_dim, true)?;
            width = c.adversary_dim;
            Ok((p.path(&format!("dropout_{i}")), linear))
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            blocks,
            pred: Linear::new(&p.pp("pred"), width, r.n_modalities(), true)?,
            n_batches,
            sees_batch: c.adversary_sees_batch,
            dropout: c.dropout,
        })
    }

    /// Logits, `[rows, modalities]`. Frozen, it has gradients for its input only.
    pub(crate) fn forward(
        &self,
        u: &Tensor,
        batch: &[u32],
        frozen: bool,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let weights = if frozen { Mode::eval() } else { *mode };
        let mut h = match self.sees_batch {
            true => {
                let one_hot = ops::one_hot(batch, self.n_batches, u.dtype(), u.device())?;
                Tensor::cat(&[u, &one_hot], 1)?
            }
            false => u.clone(),
        };
        for (name, linear) in &self.blocks {
            let y = ops::leaky_relu(&linear.forward(&h, &weights)?, SLOPE)?;
            h = dropped(&y, self.dropout, name, mode)?;
        }
        Ok(self.pred.forward(&h, &weights)?)
    }
}
