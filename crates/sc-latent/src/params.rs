use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::{build_params, load_params};
use sc_tensor::rng::Rng;

use crate::config::{
    BatchRepresentation, Dispersion, LatentDistribution, Likelihood, NormIn, ScviConfig,
    VarActivation,
};
use crate::nets::Nets;
use crate::{Cells, Registry, Result, Scvi};

/// Settings of a model that is to be made. Start from [`Scvi::params`] or [`Scvi::linear_params`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ScviParams {
    config: ScviConfig,
    registry: Registry,
}

/// The setters of scVI's settings, for a type with `fn scvi_mut(&mut self) -> &mut ScviConfig`.
macro_rules! scvi_setters {
    () => {
        scvi_setters! {
            /// Width of the hidden layers; 128.
            n_hidden: usize,
            /// Dimensions of the latent space; 10.
            n_latent: usize,
            /// Hidden layers of encoder and decoder; 1.
            n_layers: usize,
            /// Share of hidden units dropped in the encoder while training; 0.1.
            dropout_rate: f64,
            /// What the inverse dispersion depends on; each gene has its own.
            dispersion: Dispersion,
            /// The distribution of the counts; ZINB.
            likelihood: Likelihood,
            /// The distribution of the latent variable; normal.
            latent_distribution: LatentDistribution,
            /// Whether the encoder reads `ln(1 + x)`; it does.
            log_variational: bool,
            /// Whether the encoder reads the covariates; it does not.
            encode_covariates: bool,
            /// Whether the covariates enter every layer; they do.
            deeply_inject_covariates: bool,
            /// How the networks see the batch; one input for each.
            batch_representation: BatchRepresentation,
            /// Where batch normalisation is used; everywhere.
            batch_norm: NormIn,
            /// Where layer normalisation is used; nowhere.
            layer_norm: NormIn,
            /// Whether the library size is the sum of the counts, or learned; it is the sum.
            use_observed_lib_size: bool,
            /// What makes the encoder's output a variance; `exp`.
            var_activation: VarActivation,
        }
    };
    ($($(#[$doc:meta])* $name:ident: $t:ty),+ $(,)?) => {
        $($(#[$doc])* pub fn $name(mut self, $name: $t) -> Self { self.scvi_mut().$name = $name; self })+
    };
}
pub(crate) use scvi_setters;

impl ScviParams {
    pub(crate) fn new(config: ScviConfig, registry: Registry) -> Self {
        Self { config, registry }
    }

    fn scvi_mut(&mut self) -> &mut ScviConfig {
        &mut self.config
    }

    scvi_setters! {}

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) names the first setting that can't be.
    pub fn check(self) -> Result<ScviValidParams> {
        self.config.check(&self.registry)?;
        Ok(ScviValidParams(self))
    }
}

/// Settings that passed [`ScviParams::check`].
#[derive(Debug, Clone)]
pub struct ScviValidParams(ScviParams);

impl ScviValidParams {
    /// The settings.
    pub fn config(&self) -> &ScviConfig {
        &self.0.config
    }

    /// A model with random weights, distributed as PyTorch's.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<Scvi> {
        self.init_with_dtype(device, DType::F32, seed)
    }

    /// A model with the weights of a file, which must be those of such a model.
    pub(crate) fn load(
        &self,
        device: &Device,
        dtype: DType,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Scvi> {
        let ScviParams { config, registry } = &self.0;
        let (nets, params) = load_params(device, dtype, path, tensors, |p| {
            Nets::new(p, config, registry)
        })?;
        Ok(Scvi {
            config: config.clone(),
            registry: registry.clone(),
            params,
            nets,
            training: None,
            query: None,
        })
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init_with_dtype(&self, device: &Device, dtype: DType, seed: u64) -> Result<Scvi> {
        let ScviParams { config, registry } = &self.0;
        let (nets, params) = build_params(device, dtype, &Rng::new(seed), |p| {
            Nets::new(p, config, registry)
        })?;
        Ok(Scvi {
            config: config.clone(),
            registry: registry.clone(),
            params,
            nets,
            training: None,
            query: None,
        })
    }
}

impl Scvi {
    /// scVI's default settings for these cells.
    pub fn params(cells: &Cells<'_>) -> ScviParams {
        ScviParams::new(ScviConfig::default(), cells.registry().clone())
    }

    /// Settings that are there already, for these cells.
    pub fn with_config(cells: &Cells<'_>, config: ScviConfig) -> ScviParams {
        ScviParams::new(config, cells.registry().clone())
    }

    /// LinearSCVI's default settings for these cells: its decoder is one linear map, whose weights are
    /// [loadings](Scvi::loadings) of genes (Svensson et al. 2020).
    pub fn linear_params(cells: &Cells<'_>) -> ScviParams {
        ScviParams::new(ScviConfig::linear(), cells.registry().clone())
    }
}
