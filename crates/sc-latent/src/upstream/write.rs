use std::path::Path;

use candle_core::{DType, Tensor};
use sc_io::pytorch::{self, DataFrame, Dict, NumpyArray, TorchTensor, Value};

use super::registry::{Class, SCANVI};
use super::{MODEL, init_params, registry};
use crate::{BatchRepresentation, Decoder, Error, NormIn, Result, Scanvi, Scvi};

/// The version that files are written as.
const VERSION: &str = "1.4.2";
/// The last whose classifiers ended in a softmax.
const VERSION_BEFORE_LOGITS: &str = "1.0.4";

impl Scvi {
    /// Writes a folder with the `model.pt` that scvi-tools 1.x loads with `SCVI.load(dir, adata)` (or
    /// `LinearSCVI.load`).
    ///
    /// # Errors
    /// If the disk refuses; the file is whole or as it was.
    pub fn save_scvi_tools(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.check_linear_is_upstream()?;
        let class = Class {
            name: self.upstream_class(),
            version: VERSION,
        };
        let arguments = init_params::write(self.config(), None);
        let attributes = self.attributes(&class, arguments)?;
        self.write_model(dir.as_ref(), Dict::from_pairs(attributes).into())
    }

    /// scvi-tools' class.
    pub(super) fn upstream_class(&self) -> &'static str {
        match self.config().decoder {
            Decoder::Linear { .. } => "LinearSCVI",
            Decoder::Nonlinear => "SCVI",
        }
    }

    fn write_model(&self, dir: &Path, attributes: Value) -> Result<()> {
        let path = dir.join(MODEL);
        std::fs::create_dir_all(dir).map_err(|source| sc_model::Error::File {
            path: dir.to_owned(),
            action: "create",
            source,
        })?;
        let weights = self
            .parameters()
            .iter()
            .map(|p| Ok((p.name(), Value::from(to_torch(&p.export()?)?))))
            .collect::<Result<Vec<_>>>()?;
        let root = Dict::from_pairs([
            ("model_state_dict", Value::from(Dict::ordered(weights))),
            (
                "var_names",
                NumpyArray::from_strings(&self.registry().genes).into(),
            ),
            ("attr_dict", attributes),
        ]);
        Ok(pytorch::write(&path, &root.into())?)
    }

    /// scvi-tools' LinearSCVI knows less than ours.
    fn check_linear_is_upstream(&self) -> Result<()> {
        let (c, r) = (self.config(), self.registry());
        let has_covariates = !r.categorical_covariates.is_empty()
            || !r.setup.continuous_covariate_keys.is_empty()
            || r.setup.size_factor_key.is_some();
        let other = c.encode_covariates
            || c.batch_representation != BatchRepresentation::OneHot
            || !c.batch_norm.encoder()
            || c.layer_norm != NormIn::None;
        if matches!(c.decoder, Decoder::Linear { .. }) && (has_covariates || other) {
            return Err(Error::InvalidSetting {
                name: "format",
                value: "scvi-tools".into(),
                reason: "its LinearSCVI knows a batch column and no covariates, size factors, embeddings or layer norm"
                    .into(),
            });
        }
        Ok(())
    }

    /// What all classes keep, in the order of the names.
    fn attributes(&self, class: &Class, arguments: Value) -> Result<Vec<(&'static str, Value)>> {
        let split = self.training().map(|t| t.split.clone()).unwrap_or_default();
        let n_cells = split.train.len() + split.validation.len() + split.test.len();
        let indices = |v: &[usize]| -> Value {
            NumpyArray::from_i64(&v.iter().map(|&i| i as i64).collect::<Vec<_>>()).into()
        };
        Ok(vec![
            (
                "get_normalized_function_name_",
                "get_normalized_expression".into(),
            ),
            ("history_", self.history_frames()?),
            ("init_params_", arguments),
            ("is_trained_", self.training().is_some().into()),
            (
                "registry_",
                registry::write(self.registry(), self.config(), class, n_cells),
            ),
            ("run_name_", class.name.into()),
            ("test_indices_", indices(&split.test)),
            ("train_indices_", indices(&split.train)),
            ("validation_indices_", indices(&split.validation)),
        ])
    }

    fn history_frames(&self) -> Result<Value> {
        let Some(training) = self.training() else {
            return Ok(Value::None);
        };
        let frames = training
            .history
            .names()
            .map(|name| {
                let points = training.history.get(name);
                let frame = DataFrame {
                    columns: vec![name.to_owned()],
                    index: points.iter().map(|p| p.0 as f64).collect(),
                    index_name: Some("epoch".into()),
                    values: vec![points.iter().map(|p| p.1).collect()],
                };
                Ok((name, frame.to_value()?))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Dict::from_pairs(frames).into())
    }
}

impl Scanvi {
    /// Writes a folder with the `model.pt` that scvi-tools 1.x loads with `SCANVI.load(dir, adata)`.
    ///
    /// A model with [`ClassifierConfig::legacy_probs`](crate::ClassifierConfig::legacy_probs) is written as one of version
    /// 1.0, as which scvi-tools treats its classifier as it was.
    ///
    /// # Errors
    /// If the disk refuses; the file is whole or as it was.
    pub fn save_scvi_tools(&self, dir: impl AsRef<Path>) -> Result<()> {
        let class = Class {
            name: SCANVI,
            version: if self.classifier.legacy_probs {
                VERSION_BEFORE_LOGITS
            } else {
                VERSION
            },
        };
        let arguments = init_params::write(&self.scvi.config, Some(&self.classifier));
        let mut attributes = self.scvi.attributes(&class, arguments)?;
        attributes.extend([
            (
                "labels_",
                NumpyArray::from_strings(Vec::<String>::new()).into(),
            ),
            ("semisupervised_history_", Value::None),
            ("unlabeled_category_", registry::unlabeled(self.registry())),
            ("unsupervised_history_", Value::None),
        ]);
        self.scvi
            .write_model(dir.as_ref(), Dict::from_pairs(attributes).into())
    }
}

fn to_torch(t: &Tensor) -> Result<TorchTensor> {
    let flat = t.flatten_all()?;
    Ok(match t.dtype() {
        DType::I64 => TorchTensor::from_i64(t.dims(), &flat.to_vec1()?)?,
        DType::F64 => TorchTensor::from_f64(t.dims(), &flat.to_vec1()?)?,
        _ => TorchTensor::from_f32(t.dims(), &flat.to_dtype(DType::F32)?.to_vec1()?)?,
    })
}
