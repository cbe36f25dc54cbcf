//! Minified cells: the posterior of each cell instead of its counts.
//!
//! A trained model needs the counts of a cell for two things only: to find its place in the latent space, `q(z | x)`, and
//! its library size. Both are a few numbers. A minified AnnData keeps them, and of the counts nothing, or everything
//! ([`MinifyKind`]). What the decoder makes of a cell (expression, parameters, simulated counts) stays what it was; what
//! compares with counts (the evidence lower bound, training) needs them and says so ([`Error::NeedsCounts`]).
//!
//! | scvi-tools keeps | where |
//! |---|---|
//! | the kind | `uns["_scvi_adata_minify_type"]` |
//! | mean and variance of `q(z | x)` | `obsm["scvi_latent_qzm"]`, `obsm["scvi_latent_qzv"]` (`scanvi_`, `ldvae_` for the other classes; releases up to 1.2 put an underscore before it) |
//! | the sum of the counts of each cell | `obs["observed_lib_size"]` (up to 1.2 `_scvi_observed_lib_size`) |
//!
//! The names in a checkpoint's registry decide ([`MinifiedKeys`]); only without one the known names are tried.
//!
//! Sums of counts by gene are kept besides, so that differential expression can still report means of raw counts; see
//! [`StoredStatistics`].

mod classes;
mod group;
mod keys;
mod size;
mod statistics;
mod stored;
mod stored_statistics;
#[cfg(test)]
mod tests;
mod write;

use sc_data::AnnData;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub use group::{GroupStatistics, StatisticsOrigin};
pub use keys::MinifiedKeys;
pub use size::{SizeEstimate, SizeInput, SizeReport, part_sizes};
pub use statistics::GeneSums;
pub use stored::{StoredPosterior, StoredRows};
pub use stored_statistics::StoredStatistics;
pub use write::MinifyOptions;

pub(crate) use stored::{NoCounts, find};

/// What a minified AnnData keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MinifyKind {
    /// The posterior only: `X` and the layers are empty.
    #[default]
    #[serde(rename = "latent_posterior_parameters")]
    Posterior,
    /// The posterior beside the counts: queries skip the encoder, and everything else still works.
    #[serde(rename = "latent_posterior_parameters_with_counts")]
    PosteriorWithCounts,
}

impl MinifyKind {
    /// scvi-tools' word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Posterior => "latent_posterior_parameters",
            Self::PosteriorWithCounts => "latent_posterior_parameters_with_counts",
        }
    }

    /// How data are minified, if they are: what `uns` says.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if it says something that is not known.
    pub fn of(data: &AnnData) -> Result<Option<Self>> {
        keys::kind_of(data)
    }

    /// Whether the counts are still there.
    pub fn has_counts(self) -> bool {
        self == Self::PosteriorWithCounts
    }
}

impl std::fmt::Display for MinifyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for MinifyKind {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Self::Posterior, Self::PosteriorWithCounts]
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| Error::InvalidSetting {
                name: "uns[\"_scvi_adata_minify_type\"]",
                value: s.to_owned(),
                reason: format!(
                    "minified data are of type {} or {}",
                    Self::Posterior,
                    Self::PosteriorWithCounts
                ),
            })
    }
}
