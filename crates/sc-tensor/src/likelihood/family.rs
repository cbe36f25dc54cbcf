use std::sync::Arc;

use candle_core::Tensor;

/// The distribution of one entry of the count matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// Poisson with rate mu.
    Poisson,
    /// Negative binomial with mean mu and inverse dispersion theta: variance mu + mu^2 / theta.
    NegativeBinomial,
    /// A negative binomial that is replaced by 0 with probability sigmoid(dropout logit).
    ZeroInflatedNegativeBinomial,
    /// Normal with mean mu and standard deviation theta.
    Normal,
}

impl Family {
    /// Whether the family has a second parameter: theta, for [`Family::Normal`] the standard deviation.
    pub fn has_dispersion(self) -> bool {
        self != Self::Poisson
    }

    /// Whether the family has dropout logits.
    pub fn has_dropout(self) -> bool {
        self == Self::ZeroInflatedNegativeBinomial
    }
}

/// How the mean mu of every entry comes about. N cells, G genes.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Mean<'a> {
    /// mu itself, `[N, G]`, not negative.
    Rate(&'a Tensor),
    /// `mu = exp(log_library) * softmax(logits)`, the softmax over genes: scVI.
    Softmax {
        /// `[N, G]`
        logits: &'a Tensor,
        /// Natural logarithm of the library size of each cell, `[N]` or `[N, 1]`.
        log_library: &'a Tensor,
    },
    /// `mu = exp(log_library) * softplus(logits)`: scVI with size factors.
    Softplus {
        /// `[N, G]`
        logits: &'a Tensor,
        /// Natural logarithm of the size factor of each cell, `[N]` or `[N, 1]`.
        log_library: &'a Tensor,
    },
}

impl<'a> Mean<'a> {
    /// The `[N, G]` tensor: the rates or the logits.
    pub fn tensor(&self) -> &'a Tensor {
        match *self {
            Self::Rate(t) => t,
            Self::Softmax { logits, .. } | Self::Softplus { logits, .. } => logits,
        }
    }

    /// The log-library, where there is one.
    pub fn log_library(&self) -> Option<&'a Tensor> {
        match *self {
            Self::Rate(_) => None,
            Self::Softmax { log_library, .. } | Self::Softplus { log_library, .. } => {
                Some(log_library)
            }
        }
    }
}

/// Which row of `log_theta` belongs to which cell.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DispersionRows {
    /// One row for all cells ("gene").
    Shared,
    /// One row for each cell ("gene-cell").
    PerCell,
    /// Cell `i` uses row `index[i % index.len()]`: its batch ("gene-batch") or label ("gene-label").
    Index(Arc<[u32]>),
}

/// The inverse dispersion `theta = exp(log_theta)`; for [`Family::Normal`] the standard deviation.
#[derive(Debug, Clone)]
pub struct Dispersion<'a> {
    /// `[R, G]`; `[G]` too if R = 1.
    pub log_theta: &'a Tensor,
    /// Which row belongs to which cell.
    pub rows: DispersionRows,
}

impl<'a> Dispersion<'a> {
    /// One dispersion per gene: `log_theta` is `[G]` or `[1, G]`.
    pub fn shared(log_theta: &'a Tensor) -> Self {
        Self {
            log_theta,
            rows: DispersionRows::Shared,
        }
    }

    /// One dispersion per gene and cell: `log_theta` is `[N, G]`.
    pub fn per_cell(log_theta: &'a Tensor) -> Self {
        Self {
            log_theta,
            rows: DispersionRows::PerCell,
        }
    }

    /// One dispersion per gene and group: `log_theta` is `[R, G]`, and `index` has the group of each cell of the minibatch.
    pub fn indexed(log_theta: &'a Tensor, index: impl Into<Arc<[u32]>>) -> Self {
        Self {
            log_theta,
            rows: DispersionRows::Index(index.into()),
        }
    }
}
