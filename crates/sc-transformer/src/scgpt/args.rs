//! `args.json` of a released checkpoint: the arguments of its training.

use std::path::Path;

use serde_json::Value;

use super::config::{ScGptConfig, ValueInput};
use crate::{Error, Result};

/// The arguments that say something about the architecture. Everything else in the file is passed over, and what is
/// missing keeps the default of the released models.
///
/// Layer sizes are not taken from here where the weights show them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Args {
    /// The width of the model.
    pub embsize: usize,
    /// Attention heads.
    pub nheads: usize,
    /// The width inside the feed-forward networks.
    pub d_hid: usize,
    /// Layers.
    pub nlayers: usize,
    /// Layers of the classifier.
    pub n_layers_cls: usize,
    /// Share of units dropped while training.
    pub dropout: f64,
    /// The token that fills up.
    pub pad_token: String,
    /// The value of `<cls>` and padding.
    pub pad_value: f32,
    /// The value of masked genes.
    pub mask_value: f32,
    /// Bins of expression.
    pub n_bins: usize,
    /// How values are read. Of categories there are two more than bins.
    pub value_input: ValueInput,
    /// The width that the file states, to be compared with the tensors.
    stated: Option<usize>,
}

impl Default for Args {
    fn default() -> Self {
        let c = ScGptConfig::default();
        Self {
            embsize: c.d_model,
            nheads: c.n_heads,
            d_hid: c.d_hid,
            nlayers: c.n_layers,
            n_layers_cls: c.n_layers_cls,
            dropout: c.dropout,
            pad_token: "<pad>".into(),
            pad_value: c.pad_value,
            mask_value: c.mask_value,
            n_bins: c.n_bins,
            value_input: c.value_input,
            stated: None,
        }
    }
}

impl Args {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Model`] if it is not a JSON object or a number makes no sense.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| {
            Error::Model(sc_model::Error::Format {
                path: path.to_owned(),
                reason,
            })
        })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let Some(map) = json.as_object() else {
            return Err("is no JSON object".into());
        };
        let number = |name: &str, default: f64| match map.get(name) {
            None | Some(Value::Null) => Ok(default),
            // Some mirrors write numbers as text.
            Some(v) => v
                .as_f64()
                .or_else(|| v.as_str().and_then(|s| s.parse().ok()))
                .filter(|v: &f64| v.is_finite())
                .ok_or_else(|| format!("\"{name}\" is {v}, not a number")),
        };
        let count = |name: &str, default: usize| {
            let v = number(name, default as f64)?;
            match (1.0..=1e7).contains(&v) && v.fract() == 0.0 {
                true => Ok(v as usize),
                false => Err(format!("\"{name}\" is {v}, not a number of things")),
            }
        };
        let d = Self::default();
        let n_bins = count("n_bins", d.n_bins)?;
        let value_input = match map.get("input_emb_style").and_then(Value::as_str) {
            None => d.value_input,
            Some("continuous") => ValueInput::Continuous,
            Some("category") => ValueInput::Category { n: n_bins + 2 },
            Some("scaling") => ValueInput::Scaling,
            Some(other) => {
                let known = "\"continuous\", \"category\" or \"scaling\"";
                return Err(format!("\"input_emb_style\" is {other:?}, not {known}"));
            }
        };
        let stated = match map.get("embsize") {
            None | Some(Value::Null) => None,
            Some(_) => Some(count("embsize", d.embsize)?),
        };
        Ok(Self {
            stated,
            embsize: count("embsize", d.embsize)?,
            nheads: count("nheads", d.nheads)?,
            d_hid: count("d_hid", d.d_hid)?,
            nlayers: count("nlayers", d.nlayers)?,
            n_layers_cls: count("n_layers_cls", d.n_layers_cls)?,
            dropout: number("dropout", d.dropout)?,
            pad_token: map
                .get("pad_token")
                .and_then(Value::as_str)
                .map_or(d.pad_token, str::to_owned),
            pad_value: number("pad_value", f64::from(d.pad_value))? as f32,
            mask_value: number("mask_value", f64::from(d.mask_value))? as f32,
            n_bins,
            value_input,
        })
    }

    /// The settings that they stand for, with a vocabulary of `n_tokens`.
    pub(super) fn config(&self, n_tokens: usize, pad_id: u32) -> ScGptConfig {
        ScGptConfig {
            n_tokens,
            pad_id,
            d_model: self.embsize,
            n_heads: self.nheads,
            d_hid: self.d_hid,
            n_layers: self.nlayers,
            n_layers_cls: self.n_layers_cls,
            dropout: self.dropout,
            n_bins: self.n_bins,
            pad_value: self.pad_value,
            mask_value: self.mask_value,
            value_input: self.value_input,
            ..ScGptConfig::default()
        }
    }

    /// The same as the text of a file.
    pub(super) fn to_json(&self) -> Value {
        let style = match self.value_input {
            ValueInput::Continuous => "continuous",
            ValueInput::Category { .. } => "category",
            ValueInput::Scaling => "scaling",
        };
        serde_json::json!({
            "embsize": self.embsize,
            "nheads": self.nheads,
            "d_hid": self.d_hid,
            "nlayers": self.nlayers,
            "n_layers_cls": self.n_layers_cls,
            "dropout": self.dropout,
            "pad_token": self.pad_token,
            "pad_value": self.pad_value,
            "mask_value": self.mask_value,
            "n_bins": self.n_bins,
            "input_style": "binned",
            "input_emb_style": style,
            "fast_transformer": true,
        })
    }

    /// The arguments that describe a model.
    pub(super) fn of(config: &ScGptConfig) -> Self {
        Self {
            embsize: config.d_model,
            nheads: config.n_heads,
            d_hid: config.d_hid,
            nlayers: config.n_layers,
            n_layers_cls: config.n_layers_cls,
            dropout: config.dropout,
            pad_token: "<pad>".into(),
            pad_value: config.pad_value,
            mask_value: config.mask_value,
            n_bins: config.n_bins,
            value_input: config.value_input,
            stated: None,
        }
    }

    /// Whether these are arguments of a model as wide as `found`. The number of heads is not in any tensor: with the arguments
    /// of another model it would be wrong in silence. (Layers that are missing are listed when the tensors are loaded.)
    pub(super) fn check(&self, found: &ScGptConfig) -> Result<()> {
        match self.stated {
            Some(said) if said != found.d_model => Err(Error::InvalidSetting {
                name: "args.json",
                value: format!("embsize = {said}"),
                reason: format!(
                    "the checkpoint has {}; use the args.json that belongs to it",
                    found.d_model
                ),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_passed_over_and_missing_ones_keep_their_default() {
        let a = Args::parse(r#"{"embsize": 64, "nheads": "4", "save_dir": [1], "dropout": 0}"#);
        let a = a.unwrap();
        assert_eq!(
            (a.embsize, a.nheads, a.nlayers, a.dropout),
            (64, 4, 12, 0.0)
        );
    }

    #[test]
    fn arguments_of_another_model_are_refused() {
        let found = ScGptConfig {
            d_model: 32,
            ..ScGptConfig::default()
        };
        let check = |text: &str| Args::parse(text).unwrap().check(&found);
        assert!(check("{}").is_ok() && check(r#"{"embsize": 32, "nlayers": 9}"#).is_ok());
        let e = check(r#"{"embsize": 512}"#).unwrap_err().to_string();
        assert!(e.contains("embsize = 512") && e.contains("has 32"), "{e}");
    }

    #[test]
    fn nonsense_is_named() {
        for (text, word) in [
            ("[1]", "object"),
            (r#"{"nheads": -1}"#, "nheads"),
            (r#"{"input_emb_style": "x"}"#, "scaling"),
            (r#"{"dropout": "much"}"#, "dropout"),
            ("{", "EOF"),
        ] {
            let e = Args::parse(text).unwrap_err();
            assert!(e.contains(word), "{text}: {e}");
        }
    }
}
