//! Models in our own format: a folder with `config.json` and `model.safetensors`.

use std::path::Path;

use candle_core::{DType, Device};
use sc_model::load_params;
use sc_model::save::{WEIGHTS, model_kind, read_model, save_model};
use serde::{Deserialize, Serialize};

use super::config::{ScGptConfig, ensure};
use super::model::ScGpt;
use super::nets::Nets;
use crate::Result;
use crate::vocab::GeneVocab;

/// What [`model_kind`] says of such a folder.
pub const KIND: &str = "scgpt";

/// What a folder holds besides the weights.
#[derive(Serialize, Deserialize)]
struct Saved {
    model: ScGptConfig,
    vocab: Vec<String>,
}

impl ScGpt {
    /// Writes `config.json` and `model.safetensors` to a folder.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let saved = Saved {
            model: self.config.clone(),
            vocab: self.vocab.tokens().to_vec(),
        };
        Ok(save_model(dir.as_ref(), KIND, &saved, &self.params)?)
    }

    /// Reads a folder that [`ScGpt::save`] wrote.
    ///
    /// # Errors
    /// If it is not whole, or of another model.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::load_with_dtype(dir, device, DType::F32)
    }

    /// The same in another precision.
    ///
    /// # Errors
    /// As [`ScGpt::load`].
    pub fn load_with_dtype(dir: impl AsRef<Path>, device: &Device, dtype: DType) -> Result<Self> {
        let dir = dir.as_ref();
        let kind = model_kind(dir)?;
        let reason = format_args!("{} must hold a model of kind {KIND}", dir.display());
        ensure(kind == KIND, "model", &kind, reason)?;
        let (_, saved, tensors) = read_model::<Saved>(dir)?;
        let vocab = GeneVocab::new(saved.vocab)?;
        let config = saved.model;
        config.check()?;
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
