use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::{build_params, load_params};
use sc_tensor::rng::Rng;

use super::nets::Nets;
use super::{DiffusionKind, DriftKind, ScDiffEq, ScDiffEqConfig};
use crate::Result;
use crate::nets::{AutoencoderConfig, NetConfig};
use crate::solve::Calculus;

/// Settings of a model that is to be made. Start from [`ScDiffEq::params`] or [`ScDiffEq::prescient`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ScDiffEqParams(ScDiffEqConfig);

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $t:ty),+ $(,)?) => {
        $($(#[$doc])* pub fn $name(mut self, $name: $t) -> Self { self.0.$name = $name; self })+
    };
}

impl ScDiffEqParams {
    setters! {
        /// What the drift is made of; a potential.
        drift: DriftKind,
        /// What the diffusion is made of; a net with one Brownian motion.
        diffusion: DiffusionKind,
        /// The net of the drift; two layers of 512.
        mu: NetConfig,
        /// The net of the diffusion; two layers of 32.
        sigma: NetConfig,
        /// What the drift is multiplied by; 1.
        coef_drift: f64,
        /// What the diffusion is multiplied by; 1.
        coef_diffusion: f64,
        /// What the prior drift is multiplied by; 1.
        coef_prior_drift: f64,
        /// How the noise is read; Ito's way.
        calculus: Calculus,
        /// Nets between the data and the space in which cells move; none.
        autoencoder: Option<AutoencoderConfig>,
    }

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) names the first setting that can't be.
    pub fn check(self) -> Result<ScDiffEqValidParams> {
        self.0.check()?;
        Ok(ScDiffEqValidParams(self.0))
    }
}

/// Settings that passed [`ScDiffEqParams::check`].
#[derive(Debug, Clone)]
pub struct ScDiffEqValidParams(ScDiffEqConfig);

impl ScDiffEqValidParams {
    /// The settings.
    pub fn config(&self) -> &ScDiffEqConfig {
        &self.0
    }

    /// A model with random weights, distributed as PyTorch's.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<ScDiffEq> {
        self.init_with_dtype(device, DType::F32, seed)
    }

    /// The same in another precision.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init_with_dtype(&self, device: &Device, dtype: DType, seed: u64) -> Result<ScDiffEq> {
        let (nets, params) =
            build_params(device, dtype, &Rng::new(seed), |p| Nets::new(p, &self.0))?;
        Ok(ScDiffEq {
            config: self.0.clone(),
            nets,
            params,
        })
    }

    /// A model with the weights of a file.
    pub(super) fn load(
        &self,
        device: &Device,
        dtype: DType,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<ScDiffEq> {
        let (nets, params) = load_params(device, dtype, path, tensors, |p| Nets::new(p, &self.0))?;
        Ok(ScDiffEq {
            config: self.0.clone(),
            nets,
            params,
        })
    }
}

impl From<ScDiffEqConfig> for ScDiffEqParams {
    fn from(config: ScDiffEqConfig) -> Self {
        Self(config)
    }
}

impl ScDiffEq {
    /// scDiffEq's defaults for cells that move in this many dimensions.
    pub fn params(n_latent: usize) -> ScDiffEqParams {
        ScDiffEqConfig::new(n_latent).into()
    }

    /// PRESCIENT's model.
    pub fn prescient(n_latent: usize) -> ScDiffEqParams {
        ScDiffEqConfig::prescient(n_latent).into()
    }
}
