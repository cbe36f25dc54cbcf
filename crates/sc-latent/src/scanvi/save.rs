use std::path::Path;

use candle_core::{DType, Device};
use sc_model::save::{WEIGHTS, read_model, save_model};
use serde::{Deserialize, Serialize};

use super::{Scanvi, ScanviConfig, ScanviParams};
use crate::{Query, Registry, Result, Training};

pub(crate) const KIND: &str = "scanvi";

/// What a folder holds besides the weights.
#[derive(Serialize, Deserialize)]
struct Saved {
    model: ScanviConfig,
    registry: Registry,
    training: Option<Training>,
    pretrained: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<Query>,
}

impl Scanvi {
    /// Writes `config.json` and `model.safetensors` to a folder.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let saved = Saved {
            model: self.config(),
            registry: self.registry().clone(),
            training: self.training().cloned(),
            pretrained: self.pretrained,
            query: self.query().cloned(),
        };
        Ok(save_model(
            dir.as_ref(),
            KIND,
            &saved,
            self.scvi.parameters(),
        )?)
    }

    /// Reads a folder that [`Scanvi::save`] wrote.
    ///
    /// # Errors
    /// If it is not whole, or of another model.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        crate::model::check_kind(dir, KIND)?;
        let (_, saved, tensors) = read_model::<Saved>(dir)?;
        let valid = ScanviParams::new(saved.model, saved.registry).check()?;
        let mut model = valid.load(device, DType::F32, &dir.join(WEIGHTS), &tensors)?;
        model.scvi.training = saved.training;
        model.pretrained = saved.pretrained;
        if let Some(query) = saved.query {
            model.scvi.freeze(query)?;
        }
        Ok(model)
    }
}
