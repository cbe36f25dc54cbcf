//! The networks of scVI (Lopez et al. 2018) with the names that scvi-tools gives their parameters.

use candle_core::{DType, Tensor};
use sc_model::layers::{Embedding, FcConfig, FcLayers, Input, Linear};
use sc_model::{Init, Mode, Param, ParamBuilder};
use sc_tensor::likelihood::{DispersionRows, draw_normal};
use sc_tensor::ops;

use crate::conditions::Conditions;
use crate::config::{BatchRepresentation, Decoder, Dispersion, Likelihood, VarActivation};
use crate::decoded::{Decoded, Logits};
use crate::{LatentDistribution, Minibatch, Registry, Result, ScviConfig};

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
    fn new(
        p: &ParamBuilder<'_>,
        c: &ScviConfig,
        dims: &Dims,
        n_out: usize,
        n_layers: usize,
    ) -> Result<Self> {
        let layers = FcConfig {
            n_in: dims.encoder_in,
            n_out: c.n_hidden,
            n_hidden: c.n_hidden,
            n_layers,
            n_covariates: dims.encoder_one_hots,
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

#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a model has one")]
enum DecoderNet {
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

/// Widths of the inputs of the networks.
struct Dims {
    encoder_in: usize,
    encoder_one_hots: usize,
    decoder_in: usize,
    decoder_one_hots: usize,
}

/// A category with one level carries no information and gets no column.
pub(crate) fn one_hot_width(levels: usize) -> usize {
    if levels > 1 { levels } else { 0 }
}

impl Dims {
    fn new(c: &ScviConfig, r: &Registry) -> Self {
        let (batch_one_hot, batch_vector) = match c.batch_representation {
            BatchRepresentation::OneHot => (one_hot_width(r.batches.len()), 0),
            BatchRepresentation::Embedding { dim } => (0, dim),
        };
        let covariates: usize = r
            .categorical_covariates
            .iter()
            .map(|c| one_hot_width(c.len()))
            .sum();
        let one_hots = batch_one_hot.saturating_add(covariates);
        let dense = r
            .setup
            .continuous_covariate_keys
            .len()
            .saturating_add(batch_vector);
        let encoded = usize::from(c.encode_covariates);
        Self {
            encoder_in: r.n_genes().saturating_add(encoded * dense),
            encoder_one_hots: encoded * one_hots,
            decoder_in: c.n_latent.saturating_add(dense),
            decoder_one_hots: one_hots,
        }
    }
}

/// All networks and free parameters.
#[derive(Debug, Clone)]
pub(crate) struct Nets {
    config: ScviConfig,
    n_batch: usize,
    covariate_levels: Vec<usize>,
    has_size_factor: bool,
    log_theta: Option<Param>,
    /// Mean and variance of the prior of the log library size in each batch, `[1, n_batch]`.
    pub(crate) library_prior: Option<(Param, Param)>,
    batch_embedding: Option<Embedding>,
    z_encoder: Encoder,
    l_encoder: Encoder,
    decoder: DecoderNet,
}

impl Nets {
    pub(crate) fn new(p: &ParamBuilder<'_>, c: &ScviConfig, r: &Registry) -> Result<Self> {
        Ok(Self::with(p, c, r, |_| Ok(()))?.0)
    }

    /// The same for a model with free parameters of its own, which torch keeps between the dispersion and the rest.
    pub(crate) fn with<T>(
        p: &ParamBuilder<'_>,
        c: &ScviConfig,
        r: &Registry,
        own: impl FnOnce(&ParamBuilder<'_>) -> Result<T>,
    ) -> Result<(Self, T)> {
        let (g, n_batch, n_labels) = (r.n_genes(), r.batches.len(), r.labels.len());
        let normal = Init::Normal(1.0);
        let log_theta = match c.dispersion {
            Dispersion::Gene => Some(p.param("px_r", g, normal)?),
            // PyTorch keeps [genes, batches]; a cell reads one batch, so we keep [batches, genes].
            Dispersion::GeneBatch => Some(p.transposed("px_r", n_batch, g, normal)?),
            Dispersion::GeneLabel => Some(p.transposed("px_r", n_labels, g, normal)?),
            Dispersion::GeneCell => None,
        };
        let own = own(p)?;
        let library_prior = if c.use_observed_lib_size || r.setup.size_factor_key.is_some() {
            None
        } else {
            let buffer = |name, value| p.buffer(name, (1, n_batch), value, p.dtype());
            Some((
                buffer("library_log_means", 0.0)?,
                buffer("library_log_vars", 1.0)?,
            ))
        };
        let batch_embedding = match c.batch_representation {
            BatchRepresentation::OneHot => None,
            BatchRepresentation::Embedding { dim } => Some(Embedding::new(
                &p.pp("_embeddings_dict").pp("batch"),
                n_batch,
                dim,
            )?),
        };
        let dims = Dims::new(c, r);
        let nets = Self {
            config: c.clone(),
            n_batch,
            covariate_levels: r.categorical_covariates.iter().map(Vec::len).collect(),
            has_size_factor: r.setup.size_factor_key.is_some(),
            log_theta,
            library_prior,
            batch_embedding,
            z_encoder: Encoder::new(&p.pp("z_encoder"), c, &dims, c.n_latent, c.n_layers)?,
            l_encoder: Encoder::new(&p.pp("l_encoder"), c, &dims, 1, 1)?,
            decoder: DecoderNet::new(&p.pp("decoder"), c, &dims, g)?,
        };
        Ok((nets, own))
    }

    /// `q(z | x)`, and `q(l | x)` if the library size is learned. Of minified cells it is the one that was stored.
    pub(crate) fn encode(
        &self,
        batch: &Minibatch,
        mode: &Mode<'_>,
    ) -> Result<(Posterior, Option<Posterior>)> {
        if let Some(stored) = &batch.stored {
            let (dtype, device) = self.place();
            let q = stored.posterior(self.config.n_latent, dtype, &device)?;
            return Ok((q, None));
        }
        let (extra, one_hots) = self.encoder_covariates(batch, mode)?;
        let x = Input::Sparse(&batch.input, extra.as_ref());
        let z = self.z_encoder.forward(x, one_hots.as_ref(), mode)?;
        let l = match self.library_prior {
            Some(_) => Some(self.l_encoder.forward(x, one_hots.as_ref(), mode)?),
            None => None,
        };
        Ok((z, l))
    }

    /// `q(z | x)` alone.
    pub(crate) fn encode_z(&self, batch: &Minibatch, mode: &Mode<'_>) -> Result<Posterior> {
        let (extra, one_hots) = self.encoder_covariates(batch, mode)?;
        let x = Input::Sparse(&batch.input, extra.as_ref());
        self.z_encoder.forward(x, one_hots.as_ref(), mode)
    }

    /// What the encoders read besides the counts: dense columns and one-hots.
    fn encoder_covariates(
        &self,
        batch: &Minibatch,
        mode: &Mode<'_>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if !self.config.encode_covariates {
            return Ok((None, None));
        }
        let (dtype, device) = self.place();
        let conditions = Conditions::of(batch, dtype, &device, 1)?;
        Ok((
            self.dense_covariates(&conditions, mode)?,
            self.one_hots(&conditions)?,
        ))
    }

    /// A place in the latent space as the decoder reads it: of a logistic normal the softmax of the normal.
    pub(crate) fn latent_of(&self, z: &Tensor) -> Result<Tensor> {
        Ok(match self.config.latent_distribution {
            LatentDistribution::Normal => z.clone(),
            LatentDistribution::LogisticNormal => ops::softmax(z)?,
        })
    }

    /// What the decoder makes of places in the latent space, `z` of `[N, n_latent]`.
    pub(crate) fn decode(
        &self,
        z: &Tensor,
        log_library: &Tensor,
        conditions: &Conditions,
        mode: &Mode<'_>,
    ) -> Result<Decoded> {
        let z = self.latent_of(z)?;
        let input = match self.dense_covariates(conditions, mode)? {
            Some(dense) => Tensor::cat(&[&z, &dense], 1)?,
            None => z,
        };
        let one_hots = self.one_hots(conditions)?;
        let zinb = self.config.likelihood == Likelihood::Zinb;
        let (logits, cell_dispersion, dropout_logits) = match &self.decoder {
            DecoderNet::Nonlinear {
                layers,
                scale,
                dispersion,
                dropout,
            } => {
                let h = layers.forward(Input::Dense(&input), one_hots.as_ref(), mode)?;
                let per_cell = self.config.dispersion == Dispersion::GeneCell;
                (
                    Logits::of_layer(scale, &h, mode)?,
                    per_cell.then(|| dispersion.forward(&h, mode)).transpose()?,
                    zinb.then(|| Logits::of_layer(dropout, &h, mode))
                        .transpose()?,
                )
            }
            DecoderNet::Linear { factors, dropout } => {
                let x = Input::Dense(&input);
                let logits = factors.forward(x, one_hots.as_ref(), mode)?;
                // Its batch norm follows the data even where the likelihood ignores its output.
                let needed = zinb || mode.is_training();
                let dropped = needed
                    .then(|| dropout.forward(x, one_hots.as_ref(), mode))
                    .transpose()?;
                (
                    Logits::Made(logits),
                    None,
                    dropped.filter(|_| zinb).map(Logits::Made),
                )
            }
        };
        let (log_theta, rows) = match (&self.log_theta, cell_dispersion) {
            (_, Some(r)) => (r, DispersionRows::PerCell),
            (Some(p), None) => (p.get(mode).clone(), self.dispersion_rows(conditions)),
            (None, None) => {
                let (dtype, device) = self.place();
                (
                    Tensor::zeros(logits.dims()?, dtype, &device)?,
                    DispersionRows::PerCell,
                )
            }
        };
        Ok(Decoded {
            family: self.config.likelihood.family(),
            logits,
            softplus: self.has_size_factor,
            log_library: log_library.clone(),
            log_theta,
            rows,
            dropout_logits,
        })
    }

    fn dispersion_rows(&self, conditions: &Conditions) -> DispersionRows {
        match self.config.dispersion {
            Dispersion::Gene => DispersionRows::Shared,
            Dispersion::GeneBatch => DispersionRows::Index(conditions.batch.as_slice().into()),
            Dispersion::GeneLabel => DispersionRows::Index(conditions.labels.as_slice().into()),
            Dispersion::GeneCell => DispersionRows::PerCell,
        }
    }

    /// Continuous covariates and the vector of the batch.
    fn dense_covariates(&self, conditions: &Conditions, mode: &Mode<'_>) -> Result<Option<Tensor>> {
        let vector = match &self.batch_embedding {
            Some(e) => Some(e.forward(&conditions.batch, mode)?),
            None => None,
        };
        let parts: Vec<Tensor> = conditions
            .continuous
            .iter()
            .cloned()
            .chain(vector)
            .collect();
        Ok(if parts.is_empty() {
            None
        } else {
            Some(Tensor::cat(&parts, 1)?)
        })
    }

    /// One-hots of the batch (unless it is embedded) and the categorical covariates, side by side.
    fn one_hots(&self, conditions: &Conditions) -> Result<Option<Tensor>> {
        let (dtype, device) = self.place();
        let mut parts = Vec::new();
        if self.batch_embedding.is_none() && self.n_batch > 1 {
            parts.push(ops::one_hot(
                &conditions.batch,
                self.n_batch,
                dtype,
                &device,
            )?);
        }
        for (codes, &levels) in conditions.categorical.iter().zip(&self.covariate_levels) {
            if levels > 1 {
                parts.push(ops::one_hot(codes, levels, dtype, &device)?);
            }
        }
        Ok(if parts.is_empty() {
            None
        } else {
            Some(Tensor::cat(&parts, 1)?)
        })
    }

    /// Type and device of the parameters.
    pub(crate) fn place(&self) -> (DType, candle_core::Device) {
        let w = self.z_encoder.mean.weight().value();
        (w.dtype(), w.device().clone())
    }

    /// LinearSCVI's loadings, `[genes, n_latent]`: the weights of the decoder, scaled as its batch norm scales them.
    pub(crate) fn loadings(&self) -> Result<Option<Tensor>> {
        let DecoderNet::Linear { factors, .. } = &self.decoder else {
            return Ok(None);
        };
        let Some((linear, batch_norm)) = factors.first_dense() else {
            return Ok(None);
        };
        let w = linear.weight().value().narrow(1, 0, self.config.n_latent)?;
        Ok(Some(match batch_norm {
            Some(bn) => w.broadcast_mul(&bn.scale()?.unsqueeze(1)?)?,
            None => w,
        }))
    }
}

impl DecoderNet {
    fn new(p: &ParamBuilder<'_>, c: &ScviConfig, dims: &Dims, n_genes: usize) -> Result<Self> {
        let layers = |name: &str, n_out, n_layers, bias, relu, layer_norm| {
            FcLayers::new(
                &p.pp(name),
                &FcConfig {
                    n_in: dims.decoder_in,
                    n_out,
                    n_hidden: c.n_hidden,
                    n_layers,
                    n_covariates: dims.decoder_one_hots,
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
}
