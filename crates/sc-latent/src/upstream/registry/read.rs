//! What scvi-tools' registries say.

use sc_io::pytorch::{NumpyArray, Value};

use crate::minify::MinifiedKeys;
use crate::registry::NO_CATEGORY;
use crate::{Registry, Result, Setup};

/// Reads scvi-tools' registry (0.15 and later).
pub(in crate::upstream) fn read(registry: &Value, genes: Vec<String>) -> Result<Registry> {
    let args = registry.get("setup_args");
    let text = |argument: &str| {
        args.and_then(|a| a.get(argument))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let fields = registry.at(&["field_registries"])?;
    let state = |field: &str| fields.get(field).and_then(|f| f.get("state_registry"));
    let categorical = state("extra_categorical_covs");
    let keys = categorical
        .and_then(|s| s.get("field_keys"))
        .map(strings)
        .transpose()?
        .unwrap_or_default();
    let mappings = categorical.and_then(|s| s.get("mappings"));
    let continuous = state("extra_continuous_covs").and_then(|s| s.get("columns"));
    // A file without the arguments still has the columns that the codes came from.
    let original = |field: &str| {
        let key = state(field)?.get("original_key")?.as_str()?;
        (!key.starts_with("_scvi")).then(|| key.to_owned())
    };
    let (batch_key, labels_key) = (
        text("batch_key").or_else(|| original("batch")),
        text("labels_key").or_else(|| original("labels")),
    );
    let mut integer_keys = Vec::new();
    for (key, field) in [(&batch_key, "batch"), (&labels_key, "labels")] {
        let mapping = state(field).and_then(|s| s.get("categorical_mapping"));
        integer_keys.extend(key.clone().filter(|_| mapping.is_some_and(is_integers)));
    }
    integer_keys.extend(
        keys.iter()
            .filter(|k| mappings.and_then(|m| m.get(k)).is_some_and(is_integers))
            .cloned(),
    );
    // Before 1.0 the library size came from "local_l" fields and there was no size factor.
    Ok(Registry {
        categorical_covariates: keys
            .iter()
            .map(|k| {
                mappings
                    .and_then(|m| m.get(k))
                    .map_or(Ok(Vec::new()), strings)
            })
            .collect::<Result<_>>()?,
        setup: Setup {
            layer: text("layer"),
            batch_key,
            labels_key,
            unlabeled_category: args
                .and_then(|a| a.get("unlabeled_category"))
                .and_then(name)
                .or_else(|| name(state("labels")?.get("unlabeled_category")?)),
            size_factor_key: text("size_factor_key"),
            categorical_covariate_keys: keys,
            continuous_covariate_keys: continuous.map(strings).transpose()?.unwrap_or_default(),
        },
        batches: mapping(state("batch"))?,
        labels: mapping(state("labels"))?,
        genes,
        integer_keys,
        minified: minified(fields),
    })
}

/// Reads the setup of versions before 0.15.
pub(in crate::upstream) fn read_legacy(setup: &Value, genes: Vec<String>) -> Result<Registry> {
    let field = |name: &str| setup.get("categorical_mappings").and_then(|m| m.get(name));
    let key = |name: &str| {
        field(name)
            .and_then(|f| f.get("original_key"))
            .and_then(Value::as_str)
            .filter(|k| !k.starts_with("_scvi"))
            .map(str::to_owned)
    };
    let categories = |name: &str| match field(name).and_then(|f| f.get("mapping")) {
        Some(m) => strings(m),
        None => Ok(vec![NO_CATEGORY.to_owned()]),
    };
    let covariates = setup.get("extra_categoricals");
    let keys = covariates
        .and_then(|e| e.get("keys"))
        .map(strings)
        .transpose()?
        .unwrap_or_default();
    let mappings = covariates.and_then(|e| e.get("mappings"));
    let x = setup.get("data_registry").and_then(|r| r.get("X"));
    let layer = x.filter(|x| x.get("attr_name").and_then(Value::as_str) == Some("layers"));
    Ok(Registry {
        categorical_covariates: keys
            .iter()
            .map(|k| {
                mappings
                    .and_then(|m| m.get(k))
                    .map_or(Ok(Vec::new()), strings)
            })
            .collect::<Result<_>>()?,
        setup: Setup {
            layer: layer
                .and_then(|l| l.get("attr_key"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            batch_key: key("_scvi_batch"),
            labels_key: key("_scvi_labels"),
            unlabeled_category: None,
            size_factor_key: None,
            categorical_covariate_keys: keys,
            continuous_covariate_keys: setup
                .get("extra_continuous_keys")
                .map(strings)
                .transpose()?
                .unwrap_or_default(),
        },
        batches: categories("_scvi_batch")?,
        labels: categories("_scvi_labels")?,
        genes,
        integer_keys: Vec::new(),
        minified: None,
    })
}

/// Where minified data keep the posterior; releases named the columns differently.
fn minified(fields: &Value) -> Option<MinifiedKeys> {
    let key = |field: &str| {
        let data = fields.get(field)?.get("data_registry")?;
        data.get("attr_key")?.as_str().map(str::to_owned)
    };
    Some(MinifiedKeys {
        mean: key("latent_qzm")?,
        variance: key("latent_qzv")?,
        library_size: key("observed_lib_size")?,
    })
}

/// Whether an array holds whole numbers only.
fn is_integers(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|a| !a.is_empty() && a.to_values().iter().all(|v| matches!(v, Value::Int(_))))
}

fn mapping(state: Option<&Value>) -> Result<Vec<String>> {
    match state.and_then(|s| s.get("categorical_mapping")) {
        Some(m) => strings(m),
        None => Ok(vec![NO_CATEGORY.to_owned()]),
    }
}

/// Names out of an array, a list or a pandas index; numbers as Python prints them.
pub(in crate::upstream) fn strings(value: &Value) -> Result<Vec<String>> {
    let items = match value {
        Value::Array(a) => a.to_values(),
        Value::List(v) | Value::Tuple(v) => v.to_vec(),
        Value::None => Vec::new(),
        // A pickled pandas Index: its data is the first array among its arguments.
        Value::Opaque(o) => {
            let of = |v: &Value| v.as_array().map(NumpyArray::to_values);
            o.args
                .iter()
                .find_map(|a| of(a).or_else(|| a.get("data").and_then(of)))
                .ok_or_else(|| unexpected(value))?
        }
        _ => return Err(unexpected(value)),
    };
    items
        .iter()
        .map(|item| name(item).ok_or_else(|| unexpected(item)))
        .collect()
}

/// The name of a category: text as it is, a number as Python prints it.
pub(in crate::upstream) fn name(value: &Value) -> Option<String> {
    match value {
        Value::Str(s) => Some(s.to_string()),
        Value::Int(i) => Some(i.to_string()),
        Value::Bool(b) => Some(if *b { "True" } else { "False" }.to_owned()),
        Value::Float(f) => Some(format!("{f:?}")),
        _ => None,
    }
}

fn unexpected(value: &Value) -> crate::Error {
    crate::Error::InvalidSetting {
        name: "registry",
        value: value.type_name().to_owned(),
        reason: "an array of names was expected".into(),
    }
}
