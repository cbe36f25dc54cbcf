use std::collections::HashMap;

use sc_io::pytorch::{Dict, Value};

use crate::config::{BatchRepresentation, Decoder, NormIn, ScviConfig};
use crate::{Error, Result};

/// The constructor's arguments, however deep a version nested them.
pub(super) fn flatten(value: &Value) -> HashMap<String, Value> {
    let mut out = HashMap::new();
    collect(value, &mut out, 0);
    out
}

fn collect(value: &Value, out: &mut HashMap<String, Value>, depth: usize) {
    let Some(dict) = value.as_dict() else { return };
    for (key, value) in dict.iter_str() {
        // Groups of arguments, not arguments.
        let is_group = matches!(key, "non_kwargs" | "kwargs" | "model_kwargs");
        if is_group && depth < 4 {
            collect(value, out, depth + 1);
        } else {
            out.insert(key.to_owned(), value.clone());
        }
    }
}

/// Settings from the constructor's arguments; what was not stored has scvi-tools' default.
pub(super) fn read(arguments: &HashMap<String, Value>, is_linear: bool) -> Result<ScviConfig> {
    let mut c = if is_linear {
        ScviConfig::linear()
    } else {
        ScviConfig::default()
    };
    let number = |name: &'static str, default: usize| match arguments.get(name) {
        None | Some(Value::None) => Ok(default),
        Some(v) => v.as_usize().ok_or_else(|| wrong(name, v)),
    };
    let flag = |name: &'static str, default: bool| match arguments.get(name) {
        None | Some(Value::None) => Ok(default),
        Some(v) => v.as_bool().ok_or_else(|| wrong(name, v)),
    };
    c.n_hidden = number("n_hidden", c.n_hidden)?;
    c.n_latent = number("n_latent", c.n_latent)?;
    c.n_layers = number("n_layers", c.n_layers)?;
    if let Some(v) = arguments.get("dropout_rate") {
        c.dropout_rate = v.as_f64().ok_or_else(|| wrong("dropout_rate", v))?;
    }
    macro_rules! choice {
        ($($field:ident = $name:literal),+) => {
            $(match arguments.get($name) {
                None | Some(Value::None) => {}
                Some(v) => c.$field = v.as_str().ok_or_else(|| wrong($name, v))?.parse()?,
            })+
        };
    }
    choice!(
        dispersion = "dispersion",
        likelihood = "gene_likelihood",
        latent_distribution = "latent_distribution"
    );
    if is_linear {
        // LinearSCVI has a switch for its decoder only.
        c.batch_norm = if flag("use_batch_norm", true)? {
            NormIn::Both
        } else {
            NormIn::Encoder
        };
    } else {
        choice!(batch_norm = "use_batch_norm", layer_norm = "use_layer_norm");
    }
    for name in ["extra_encoder_kwargs", "extra_decoder_kwargs"] {
        if let Some(v) = arguments
            .get(name)
            .filter(|v| v.as_dict().is_some_and(|d| !d.is_empty()))
        {
            return Err(wrong(name, v));
        }
    }
    c.log_variational = flag("log_variational", c.log_variational)?;
    c.encode_covariates = flag("encode_covariates", c.encode_covariates)?;
    c.deeply_inject_covariates = flag("deeply_inject_covariates", c.deeply_inject_covariates)?;
    c.use_observed_lib_size = flag("use_observed_lib_size", c.use_observed_lib_size)?;
    c.var_activation = match arguments.get("var_activation") {
        None | Some(Value::None) => c.var_activation,
        Some(v) => var_activation(v)?,
    };
    let representation = arguments
        .get("batch_representation")
        .filter(|v| !v.is_none());
    if let Some(v) = representation.filter(|v| !matches!(v.as_str(), Some("one-hot" | "embedding")))
    {
        return Err(wrong("batch_representation", v));
    }
    if representation.and_then(Value::as_str) == Some("embedding") {
        let dim = arguments
            .get("batch_embedding_kwargs")
            .and_then(|k| k.get("embedding_dim"))
            .and_then(Value::as_usize);
        c.batch_representation = BatchRepresentation::Embedding {
            dim: dim.unwrap_or(5),
        };
    }
    if is_linear {
        c.decoder = Decoder::Linear {
            bias: flag("bias", false)?,
        };
    }
    Ok(c)
}

/// A function is pickled by its name.
fn var_activation(v: &Value) -> Result<crate::VarActivation> {
    match v
        .as_opaque()
        .map(|o| o.class.rsplit('.').next().unwrap_or_default().to_owned())
        .as_deref()
    {
        Some("softplus" | "Softplus") => Ok(crate::VarActivation::Softplus),
        Some("exp") => Ok(crate::VarActivation::Exp),
        _ => Err(wrong("var_activation", v)),
    }
}

fn wrong(name: &'static str, value: &Value) -> Error {
    Error::InvalidSetting {
        name,
        value: value
            .as_opaque()
            .map_or_else(|| value.type_name().to_owned(), |o| o.class.to_string()),
        reason: "the checkpoint was made with this constructor argument, which is not known here"
            .into(),
    }
}

/// The constructor's arguments as scvi-tools 1.x keeps them.
pub(super) fn write(c: &ScviConfig) -> Value {
    let number = |n: usize| Value::Int(n as i64);
    let plain: Vec<(&str, Value)> = vec![
        ("n_hidden", number(c.n_hidden)),
        ("n_latent", number(c.n_latent)),
        ("n_layers", number(c.n_layers)),
        ("dropout_rate", c.dropout_rate.into()),
        ("dispersion", c.dispersion.as_str().into()),
        ("gene_likelihood", c.likelihood.as_str().into()),
        ("use_observed_lib_size", c.use_observed_lib_size.into()),
        ("latent_distribution", c.latent_distribution.as_str().into()),
    ];
    let d = ScviConfig::default();
    let mut extra: Vec<(&str, Value)> = Vec::new();
    let mut differs = |name, value: Value, differs: bool| {
        if differs {
            extra.push((name, value));
        }
    };
    differs(
        "log_variational",
        c.log_variational.into(),
        c.log_variational != d.log_variational,
    );
    differs(
        "encode_covariates",
        c.encode_covariates.into(),
        c.encode_covariates != d.encode_covariates,
    );
    differs(
        "deeply_inject_covariates",
        c.deeply_inject_covariates.into(),
        c.deeply_inject_covariates != d.deeply_inject_covariates,
    );
    if matches!(c.decoder, Decoder::Linear { .. }) {
        differs(
            "use_batch_norm",
            c.batch_norm.decoder().into(),
            !c.batch_norm.decoder(),
        );
    } else {
        differs(
            "use_batch_norm",
            c.batch_norm.as_str().into(),
            c.batch_norm != d.batch_norm,
        );
    }
    differs(
        "use_layer_norm",
        c.layer_norm.as_str().into(),
        c.layer_norm != d.layer_norm,
    );
    if let BatchRepresentation::Embedding { dim } = c.batch_representation {
        differs("batch_representation", "embedding".into(), true);
        differs(
            "batch_embedding_kwargs",
            Dict::from_pairs([("embedding_dim", number(dim))]).into(),
            true,
        );
    }
    if c.var_activation == crate::VarActivation::Softplus {
        differs(
            "var_activation",
            sc_io::pytorch::Opaque::global("torch._C._nn.softplus").into(),
            true,
        );
    }
    if let Decoder::Linear { bias: true } = c.decoder {
        differs("bias", true.into(), true);
    }
    // LinearSCVI and SCVI have different names for their pass-through arguments.
    let group = if matches!(c.decoder, Decoder::Linear { .. }) {
        "model_kwargs"
    } else {
        "kwargs"
    };
    let kwargs = Dict::from_pairs([(group, Value::from(Dict::from_pairs(extra)))]);
    Dict::from_pairs([
        ("kwargs", Value::from(kwargs)),
        ("non_kwargs", Dict::from_pairs(plain).into()),
    ])
    .into()
}
