//! From cells to distributions.

use candle_core::{DType, Device, Tensor};
use sc_model::layers::{FcConfig, FcLayers, Input, Linear};
use sc_model::{Mode, ParamBuilder};
use sc_tensor::likelihood::draw_normal;
use sc_tensor::ops;

use super::widths::Widths;
use crate::config::VarActivation;
use crate::{Result, ScviConfig};

/// `q(z | x) = Normal(mean, sqrt(var))`, or the same for the log library size.
#[derive(Debug, Clone)]
pub struct Posterior {
    /// Mean, `[N, dims]`.
    pub mean: Tensor,
    /// Variance, `[N, dims]`; it includes the floor of 1e-4.
    pub var: Tensor,
}

impl Posterior {
    /// `mean + sqrt(var) * noise`.
    pub(crate) fn draw(&self, noise: &Tensor) -> Result<Tensor> {
        Ok(draw_normal(&self.mean, &self.var, noise)?)
    }
}

/// Hidden layers, then a mean and a variance.
#[derive(Debug, Clone)]
pub(crate) struct Encoder {
    layers: FcLayers,
    mean: Linear,
    var: Linear,
    var_activation: VarActivation,
}

impl Encoder {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        c: &ScviConfig,
        widths: &Widths,
        n_out: usize,
        n_layers: usize,
    ) -> Result<Self> {
        let layers = FcConfig {
            n_in: widths.encoder_in,
            n_out: c.n_hidden,
            n_hidden: c.n_hidden,
            n_layers,
            n_covariates: widths.encoder_one_hots,
            inject_covariates: c.deeply_inject_covariates,
            dropout_rate: c.dropout_rate,
            batch_norm: c.batch_norm.encoder(),
            layer_norm: c.layer_norm.encoder(),
            bias: true,
            relu: true,
            sparse_input: true,
        };
        Self::of_layers(p, &layers, n_out, c.var_activation)
    }

    /// With these hidden layers.
    pub(crate) fn of_layers(
        p: &ParamBuilder<'_>,
        layers: &FcConfig,
        n_out: usize,
        var_activation: VarActivation,
    ) -> Result<Self> {
        let n_hidden = layers.n_out;
        Ok(Self {
            layers: FcLayers::new(&p.pp("encoder"), layers)?,
            mean: Linear::new(&p.pp("mean_encoder"), n_hidden, n_out, true)?,
            var: Linear::new(&p.pp("var_encoder"), n_hidden, n_out, true)?,
            var_activation,
        })
    }

    pub(crate) fn forward(
        &self,
        x: Input<'_>,
        one_hots: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Posterior> {
        let h = self.layers.forward(x, one_hots, mode)?;
        let (mean, v) = two_heads(&self.mean, &self.var, &h, mode)?;
        let v = match self.var_activation {
            VarActivation::Exp => v.exp()?,
            VarActivation::Softplus => ops::softplus(&v)?,
        };
        Ok(Posterior {
            mean,
            var: (v + 1e-4)?,
        })
    }

    /// Type and device of its parameters.
    pub(super) fn place(&self) -> (DType, Device) {
        let w = self.mean.weight().value();
        (w.dtype(), w.device().clone())
    }
}

/// The outputs of two linear layers of the same input, which is read once on the way and gets one gradient on the way back.
pub(crate) fn two_heads(
    a: &Linear,
    b: &Linear,
    h: &Tensor,
    mode: &Mode<'_>,
) -> Result<(Tensor, Tensor)> {
    let (Some(bias_a), Some(bias_b)) = (a.bias(), b.bias()) else {
        return Ok((a.forward(h, mode)?, b.forward(h, mode)?));
    };
    let (wa, wb) = (a.weight().get(mode), b.weight().get(mode));
    let weight = Tensor::cat(&[wa, wb], 0)?;
    let bias = Tensor::cat(&[bias_a.get(mode), bias_b.get(mode)], 0)?;
    let both = ops::linear(h, &weight, Some(&bias))?;
    let (n_a, n_b) = (wa.dim(0)?, wb.dim(0)?);
    Ok((
        both.narrow(1, 0, n_a)?.contiguous()?,
        both.narrow(1, n_a, n_b)?.contiguous()?,
    ))
}
