use serde::{Deserialize, Serialize};

/// The distribution of the values of a modality, given its part of the embedding.
///
/// With `o` what the decoder gives, `b` the batch of the cell, `l` its library size and `eps` = 1e-7:
///
/// | | parameters |
/// |---|---|
/// | NB, ZINB, Poisson | `mu = l softmax(softplus(scale_b) o + bias_b)` over features, `theta = exp(log_theta_b)` |
/// | Bernoulli | logit `softplus(scale_b) o + bias_b` |
/// | Normal, ZIN, ZILN | mean `o`, standard deviation `softplus(std_b) + eps` |
/// | MSE, RMSE | mean `o` |
/// | NB mixture | background `beta`, foreground `beta (1 + softplus(o))`, and the probability of background |
///
/// Zero inflation is by logits of each feature and batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Likelihood {
    /// Negative binomial: counts.
    #[default]
    Nb,
    /// Negative binomial with extra zeros: counts.
    Zinb,
    /// Poisson: counts without overdispersion.
    Poisson,
    /// Zero or one: open chromatin that was binarised.
    Bernoulli,
    /// Normal: anything continuous, such as proteins after CLR, or another model's embedding.
    Normal,
    /// Normal with extra zeros.
    Zin,
    /// Log-normal with extra zeros: shares, such as methylation.
    Ziln,
    /// The mean squared error instead of a likelihood.
    Mse,
    /// Its root.
    Rmse,
    /// Counts of proteins, each from unspecific background or from the cell itself (Gayoso et al., "Joint probabilistic
    /// modeling of single-cell multi-omic data with totalVI", Nature Methods 2021).
    NbMixture,
}

impl Likelihood {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Nb,
        Self::Zinb,
        Self::Poisson,
        Self::Bernoulli,
        Self::Normal,
        Self::Zin,
        Self::Ziln,
        Self::Mse,
        Self::Rmse,
        Self::NbMixture,
    ];

    /// The name that settings and files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nb => "nb",
            Self::Zinb => "zinb",
            Self::Poisson => "poisson",
            Self::Bernoulli => "bernoulli",
            Self::Normal => "normal",
            Self::Zin => "zin",
            Self::Ziln => "ziln",
            Self::Mse => "mse",
            Self::Rmse => "rmse",
            Self::NbMixture => "nb-mixture",
        }
    }

    /// Whether the mean is a share of a library size.
    pub fn has_library(self) -> bool {
        matches!(self, Self::Nb | Self::Zinb | Self::Poisson)
    }

    /// Whether values are counts.
    pub fn is_of_counts(self) -> bool {
        self.has_library() || self == Self::NbMixture
    }

    pub(crate) fn has_scale(self) -> bool {
        self.has_library() || self == Self::Bernoulli
    }

    pub(crate) fn has_theta(self) -> bool {
        matches!(self, Self::Nb | Self::Zinb | Self::NbMixture)
    }

    pub(crate) fn has_std(self) -> bool {
        matches!(self, Self::Normal | Self::Zin | Self::Ziln)
    }

    pub(crate) fn has_extra_zeros(self) -> bool {
        matches!(self, Self::Zinb | Self::Zin | Self::Ziln)
    }
}

impl std::fmt::Display for Likelihood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Likelihood {
    type Err = crate::Error;

    fn from_str(s: &str) -> crate::Result<Self> {
        let lower = s.to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|l| l.name() == lower);
        found.ok_or_else(|| {
            crate::Error::not_found("likelihood", s, Self::ALL.iter().map(|l| l.name()))
        })
    }
}
