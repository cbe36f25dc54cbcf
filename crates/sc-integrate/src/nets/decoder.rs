//! From one subspace to the values of its modality.

use candle_core::Tensor;
use sc_model::layers::{BatchNorm, Linear};
use sc_model::{Mode, ParamBuilder};
use sc_tensor::ops;

use super::head::{Head, Outputs};
use super::{MOMENTUM, NORM_EPS, SLOPE, block_mode, dropped};
use crate::registry::ModalityInfo;
use crate::{ClueConfig, Likelihood, Result};

/// Blocks of linear, leaky ReLU, batch norm and dropout on the slice of its own modality, then a linear map to its features.
/// The one-hot of the batch is appended to the input and after every block.
#[derive(Debug, Clone)]
pub(crate) struct Decoder {
    blocks: Vec<Block>,
    loc: Linear,
    /// Of the mixture for proteins: the logit of background, mean and spread of its logarithm.
    background: Option<Linear>,
    pub(crate) head: Head,
    n_batches: usize,
    dropout: f64,
}

#[derive(Debug, Clone)]
struct Block {
    name: String,
    linear: Linear,
    norm: BatchNorm,
}

impl Decoder {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        c: &ClueConfig,
        info: &ModalityInfo,
        (mut width, n_batches): (usize, usize),
    ) -> Result<Self> {
        let blocks = (0..c.decoder_depth).map(|i| {
            let lp = p.pp(format!("linear_{i}"));
            let linear = Linear::new(&lp, width + n_batches, c.decoder_dim, true)?;
            width = c.decoder_dim;
            Ok(Block {
                name: p.path(&format!("dropout_{i}")),
                linear,
                norm: BatchNorm::new(&p.pp(format!("bn_{i}")), width, MOMENTUM, NORM_EPS)?,
            })
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        let n_features = info.n_features();
        let background = match info.likelihood {
            Likelihood::NbMixture => {
                let p = p.pp("background");
                Some(Linear::new(&p, width + n_batches, 3 * n_features, true)?)
            }
            _ => None,
        };
        Ok(Self {
            blocks,
            loc: Linear::new(&p.pp("loc"), width + n_batches, n_features, true)?,
            background,
            head: Head::new(p, info.likelihood, n_features, n_batches)?,
            n_batches,
            dropout: c.dropout,
        })
    }

    /// What the likelihood makes of places in the subspace, `u` of `[rows, latent_dim]`, in these batches.
    pub(crate) fn forward(&self, u: &Tensor, batch: &[u32], mode: &Mode<'_>) -> Result<Outputs> {
        let mode = &block_mode(*mode, u.dim(0)?);
        // Without batches all are 0, and the one column is constant.
        let one_hot = ops::one_hot(batch, self.n_batches, u.dtype(), u.device())?;
        let mut h = u.clone();
        for block in &self.blocks {
            let y = block.linear.forward_with(&h, Some(&one_hot), mode)?;
            let y = block.norm.forward(&ops::leaky_relu(&y, SLOPE)?, mode)?;
            h = dropped(&y, self.dropout, &block.name, mode)?;
        }
        let background = match &self.background {
            Some(l) => Some(l.forward_with(&h, Some(&one_hot), mode)?),
            None => None,
        };
        Ok(Outputs {
            loc: self.loc.forward_with(&h, Some(&one_hot), mode)?,
            background,
        })
    }
}
