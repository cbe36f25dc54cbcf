//! The tensors of a file.

use std::path::Path;

use candle_core::{Device, Tensor};
use indexmap::IndexMap;
use sc_io::pytorch::{DType, Dict, TorchTensor, Value};

use super::names::canonical;
use crate::{Error, Result};

/// Where the state dictionary is, if not at the top.
const NESTED: [&str; 3] = ["model_state_dict", "state_dict", "model"];

/// The tensors under their names here.
pub(super) fn state_dict(path: &Path, value: &Value) -> Result<IndexMap<String, TorchTensor>> {
    let format = |reason: String| {
        Error::Model(sc_model::Error::Format {
            path: path.to_owned(),
            reason,
        })
    };
    let Some(top) = value.as_dict() else {
        return Err(format(format!(
            "holds a {}, not a dictionary of tensors; save model.state_dict() instead of the model",
            value.type_name()
        )));
    };
    let has_tensors = |d: &Dict| d.iter_str().any(|(_, v)| v.as_tensor().is_some());
    let nested = || NESTED.iter().find_map(|k| top.get(k)?.as_dict());
    let dict = match has_tensors(top) {
        true => top,
        false => nested()
            .filter(|d| has_tensors(d))
            .ok_or_else(|| format("holds no tensors".into()))?,
    };
    let mut tensors = IndexMap::with_capacity(dict.len());
    for (name, value) in dict.iter_str() {
        let Some(t) = value.as_tensor() else {
            return Err(format(format!(
                "\"{name}\" is a {}, not a tensor",
                value.type_name()
            )));
        };
        let name = canonical(name);
        if tensors.contains_key(&name) {
            return Err(format(format!(
                "has the tensor \"{name}\" twice, in two layouts"
            )));
        }
        tensors.insert(name, t.clone());
    }
    Ok(tensors)
}

/// The numbers of a tensor; the parameter converts their type.
pub(super) fn to_tensor(t: &TorchTensor, device: &Device) -> Result<Tensor> {
    Ok(match t.dtype() {
        DType::F64 => Tensor::from_vec(t.to_f64_vec(), t.shape(), device)?,
        DType::I64 | DType::I32 => Tensor::from_vec(t.to_i64_vec()?, t.shape(), device)?,
        _ => Tensor::from_vec(t.to_f32_vec(), t.shape(), device)?,
    })
}
