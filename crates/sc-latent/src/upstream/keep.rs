//! Writing a model of scvi-tools again: what was not changed stays as it was.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use sc_io::pytorch::{self, Value};
use serde::Serialize;

use super::read::Parts;
use super::registry::{self, Class};
use super::{LEGACY_ATTRIBUTES, MODEL};
use crate::{AnyModel, Error, Registry, Result, Scvi};

/// What became of the `model.pt` that a model was read from; see [`AnyModel::save_scvi_tools_like`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kept {
    /// It was copied, byte for byte.
    Copied,
    /// Everything in it was kept but the note of where minified cells have their posterior.
    Noted,
    /// The model was written anew: there was no such file, or its weights, genes or categories are others.
    Anew {
        /// What the file held that the new one lacks, by name.
        lost: Vec<String>,
    },
}

/// What scvi-tools registers of minified data.
const MINIFIED: [&str; 4] = [
    "latent_qzm",
    "latent_qzv",
    "observed_lib_size",
    "minify_type",
];

impl AnyModel {
    /// As [`AnyModel::save_scvi_tools`], of a model that was read from the folder (or `model.pt`) `source`: if scvi-tools
    /// wrote that and the model is still the same, its file is kept with all that is in it, known here or not (the history of
    /// training in full, say). [`AnyModel::set_minified`] changes a note in it and nothing else.
    ///
    /// # Errors
    /// As [`AnyModel::save_scvi_tools`], and if `source` cannot be read.
    pub fn save_scvi_tools_like(
        &self,
        source: impl AsRef<Path>,
        dir: impl AsRef<Path>,
    ) -> Result<Kept> {
        let (source, dir) = (source.as_ref(), dir.as_ref());
        let Some(file) = model_file(source) else {
            self.save_scvi_tools(dir)?;
            return Ok(Kept::Anew {
                lost: lost(&legacy_names(source)?, dir)?,
            });
        };
        let root = pytorch::read(&file)?;
        let before = Parts::of(&root, file.clone())?;
        if self.is_still(&before)? {
            if before.registry.minified == self.registry().minified {
                copy(&file, &dir.join(MODEL))?;
                return Ok(Kept::Copied);
            }
            let noted = self.noted(&root).map_err(|e| e.in_file(&file))?;
            create(dir)?;
            match pytorch::write(dir.join(MODEL), &noted) {
                Ok(()) => return Ok(Kept::Noted),
                // An object that only its own program can make.
                Err(pytorch::Error::Unwritable { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.save_scvi_tools(dir)?;
        Ok(Kept::Anew {
            lost: lost(&names(&root), dir)?,
        })
    }

    /// Whether this is the model of a file, minified or not.
    fn is_still(&self, file: &Parts) -> Result<bool> {
        let without = |r: &Registry| Registry {
            minified: None,
            ..r.clone()
        };
        Ok(file.class == self.upstream_class()
            && without(&file.registry) == without(self.registry())
            && same_weights(self.scvi(), &file.weights)?)
    }

    fn upstream_class(&self) -> &'static str {
        match self {
            Self::Scvi(m) => m.upstream_class(),
            Self::Scanvi(_) => registry::SCANVI,
        }
    }

    /// What was read, with the fields of minified data that this model has now.
    fn noted(&self, root: &Value) -> Result<Value> {
        let class = Class {
            name: self.upstream_class(),
            version: "",
        };
        let ours = registry::write(self.registry(), self.scvi().config(), &class, 0);
        let ours = ours.at(&["field_registries"])?;
        let is_minified = Value::Bool(self.registry().minified.is_some());
        with(root, "attr_dict", |attributes| {
            with(attributes, "registry_", |registry| {
                let registry = with(registry, "field_registries", |fields| {
                    Ok(with_fields(fields, ours))
                })?;
                // SCANVI looks for minified data only if its setup says so.
                match registry
                    .get("setup_args")
                    .and_then(|a| a.get("use_minified"))
                {
                    Some(_) => with(&registry, "setup_args", |args| {
                        with(args, "use_minified", |_| Ok(is_minified))
                    }),
                    None => Ok(registry),
                }
            })
        })
    }
}

/// The fields with those of minified data that `ours` has, if any, and no others.
fn with_fields(fields: &Value, ours: &Value) -> Value {
    let mut fields = fields.as_dict().cloned().unwrap_or_default();
    let is_other = |key: &Value| key.as_str().is_none_or(|k| !MINIFIED.contains(&k));
    fields.entries.retain(|(key, _)| is_other(key));
    let new = MINIFIED.iter().filter_map(|&name| {
        let field = ours.get(name)?;
        Some((name.into(), field.clone()))
    });
    fields.entries.extend(new);
    fields.into()
}

/// A copy of a dict in which one entry was changed.
fn with(value: &Value, key: &str, change: impl FnOnce(&Value) -> Result<Value>) -> Result<Value> {
    let new = change(value.at(&[key])?)?;
    let mut dict = value.as_dict().cloned().unwrap_or_default();
    let entry = dict.entries.iter_mut().find(|e| e.0.as_str() == Some(key));
    if let Some(entry) = entry {
        entry.1 = new;
    }
    Ok(dict.into())
}

fn same_weights(model: &Scvi, file: &HashMap<String, Tensor>) -> Result<bool> {
    for parameter in model.parameters().iter() {
        let Some(stored) = file.get(parameter.name()) else {
            return Ok(false);
        };
        let own = parameter.export()?;
        if own.dims() != stored.dims() || bits(&own)? != bits(stored)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Numbers so that those that are none equal themselves.
fn bits(t: &Tensor) -> Result<Vec<u64>> {
    let values: Vec<f64> = t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
    Ok(values.into_iter().map(f64::to_bits).collect())
}

fn model_file(source: &Path) -> Option<PathBuf> {
    let inside = source.join(MODEL);
    [source.to_owned(), inside]
        .into_iter()
        .find(|path| path.is_file())
}

fn create(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|source| {
        Error::Model(sc_model::Error::File {
            path: dir.to_owned(),
            action: "create",
            source,
        })
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| std::fs::canonicalize(a).ok() == std::fs::canonicalize(b).ok();
    if to.exists() && same(from, to) {
        return Ok(());
    }
    if let Some(dir) = to.parent() {
        create(dir)?;
    }
    let failed = |path: &Path, source| Error::Upstream {
        path: path.to_owned(),
        reason: format!("cannot be copied: {source}"),
    };
    let mut source = std::fs::File::open(from).map_err(|e| failed(from, e))?;
    let write = sc_io::atomic::write_file(to, |file| std::io::copy(&mut source, file).map(|_| ()));
    write.map_err(|e| failed(to, std::io::Error::other(e)))
}

/// What a file holds, by name: its parts, the attributes of the model, the metrics of its history, its parameters.
fn names(root: &Value) -> BTreeSet<String> {
    let keys = |value: Option<&Value>, prefix: &str| -> Vec<String> {
        let dict = value.and_then(Value::as_dict);
        let found = dict.iter().flat_map(|d| d.iter_str());
        found.map(|(name, _)| format!("{prefix}{name}")).collect()
    };
    let attributes = root.get("attr_dict");
    let history = attributes.and_then(|a| a.get("history_"));
    [
        keys(Some(root), ""),
        keys(attributes, ""),
        keys(history, "history_: "),
        keys(root.get("model_state_dict"), "model_state_dict: "),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The attributes of a model of before 0.15. Its setup becomes the registry.
fn legacy_names(source: &Path) -> Result<BTreeSet<String>> {
    let path = source.join(LEGACY_ATTRIBUTES);
    if !path.is_file() {
        return Ok(BTreeSet::new());
    }
    let attributes = pytorch::read_pickle(&path)?;
    let dict = attributes.as_dict();
    let found = dict.iter().flat_map(|d| d.iter_str());
    let found = found.map(|(name, _)| name.to_owned());
    Ok(found.filter(|n| n != "scvi_setup_dict_").collect())
}

fn lost(before: &BTreeSet<String>, dir: &Path) -> Result<Vec<String>> {
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let now = names(&pytorch::read(dir.join(MODEL))?);
    Ok(before.difference(&now).cloned().collect())
}
