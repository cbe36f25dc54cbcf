//! What SCANVI adds to scVI's networks (Xu et al. 2021), with the names that scvi-tools gives their parameters.

use candle_core::Tensor;
use sc_model::layers::{FcConfig, FcLayers, Input, Linear};
use sc_model::{Mode, Param, ParamBuilder};

use super::classifier::Classifier;
use super::config::ScanviConfig;
use crate::config::VarActivation;
use crate::nets::{Encoder, Nets, Posterior, one_hot_width, two_heads};
use crate::{Registry, Result};

/// The second level of the hierarchy: `z2 -> z1` for a label, and back, and the classifier of `z1`.
#[derive(Debug, Clone)]
pub(crate) struct SemiNets {
    /// `p(y)`, `[1, labels]`; never trained.
    y_prior: Param,
    pub(crate) classifier: Classifier,
    encoder_z2_z1: Encoder,
    decoder_z1_z2: Decoder,
    n_labels: usize,
}

/// `p(z1 | z2, y)` of every cell and label.
pub(crate) struct Prior {
    pub(crate) mean: Tensor,
    pub(crate) log_var: Tensor,
}

impl SemiNets {
    /// scVI's networks and these, in torch's order.
    pub(crate) fn new(
        p: &ParamBuilder<'_>,
        c: &ScanviConfig,
        r: &Registry,
    ) -> Result<(Nets, Self)> {
        let n_labels = r.n_labels();
        let uniform = 1.0 / n_labels as f64;
        let (nets, y_prior) = Nets::with(p, &c.scvi, r, |p| {
            Ok(p.buffer("y_prior", (1, n_labels), uniform, p.dtype())?)
        })?;
        let layers = hidden_layers(c, n_labels);
        Ok((
            nets,
            Self {
                y_prior,
                classifier: Classifier::new(&p.pp("classifier").pp("classifier"), c, n_labels)?,
                encoder_z2_z1: Encoder::of_layers(
                    &p.pp("encoder_z2_z1"),
                    &layers,
                    c.scvi.n_latent,
                    VarActivation::Exp,
                )?,
                decoder_z1_z2: Decoder::new(&p.pp("decoder_z1_z2"), c, &layers)?,
                n_labels,
            },
        ))
    }

    /// `p(y)`, `[1, labels]`, which sums to 1 in the precision of the model whatever that of the file.
    pub(crate) fn prior(&self) -> Result<Tensor> {
        let prior = self.y_prior.value();
        Ok(prior.broadcast_div(&prior.sum_keepdim(1)?)?)
    }

    pub(crate) fn n_labels(&self) -> usize {
        self.n_labels
    }

    /// The label of each row where all labels of `n` cells are put one behind the other, as one-hots
    /// `[labels * n, labels]`. A single label carries no information and gets no column.
    pub(crate) fn labels_of(&self, z1: &Tensor) -> Result<Option<Tensor>> {
        if one_hot_width(self.n_labels) == 0 {
            return Ok(None);
        }
        let n = z1.dim(0)?;
        let codes: Vec<u32> = (0..self.n_labels as u32)
            .flat_map(|y| std::iter::repeat_n(y, n))
            .collect();
        Ok(Some(sc_tensor::ops::one_hot(
            &codes,
            self.n_labels,
            z1.dtype(),
            z1.device(),
        )?))
    }

    /// `q(z2 | z1, y)` for every label, `[labels * N, n_latent]`.
    pub(crate) fn encode(
        &self,
        z1: &Tensor,
        labels: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Posterior> {
        let z1 = z1.repeat((self.n_labels, 1))?;
        self.encoder_z2_z1.forward(Input::Dense(&z1), labels, mode)
    }

    /// `p(z1 | z2, y)` for every row of `z2`.
    pub(crate) fn decode(
        &self,
        z2: &Tensor,
        labels: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Prior> {
        self.decoder_z1_z2.forward(z2, labels, mode)
    }
}

/// The hidden layers of the encoder of `z2`; labels enter each of them, whatever the covariates of the cells do.
fn hidden_layers(c: &ScanviConfig, n_labels: usize) -> FcConfig {
    let s = &c.scvi;
    FcConfig {
        n_in: s.n_latent,
        n_out: s.n_hidden,
        n_hidden: s.n_hidden,
        n_layers: s.n_layers,
        n_covariates: one_hot_width(n_labels),
        inject_covariates: true,
        dropout_rate: s.dropout_rate,
        batch_norm: s.batch_norm.encoder(),
        layer_norm: s.layer_norm.encoder(),
        bias: true,
        relu: true,
        sparse_input: false,
    }
}

/// Hidden layers, then the mean and the log variance of a normal, which has no floor.
#[derive(Debug, Clone)]
struct Decoder {
    layers: FcLayers,
    mean: Linear,
    log_var: Linear,
}

impl Decoder {
    fn new(p: &ParamBuilder<'_>, c: &ScanviConfig, encoder: &FcConfig) -> Result<Self> {
        let s = &c.scvi;
        let layers = FcConfig {
            dropout_rate: 0.0,
            batch_norm: s.batch_norm.decoder(),
            layer_norm: s.layer_norm.decoder(),
            ..encoder.clone()
        };
        let head = |name: &str| Linear::new(&p.pp(name), s.n_hidden, s.n_latent, true);
        Ok(Self {
            layers: FcLayers::new(&p.pp("decoder"), &layers)?,
            mean: head("mean_decoder")?,
            log_var: head("var_decoder")?,
        })
    }

    fn forward(&self, z2: &Tensor, labels: Option<&Tensor>, mode: &Mode<'_>) -> Result<Prior> {
        let h = self.layers.forward(Input::Dense(z2), labels, mode)?;
        let (mean, log_var) = two_heads(&self.mean, &self.log_var, &h, mode)?;
        Ok(Prior { mean, log_var })
    }
}
