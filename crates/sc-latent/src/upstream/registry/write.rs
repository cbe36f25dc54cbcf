//! Registries as scvi-tools writes them.

use sc_io::pytorch::{Dict, NumpyArray, Value};

use crate::cells::is_given;
use crate::config::{Decoder, ScviConfig};
use crate::minify::MinifiedKeys;
use crate::{Registry, Setup};

/// The class whose registry has an unlabelled category.
pub(in crate::upstream) const SCANVI: &str = "SCANVI";

/// What the registry says of a class.
pub(in crate::upstream) struct Class {
    pub(in crate::upstream) name: &'static str,
    /// The version it is written as.
    pub(in crate::upstream) version: &'static str,
}

/// The registry as scvi-tools 1.4 keeps it.
pub(in crate::upstream) fn write(
    r: &Registry,
    config: &ScviConfig,
    class: &Class,
    n_cells: usize,
) -> Value {
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
    let unlabeled =
        (class.name == SCANVI && setup.unlabeled_category.is_some()).then(|| unlabeled(r));
    let mut args: Vec<(&str, Value)> = vec![
        ("layer", setup.layer.as_deref().into()),
        ("batch_key", setup.batch_key.as_deref().into()),
        ("labels_key", setup.labels_key.as_deref().into()),
    ];
    if let Some(unlabeled) = &unlabeled {
        args.push(("unlabeled_category", unlabeled.clone()));
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
    match numbers(r, key, categories) {
        Some(numbers) => NumpyArray::from_i64(&numbers).into(),
        None => names(categories),
    }
}

/// The categories of a column of whole numbers, unless one of another kind was added.
fn numbers(r: &Registry, key: &str, categories: &[String]) -> Option<Vec<i64>> {
    let is_integer = r.integer_keys.iter().any(|k| k == key);
    let parsed = categories.iter().map(|c| c.parse().ok()).collect();
    is_integer.then_some(parsed).flatten()
}

/// The label that stands for "not known": a number where all labels are.
pub(in crate::upstream) fn unlabeled(r: &Registry) -> Value {
    let Some(unlabeled) = &r.setup.unlabeled_category else {
        return Value::None;
    };
    let key = r.setup.labels_key.as_deref().unwrap_or_default();
    match (numbers(r, key, &r.labels), unlabeled.parse()) {
        (Some(_), Ok(number)) => Value::Int(number),
        _ => unlabeled.as_str().into(),
    }
}

fn category_field(
    r: &Registry,
    column: &str,
    count: &'static str,
    key: Option<&str>,
    categories: &[String],
    unlabeled: Option<Value>,
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
    if let Some(unlabeled) = unlabeled {
        state.push(("unlabeled_category", unlabeled));
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
