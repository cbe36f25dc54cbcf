//! Perturbation models in our own format.

use std::path::Path;

use candle_core::{DType, Device};
use sc_model::load_params;
use sc_model::save::WEIGHTS;

use super::{Nets, PerturbConfig, ScGptPerturb};
use crate::Result;
use crate::scgpt::save;

/// What [`model_kind`](sc_model::save::model_kind) says of a folder of [`ScGptPerturb`].
pub const PERTURB_KIND: &str = "scgpt-perturb";

impl ScGptPerturb {
    /// Writes `config.json` and `model.safetensors` to a folder, which is made if it isn't there.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let (dir, params) = (dir.as_ref(), &self.params);
        save::write(dir, PERTURB_KIND, &self.config, &self.vocab, params)
    }

    /// Reads a folder that [`ScGptPerturb::save`] wrote.
    ///
    /// # Errors
    /// If it is not whole, or of another model.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load_with_dtype(dir, device, DType::F32)
    }

    /// The same in another precision.
    ///
    /// # Errors
    /// As [`ScGptPerturb::load`].
    pub fn load_with_dtype(dir: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Self> {
        let dir = dir.as_ref();
        let (config, vocab, tensors) = save::read::<PerturbConfig>(dir, PERTURB_KIND)?;
        config.check()?;
        save::same_size(&vocab, &config.base)?;
        let (nets, params) = load_params(device, dtype, &dir.join(WEIGHTS), &tensors, |p| {
            Nets::new(p, &config)
        })?;
        Ok(Self {
            vocab,
            config,
            params,
            nets,
        })
    }
}
