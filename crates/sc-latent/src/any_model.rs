use std::path::Path;

use candle_core::Device;
use sc_model::save::{is_saved_model, model_kind};

use crate::{Error, Registry, Result, Scanvi, Scvi, is_scvi_tools_model, model, scanvi};

/// A model of this crate, whichever a folder holds.
///
/// ```no_run
/// use sc_latent::AnyModel;
/// let model = AnyModel::load("model", &candle_core::Device::Cpu)?;
/// println!("{} genes, {} labels", model.registry().n_genes(), model.registry().n_labels());
/// # Ok::<(), sc_latent::Error>(())
/// ```
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a program holds one or two")]
pub enum AnyModel {
    /// scVI or LinearSCVI.
    Scvi(Scvi),
    /// scANVI.
    Scanvi(Scanvi),
}

impl AnyModel {
    /// Reads a folder of ours ([`Scvi::save`], [`Scanvi::save`]) or of scvi-tools.
    ///
    /// # Errors
    /// If it holds neither, or is not whole.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        if !is_saved_model(dir) && is_scvi_tools_model(dir) {
            return Self::from_scvi_tools(dir, device);
        }
        match model_kind(dir)?.as_str() {
            model::KIND => Ok(Self::Scvi(Scvi::load(dir, device)?)),
            scanvi::KIND => Ok(Self::Scanvi(Scanvi::load(dir, device)?)),
            other => Err(Error::InvalidSetting {
                name: "model",
                value: other.to_owned(),
                reason: format!(
                    "{} holds a model that is neither {} nor {}",
                    dir.display(),
                    model::KIND,
                    scanvi::KIND
                ),
            }),
        }
    }

    /// The variational auto-encoder, of which everything is asked that needs no labels.
    pub fn scvi(&self) -> &Scvi {
        match self {
            Self::Scvi(m) => m,
            Self::Scanvi(m) => m.scvi(),
        }
    }

    /// The model with a classifier, if it is one.
    pub fn scanvi(&self) -> Option<&Scanvi> {
        match self {
            Self::Scvi(_) => None,
            Self::Scanvi(m) => Some(m),
        }
    }

    /// Genes and categories.
    pub fn registry(&self) -> &Registry {
        self.scvi().registry()
    }

    /// Writes a folder of ours.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        match self {
            Self::Scvi(m) => m.save(dir),
            Self::Scanvi(m) => m.save(dir),
        }
    }

    /// Writes a folder that scvi-tools loads.
    ///
    /// # Errors
    /// If the disk refuses, or scvi-tools does not know such a model.
    pub fn save_scvi_tools(&self, dir: impl AsRef<Path>) -> Result<()> {
        match self {
            Self::Scvi(m) => m.save_scvi_tools(dir),
            Self::Scanvi(m) => m.save_scvi_tools(dir),
        }
    }
}

impl From<Scvi> for AnyModel {
    fn from(m: Scvi) -> Self {
        Self::Scvi(m)
    }
}

impl From<Scanvi> for AnyModel {
    fn from(m: Scanvi) -> Self {
        Self::Scanvi(m)
    }
}
