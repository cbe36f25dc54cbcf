use super::mode::Mode;
use crate::{Error, Result, Weights};

/// Options of [`differential_expression`](super::differential_expression); scvi-tools' defaults.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DeOptions {
    /// What is asked of a gene; [`Mode::Vanilla`] by default, as in scvi-tools. [`DeOptions::change`] asks for changes.
    pub mode: Mode,
    /// Draws of each population; 5,000 by default. With batch correction they are shared among the batches.
    pub n_samples: usize,
    /// Decode all cells as if they came from the same batches, and compare draws batch by batch.
    pub batch_correction: bool,
    /// The batches of the first population, with batch correction; all by default.
    pub batches1: Vec<String>,
    /// The batches of the second population, with batch correction; all by default.
    pub batches2: Vec<String>,
    /// Compare so many random pairs of draws instead of draw `i` with draw `i`.
    pub permutations: Option<usize>,
    /// How likely each cell of a population is to be drawn.
    pub weights: Weights,
    /// Leave out the tenth of each population that lies apart in the latent space (robust covariance).
    pub filter_outliers: bool,
    /// Report statistics of the counts too; on by default.
    pub all_stats: bool,
    /// The false discovery rate at which genes that change are called; 0.05 by default.
    pub fdr_target: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for DeOptions {
    fn default() -> Self {
        Self {
            mode: Mode::Vanilla,
            n_samples: 5000,
            batch_correction: false,
            batches1: Vec::new(),
            batches2: Vec::new(),
            permutations: None,
            weights: Weights::Uniform,
            filter_outliers: false,
            all_stats: true,
            fdr_target: 0.05,
            seed: 0,
        }
    }
}

/// The share of a population that is left out as outliers.
pub(super) const CONTAMINATION: f64 = 0.1;

impl DeOptions {
    /// The defaults with [`Mode::Change`]: does a gene change by 0.25 (log2) or more?
    pub fn change() -> Self {
        Self {
            mode: Mode::Change(super::ChangeOptions::default()),
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.to_owned(),
            })
        };
        if self.n_samples == 0 || u32::try_from(self.n_samples).is_err() {
            let reason = "it must be at least 1, and fit into 32 bits";
            return wrong("n_samples", self.n_samples.to_string(), reason);
        }
        if self.permutations == Some(0) {
            return wrong("permutations", "0".into(), "it must be at least 1");
        }
        if !(0.0..=1.0).contains(&self.fdr_target) {
            let reason = "it must be from 0 to 1";
            return wrong("fdr_target", self.fdr_target.to_string(), reason);
        }
        let batches = [&self.batches1[..], &self.batches2[..]].concat().join(", ");
        if !self.batch_correction && !batches.is_empty() {
            let reason = "batches can be named with batch_correction only; otherwise each cell keeps its own";
            return wrong("batches1, batches2", batches, reason);
        }
        match &self.mode {
            Mode::Vanilla => Ok(()),
            Mode::Change(options) => options.check(),
        }
    }
}
