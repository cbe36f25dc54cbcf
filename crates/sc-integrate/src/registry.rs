use serde::{Deserialize, Serialize};

use crate::{Error, Likelihood, Result};

/// What a model knows of its modalities, besides weights: names, features, batches and labels, in the order in which
/// they have numbers. The order of the modalities is that of the subspaces.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Registry {
    /// The modalities.
    pub modalities: Vec<ModalityInfo>,
    /// The batches of all modalities; empty if there are none.
    pub batches: Vec<String>,
    /// The labels of cells, if a classifier is trained; else empty.
    pub labels: Vec<String>,
}

/// One modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModalityInfo {
    /// Its name, e.g. `rna`.
    pub name: String,
    /// Its features.
    pub features: Vec<String>,
    /// The distribution of its values.
    pub likelihood: Likelihood,
    /// The width of the representation that its encoders read instead of the values.
    pub representation: Option<usize>,
    /// How much it weighs in the loss, relative to the others.
    pub weight: f64,
}

impl ModalityInfo {
    /// Number of features.
    pub fn n_features(&self) -> usize {
        self.features.len()
    }
}

impl Registry {
    /// Number of modalities.
    pub fn n_modalities(&self) -> usize {
        self.modalities.len()
    }

    /// Batch columns: at least one, as in scglue.
    pub fn n_batches(&self) -> usize {
        self.batches.len().max(1)
    }

    /// The number of a modality.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn modality(&self, name: &str) -> Result<usize> {
        let names = || self.modalities.iter().map(|m| m.name.as_str());
        names()
            .position(|n| n == name)
            .ok_or_else(|| Error::not_found("modality", name, names()))
    }

    /// The number of a batch.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn batch(&self, name: &str) -> Result<u32> {
        let found = self.batches.iter().position(|b| b == name);
        let known = self.batches.iter().map(String::as_str);
        found
            .map(|b| b as u32)
            .ok_or_else(|| Error::not_found("batch", name, known))
    }

    /// Weights of the modalities with mean 1.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let sum: f64 = self.modalities.iter().map(|m| m.weight).sum();
        let n = self.modalities.len() as f64;
        self.modalities.iter().map(|m| m.weight * n / sum).collect()
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.modalities.is_empty() {
            return Err(Error::NoCells {
                what: "the model".into(),
                reason: "there is no modality; give at least one".into(),
            });
        }
        for (i, m) in self.modalities.iter().enumerate() {
            let wrong = |name, value: String, reason: String| {
                Err(Error::InvalidSetting {
                    name,
                    value,
                    reason,
                })
            };
            if self.modalities[..i].iter().any(|o| o.name == m.name) {
                let reason = "each modality needs a name of its own".into();
                return wrong("modality", m.name.clone(), reason);
            }
            if m.name.is_empty() || m.name.contains('.') {
                let reason = "it needs a name, without a dot: weights are named after it";
                return wrong("modality", m.name.clone(), reason.into());
            }
            if m.features.is_empty() {
                let reason = format!("modality \"{}\" has no feature", m.name);
                return wrong("features", "0".into(), reason);
            }
            if m.representation == Some(0) {
                let reason = format!("the representation of \"{}\" has no column", m.name);
                return wrong("representation", "0".into(), reason);
            }
            if !(m.weight.is_finite() && m.weight > 0.0) {
                let reason = format!("the weight of \"{}\" must be positive", m.name);
                return wrong("weight", m.weight.to_string(), reason);
            }
        }
        Ok(())
    }
}
