use sc_tensor::likelihood::Family;
use serde::{Deserialize, Serialize};

use crate::{Error, Registry, Result};

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// scvi-tools' word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> {
                match s {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(Error::InvalidSetting {
                        name: stringify!($name),
                        value: s.to_owned(),
                        reason: concat!("choose one of" $(, " ", $text)+).to_owned(),
                    }),
                }
            }
        }
    };
}

choices! {
    /// The distribution of a count given the decoder's output.
    Likelihood {
        /// Zero-inflated negative binomial.
        Zinb = "zinb",
        /// Negative binomial.
        Nb = "nb",
        /// Poisson.
        Poisson = "poisson",
        /// Normal, for data that are no counts.
        Normal = "normal",
    }
}

choices! {
    /// What the inverse dispersion of a gene depends on.
    Dispersion {
        /// One for each gene.
        Gene = "gene",
        /// One for each gene and batch.
        GeneBatch = "gene-batch",
        /// One for each gene and label.
        GeneLabel = "gene-label",
        /// The decoder gives one for each gene and cell.
        GeneCell = "gene-cell",
    }
}

choices! {
    /// The distribution of the latent variable.
    LatentDistribution {
        /// Normal.
        Normal = "normal",
        /// Logistic normal: the softmax of a normal.
        LogisticNormal = "ln",
    }
}

choices! {
    /// Which networks a normalisation is used in.
    NormIn {
        /// Only the encoders.
        Encoder = "encoder",
        /// Only the decoder.
        Decoder = "decoder",
        /// Neither.
        None = "none",
        /// All.
        Both = "both",
    }
}

choices! {
    /// What makes the encoder's output a variance.
    VarActivation {
        /// `exp`.
        Exp = "exp",
        /// `ln(1 + exp)`.
        Softplus = "softplus",
    }
}

impl NormIn {
    pub(crate) fn encoder(self) -> bool {
        matches!(self, Self::Encoder | Self::Both)
    }
    pub(crate) fn decoder(self) -> bool {
        matches!(self, Self::Decoder | Self::Both)
    }
}

impl Likelihood {
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Zinb => Family::ZeroInflatedNegativeBinomial,
            Self::Nb => Family::NegativeBinomial,
            Self::Poisson => Family::Poisson,
            Self::Normal => Family::Normal,
        }
    }

    /// Whether it is a distribution of counts.
    pub fn is_of_counts(self) -> bool {
        self != Self::Normal
    }
}

/// How the networks see the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchRepresentation {
    /// One input for each batch.
    #[serde(rename = "one-hot")]
    OneHot,
    /// A learned vector for each batch.
    #[serde(rename = "embedding")]
    Embedding {
        /// Its length.
        dim: usize,
    },
}

/// The form of the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decoder {
    /// scVI's network.
    #[serde(rename = "nonlinear")]
    Nonlinear,
    /// LinearSCVI: one linear map, so that its weights are loadings of genes.
    #[serde(rename = "linear")]
    Linear {
        /// Whether the linear map has a bias.
        bias: bool,
    },
}

/// All settings of a model. Made by [`ScviParams`](crate::ScviParams), read with getters' ease: the fields are public,
/// but a model can only be made through [`ScviParams::check`](crate::ScviParams::check).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScviConfig {
    /// Width of the hidden layers.
    pub n_hidden: usize,
    /// Dimensions of the latent space.
    pub n_latent: usize,
    /// Hidden layers of encoder and decoder.
    pub n_layers: usize,
    /// Share of hidden units that is dropped in the encoder while training.
    pub dropout_rate: f64,
    /// What the inverse dispersion depends on.
    pub dispersion: Dispersion,
    /// The distribution of the counts.
    pub likelihood: Likelihood,
    /// The distribution of the latent variable.
    pub latent_distribution: LatentDistribution,
    /// Whether the encoder reads `ln(1 + x)`.
    pub log_variational: bool,
    /// Whether the encoder reads the covariates.
    pub encode_covariates: bool,
    /// Whether the covariates enter every layer, not only the first.
    pub deeply_inject_covariates: bool,
    /// How the networks see the batch.
    pub batch_representation: BatchRepresentation,
    /// Where batch normalisation is used.
    pub batch_norm: NormIn,
    /// Where layer normalisation is used.
    pub layer_norm: NormIn,
    /// Whether the library size is the sum of the counts (or learned).
    pub use_observed_lib_size: bool,
    /// What makes the encoder's output a variance.
    pub var_activation: VarActivation,
    /// The form of the decoder.
    pub decoder: Decoder,
}

impl Default for ScviConfig {
    fn default() -> Self {
        Self {
            n_hidden: 128,
            n_latent: 10,
            n_layers: 1,
            dropout_rate: 0.1,
            dispersion: Dispersion::Gene,
            likelihood: Likelihood::Zinb,
            latent_distribution: LatentDistribution::Normal,
            log_variational: true,
            encode_covariates: false,
            deeply_inject_covariates: true,
            batch_representation: BatchRepresentation::OneHot,
            batch_norm: NormIn::Both,
            layer_norm: NormIn::None,
            use_observed_lib_size: true,
            var_activation: VarActivation::Exp,
            decoder: Decoder::Nonlinear,
        }
    }
}

impl ScviConfig {
    /// LinearSCVI's defaults: a linear decoder, negative binomial counts, a learned library size.
    pub fn linear() -> Self {
        Self {
            decoder: Decoder::Linear { bias: false },
            likelihood: Likelihood::Nb,
            use_observed_lib_size: false,
            ..Self::default()
        }
    }

    pub(crate) fn check(&self, registry: &Registry) -> Result<()> {
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.to_owned(),
            })
        };
        for (name, n) in [
            ("n_genes", registry.n_genes()),
            ("n_hidden", self.n_hidden),
            ("n_latent", self.n_latent),
            ("n_layers", self.n_layers),
            ("n_batch", registry.batches.len()),
        ] {
            if n == 0 {
                return wrong(name, "0".into(), "it must be at least 1");
            }
        }
        let s = &registry.setup;
        for (name, key, n) in [
            ("batch_key", &s.batch_key, registry.batches.len()),
            ("labels_key", &s.labels_key, registry.labels.len()),
        ] {
            if key.is_none() && n > 1 {
                return wrong(
                    name,
                    "none".into(),
                    "the model has several categories, so it must know their column",
                );
            }
        }
        if registry.labels.is_empty()
            || registry.categorical_covariates.len() != s.categorical_covariate_keys.len()
        {
            return wrong(
                "registry",
                "incomplete".into(),
                "each column needs its categories",
            );
        }
        if !(0.0..1.0).contains(&self.dropout_rate) {
            return wrong(
                "dropout_rate",
                self.dropout_rate.to_string(),
                "it must be at least 0 and less than 1",
            );
        }
        if self.batch_representation == (BatchRepresentation::Embedding { dim: 0 }) {
            return wrong(
                "batch embedding dimension",
                "0".into(),
                "it must be at least 1",
            );
        }
        if matches!(self.decoder, Decoder::Linear { .. }) && self.dispersion == Dispersion::GeneCell
        {
            return wrong(
                "dispersion",
                "gene-cell".into(),
                "a linear decoder gives no dispersion; choose another",
            );
        }
        Ok(())
    }
}
