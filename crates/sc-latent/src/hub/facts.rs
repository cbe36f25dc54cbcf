use std::collections::BTreeMap;
use std::path::Path;

use sc_io::pytorch::{self, Value};
use serde_json::{Map, Value as Json};

use crate::{Error, Result};

/// What a `model.pt` says of itself, whatever its class: the part of a model card that nobody has to write.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ModelFacts {
    /// The class: `SCVI`, `SCANVI`, `LinearSCVI`, ...
    pub class: String,
    /// The release of scvi-tools whose format it has.
    pub scvi_version: String,
    /// The constructor's arguments.
    pub init_params: Map<String, Json>,
    /// Which columns mean what.
    pub setup_args: Map<String, Json>,
    /// Numbers of cells, genes, batches, ...
    pub summary_stats: BTreeMap<String, i64>,
    /// Where in the AnnData each thing is.
    pub data_registry: BTreeMap<String, String>,
    /// Whether it was trained.
    pub is_trained: bool,
}

impl ModelFacts {
    /// Reads a `model.pt`. Nothing in it is executed.
    ///
    /// # Errors
    /// If it is damaged, or has no registry: it was written before scvi-tools 0.15.
    pub fn read(path: &Path) -> Result<Self> {
        let root = pytorch::read(path)?;
        let attributes = root.at(&["attr_dict"])?;
        let registry = attributes.get("registry_").ok_or_else(|| Error::Hub {
            place: path.display().to_string(),
            reason: "the model has no registry; it was saved before scvi-tools 0.15, and loading and saving it again \
                     adds one"
                .into(),
        })?;
        let text = |name: &str| {
            let text = registry.get(name).and_then(Value::as_str);
            text.unwrap_or("unknown").to_owned()
        };
        let mut facts = Self {
            class: text("model_name"),
            scvi_version: text("scvi_version"),
            is_trained: attributes.get("is_trained_").and_then(Value::as_bool) == Some(true),
            ..Self::default()
        };
        if let Some(arguments) = attributes.get("init_params_") {
            flatten(arguments, &mut facts.init_params, 0);
        }
        if let Some(Json::Object(setup)) = registry.get("setup_args").map(to_json) {
            facts.setup_args = setup;
        }
        let fields = registry.get("field_registries").and_then(Value::as_dict);
        for (name, field) in fields.iter().flat_map(|f| f.iter_str()) {
            facts.add_field(name, field);
        }
        Ok(facts)
    }

    /// Whether its data are minified.
    pub fn is_minified(&self) -> bool {
        self.data_registry.contains_key("minify_type")
    }

    fn add_field(&mut self, name: &str, field: &Value) {
        let data = field.get("data_registry");
        let text = |key: &str| data.and_then(|d| d.get(key)).and_then(Value::as_str);
        if let Some(attribute) = text("attr_name") {
            let place = match text("attr_key") {
                Some(key) if attribute != "X" => format!("adata.{attribute}['{key}']"),
                _ => format!("adata.{attribute}"),
            };
            self.data_registry.insert(name.to_owned(), place);
        }
        let summary = field.get("summary_stats").and_then(Value::as_dict);
        for (name, count) in summary.iter().flat_map(|s| s.iter_str()) {
            if let Some(count) = count.as_i64() {
                self.summary_stats.insert(name.to_owned(), count);
            }
        }
    }
}

/// The constructor's arguments, however deep a version nested them.
fn flatten(value: &Value, out: &mut Map<String, Json>, depth: usize) {
    let pairs = value.as_dict();
    // Plain arguments first, those that are passed through after them.
    let mut groups: Vec<(&str, &Value)> = pairs.iter().flat_map(|d| d.iter_str()).collect();
    groups.sort_by_key(|(name, _)| *name != "non_kwargs");
    for (name, value) in groups {
        if matches!(name, "non_kwargs" | "kwargs" | "model_kwargs") && depth < 4 {
            flatten(value, out, depth + 1);
        } else {
            out.insert(name.to_owned(), to_json(value));
        }
    }
}

/// What JSON can hold of a value; anything else by its name.
fn to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(b) => Json::from(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(x) => Json::from(*x),
        Value::Str(s) => Json::from(s.as_ref()),
        Value::List(v) | Value::Tuple(v) | Value::Set(v) | Value::FrozenSet(v) => {
            v.iter().map(to_json).collect()
        }
        Value::Array(a) => a.to_values().iter().map(to_json).collect(),
        Value::Dict(d) => Json::Object(
            d.iter_str()
                .map(|(name, value)| (name.to_owned(), to_json(value)))
                .collect(),
        ),
        Value::Opaque(o) => Json::from(o.class.as_ref()),
        other => Json::from(other.type_name()),
    }
}
