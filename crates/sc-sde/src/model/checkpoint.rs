//! Checkpoints that the original wrote.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;
use sc_io::pytorch::{self, Dict, TorchTensor, Value};

use super::hyper_parameters::{fill, lengths, n_augment};
use super::{LoadReport, ScDiffEq, ScDiffEqConfig, ScDiffEqParams};
use crate::{Error, Result};

/// An opened checkpoint: a Lightning checkpoint of scDiffEq, or a `state_dict` of its equation alone. Nothing in it is
/// executed.
///
/// The sizes of the nets are read off the tensors; activations, dropout and coefficients come from the hyper-parameters
/// that Lightning keeps. A bare `state_dict` has none: what it can't say is left at the default, to be set in the
/// configuration before [`Checkpoint::load_as`].
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: IndexMap<String, TorchTensor>,
    hyper: Option<Dict>,
}

/// What the names of the equation's tensors begin with in a checkpoint of the whole model.
const PREFIX: &str = "DiffEq.";

impl Checkpoint {
    /// Opens a file that `torch.save` or Lightning wrote.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it can't be read, [`Error::Model`] if it holds no tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let value = pytorch::read(&path)?;
        let format = |reason: String| {
            Error::Model(sc_model::Error::Format {
                path: path.clone(),
                reason,
            })
        };
        let top = value.as_dict().ok_or_else(|| {
            let found = value.type_name();
            format(format!(
                "holds a {found}, not a Lightning checkpoint or a dictionary of tensors"
            ))
        })?;
        let state = match top.get("state_dict").and_then(Value::as_dict) {
            Some(state) => state,
            None => top,
        };
        let mut tensors = IndexMap::new();
        for (name, value) in state.iter_str() {
            let Some(tensor) = value.as_tensor() else {
                let found = value.type_name();
                return Err(format(format!("\"{name}\" is a {found}, not a tensor")));
            };
            tensors.insert(full_name(name), tensor.clone());
        }
        if tensors.is_empty() {
            return Err(format("holds no tensors".into()));
        }
        Ok(Self {
            hyper: top
                .get("hyper_parameters")
                .and_then(Value::as_dict)
                .cloned(),
            path,
            tensors,
        })
    }

    /// The names and shapes of the tensors, as they are called here.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(n, t)| (n.as_str(), t.shape()))
    }

    /// The hyper-parameters that Lightning kept.
    pub fn hyper_parameters(&self) -> Option<&Dict> {
        self.hyper.as_ref()
    }

    /// The settings of the model that it is of.
    ///
    /// # Errors
    /// [`Error::Model`] if the tensors are those of no such model, [`Error::InvalidSetting`] for an unknown activation.
    pub fn config(&self) -> Result<ScDiffEqConfig> {
        let augmented = self.hyper.as_ref().map_or(0, n_augment);
        let mut config = lengths(self.shapes(), augmented).map_err(|reason| {
            Error::Model(sc_model::Error::Format {
                path: self.path.clone(),
                reason,
            })
        })?;
        if let Some(hyper) = &self.hyper {
            fill(&mut config, hyper)?;
        }
        Ok(config)
    }

    /// The model, with every tensor of the file in its place.
    ///
    /// # Errors
    /// [`Error::Incompatible`] lists what doesn't fit.
    pub fn load(&self, device: &Device, dtype: DType) -> Result<(ScDiffEq, LoadReport)> {
        self.load_as(self.config()?, device, dtype)
    }

    /// The same with settings of one's own.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_as(
        &self,
        config: ScDiffEqConfig,
        device: &Device,
        dtype: DType,
    ) -> Result<(ScDiffEq, LoadReport)> {
        let valid = ScDiffEqParams::from(config).check()?;
        let model = valid.init_with_dtype(device, dtype, 0)?;
        let shapes: Vec<_> = self.shapes().collect();
        let report = LoadReport::compare(model.parameters(), &shapes);
        if !report.is_complete() {
            return Err(Error::Incompatible {
                path: self.path.clone(),
                report: Box::new(report),
            });
        }
        for p in model.parameters().iter() {
            if let Some(t) = self.tensors.get(p.name()) {
                p.import(&Tensor::from_vec(t.to_f64_vec(), t.shape(), device)?)?;
            }
        }
        match model.parameters().first_non_finite()? {
            None => Ok((model, report)),
            Some(name) => Err(Error::Model(sc_model::Error::Format {
                path: self.path.clone(),
                reason: format!("tensor \"{name}\" holds numbers that are not finite"),
            })),
        }
    }
}

/// The name in a checkpoint of the whole model.
fn full_name(name: &str) -> String {
    let of_equation = ["mu.", "sigma.", "potential."];
    match of_equation.iter().any(|p| name.starts_with(p)) {
        true => format!("{PREFIX}{name}"),
        false => name.to_owned(),
    }
}

impl ScDiffEq {
    /// Opens a checkpoint that scDiffEq wrote: every tensor must find its place.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`Checkpoint::load`].
    pub fn from_checkpoint(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Ok(Checkpoint::open(path)?.load(device, DType::F32)?.0)
    }
}
