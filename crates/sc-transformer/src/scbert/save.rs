use std::path::Path;

use candle_core::{DType, Device};
use sc_model::save::{WEIGHTS, read_model, save_model};
use serde::{Deserialize, Serialize};

use super::{GenePanel, Scbert, ScbertConfig};
use crate::Result;

const KIND: &str = "scbert";

/// What a folder holds besides the weights.
#[derive(Serialize, Deserialize)]
struct Saved {
    model: ScbertConfig,
    genes: Vec<String>,
    labels: Vec<String>,
}

impl Scbert {
    /// Writes `config.json` and `model.safetensors` to a folder, which is made if it isn't there.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let saved = Saved {
            model: self.config.clone(),
            genes: self.panel.names().to_vec(),
            labels: self.labels.clone(),
        };
        Ok(save_model(dir.as_ref(), KIND, &saved, &self.params)?)
    }

    /// Reads a folder that [`Scbert::save`] wrote.
    ///
    /// # Errors
    /// If it is not whole, or of another model.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let path = dir.join(WEIGHTS);
        let kind = sc_model::save::model_kind(dir)?;
        if kind != KIND {
            let reason = format!("holds a model of kind \"{kind}\", not \"{KIND}\"");
            return Err(sc_model::Error::Format { path, reason }.into());
        }
        let (_, saved, tensors) = read_model::<Saved>(dir)?;
        let panel = GenePanel::new(saved.genes)?;
        Self::from_tensors(
            saved.model,
            panel,
            saved.labels,
            DType::F32,
            device,
            &path,
            &tensors,
        )
    }
}
