use serde::{Deserialize, Serialize};

use crate::{Dispersion, Error, Registry, Result, ScviConfig};

/// All settings of a SCANVI model. Made by [`ScanviParams`](crate::ScanviParams).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScanviConfig {
    /// Those of the variational auto-encoder.
    pub scvi: ScviConfig,
    /// Those of the classifier.
    pub classifier: ClassifierConfig,
}

/// The classifier: `n_layers` hidden layers, normalised as the encoder's are, and a linear map to the labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClassifierConfig {
    /// Hidden layers; `None` takes as many as the encoder, 0 makes the classifier linear.
    pub n_layers: Option<usize>,
    /// Their width; `None` takes the encoder's.
    pub n_hidden: Option<usize>,
    /// Share of hidden units dropped in training; `None` takes the encoder's.
    pub dropout_rate: Option<f64>,
    /// Train as scvi-tools before 1.1 did: the cross-entropy takes the classifier's probabilities for logits, so that the
    /// softmax is applied twice. Models of that age have it; new ones should not.
    pub legacy_probs: bool,
}

impl ClassifierConfig {
    /// One linear map, without hidden layers.
    pub fn linear() -> Self {
        Self {
            n_layers: Some(0),
            ..Self::default()
        }
    }

    /// Whether there are no hidden layers.
    pub fn is_linear(&self) -> bool {
        self.n_layers == Some(0)
    }
}

impl ScanviConfig {
    /// These settings of the variational auto-encoder and of the classifier.
    pub fn new(scvi: ScviConfig, classifier: ClassifierConfig) -> Self {
        Self { scvi, classifier }
    }

    pub(crate) fn check(&self, registry: &Registry) -> Result<()> {
        self.scvi.check(registry)?;
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.to_owned(),
            })
        };
        if registry.unlabeled_code().is_none() {
            return wrong(
                "unlabeled_category",
                "none".into(),
                "SCANVI needs a column of labels and the label that stands for \"not known\" (Setup::labels_key and \
                 Setup::unlabeled_category)",
            );
        }
        if registry.n_labels() == 0 {
            return wrong(
                "labels_key",
                registry.setup.labels_key.clone().unwrap_or_default(),
                "every cell is unlabelled, so there is nothing to learn labels from",
            );
        }
        if self.scvi.dispersion == Dispersion::GeneLabel {
            return wrong(
                "dispersion",
                "gene-label".into(),
                "in SCANVI the label of a cell may not be known, and scvi-tools can't build this either (its px_r has no \
                 columns); choose gene, gene-batch or gene-cell",
            );
        }
        if self.scvi.decoder != crate::Decoder::Nonlinear {
            return wrong(
                "decoder",
                "linear".into(),
                "SCANVI has scVI's decoder; start from Scvi::params instead of Scvi::linear_params",
            );
        }
        let c = &self.classifier;
        if c.n_hidden == Some(0) && !c.is_linear() {
            return wrong(
                "classifier n_hidden",
                "0".into(),
                "it must be at least 1; a linear classifier has n_layers 0",
            );
        }
        if let Some(p) = c.dropout_rate
            && !(0.0..1.0).contains(&p)
        {
            return wrong(
                "classifier dropout_rate",
                p.to_string(),
                "it must be at least 0 and less than 1",
            );
        }
        Ok(())
    }

    pub(crate) fn classifier_layers(&self) -> usize {
        self.classifier.n_layers.unwrap_or(self.scvi.n_layers)
    }
}

/// Which labels SCANVI learns from.
///
/// ```
/// use sc_latent::Labels;
/// let labels = Labels { key: Some("cell_type".into()), unlabeled_category: "Unknown".into() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// The column of `obs`; `None` takes the one that the scVI model knows.
    pub key: Option<String>,
    /// The label that stands for "not known"; it need not occur.
    pub unlabeled_category: String,
}

/// How the labels take part in training. The defaults are scvi-tools'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SemiSupervised {
    /// The weight of the classification loss against the rest.
    pub classification_ratio: f64,
    /// In each epoch learn from at most so many cells of each label, drawn anew; `None` takes all. With very unequal
    /// numbers of cells 100 keeps rare labels from being drowned.
    pub n_samples_per_label: Option<usize>,
}

impl Default for SemiSupervised {
    fn default() -> Self {
        Self {
            classification_ratio: 50.0,
            n_samples_per_label: None,
        }
    }
}

impl SemiSupervised {
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.to_owned(),
            })
        };
        if !(self.classification_ratio.is_finite() && self.classification_ratio >= 0.0) {
            return wrong(
                "classification_ratio",
                self.classification_ratio.to_string(),
                "it must be a number from 0",
            );
        }
        if self.n_samples_per_label == Some(0) {
            return wrong("n_samples_per_label", "0".into(), "it must be at least 1");
        }
        Ok(())
    }
}
