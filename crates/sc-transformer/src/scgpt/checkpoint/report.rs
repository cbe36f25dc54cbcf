//! What of a checkpoint fits a model.

use std::fmt;

use indexmap::IndexMap;
use sc_io::pytorch::TorchTensor;
use sc_model::Params;

/// A tensor that has another shape in the checkpoint than in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Its name.
    pub name: String,
    /// Its shape in the checkpoint.
    pub found: Vec<usize>,
    /// Its shape in the model.
    pub expected: Vec<usize>,
}

/// Every tensor of a checkpoint and of a model, accounted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LoadReport {
    /// In both, with the same shape.
    pub loaded: Vec<String>,
    /// In the model only: these keep their values.
    pub missing: Vec<String>,
    /// In the checkpoint only.
    pub unexpected: Vec<String>,
    /// In both, with different shapes: these keep their values.
    pub mismatched: Vec<Mismatch>,
}

/// Which tensors need not be in both checkpoint and model, by name; `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    missing: Vec<String>,
    unexpected: Vec<String>,
    mismatched: Vec<String>,
}

impl Allow {
    /// What a new task changes about a pre-trained model: heads, conditions and input norms may be new or left out, and
    /// decoders may have become wider. The genes, the values and the transformer must be there.
    pub fn fine_tuning() -> Self {
        let heads = [
            "cls_decoder.*",
            "mvc_decoder.*",
            "grad_reverse_discriminator.*",
            "batch_encoder.*",
            "mod_encoder.*",
            "pert_encoder.*",
            "flag_encoder.*",
            "dsbn.*",
            "bn.*",
            "decoder.*",
        ];
        let mut allow = Self::default();
        for head in heads {
            allow = allow.missing(head).unexpected(head).mismatched(head);
        }
        allow
    }

    /// The model may have tensors of these names that the checkpoint lacks.
    #[must_use]
    pub fn missing(mut self, pattern: impl Into<String>) -> Self {
        self.missing.push(pattern.into());
        self
    }

    /// The checkpoint may have tensors of these names that the model lacks.
    #[must_use]
    pub fn unexpected(mut self, pattern: impl Into<String>) -> Self {
        self.unexpected.push(pattern.into());
        self
    }

    /// Tensors of these names may have different shapes, and are then not loaded.
    #[must_use]
    pub fn mismatched(mut self, pattern: impl Into<String>) -> Self {
        self.mismatched.push(pattern.into());
        self
    }
}

/// Compares names and shapes.
pub(super) fn compare(params: &Params, tensors: &IndexMap<String, TorchTensor>) -> LoadReport {
    let mut report = LoadReport::default();
    for p in params.iter() {
        let (name, expected) = (p.name().to_owned(), p.export_shape());
        match tensors.get(&name) {
            None => report.missing.push(name),
            Some(t) if t.shape() == expected => report.loaded.push(name),
            Some(t) => report.mismatched.push(Mismatch {
                name,
                found: t.shape().to_vec(),
                expected,
            }),
        }
    }
    let unknown = tensors.keys().filter(|n| params.get(n).is_none());
    report.unexpected = unknown.cloned().collect();
    report
}

impl LoadReport {
    /// Whether everything was loaded.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    pub(super) fn is_allowed(&self, allow: &Allow) -> bool {
        self.without(allow).is_complete()
    }

    /// What is left when allowed tensors are taken out.
    pub(super) fn without(&self, allow: &Allow) -> Self {
        let rest = |names: &[String], patterns: &[String]| -> Vec<String> {
            let kept = names.iter().filter(|n| !any(patterns, n));
            kept.cloned().collect()
        };
        let shapes = self.mismatched.iter();
        let shapes = shapes.filter(|m| !any(&allow.mismatched, &m.name));
        Self {
            loaded: self.loaded.clone(),
            missing: rest(&self.missing, &allow.missing),
            unexpected: rest(&self.unexpected, &allow.unexpected),
            mismatched: shapes.cloned().collect(),
        }
    }
}

/// How many names a message lists.
const LISTED: usize = 5;

fn list(f: &mut fmt::Formatter<'_>, what: &str, names: &[String]) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let first: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    write!(f, "; {what}: {}", first.join(", "))?;
    match names.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors fit", self.loaded.len())?;
        let shape = |m: &Mismatch| {
            format!(
                "{} is {:?}, the model needs {:?}",
                m.name, m.found, m.expected
            )
        };
        let shapes: Vec<String> = self.mismatched.iter().map(shape).collect();
        list(f, "of another shape", &shapes)?;
        list(f, "missing in the file", &self.missing)?;
        list(f, "unknown to the model", &self.unexpected)
    }
}

fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|p| matches(p, name))
}

/// Whether a name is of a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or("")) else {
        return false;
    };
    let mut rest = rest;
    let mut open = false;
    let mut last = "";
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
        (open, last) = (true, part);
    }
    match open {
        true => last.is_empty() || name.ends_with(last),
        false => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("bn.*", "bn.weight", true),
            ("bn.*", "dsbn.bns.0.running_mean", false),
            ("bn.weight", "bn.weight", true),
            ("bn.weight", "bn.weights", false),
            ("*.bias", "decoder.fc.0.bias", true),
            ("*.bias", "decoder.bias.0", false),
            ("decoder.*.weight", "decoder.fc.0.weight", true),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_message_lists_the_first_ones() {
        let report = LoadReport {
            missing: (0..7).map(|i| format!("m{i}")).collect(),
            mismatched: vec![Mismatch {
                name: "w".into(),
                found: vec![2],
                expected: vec![3],
            }],
            ..LoadReport::default()
        };
        let text = report.to_string();
        assert!(text.contains("m4 and 2 more"), "{text}");
        assert!(text.contains("w is [2], the model needs [3]"), "{text}");
    }
}
