use std::sync::Arc;

use candle_core::{DType, Tensor};
use sc_data::Csr;
use sc_model::Mode;
use sc_model::layers::Linear;
use sc_tensor::likelihood::{self, DispersionRows, Family, Layer, LinearMean, Mean};
use sc_tensor::ops;

use crate::Result;
use crate::arrays::to_array2;

/// Logits, `[N, G]`.
#[derive(Debug, Clone)]
pub(crate) enum Logits {
    Made(Tensor),
    /// Those that a linear layer makes of hidden units, `[N, H]`. They become a tensor only where one is asked for.
    OfLayer {
        h: Tensor,
        weight: Tensor,
        bias: Tensor,
    },
}

impl Logits {
    pub(crate) fn of_layer(layer: &Linear, h: &Tensor, mode: &Mode<'_>) -> Result<Self> {
        Ok(match layer.bias() {
            Some(bias) => Self::OfLayer {
                h: h.clone(),
                weight: layer.weight().get(mode).clone(),
                bias: bias.get(mode).clone(),
            },
            None => Self::Made(layer.forward(h, mode)?),
        })
    }

    /// Cells and genes.
    pub(crate) fn dims(&self) -> Result<(usize, usize)> {
        Ok(match self {
            Self::Made(t) => t.dims2()?,
            Self::OfLayer { h, weight, .. } => (h.dim(0)?, weight.dim(0)?),
        })
    }

    pub(crate) fn tensor(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Made(t) => t.clone(),
            Self::OfLayer { h, weight, bias } => ops::linear(h, weight, Some(bias))?,
        })
    }

    /// Row `i`, `[1, G]`.
    pub(crate) fn row(&self, i: usize) -> Result<Tensor> {
        Ok(match self {
            Self::Made(t) => t.narrow(0, i, 1)?,
            Self::OfLayer { h, weight, bias } => {
                ops::linear(&h.narrow(0, i, 1)?, weight, Some(bias))?
            }
        })
    }

    fn layer(&self) -> Option<(&Tensor, Layer<'_>)> {
        match self {
            Self::Made(_) => None,
            Self::OfLayer { h, weight, bias } => Some((h, Layer { weight, bias })),
        }
    }
}

/// The distribution of the counts of each cell, as the decoder gives it.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub(crate) family: Family,
    pub(crate) logits: Logits,
    pub(crate) softplus: bool,
    pub(crate) log_library: Tensor,
    pub(crate) log_theta: Tensor,
    pub(crate) rows: DispersionRows,
    pub(crate) dropout_logits: Option<Logits>,
}

impl Decoded {
    /// Number of rows.
    pub(crate) fn n_cells(&self) -> Result<usize> {
        Ok(self.logits.dims()?.0)
    }

    /// `log p(x | z)` summed over genes, `[N]`. `N` may be a multiple of the rows of `x`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn log_prob(&self, x: &Arc<Csr>) -> Result<Tensor> {
        let dispersion = likelihood::Dispersion {
            log_theta: &self.log_theta,
            rows: self.rows.clone(),
        };
        let dispersion = (self.family != Family::Poisson).then_some(&dispersion);
        let log_library = &self.log_library;
        if let Some((h, layer)) = self.logits.layer() {
            let mean = if self.softplus {
                LinearMean::Softplus { layer, log_library }
            } else {
                LinearMean::Softmax { layer, log_library }
            };
            let dropout = self
                .dropout_logits
                .as_ref()
                .and_then(Logits::layer)
                .map(|(_, layer)| layer);
            return Ok(likelihood::log_prob_linear(
                self.family,
                x,
                h,
                &mean,
                dispersion,
                dropout,
            )?);
        }
        let logits = &self.logits.tensor()?;
        let mean = if self.softplus {
            Mean::Softplus {
                logits,
                log_library,
            }
        } else {
            Mean::Softmax {
                logits,
                log_library,
            }
        };
        let dropout = self.dropout_tensor()?;
        Ok(likelihood::log_prob(
            self.family,
            x,
            &mean,
            dispersion,
            dropout.as_ref(),
        )?)
    }

    /// The logits of [`Decoded::dropout`].
    pub(crate) fn dropout_tensor(&self) -> Result<Option<Tensor>> {
        self.dropout_logits.as_ref().map(Logits::tensor).transpose()
    }

    /// Frequencies of genes, `[N, G]`; they sum to 1 over genes unless the model has size factors.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn scale(&self) -> Result<Tensor> {
        let logits = self.logits.tensor()?;
        Ok(if self.softplus {
            ops::softplus(&logits)?
        } else {
            ops::softmax(&logits)?
        })
    }

    /// Writes [`Decoded::scale`], each row times its size (one for each row, or one for all), into an array of `N G` numbers.
    pub(crate) fn write_scale(&self, sizes: &[f32], out: &mut [f32]) -> Result<()> {
        if let Logits::OfLayer { h, weight, bias } = &self.logits
            && h.dtype() == DType::F32
            && h.device().is_cpu()
        {
            let f = if self.softplus {
                ops::Frequencies::Softplus
            } else {
                ops::Frequencies::Softmax
            };
            return Ok(ops::frequencies_into(h, weight, bias, f, sizes, out)?);
        }
        let scale = to_array2(&self.scale()?)?;
        for (i, (to, from)) in out
            .chunks_mut(scale.ncols().max(1))
            .zip(scale.rows())
            .enumerate()
        {
            let size = sizes[i % sizes.len()];
            to.iter_mut().zip(from).for_each(|(t, &v)| *t = v * size);
        }
        Ok(())
    }

    /// Expected counts before zero inflation, `[N, G]`.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn rate(&self) -> Result<Tensor> {
        let library = self.log_library.flatten_all()?.unsqueeze(1)?.exp()?;
        Ok(self.scale()?.broadcast_mul(&library)?)
    }

    /// Inverse dispersion (for the normal likelihood: standard deviation), `[N, G]`.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn theta(&self) -> Result<Tensor> {
        let (n, g) = self.logits.dims()?;
        let r = match &self.rows {
            DispersionRows::PerCell => self.log_theta.clone(),
            DispersionRows::Index(codes) => {
                let codes = Tensor::from_slice(codes, codes.len(), self.log_theta.device())?;
                self.log_theta.index_select(&codes, 0)?
            }
            _ => self
                .log_theta
                .flatten_all()?
                .unsqueeze(0)?
                .broadcast_as((n, g))?
                .contiguous()?,
        };
        Ok(r.exp()?)
    }

    /// Probability of an extra zero, `[N, G]`, if the likelihood has them.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn dropout(&self) -> Result<Option<Tensor>> {
        Ok(self
            .dropout_tensor()?
            .as_ref()
            .map(ops::sigmoid)
            .transpose()?)
    }
}
