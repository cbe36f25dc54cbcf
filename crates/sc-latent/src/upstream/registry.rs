use sc_io::pytorch::{Dict, NumpyArray, Value};

use crate::cells::is_given;
use crate::config::{Decoder, ScviConfig};
use crate::minify::MinifiedKeys;
use crate::registry::NO_CATEGORY;
use crate::{Registry, Result, Setup};

/// Reads scvi-tools' registry (0.15 and later).
pub(super) fn read(registry: &Value, genes: Vec<String>) -> Result<Registry> {
    let args = registry.get("setup_args");
    let text = |name: &str| {
        args.and_then(|a| a.get(name))
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
            unlabeled_category: text("unlabeled_category").or_else(|| {
                let category = state("labels")?.get("unlabeled_category")?;
                category.as_str().map(str::to_owned)
            }),
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
pub(super) fn read_legacy(setup: &Value, genes: Vec<String>) -> Result<Registry> {
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
pub(super) fn strings(value: &Value) -> Result<Vec<String>> {
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
        .map(|item| match item {
            Value::Str(s) => Ok(s.to_string()),
            Value::Int(i) => Ok(i.to_string()),
            Value::Bool(b) => Ok(if *b { "True" } else { "False" }.to_owned()),
            Value::Float(f) => Ok(format!("{f:?}")),
            other => Err(unexpected(other)),
        })
        .collect()
}

fn unexpected(value: &Value) -> crate::Error {
    crate::Error::InvalidSetting {
        name: "registry",
        value: value.type_name().to_owned(),
        reason: "an array of names was expected".into(),
    }
}

/// The class whose registry has an unlabelled category.
pub(super) const SCANVI: &str = "SCANVI";

/// What the registry says of a class.
pub(super) struct Class {
    pub(super) name: &'static str,
    /// The version it is written as.
    pub(super) version: &'static str,
}

/// The registry as scvi-tools 1.4 keeps it.
pub(super) fn write(r: &Registry, config: &ScviConfig, class: &Class, n_cells: usize) -> Value {
    let setup = &r.setup;
    let linear = matches!(config.decoder, Decoder::Linear { .. });
    let list = |keys: &[String]| {
        if keys.is_empty() {
            Value::None
        } else {
            Value::list(keys.iter().map(|k| k.as_str().into()).collect())
        }
    };
    // An SCVI model may know which label stands for "not known"; its setup has no place for it.
    let unlabeled = setup
        .unlabeled_category
        .as_deref()
        .filter(|_| class.name == SCANVI);
    let mut args: Vec<(&str, Value)> = vec![
        ("layer", setup.layer.as_deref().into()),
        ("batch_key", setup.batch_key.as_deref().into()),
        ("labels_key", setup.labels_key.as_deref().into()),
    ];
    if unlabeled.is_some() {
        args.push(("unlabeled_category", unlabeled.into()));
        args.push(("use_minified", r.minified.is_some().into()));
    }
    let mut fields = vec![
        ("X", x_field(r, n_cells)),
        (
            "batch",
            category_field(
                r,
                "_scvi_batch",
                "n_batch",
                setup.batch_key.as_deref(),
                &r.batches,
                None,
            ),
        ),
        (
            "labels",
            category_field(
                r,
                "_scvi_labels",
                "n_labels",
                setup.labels_key.as_deref(),
                &r.labels,
                unlabeled,
            ),
        ),
    ];
    // LinearSCVI's setup has no covariates.
    if !linear {
        args.push(("size_factor_key", setup.size_factor_key.as_deref().into()));
        args.push((
            "categorical_covariate_keys",
            list(&setup.categorical_covariate_keys),
        ));
        args.push((
            "continuous_covariate_keys",
            list(&setup.continuous_covariate_keys),
        ));
        fields.push(("size_factor", size_factor_field(setup)));
        fields.push(("extra_categorical_covs", categorical_field(r)));
        fields.push(("extra_continuous_covs", continuous_field(setup)));
    }
    if let Some(keys) = &r.minified {
        fields.extend(minified_fields(keys, config.n_latent));
    }
    dict(vec![
        ("scvi_version", class.version.into()),
        ("model_name", class.name.into()),
        ("setup_args", dict(args)),
        ("field_registries", dict(fields)),
        ("setup_method_name", "setup_anndata".into()),
        ("_scvi_uuid", uuid(r).into()),
    ])
}

fn dict(pairs: Vec<(&str, Value)>) -> Value {
    Dict::from_pairs(pairs).into()
}

fn field(
    data: Vec<(&str, Value)>,
    state: Vec<(&str, Value)>,
    summary: Vec<(&str, Value)>,
) -> Value {
    dict(vec![
        ("data_registry", dict(data)),
        ("state_registry", dict(state)),
        ("summary_stats", dict(summary)),
    ])
}

fn int(n: usize) -> Value {
    Value::Int(n as i64)
}

fn names(v: &[String]) -> Value {
    NumpyArray::from_strings(v).into()
}

fn x_field(r: &Registry, n_cells: usize) -> Value {
    let name = if r.setup.layer.is_some() {
        "layers"
    } else {
        "X"
    };
    field(
        vec![
            ("attr_name", name.into()),
            ("attr_key", r.setup.layer.as_deref().into()),
        ],
        vec![
            ("n_obs", int(n_cells)),
            ("n_vars", int(r.n_genes())),
            ("column_names", names(&r.genes)),
        ],
        vec![("n_vars", int(r.n_genes())), ("n_cells", int(n_cells))],
    )
}

/// Categories as they are in the data: text, or whole numbers.
fn categories_of(r: &Registry, key: &str, categories: &[String]) -> Value {
    let numbers: Option<Vec<i64>> = categories.iter().map(|c| c.parse().ok()).collect();
    match numbers.filter(|_| r.integer_keys.iter().any(|k| k == key)) {
        Some(numbers) => NumpyArray::from_i64(&numbers).into(),
        None => names(categories),
    }
}

fn category_field(
    r: &Registry,
    column: &str,
    count: &'static str,
    key: Option<&str>,
    categories: &[String],
    unlabeled: Option<&str>,
) -> Value {
    let mapping = match key {
        Some(key) => categories_of(r, key, categories),
        None if is_given(categories) => names(categories),
        None => NumpyArray::from_i64(&[0]).into(),
    };
    let mut state = vec![
        ("categorical_mapping", mapping),
        ("original_key", key.unwrap_or(column).into()),
    ];
    if unlabeled.is_some() {
        state.push(("unlabeled_category", unlabeled.into()));
    }
    field(
        vec![("attr_name", "obs".into()), ("attr_key", column.into())],
        state,
        vec![(count, int(categories.len()))],
    )
}

fn size_factor_field(setup: &Setup) -> Value {
    let data = match setup.size_factor_key.as_deref() {
        Some(key) => vec![("attr_name", "obs".into()), ("attr_key", key.into())],
        None => vec![],
    };
    field(data, vec![], vec![])
}

fn categorical_field(r: &Registry) -> Value {
    let keys = &r.setup.categorical_covariate_keys;
    if keys.is_empty() {
        return field(vec![], vec![], vec![("n_extra_categorical_covs", int(0))]);
    }
    let mappings = Dict::from_pairs(
        keys.iter()
            .zip(&r.categorical_covariates)
            .map(|(k, c)| (k.as_str(), categories_of(r, k, c))),
    );
    let counts = r
        .categorical_covariates
        .iter()
        .map(|c| int(c.len()))
        .collect();
    field(
        vec![
            ("attr_name", "obsm".into()),
            ("attr_key", "_scvi_extra_categorical_covs".into()),
        ],
        vec![
            ("mappings", mappings.into()),
            (
                "field_keys",
                Value::list(keys.iter().map(|k| k.as_str().into()).collect()),
            ),
            ("n_cats_per_key", Value::list(counts)),
        ],
        vec![("n_extra_categorical_covs", int(keys.len()))],
    )
}

fn continuous_field(setup: &Setup) -> Value {
    let keys = &setup.continuous_covariate_keys;
    if keys.is_empty() {
        return field(vec![], vec![], vec![("n_extra_continuous_covs", int(0))]);
    }
    field(
        vec![
            ("attr_name", "obsm".into()),
            ("attr_key", "_scvi_extra_continuous_covs".into()),
        ],
        vec![("columns", names(keys))],
        vec![("n_extra_continuous_covs", int(keys.len()))],
    )
}

/// What scvi-tools registers besides when data are minified.
fn minified_fields(keys: &MinifiedKeys, n_latent: usize) -> [(&'static str, Value); 4] {
    let at = |name: &str, key: &str| vec![("attr_name", name.into()), ("attr_key", key.into())];
    let latent = |key: &str, count| {
        let columns: Vec<i64> = (0..n_latent as i64).collect();
        field(
            at("obsm", key),
            vec![("column_names", NumpyArray::from_i64(&columns).into())],
            vec![(count, int(n_latent))],
        )
    };
    [
        ("latent_qzm", latent(&keys.mean, "n_latent_qzm")),
        ("latent_qzv", latent(&keys.variance, "n_latent_qzv")),
        (
            "observed_lib_size",
            field(at("obs", &keys.library_size), vec![], vec![]),
        ),
        (
            "minify_type",
            field(at("uns", "_scvi_adata_minify_type"), vec![], vec![]),
        ),
    ]
}

/// An identifier that depends on the registry alone, so that the same model gives the same file.
fn uuid(r: &Registry) -> String {
    // FNV-1a, twice with different starts.
    let hash = |start: u64| {
        r.genes
            .iter()
            .chain(&r.batches)
            .chain(&r.labels)
            .flat_map(|s| s.bytes().chain([0]))
            .fold(start, |h, b| {
                (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
            })
    };
    let (a, b) = (hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9_7f4a_7c15));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        (b >> 52) & 0xfff,
        b & 0xffff_ffff_ffff
    )
}
