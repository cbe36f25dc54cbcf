use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use sc_io::pytorch::{self, DataFrame, TorchTensor, Value};
use sc_model::train::{History, Split};

use super::{LEGACY_ATTRIBUTES, LEGACY_GENES, LEGACY_WEIGHTS, MODEL, init_params, registry};
use crate::model::Training;
use crate::{
    AnyModel, Error, Registry, Result, Scanvi, ScanviConfig, ScanviParams, Scvi, ScviParams,
};

/// The parts of a saved model.
pub(super) struct Parts {
    path: PathBuf,
    pub(super) weights: HashMap<String, Tensor>,
    pub(super) registry: Registry,
    pub(super) class: String,
    attributes: Value,
}

impl Scvi {
    /// Reads an SCVI or LinearSCVI model that scvi-tools saved: a folder with `model.pt` (0.15 and later), or with
    /// `model_params.pt`, `var_names.csv` and `attr.pkl` (before), or a `model.pt` itself. Nothing in it is executed.
    ///
    /// # Errors
    /// If it is not whole, or of another class.
    pub fn from_scvi_tools(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::from_scvi_tools_with_dtype(path, device, DType::F32)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// As [`Scvi::from_scvi_tools`].
    pub fn from_scvi_tools_with_dtype(
        path: impl AsRef<Path>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let parts = Parts::read(path.as_ref())?;
        match parts.class.as_str() {
            "SCVI" | "LinearSCVI" => parts.scvi(device, dtype),
            _ => Err(parts.unknown_class("SCVI and LinearSCVI")),
        }
    }
}

impl Scanvi {
    /// Reads a SCANVI model that scvi-tools saved, as [`Scvi::from_scvi_tools`] does.
    ///
    /// A model saved before 1.1 has [`ClassifierConfig::legacy_probs`](crate::ClassifierConfig::legacy_probs) set: its classifier ended in a softmax, and goes on
    /// training so.
    ///
    /// # Errors
    /// If it is not whole, or of another class.
    pub fn from_scvi_tools(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::from_scvi_tools_with_dtype(path, device, DType::F32)
    }

    /// The same in another precision: `F64` is for checking numbers.
    ///
    /// # Errors
    /// As [`Scanvi::from_scvi_tools`].
    pub fn from_scvi_tools_with_dtype(
        path: impl AsRef<Path>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let parts = Parts::read(path.as_ref())?;
        match parts.class.as_str() {
            "SCANVI" => parts.scanvi(device, dtype),
            _ => Err(parts.unknown_class("SCANVI")),
        }
    }
}

impl AnyModel {
    /// Reads an SCVI, LinearSCVI or SCANVI model that scvi-tools saved; see [`Scvi::from_scvi_tools`].
    ///
    /// # Errors
    /// If it is not whole, or of another class.
    pub fn from_scvi_tools(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let parts = Parts::read(path.as_ref())?;
        match parts.class.as_str() {
            "SCVI" | "LinearSCVI" => Ok(Self::Scvi(parts.scvi(device, DType::F32)?)),
            "SCANVI" => Ok(Self::Scanvi(parts.scanvi(device, DType::F32)?)),
            _ => Err(parts.unknown_class("SCVI, LinearSCVI and SCANVI")),
        }
    }
}

impl Parts {
    fn scvi(self, device: &Device, dtype: DType) -> Result<Scvi> {
        let path = self.path.clone();
        self.make_scvi(device, dtype).map_err(|e| e.in_file(&path))
    }

    fn scanvi(self, device: &Device, dtype: DType) -> Result<Scanvi> {
        let path = self.path.clone();
        self.make_scanvi(device, dtype)
            .map_err(|e| e.in_file(&path))
    }

    fn make_scvi(self, device: &Device, dtype: DType) -> Result<Scvi> {
        let arguments = init_params::flatten(self.attributes.at(&["init_params_"])?);
        let config = init_params::read(&arguments, self.class == "LinearSCVI")?;
        let valid = ScviParams::new(config, self.registry).check()?;
        let mut model = valid.load(device, dtype, &self.path, &self.weights)?;
        model.training = training(&self.attributes);
        Ok(model)
    }

    fn make_scanvi(mut self, device: &Device, dtype: DType) -> Result<Scanvi> {
        // Older files keep the category outside of the registry.
        if self.registry.setup.unlabeled_category.is_none() {
            let attribute = self.attributes.get("unlabeled_category_");
            self.registry.setup.unlabeled_category = attribute.and_then(registry::name);
        }
        let arguments = init_params::flatten(self.attributes.at(&["init_params_"])?);
        let mut config = ScanviConfig {
            scvi: init_params::read(&arguments, false)?,
            classifier: init_params::read_classifier(&arguments)?,
        };
        config.classifier.legacy_probs |= self.is_before_logits();
        let valid = ScanviParams::new(config, self.registry).check()?;
        let mut model = valid.load(device, dtype, &self.path, &self.weights)?;
        model.scvi.training = training(&self.attributes);
        Ok(model)
    }

    /// Whether the classifier ended in a softmax when this was saved: before version 1.1.
    fn is_before_logits(&self) -> bool {
        let version = self
            .attributes
            .get("registry_")
            .and_then(|r| r.get("scvi_version"))
            .and_then(Value::as_str)
            .unwrap_or("0");
        let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        (major, minor) < (1, 1)
    }

    fn unknown_class(self, known: &str) -> Error {
        Error::Upstream {
            path: self.path,
            reason: format!(
                "holds a model of class {}; this reader knows {known}",
                self.class
            ),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let file = if path.is_dir() {
            path.join(MODEL)
        } else {
            path.to_owned()
        };
        if path.is_dir() && !file.exists() && path.join(LEGACY_WEIGHTS).exists() {
            return Self::read_legacy(path).map_err(|e| e.in_file(path));
        }
        Self::of(&pytorch::read(&file)?, file)
    }

    /// Out of what a `model.pt` holds.
    pub(super) fn of(root: &Value, file: PathBuf) -> Result<Self> {
        Self::unnamed(root, file.clone()).map_err(|e| e.in_file(&file))
    }

    fn unnamed(root: &Value, file: PathBuf) -> Result<Self> {
        let wrong = |reason: &str| Error::Upstream {
            path: file.clone(),
            reason: reason.to_owned(),
        };
        let attributes = root.at(&["attr_dict"])?.clone();
        let genes = root.at(&["var_names"])?;
        if genes.as_dict().is_some() {
            return Err(wrong(
                "holds several modalities (var_names is a dict); an SCVI model has one",
            ));
        }
        let registry_value = attributes.at(&["registry_"])?;
        let class = registry_value
            .get("model_name")
            .and_then(Value::as_str)
            .unwrap_or("SCVI")
            .to_owned();
        let mut registry = registry::read(registry_value, registry::strings(genes)?)?;
        add_unlabeled(&mut registry, &class, &attributes);
        Ok(Self {
            weights: state_dict(root.at(&["model_state_dict"])?)?,
            registry,
            class,
            attributes,
            path: file,
        })
    }

    fn read_legacy(dir: &Path) -> Result<Self> {
        let path = dir.join(LEGACY_WEIGHTS);
        let genes_path = dir.join(LEGACY_GENES);
        let genes = std::fs::read_to_string(&genes_path).map_err(|e| Error::Upstream {
            path: genes_path,
            reason: format!("cannot be read: {e}"),
        })?;
        let genes: Vec<String> = genes
            .lines()
            .map(|l| l.trim_end_matches('\r').to_owned())
            .collect();
        let attributes = pytorch::read_pickle(dir.join(LEGACY_ATTRIBUTES))?;
        let weights = state_dict(&pytorch::read(&path)?)?;
        // The class was not stored; a model of another class has other parameters.
        let known = |name: &str| weights.keys().any(|k| k.starts_with(name));
        let class = if known("encoder_z2_z1") && !known("background") {
            "SCANVI"
        } else if known("decoder.px_decoder") && !known("classifier") && !known("background") {
            "SCVI"
        } else if known("decoder.factor_regressor") {
            "LinearSCVI"
        } else {
            "unknown (before version 0.15 it was not stored, and the parameters are not SCVI's)"
        };
        let setup = attributes.at(&["scvi_setup_dict_"])?;
        let mut registry = registry::read_legacy(setup, genes)?;
        add_unlabeled(&mut registry, class, &attributes);
        Ok(Self {
            registry,
            class: class.to_owned(),
            weights,
            attributes,
            path,
        })
    }
}

/// Older files keep the label for "not known" outside of the registry.
fn add_unlabeled(registry: &mut Registry, class: &str, attributes: &Value) {
    if class == registry::SCANVI && registry.setup.unlabeled_category.is_none() {
        let attribute = attributes.get("unlabeled_category_");
        registry.setup.unlabeled_category = attribute.and_then(Value::as_str).map(str::to_owned);
    }
}

/// The tensors of a state dict; anything else in it (Pyro's parameter store) is passed over.
fn state_dict(value: &Value) -> Result<HashMap<String, Tensor>> {
    let Some(dict) = value.as_dict() else {
        return Err(Error::InvalidSetting {
            name: "model_state_dict",
            value: value.type_name().to_owned(),
            reason: "a dict of tensors was expected".into(),
        });
    };
    dict.iter_str()
        .filter_map(|(name, value)| value.as_tensor().map(|t| (name, t)))
        .map(|(name, t)| Ok((name.to_owned(), to_tensor(t)?)))
        .collect()
}

fn to_tensor(t: &TorchTensor) -> Result<Tensor> {
    use pytorch::DType as Stored;
    let shape = t.shape();
    Ok(match t.dtype() {
        Stored::F64 => Tensor::from_vec(t.to_f64_vec(), shape, &Device::Cpu)?,
        Stored::F32 | Stored::F16 | Stored::BF16 => {
            Tensor::from_vec(t.to_f32_vec(), shape, &Device::Cpu)?
        }
        _ => Tensor::from_vec(t.to_i64_vec()?, shape, &Device::Cpu)?,
    })
}

/// History and split of a trained model, as far as they can be read.
fn training(attributes: &Value) -> Option<Training> {
    if attributes.get("is_trained_").and_then(Value::as_bool) != Some(true) {
        return None;
    }
    let mut history = History::default();
    for (name, value) in attributes
        .get("history_")
        .and_then(Value::as_dict)
        .iter()
        .flat_map(|d| d.iter_str())
    {
        let Ok(frame) = DataFrame::from_value(value) else {
            continue;
        };
        let Some(values) = frame.values.first() else {
            continue;
        };
        for (epoch, v) in frame.index.iter().zip(values).filter(|(e, _)| **e >= 0.0) {
            history.push(name, *epoch as usize, *v);
        }
    }
    let indices = |name: &str| -> Vec<usize> {
        let values = attributes
            .get(name)
            .and_then(Value::as_array)
            .and_then(|a| a.to_i64_vec().ok());
        values
            .unwrap_or_default()
            .into_iter()
            .filter_map(|i| usize::try_from(i).ok())
            .collect()
    };
    let split = Split {
        train: indices("train_indices_"),
        validation: indices("validation_indices_"),
        test: indices("test_indices_"),
    };
    Some(Training { split, history })
}
