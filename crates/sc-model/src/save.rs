//! A saved model: a folder with `config.json` and `model.safetensors`.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Params, Result, files, tensors};

/// The weights of a saved model.
pub const WEIGHTS: &str = "model.safetensors";
/// Its settings, for people and other programs; the same text is kept inside [`WEIGHTS`], which alone is read.
pub const CONFIG: &str = "config.json";

/// The version of the layout.
const FORMAT: &str = "sc-model 1";

/// Writes a model. `kind` says which model it is, e.g. `scvi`.
///
/// # Errors
/// [`Error::File`] if the disk refuses; each file is whole or as it was.
pub fn save_model(dir: &Path, kind: &str, config: &impl Serialize, params: &Params) -> Result<()> {
    let text = serde_json::to_string_pretty(config).map_err(|e| Error::Format {
        path: dir.join(CONFIG),
        reason: e.to_string(),
    })?;
    let metadata = tensors::Metadata::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("kind".to_owned(), kind.to_owned()),
        ("config".to_owned(), text.clone()),
    ]);
    let all = params
        .iter()
        .map(|p| Ok((p.name().to_owned(), p.export()?)))
        .collect::<Result<Vec<_>>>()?;
    tensors::write(&dir.join(WEIGHTS), &all, &metadata)?;
    files::write_atomic(&dir.join(CONFIG), |f| f.write_all(text.as_bytes()))
}

/// Whether a folder holds a model that [`save_model`] wrote.
pub fn is_saved_model(dir: &Path) -> bool {
    dir.join(WEIGHTS).is_file()
}

/// Which model a folder holds, as [`save_model`] was told.
///
/// # Errors
/// [`Error::File`] or [`Error::Format`].
pub fn model_kind(dir: &Path) -> Result<String> {
    let metadata = tensors::read_metadata(&dir.join(WEIGHTS))?;
    Ok(metadata.get("kind").cloned().unwrap_or_default())
}

/// Reads the kind, the settings and the tensors of a saved model.
///
/// # Errors
/// [`Error::File`] or [`Error::Format`].
pub fn read_model<C: DeserializeOwned>(dir: &Path) -> Result<(String, C, HashMap<String, Tensor>)> {
    let path = dir.join(WEIGHTS);
    let (tensors, metadata) = tensors::read(&path, &Device::Cpu)?;
    let format = metadata.get("format").map(String::as_str);
    if format != Some(FORMAT) {
        let reason = format!("has format {format:?}, this version reads \"{FORMAT}\"");
        return Err(Error::Format { path, reason });
    }
    let kind = metadata.get("kind").cloned().unwrap_or_default();
    let config = tensors::json_entry(&path, &metadata, "config")?;
    Ok((kind, config, tensors))
}
