//! Models in our own format: a folder with `config.json` and `model.safetensors`.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::save::{WEIGHTS, model_kind, read_model, save_model};
use sc_model::{Params, load_params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::{ScGptConfig, ensure};
use super::model::ScGpt;
use super::nets::Nets;
use crate::Result;
use crate::vocab::GeneVocab;

/// What [`model_kind`] says of a folder of [`ScGpt`].
pub const KIND: &str = "scgpt";

/// What a folder holds besides the weights.
#[derive(Serialize, Deserialize)]
struct Saved<C> {
    model: C,
    vocab: Vec<String>,
}

/// Writes a model with its settings and vocabulary.
pub(super) fn write<C: Serialize>(
    dir: &Path,
    kind: &str,
    config: C,
    vocab: &GeneVocab,
    params: &Params,
) -> Result<()> {
    let saved = Saved {
        model: config,
        vocab: vocab.tokens().to_vec(),
    };
    Ok(save_model(dir, kind, &saved, params)?)
}

/// Reads the settings, the vocabulary and the tensors of a model of this kind.
pub(super) fn read<C: DeserializeOwned>(
    dir: &Path,
    kind: &str,
) -> Result<(C, GeneVocab, HashMap<String, Tensor>)> {
    let found = model_kind(dir)?;
    let reason = format_args!("{} must hold a model of kind {kind}", dir.display());
    ensure(found == kind, "model", &found, reason)?;
    let (_, saved, tensors) = read_model::<Saved<C>>(dir)?;
    Ok((saved.model, GeneVocab::new(saved.vocab)?, tensors))
}

/// Makes sure that a vocabulary has as many tokens as the model.
pub(super) fn same_size(vocab: &GeneVocab, config: &ScGptConfig) -> Result<()> {
    let (n, reason) = (
        config.n_tokens,
        format!("the vocabulary has {}", vocab.len()),
    );
    ensure(n == vocab.len(), "n_tokens", n, reason)
}

impl ScGpt {
    /// Writes `config.json` and `model.safetensors` to a folder, which is made if it isn't there.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        write(dir.as_ref(), KIND, &self.config, &self.vocab, &self.params)
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
        let (config, vocab, tensors) = read::<ScGptConfig>(dir, KIND)?;
        config.check()?;
        same_size(&vocab, &config)?;
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
