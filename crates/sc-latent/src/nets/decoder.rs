//! From places in the latent space to what the likelihood needs.

use candle_core::Tensor;
use sc_model::layers::{FcConfig, FcLayers, Input, Linear};
use sc_model::{Mode, ParamBuilder};

use super::widths::Widths;
use crate::config::{Decoder, Dispersion, Likelihood};
use crate::decoded::Logits;
use crate::{Result, ScviConfig};

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a model has one")]
pub(super) enum DecoderNet {
    Nonlinear {
        layers: FcLayers,
        scale: Linear,
        dispersion: Linear,
        dropout: Linear,
    },
    Linear {
        factors: FcLayers,
        dropout: FcLayers,
    },
}

/// What a decoder says of some cells.
pub(super) struct Outputs {
    pub(super) logits: Logits,
    /// The logarithm of the inverse dispersion, where each cell has its own.
    pub(super) dispersion: Option<Tensor>,
    /// Of a zero-inflated likelihood.
    pub(super) dropout_logits: Option<Logits>,
}

impl DecoderNet {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        c: &ScviConfig,
        widths: &Widths,
        n_genes: usize,
    ) -> Result<Self> {
        let layers = |name: &str, n_out, n_layers, bias, relu, layer_norm| {
            FcLayers::new(
                &p.pp(name),
                &FcConfig {
                    n_in: widths.decoder_in,
                    n_out,
                    n_hidden: c.n_hidden,
                    n_layers,
                    n_covariates: widths.decoder_one_hots,
                    inject_covariates: c.deeply_inject_covariates,
                    dropout_rate: 0.0,
                    batch_norm: c.batch_norm.decoder(),
                    layer_norm,
                    bias,
                    relu,
                    sparse_input: false,
                },
            )
        };
        Ok(match c.decoder {
            Decoder::Nonlinear => Self::Nonlinear {
                layers: layers(
                    "px_decoder",
                    c.n_hidden,
                    c.n_layers,
                    true,
                    true,
                    c.layer_norm.decoder(),
                )?,
                scale: Linear::new(&p.pp("px_scale_decoder").pp(0), c.n_hidden, n_genes, true)?,
                dispersion: Linear::new(&p.pp("px_r_decoder"), c.n_hidden, n_genes, true)?,
                dropout: Linear::new(&p.pp("px_dropout_decoder"), c.n_hidden, n_genes, true)?,
            },
            Decoder::Linear { bias } => Self::Linear {
                factors: layers(
                    "factor_regressor",
                    n_genes,
                    1,
                    bias,
                    false,
                    c.layer_norm.decoder(),
                )?,
                dropout: layers(
                    "px_dropout_decoder",
                    n_genes,
                    1,
                    bias,
                    false,
                    c.layer_norm.decoder(),
                )?,
            },
        })
    }

    /// `input` of `[N, n_latent + dense covariates]`.
    pub(super) fn forward(
        &self,
        input: &Tensor,
        one_hots: Option<&Tensor>,
        c: &ScviConfig,
        mode: &Mode<'_>,
    ) -> Result<Outputs> {
        let (x, zinb) = (Input::Dense(input), c.likelihood == Likelihood::Zinb);
        match self {
            Self::Nonlinear {
                layers,
                scale,
                dispersion,
                dropout,
            } => {
                let h = layers.forward(x, one_hots, mode)?;
                let per_cell = c.dispersion == Dispersion::GeneCell;
                Ok(Outputs {
                    logits: Logits::of_layer(scale, &h, mode)?,
                    dispersion: per_cell.then(|| dispersion.forward(&h, mode)).transpose()?,
                    dropout_logits: zinb
                        .then(|| Logits::of_layer(dropout, &h, mode))
                        .transpose()?,
                })
            }
            Self::Linear { factors, dropout } => {
                let logits = factors.forward(x, one_hots, mode)?;
                // Its batch norm follows the data even where the likelihood ignores its output.
                let needed = zinb || mode.is_training();
                let dropped = needed
                    .then(|| dropout.forward(x, one_hots, mode))
                    .transpose()?;
                Ok(Outputs {
                    logits: Logits::Made(logits),
                    dispersion: None,
                    dropout_logits: dropped.filter(|_| zinb).map(Logits::Made),
                })
            }
        }
    }

    /// The weights of a linear decoder, `[genes, n_latent]`, scaled as its batch norm scales them.
    pub(super) fn loadings(&self, n_latent: usize) -> Result<Option<Tensor>> {
        let Self::Linear { factors, .. } = self else {
            return Ok(None);
        };
        let Some((linear, batch_norm)) = factors.first_dense() else {
            return Ok(None);
        };
        let w = linear.weight().value().narrow(1, 0, n_latent)?;
        Ok(Some(match batch_norm {
            Some(bn) => w.broadcast_mul(&bn.scale()?.unsqueeze(1)?)?,
            None => w,
        }))
    }
}
