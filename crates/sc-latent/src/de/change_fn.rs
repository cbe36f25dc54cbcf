//! How a change is measured and which changes count, where it is not the log2 fold change and a threshold.

use std::fmt;
use std::sync::Arc;

/// How the change between two paired draws is measured; scvi-tools' `change_fn`.
///
/// ```
/// use sc_latent::de::{bayes_factors, ChangeFn, ChangeOptions, Mode, ScaleSamples};
/// // By how much does a gene change, in parts of all counts?
/// let mut options = ChangeOptions::default();
/// options.change_fn = ChangeFn::new(|s1, s2, _pseudocount| s1 - s2);
/// options.delta = Some(0.15);
/// options.pseudocounts = Some(1e-6);
/// let a = ScaleSamples::new(ndarray::array![[0.1f32, 0.9], [0.2, 0.8]].view());
/// let b = ScaleSamples::new(ndarray::array![[0.2f32, 0.8], [0.4, 0.6]].view());
/// let found = bayes_factors(&a, &b, None, &Mode::Change(options), None, 0)?;
/// assert_eq!(found.change().map(|c| c.proba_de.clone()), Some(vec![0.5, 0.5]));
/// # Ok::<(), sc_latent::Error>(())
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ChangeFn {
    /// `log2(s1 + c) - log2(s2 + c)`, with the pseudocount `c`.
    #[default]
    LogFoldChange,
    /// Any function of two draws and the pseudocount. Two functions are equal if they are the same object.
    Custom(Arc<dyn Fn(f64, f64, f64) -> f64 + Send + Sync>),
}

/// Which changes count; scvi-tools' `m1_domain_fn`.
///
/// ```
/// use sc_latent::de::{ChangeDomain, ChangeOptions};
/// // A rise has to be at least twofold, a fall at least fourfold.
/// let mut options = ChangeOptions::default();
/// options.domain = ChangeDomain::new(|lfc| (lfc >= 1.0, lfc < -2.0));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ChangeDomain {
    /// A rise by [`delta`](super::ChangeOptions::delta) or more, and a fall by more.
    #[default]
    Threshold,
    /// Any function that says whether a change is a rise, and whether it is a fall; `delta` then says nothing. Two functions are
    /// equal if they are the same object.
    Custom(Arc<dyn Fn(f64) -> (bool, bool) + Send + Sync>),
}

impl ChangeFn {
    /// A function of the expression of a gene in both draws, and the pseudocount.
    pub fn new(f: impl Fn(f64, f64, f64) -> f64 + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(f))
    }
}

impl ChangeDomain {
    /// A function of a change: is it a rise that counts, is it a fall that counts?
    pub fn new(f: impl Fn(f64) -> (bool, bool) + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(f))
    }

    /// Whether a change is a rise or a fall that counts.
    pub(super) fn contains(&self, change: f64, delta: f64) -> (bool, bool) {
        match self {
            Self::Threshold => (change >= delta, change < -delta),
            Self::Custom(f) => f(change),
        }
    }
}

impl PartialEq for ChangeFn {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LogFoldChange, Self::LogFoldChange) => true,
            (Self::Custom(a), Self::Custom(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl PartialEq for ChangeDomain {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Threshold, Self::Threshold) => true,
            (Self::Custom(a), Self::Custom(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl fmt::Debug for ChangeFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogFoldChange => "LogFoldChange",
            Self::Custom(_) => "Custom",
        })
    }
}

impl fmt::Debug for ChangeDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threshold => "Threshold",
            Self::Custom(_) => "Custom",
        })
    }
}
