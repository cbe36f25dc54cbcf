use std::collections::HashMap;

use sc_io::pytorch::{Dict, Value};

use crate::config::{BatchRepresentation, Decoder, NormIn, ScviConfig};
use crate::{ClassifierConfig, Error, Result};

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

/// The classifier's settings from the constructor's arguments.
pub(super) fn read_classifier(arguments: &HashMap<String, Value>) -> Result<ClassifierConfig> {
    let mut c = match arguments.get("linear_classifier").map(Value::as_bool) {
        Some(Some(true)) => ClassifierConfig::linear(),
        _ => ClassifierConfig::default(),
    };
    let Some(own) = arguments.get("classifier_parameters") else {
        return Ok(c);
    };
    for (name, value) in own.as_dict().iter().flat_map(|d| d.iter_str()) {
        let wrong = || wrong("classifier_parameters", own);
        match name {
            "n_layers" => c.n_layers = Some(value.as_usize().ok_or_else(wrong)?),
            "n_hidden" => c.n_hidden = Some(value.as_usize().ok_or_else(wrong)?),
            "dropout_rate" => c.dropout_rate = Some(value.as_f64().ok_or_else(wrong)?),
            "logits" => c.legacy_probs = !value.as_bool().ok_or_else(wrong)?,
            _ => return Err(wrong()),
        }
    }
    // There a classifier without hidden units is linear too.
    if c.n_hidden == Some(0) {
        c = ClassifierConfig {
            n_layers: Some(0),
            n_hidden: None,
            ..c
        };
    }
    Ok(c)
}

/// What a classifier has besides `linear_classifier`.
fn classifier_parameters(c: &ClassifierConfig) -> Vec<(&'static str, Value)> {
    let number = |n: usize| Value::Int(n as i64);
    let mut out = Vec::new();
    if let Some(n) = c.n_layers.filter(|&n| n > 0) {
        out.push(("n_layers", number(n)));
    }
    if let Some(n) = c.n_hidden.filter(|_| !c.is_linear()) {
        out.push(("n_hidden", number(n)));
    }
    if let Some(p) = c.dropout_rate {
        out.push(("dropout_rate", p.into()));
    }
    out
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

/// The constructor's arguments as scvi-tools 1.x keeps them; with a classifier those of SCANVI.
pub(super) fn write(c: &ScviConfig, classifier: Option<&ClassifierConfig>) -> Value {
    let number = |n: usize| Value::Int(n as i64);
    let mut plain: Vec<(&str, Value)> = vec![
        ("n_hidden", number(c.n_hidden)),
        ("n_latent", number(c.n_latent)),
        ("n_layers", number(c.n_layers)),
        ("dropout_rate", c.dropout_rate.into()),
        ("dispersion", c.dispersion.as_str().into()),
        ("gene_likelihood", c.likelihood.as_str().into()),
        ("use_observed_lib_size", c.use_observed_lib_size.into()),
    ];
    let d = ScviConfig::default();
    let mut extra: Vec<(&str, Value)> = Vec::new();
    let latent = ("latent_distribution", c.latent_distribution.as_str().into());
    match classifier {
        Some(classifier) => {
            plain.push(("linear_classifier", classifier.is_linear().into()));
            plain.push(("datamodule", Value::None));
            extra.push(latent);
            let own = classifier_parameters(classifier);
            if !own.is_empty() {
                extra.push(("classifier_parameters", Dict::from_pairs(own).into()));
            }
        }
        None => plain.push(latent),
    }
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
    // SCVI has another name for its pass-through arguments than LinearSCVI and SCANVI.
    let group = if classifier.is_some() || matches!(c.decoder, Decoder::Linear { .. }) {
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
