//! What is asked.

use super::change_fn::{ChangeDomain, ChangeFn};
use crate::{Error, Result};

/// The least pseudocount: log fold changes are summarised with a thousandth of it, which must still be a normal number.
pub const LEAST_PSEUDOCOUNT: f64 = 1e-10;

/// What is asked of a gene.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mode {
    /// Is it expressed more in the first population? `p1 = P(s1 > s2)`.
    Vanilla,
    /// Does it change by more than a threshold? `P(|log2 s1 / s2| >= delta)`.
    Change(ChangeOptions),
}

/// How the probabilities of a rise and of a fall are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TestMode {
    /// The larger of the two: a gene rises, falls, or does neither.
    #[default]
    Three,
    /// Their sum: a gene changes or does not.
    Two,
}

/// Options of [`Mode::Change`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChangeOptions {
    /// How the change between two paired draws is measured: the log2 fold change by default. The columns `lfc_*` summarise what
    /// this function gives.
    pub change_fn: ChangeFn,
    /// Which changes count: those by `delta` or more by default.
    pub domain: ChangeDomain,
    /// The least change that counts, a log2 fold change by default; `None` estimates it ([`estimate_delta`](super::estimate_delta)). 0.25 by default.
    pub delta: Option<f64>,
    /// How the probabilities of a rise and of a fall are joined.
    pub test: TestMode,
    /// Added to expression before the logarithm; `None` estimates it from genes that are not expressed.
    pub pseudocounts: Option<f64>,
    /// A gene whose mean count is below this is not expressed; 0.01 by default.
    pub threshold_counts: f64,
    /// Report the shortest intervals with these probabilities, e.g. 0.95.
    pub cred_intervals: Vec<f64>,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self {
            change_fn: ChangeFn::default(),
            domain: ChangeDomain::default(),
            delta: Some(0.25),
            test: TestMode::Three,
            pseudocounts: None,
            threshold_counts: 0.01,
            cred_intervals: Vec::new(),
        }
    }
}

impl ChangeOptions {
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |name, value: f64, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value: value.to_string(),
                reason: reason.to_owned(),
            })
        };
        match self {
            Self { delta: Some(d), .. } if !(d.is_finite() && *d >= 0.0) => {
                wrong("delta", *d, "it must be a number from 0")
            }
            Self {
                pseudocounts: Some(c),
                ..
            } if !(c.is_finite() && *c >= LEAST_PSEUDOCOUNT) => {
                wrong("pseudocounts", *c, "it must be at least 1e-10")
            }
            Self {
                threshold_counts: t,
                ..
            } if !(t.is_finite() && *t >= 0.0) => {
                wrong("threshold_counts", *t, "it must be a number from 0")
            }
            _ => match self.cred_intervals.iter().find(|&&l| !(l > 0.0 && l < 1.0)) {
                Some(&l) => wrong(
                    "cred_intervals",
                    l,
                    "a level is between 0 and 1, without either",
                ),
                None => Ok(()),
            },
        }
    }
}
