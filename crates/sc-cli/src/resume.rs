//! What a run was started with, kept beside its checkpoint: going on with anything else would not be the same run.

use std::io::Write;
use std::path::Path;

use sc_latent::{Cells, Registry};
use sc_model::files::write_atomic;
use sc_model::train::TrainConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::common::CHECKPOINT;
use crate::error::{Error, Result};

/// The file, in the folder of the model.
const FILE: &str = "checkpoint.json";

/// What must not change while a model trains.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    model: Value,
    train: TrainConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    registry: Option<Registry>,
    epochs: usize,
    n_cells: usize,
    /// Of the names of the cells.
    cells: String,
}

impl Run {
    pub(crate) fn new(
        model: Value,
        train: &TrainConfig,
        cells: &Cells<'_>,
        names: &[String],
    ) -> Self {
        let mut run = Self::of(model, train, cells.n_cells(), names);
        run.registry = Some(cells.registry().clone());
        run
    }

    /// Of a model without a registry.
    pub(crate) fn of(model: Value, train: &TrainConfig, n_cells: usize, names: &[String]) -> Self {
        Self {
            model,
            train: train.clone(),
            registry: None,
            epochs: train.epochs(n_cells),
            n_cells,
            cells: format!("{:016x}", fingerprint(names)),
        }
    }

    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::Message(format!("{FILE}: cannot be written: {e}")))?;
        Ok(write_atomic(&dir.join(FILE), |f| {
            f.write_all(text.as_bytes())
        })?)
    }

    /// Makes sure that the run in `dir` was started with the same settings and cells. More epochs are fine.
    pub(crate) fn check_same(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(Error::file(&path, "read"))?;
        let damaged =
            |e: serde_json::Error| Error::Message(format!("{}: is damaged: {e}", path.display()));
        let then: Value = serde_json::from_str(&text).map_err(damaged)?;
        let now = serde_json::to_value(self).map_err(damaged)?;
        let mut changes = Vec::new();
        differences("", &then, &now, &mut changes);
        // The checkpoint may be beyond the last of fewer epochs.
        let epochs_then = then.get("epochs").and_then(Value::as_u64).unwrap_or(0);
        if (self.epochs as u64) < epochs_then {
            changes.push(format!(
                "epochs: {epochs_then} then, {} now; there may only be more",
                self.epochs
            ));
        }
        if changes.is_empty() {
            return Ok(());
        }
        Err(Error::Message(format!(
            "{} was started with other settings or cells, so --resume can't go on with it:\n  {}\nGive the same \
             command as then, or start anew with --overwrite",
            dir.display(),
            changes.join("\n  ")
        )))
    }

    /// Takes away what only an unfinished run needs.
    pub(crate) fn clean(dir: &Path) -> Result<()> {
        // The checkpoint first: as long as it is there, so are the settings it belongs to.
        for name in [CHECKPOINT, FILE] {
            let path = dir.join(name);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file(&path, "remove")(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Lists the leaves at which two values differ, but for the number of epochs.
fn differences(at: &str, then: &Value, now: &Value, out: &mut Vec<String>) {
    if then == now || at == "train.max_epochs" || at == "epochs" {
        return;
    }
    if let (Value::Object(a), Value::Object(b)) = (then, now) {
        let null = Value::Null;
        let added = b.keys().filter(|k| !a.contains_key(*k));
        for key in a.keys().chain(added) {
            let path = if at.is_empty() {
                key.clone()
            } else {
                format!("{at}.{key}")
            };
            differences(
                &path,
                a.get(key).unwrap_or(&null),
                b.get(key).unwrap_or(&null),
                out,
            );
        }
        return;
    }
    out.push(match at {
        "cells" => "the names or the order of the cells differ".to_owned(),
        _ => format!("{at}: {} then, {} now", short(then), short(now)),
    });
}

fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match (text.char_indices().nth(LONGEST), value) {
        (None, _) => text,
        (Some(_), Value::Array(items)) => format!("a list of {}", items.len()),
        (Some((end, _)), _) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

/// FNV-1a, which is the same everywhere and always.
fn fingerprint(names: &[String]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = names.iter().flat_map(|name| name.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_setting() {
        let then = json!({"model": {"n_latent": 10, "gone": 1}, "train": {"max_epochs": 5, "lr": 0.1}, "cells": "a"});
        let now =
            json!({"model": {"n_latent": 5}, "train": {"max_epochs": 9, "lr": 0.1}, "cells": "b"});
        let mut found = Vec::new();
        differences("", &then, &now, &mut found);
        assert_eq!(
            found,
            [
                "model.n_latent: 10 then, 5 now",
                "model.gone: 1 then, null now",
                "the names or the order of the cells differ"
            ]
        );
        assert_eq!(short(&json!(vec!["gene"; 100])), "a list of 100");
    }

    #[test]
    fn the_fingerprint_depends_on_order_and_borders() {
        let of = |names: &[&str]| {
            fingerprint(&names.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
