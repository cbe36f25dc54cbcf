//! The checkpoints of the original scBERT.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_io::pytorch::{self, Dict, TorchTensor, Value};

use super::layout::{compare, layout};
use super::nets::HeadKind;
use super::{GenePanel, Scbert, ScbertConfig};
use crate::{Error, Result};

/// Where a checkpoint keeps the weights.
const STATE: &str = "model_state_dict";
/// What training on several devices puts before each name.
const PARALLEL: &str = "module.";

/// How to read a checkpoint of the original.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UpstreamOptions {
    /// The classes, in the order in which the original sorted them, for a fine-tuned checkpoint. Without them they are
    /// called by their numbers.
    pub labels: Option<Vec<String>>,
    /// Tensors that the file may have although the model does not.
    pub ignore: Vec<String>,
    /// The precision to compute in; `F64` is for checking numbers.
    pub dtype: DType,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            labels: None,
            ignore: Vec::new(),
            dtype: DType::F32,
        }
    }
}

impl Scbert {
    /// Reads a checkpoint that the original's `pretrain.py` or `finetune.py` wrote (`panglao_pretrain.pth`,
    /// `finetune_best.pth`). The sizes of the network follow from the tensors; the names of the genes are not in the file.
    ///
    /// # Errors
    /// [`Error::OtherTensors`] lists the tensors that are missing, left over or of another shape; [`Error::Panel`] if the panel
    /// has another number of genes; [`Error::Checkpoint`] if the file is no checkpoint.
    pub fn from_scbert(
        path: impl AsRef<Path>,
        panel: GenePanel,
        options: &UpstreamOptions,
        device: &Device,
    ) -> Result<Self> {
        let path = path.as_ref();
        let tensors = read_state(path)?;
        let (config, n_classes) = sizes(path, &tensors)?;
        let positions = dims(path, &tensors, "pos_emb.emb.weight", 2)?[0];
        if positions != panel.positions() {
            return Err(Error::Panel {
                reason: format!(
                    "it has {} genes, and {} was made for {}",
                    panel.len(),
                    path.display(),
                    positions.saturating_sub(1)
                ),
            });
        }
        let head = n_classes.map_or(HeadKind::Tokens, HeadKind::Classes);
        compare(
            path,
            &layout(&config, positions, head),
            &tensors,
            &options.ignore,
        )?;
        let labels = labels(n_classes.unwrap_or(0), options)?;
        Self::from_tensors(config, panel, labels, options.dtype, device, path, &tensors)
    }

    /// Writes a checkpoint that the original reads: its dictionary, names and types, without the state of its
    /// optimiser. The folder is made if it isn't there.
    ///
    /// # Errors
    /// If the disk refuses; the file is whole or as it was.
    pub fn save_scbert(&self, path: impl AsRef<Path>) -> Result<()> {
        let state = self.params.iter().map(|p| {
            let mut t = p.export()?;
            if p.name() == self.nets.genes().name() {
                t = t.to_dtype(DType::F64)?;
            }
            Ok((p.name(), Value::from(to_torch(&t)?)))
        });
        let state = state.collect::<Result<Vec<_>>>()?;
        let nothing = || Value::from(Dict::from_pairs(Vec::<(&str, Value)>::new()));
        let root = Dict::from_pairs([
            ("epoch", Value::Int(0)),
            (STATE, Dict::ordered(state).into()),
            ("optimizer_state_dict", nothing()),
            ("scheduler_state_dict", nothing()),
            ("losses", Value::Float(0.0)),
        ]);
        let path = path.as_ref();
        if let Some(folder) = path.parent() {
            sc_model::files::create_folder(folder)?;
        }
        Ok(pytorch::write(path, &root.into())?)
    }
}

/// The weights by their names on one device.
fn read_state(path: &Path) -> Result<HashMap<String, Tensor>> {
    let root = pytorch::read(path)?;
    let state = root.get(STATE).unwrap_or(&root);
    let Some(state) = state.as_dict() else {
        return Err(not_scbert(
            path,
            format!("it holds a {}", state.type_name()),
        ));
    };
    let mut tensors = HashMap::new();
    for (name, value) in state.iter_str() {
        if let Some(t) = value.as_tensor() {
            let name = name.strip_prefix(PARALLEL).unwrap_or(name);
            tensors.insert(name.to_owned(), from_torch(t)?);
        }
    }
    Ok(tensors)
}

fn not_scbert(path: &Path, reason: String) -> Error {
    sc_model::Error::Format {
        path: path.to_owned(),
        reason: format!("is no checkpoint of scBERT: {reason}"),
    }
    .into()
}

/// The shape of a tensor, if it has so many dimensions.
fn dims(
    path: &Path,
    tensors: &HashMap<String, Tensor>,
    name: &str,
    rank: usize,
) -> Result<Vec<usize>> {
    match tensors.get(name).map(Tensor::dims) {
        Some(dims) if dims.len() == rank => Ok(dims.to_vec()),
        Some(dims) => Err(not_scbert(path, format!("{name} has shape {dims:?}"))),
        None => Err(not_scbert(path, format!("it has no tensor {name}"))),
    }
}

/// The sizes of the network, and of its classes if it has some.
fn sizes(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<(ScbertConfig, Option<usize>)> {
    let of = |name: &str| dims(path, tensors, name, 2);
    let block = "performer.net.layers.0";
    let tokens = of("token_emb.weight")?;
    let projection = of(&format!("{block}.0.fn.fast_attention.projection_matrix"))?;
    let inner = of(&format!("{block}.0.fn.to_q.weight"))?[0];
    let mut config = ScbertConfig {
        max_bin: tokens[0].saturating_sub(2),
        dim: tokens[1],
        depth: (0..)
            .take_while(|i| {
                tensors.contains_key(&format!("performer.net.layers.{i}.0.norm.weight"))
            })
            .count(),
        heads: inner / projection[1].max(1),
        dim_head: projection[1],
        features: Some(projection[0]),
        hidden: Some(of(&format!("{block}.1.fn.fn.w1.weight"))?[0]),
        ..ScbertConfig::default()
    };
    if tensors.contains_key("to_out.weight") {
        config.check()?;
        return Ok((config, None));
    }
    let (fc1, fc2) = (of("to_out.fc1.weight")?, of("to_out.fc2.weight")?);
    config.classifier_hidden = [fc1[0], fc2[0]];
    config.check()?;
    Ok((config, Some(of("to_out.fc3.weight")?[0])))
}

fn labels(n_classes: usize, options: &UpstreamOptions) -> Result<Vec<String>> {
    match &options.labels {
        None => Ok((0..n_classes).map(|i| i.to_string()).collect()),
        Some(labels) if labels.len() == n_classes => Ok(labels.clone()),
        Some(labels) => Err(Error::InvalidSetting {
            name: "labels",
            value: format!("{} of them", labels.len()),
            reason: format!("the checkpoint has {n_classes} classes"),
        }),
    }
}

fn from_torch(t: &TorchTensor) -> Result<Tensor> {
    let (shape, device) = (t.shape(), &Device::Cpu);
    Ok(match t.dtype() {
        pytorch::DType::F64 => Tensor::from_vec(t.to_f64_vec(), shape, device)?,
        pytorch::DType::F32 | pytorch::DType::F16 | pytorch::DType::BF16 => {
            Tensor::from_vec(t.to_f32_vec(), shape, device)?
        }
        _ => Tensor::from_vec(t.to_i64_vec()?, shape, device)?,
    })
}

fn to_torch(t: &Tensor) -> Result<TorchTensor> {
    let flat = t.flatten_all()?;
    Ok(match t.dtype() {
        DType::I64 => TorchTensor::from_i64(t.dims(), &flat.to_vec1()?)?,
        DType::F64 => TorchTensor::from_f64(t.dims(), &flat.to_vec1()?)?,
        _ => TorchTensor::from_f32(t.dims(), &flat.to_dtype(DType::F32)?.to_vec1()?)?,
    })
}
