use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::{Parity, build_params, load_params};
use sc_tensor::rng::Rng;

use crate::Result;
use crate::config::{AdversaryInput, Alignment, ClueConfig, Fusion, LossWeights, PairingLoss};
use crate::model::Clue;
use crate::nets::Nets;
use crate::registry::Registry;

/// Settings of a model that is to be made. Start from [`Clue::params`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ClueParams {
    config: ClueConfig,
    registry: Registry,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $t:ty),+ $(,)?) => {
        $($(#[$doc])* pub fn $name(mut self, $name: $t) -> Self { self.config.$name = $name; self })+
    };
}

impl ClueParams {
    /// Settings for modalities that are described, not given: to open weights that scglue trained.
    pub fn new(config: ClueConfig, registry: Registry) -> Self {
        Self { config, registry }
    }

    setters! {
        /// Dimensions of the subspace of each modality; 50.
        latent_dim: usize,
        /// Whether each modality is decoded from a subspace of its own; it is.
        subspaces: bool,
        /// Hidden layers of each encoder; 2.
        encoder_depth: usize,
        /// Their width; 256.
        encoder_dim: usize,
        /// Hidden layers of each decoder; 2.
        decoder_depth: usize,
        /// Their width; 256.
        decoder_dim: usize,
        /// Hidden layers of the adversary; 2.
        adversary_depth: usize,
        /// Their width; 256.
        adversary_dim: usize,
        /// Share of hidden units dropped while training; 0.2.
        dropout: f64,
        /// Whether embeddings are brought to length 1 before they are fused and decoded; they are.
        normalize: bool,
        /// How the modalities of a cell become one; the mean.
        fusion: Fusion,
        /// Whether the adversary is told the batch; it is not.
        adversary_sees_batch: bool,
        /// What the adversary reads; posterior means.
        adversary_input: AdversaryInput,
        /// What makes modalities alike; the adversary.
        alignment: Alignment,
        /// What holds paired cells together; cosines.
        pairing: PairingLoss,
        /// How much the nearest wrong cells count with InfoNCE; 0.07.
        temperature: f64,
        /// How much each part of the loss weighs.
        weights: LossWeights,
        /// Whether to repeat scglue's errors; no.
        parity: Parity,
    }

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) names the first setting that can't be.
    pub fn check(self) -> Result<ClueValidParams> {
        self.config.check()?;
        self.registry.check()?;
        Ok(ClueValidParams(self))
    }
}

/// Settings that passed [`ClueParams::check`].
#[derive(Debug, Clone)]
pub struct ClueValidParams(ClueParams);

impl ClueValidParams {
    /// The settings.
    pub fn config(&self) -> &ClueConfig {
        &self.0.config
    }

    /// A model with random weights, distributed as PyTorch's.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init(&self, device: &Device, seed: u64) -> Result<Clue> {
        self.init_with_dtype(device, DType::F32, seed)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn init_with_dtype(&self, device: &Device, dtype: DType, seed: u64) -> Result<Clue> {
        let ClueParams { config, registry } = &self.0;
        let (nets, params) = build_params(device, dtype, &Rng::new(seed), |p| {
            Nets::new(p, config, registry)
        })?;
        Ok(self.model(nets, params))
    }

    /// A model with weights by scglue's names, as `net.state_dict()` has them; the settings need
    /// [`Parity::Upstream`](sc_model::Parity) if it was trained there. `path` is for messages.
    ///
    /// # Errors
    /// [`sc_model::Error::MissingTensor`] or [`sc_model::Error::WrongShape`] if they are of another model.
    pub fn load(
        &self,
        device: &Device,
        dtype: DType,
        path: &Path,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<Clue> {
        let ClueParams { config, registry } = &self.0;
        let (nets, params) = load_params(device, dtype, path, tensors, |p| {
            Nets::new(p, config, registry)
        })?;
        Ok(self.model(nets, params))
    }

    fn model(&self, nets: Nets, params: sc_model::Params) -> Clue {
        Clue {
            config: self.0.config.clone(),
            registry: self.0.registry.clone(),
            params,
            nets,
            training: None,
        }
    }
}
