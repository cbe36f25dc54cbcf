//! The networks of scVI (Lopez et al. 2018) with the names that scvi-tools gives their parameters.

mod decoder;
mod encoder;
mod widths;

pub use encoder::Posterior;
pub(crate) use encoder::{Encoder, two_heads};
pub(crate) use widths::one_hot_width;

use candle_core::{DType, Tensor};
use sc_model::layers::{Embedding, Input};
use sc_model::{Init, Mode, Param, ParamBuilder};
use sc_tensor::likelihood::DispersionRows;
use sc_tensor::ops;

use crate::conditions::Conditions;
use crate::config::{BatchRepresentation, Dispersion};
use crate::decoded::Decoded;
use crate::{LatentDistribution, Minibatch, Registry, Result, ScviConfig};
use decoder::{DecoderNet, Outputs};
use widths::Widths;

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
        let widths = Widths::new(c, r);
        let nets = Self {
            config: c.clone(),
            n_batch,
            covariate_levels: r.categorical_covariates.iter().map(Vec::len).collect(),
            has_size_factor: r.setup.size_factor_key.is_some(),
            log_theta,
            library_prior,
            batch_embedding,
            z_encoder: Encoder::new(&p.pp("z_encoder"), c, &widths, c.n_latent, c.n_layers)?,
            l_encoder: Encoder::new(&p.pp("l_encoder"), c, &widths, 1, 1)?,
            decoder: DecoderNet::new(&p.pp("decoder"), c, &widths, g)?,
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
        let Outputs {
            logits,
            dispersion,
            dropout_logits,
        } = self
            .decoder
            .forward(&input, one_hots.as_ref(), &self.config, mode)?;
        let (log_theta, rows) = match (&self.log_theta, dispersion) {
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
        self.z_encoder.place()
    }

    /// LinearSCVI's loadings, `[genes, n_latent]`: the weights of the decoder, scaled as its batch norm scales them.
    pub(crate) fn loadings(&self) -> Result<Option<Tensor>> {
        self.decoder.loadings(self.config.n_latent)
    }
}
