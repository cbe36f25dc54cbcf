//! The classes of a checkpoint that the original fine-tuned: it leaves two pickles beside it.

use std::collections::HashSet;
use std::path::Path;

use sc_data::Categorical;
use sc_io::pytorch::{self, Value};

use crate::{Error, Result};

/// The classes of a fine-tuned checkpoint, in the order of its outputs, from the file `label_dict` that the original's
/// `finetune.py` wrote: for [`UpstreamOptions::labels`](super::UpstreamOptions::labels). Nothing in it is executed.
///
/// # Errors
/// [`Error::Checkpoint`] if the file cannot be read or is no pickle; [`Error::Model`] if it holds no list of names, or one of
/// them twice.
pub fn read_label_dict(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = path.as_ref();
    let value = pytorch::read_pickle(path)?;
    let names: Option<Vec<String>> = elements(&value).iter().map(name).collect();
    let Some(names) = names.filter(|n| !n.is_empty()) else {
        let reason = format!("holds {}, not the names of classes", value.type_name());
        return Err(wrong(path, reason));
    };
    let mut seen = HashSet::new();
    match names.iter().find(|n| !seen.insert(n.as_str())) {
        None => Ok(names),
        Some(twice) => Err(wrong(path, format!("has the class \"{twice}\" twice"))),
    }
}

/// The class of each cell that a checkpoint was fine-tuned and judged on, from the files `label_dict` and `label`.
///
/// # Errors
/// As [`read_label_dict`], and if a number in `label` is none of a class.
pub fn read_labels(label_dict: impl AsRef<Path>, label: impl AsRef<Path>) -> Result<Categorical> {
    let (classes, path) = (read_label_dict(label_dict)?, label.as_ref());
    let value = pytorch::read_pickle(path)?;
    let code = |v: &Value| {
        let code = v.as_i64().and_then(|c| u32::try_from(c).ok());
        let code = code.filter(|&c| (c as usize) < classes.len());
        code.map(Some).ok_or_else(|| match v.as_i64() {
            Some(c) => format!("has class {c}, but there are {}, from 0", classes.len()),
            None => format!("holds {}, not a number for each cell", v.type_name()),
        })
    };
    let codes = elements(&value)
        .iter()
        .map(code)
        .collect::<std::result::Result<Vec<_>, _>>();
    match codes {
        Ok(codes) if !codes.is_empty() => Ok(Categorical::new(codes, classes, false)?),
        Ok(_) => Err(wrong(
            path,
            format!("holds {}, no numbers", value.type_name()),
        )),
        Err(reason) => Err(wrong(path, reason)),
    }
}

/// What an array or a list holds; nothing of other things.
fn elements(value: &Value) -> Vec<Value> {
    match value.as_array() {
        Some(array) => array.to_values(),
        None => value.as_slice().unwrap_or(&[]).to_vec(),
    }
}

/// A class; some data sets number theirs.
fn name(value: &Value) -> Option<String> {
    let number = || value.as_i64().map(|n| n.to_string());
    value.as_str().map(str::to_owned).or_else(number)
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Model(sc_model::Error::Format {
        path: path.to_owned(),
        reason,
    })
}
