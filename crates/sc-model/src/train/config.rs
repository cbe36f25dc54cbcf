use sc_tensor::numpy::RandomState;
use serde::{Deserialize, Serialize};

use super::Shuffle;
use crate::{EarlyStopping, Error, KlWarmup, LrSchedule, OptimizerKind, Result, heuristic_epochs};

/// How a model is trained. The defaults are scvi-tools'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TrainConfig {
    /// Passes over the training cells; `None` takes [`heuristic_epochs`].
    pub max_epochs: Option<usize>,
    /// Cells of a minibatch.
    pub batch_size: usize,
    /// Which cells train and which validate.
    pub split: SplitConfig,
    /// In which order the training cells come.
    pub shuffle: Shuffle,
    /// The learning rate at the start.
    pub lr: f64,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Let the optimiser's weight decay pull also at the frozen entries of parameters that are trained in part, as
    /// scvi-tools does.
    pub decay_frozen: bool,
    /// How the learning rate changes.
    pub lr_schedule: LrSchedule,
    /// The metric a plateau is judged by.
    pub plateau_monitor: String,
    /// How the weight of the KL term rises.
    pub kl_warmup: KlWarmup,
    /// Stop early; `None` trains all epochs.
    pub early_stopping: Option<EarlyStopping>,
    /// Scale the gradients down to this joint norm.
    pub max_grad_norm: Option<f64>,
    /// Validate every so many epochs; `None` validates only if early stopping or a plateau needs it.
    pub validate_every: Option<usize>,
    /// Seed of everything random: split, shuffling, dropout, samples.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            max_epochs: None,
            batch_size: 128,
            split: SplitConfig::default(),
            shuffle: Shuffle::default(),
            lr: 1e-3,
            optimizer: OptimizerKind::default(),
            decay_frozen: false,
            lr_schedule: LrSchedule::Constant,
            plateau_monitor: "elbo_validation".into(),
            kl_warmup: KlWarmup::default(),
            early_stopping: None,
            max_grad_norm: None,
            validate_every: None,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// Whether every setting is possible.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first that is not.
    pub fn check(&self) -> Result<()> {
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.into(),
            })
        };
        if self.batch_size == 0 {
            return wrong("batch_size", "0".into(), "it must be at least 1");
        }
        if self.max_epochs == Some(0) {
            return wrong("max_epochs", "0".into(), "it must be at least 1");
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return wrong("lr", self.lr.to_string(), "it must be a positive number");
        }
        if self
            .max_grad_norm
            .is_some_and(|n| !(n.is_finite() && n > 0.0))
        {
            return wrong(
                "max_grad_norm",
                format!("{:?}", self.max_grad_norm),
                "it must be a positive number",
            );
        }
        self.shuffle.check(self.batch_size)?;
        self.optimizer.check()?;
        if self.validate_every == Some(0) {
            return wrong("validate_every", "0".into(), "it must be at least 1");
        }
        Ok(())
    }

    /// The number of epochs for so many cells.
    pub fn epochs(&self, n_cells: usize) -> usize {
        self.max_epochs.unwrap_or_else(|| heuristic_epochs(n_cells))
    }

    /// Whether the validation loss is computed after `epoch` (from 0).
    pub fn validates_after(&self, epoch: usize) -> bool {
        match self.validate_every {
            Some(n) => (epoch + 1).is_multiple_of(n),
            None => {
                self.early_stopping.is_some()
                    || matches!(self.lr_schedule, LrSchedule::Plateau { .. })
            }
        }
    }
}

/// Which cells train, which validate, and which are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SplitConfig {
    /// Share of the cells that train; `None` is 0.9 with scvi-tools' rule for last minibatches of one or two cells.
    pub train_size: Option<f64>,
    /// Share of the cells that validate; `None` takes all that do not train.
    pub validation_size: Option<f64>,
    /// Draw the cells at random, not in their order.
    pub shuffle: bool,
    /// The split itself, instead of drawing one: training and validation cells.
    pub given: Option<(Vec<usize>, Vec<usize>)>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            train_size: None,
            validation_size: None,
            shuffle: true,
            given: None,
        }
    }
}

/// A split of the cells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Split {
    /// Cells that train.
    pub train: Vec<usize>,
    /// Cells that validate.
    pub validation: Vec<usize>,
    /// Cells that do neither.
    pub test: Vec<usize>,
}

impl Split {
    /// The same split of other cells: position `i` becomes `cells[i]`.
    fn of(&self, cells: &[usize]) -> Self {
        let pick = |v: &[usize]| v.iter().filter_map(|&i| cells.get(i).copied()).collect();
        Self {
            train: pick(&self.train),
            validation: pick(&self.validation),
            test: pick(&self.test),
        }
    }
}

impl SplitConfig {
    /// Splits `n` cells exactly as scvi-tools does with `settings.seed = seed`: NumPy's `RandomState(seed)`
    /// permutation, validation cells first.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for impossible shares, [`Error::TooFewCells`] if nothing is left to train on.
    pub fn split(&self, n: usize, batch_size: usize, seed: u64) -> Result<Split> {
        if let Some((train, validation)) = &self.given {
            if let Some(&index) = train.iter().chain(validation).find(|&&i| i >= n) {
                return Err(sc_data::Error::OutOfRange {
                    what: "cell",
                    index,
                    len: n,
                }
                .into());
            }
            if train.is_empty() {
                return Err(Error::TooFewCells {
                    what: "the training set".into(),
                    found: 0,
                    needed: 1,
                });
            }
            let mut seen = std::collections::HashSet::new();
            if let Some(twice) = train.iter().chain(validation).find(|i| !seen.insert(**i)) {
                return Err(Error::InvalidSetting {
                    name: "split.given",
                    value: twice.to_string(),
                    reason: "this cell occurs twice".into(),
                });
            }
            return Ok(Split {
                train: train.clone(),
                validation: validation.clone(),
                test: Vec::new(),
            });
        }
        let (n_train, n_validation) = self.sizes(n, batch_size)?;
        let order: Vec<usize> = if self.shuffle {
            let seed = u32::try_from(seed).map_err(|_| Error::InvalidSetting {
                name: "seed",
                value: seed.to_string(),
                reason: "NumPy's generator, which splits the cells, takes seeds below 2^32".into(),
            })?;
            RandomState::new(seed).permutation(n)
        } else {
            (0..n).collect()
        };
        let (validation, rest) = order.split_at(n_validation);
        let (train, test) = rest.split_at(n_train);
        Ok(Split {
            train: train.to_vec(),
            validation: validation.to_vec(),
            test: test.to_vec(),
        })
    }

    /// Splits each of several groups of cells on its own, as scvi-tools splits the labelled and the unlabelled cells of
    /// SCANVI: every group is permuted by a fresh `RandomState(seed)`, and the parts are put behind each other. Groups
    /// without cells are passed over.
    ///
    /// Where that would leave a last minibatch of one cell although [`SplitConfig::train_size`] does not ask for it, one
    /// cell of the largest group validates instead of training (scvi-tools fails there).
    ///
    /// # Errors
    /// Those of [`SplitConfig::split`].
    pub fn split_groups(
        &self,
        groups: &[Vec<usize>],
        batch_size: usize,
        seed: u64,
    ) -> Result<Split> {
        let n: usize = groups.iter().map(Vec::len).sum();
        if self.given.is_some() || n == 0 {
            return self.split(n, batch_size, seed);
        }
        let each = Self {
            train_size: Some(self.train_size.unwrap_or(0.9)),
            ..self.clone()
        };
        let mut parts = groups
            .iter()
            .map(|g| match g.len() {
                0 => Ok(Split::default()),
                n => Ok(each.split(n, batch_size, seed)?.of(g)),
            })
            .collect::<Result<Vec<_>>>()?;
        let n_train: usize = parts.iter().map(|p| p.train.len()).sum();
        let lonely = batch_size > 1 && n_train > 1 && n_train % batch_size == 1;
        if lonely
            && self.train_size.is_none()
            && let Some(largest) = parts.iter_mut().max_by_key(|p| p.train.len())
            && let Some(cell) = largest.train.pop()
        {
            largest.validation.push(cell);
        }
        let mut all = Split::default();
        for part in parts {
            all.train.extend(part.train);
            all.validation.extend(part.validation);
            all.test.extend(part.test);
        }
        Ok(all)
    }

    /// How many cells train and validate.
    fn sizes(&self, n: usize, batch_size: usize) -> Result<(usize, usize)> {
        let share = |name, value: Option<f64>, low_ok: bool| match value {
            Some(v) if !(v <= 1.0 && (v > 0.0 || (low_ok && v == 0.0))) => {
                Err(Error::InvalidSetting {
                    name,
                    value: v.to_string(),
                    reason: "it must be a share of the cells, up to 1".into(),
                })
            }
            _ => Ok(()),
        };
        share("train_size", self.train_size, false)?;
        share("validation_size", self.validation_size, true)?;
        let train_size = self.train_size.unwrap_or(0.9);
        let mut n_train = ((train_size * n as f64).ceil() as usize).min(n);
        let mut n_validation = match self.validation_size {
            None => n - n_train,
            Some(v) if train_size + v > 1.0 + 1e-12 => {
                return Err(Error::InvalidSetting {
                    name: "validation_size",
                    value: v.to_string(),
                    reason: format!("together with train_size = {train_size} it exceeds 1"),
                });
            }
            Some(v) => ((v * n as f64).floor() as usize).min(n - n_train),
        };
        // A last minibatch of one cell breaks batch normalisation: scvi-tools moves one or two cells to validation.
        let rest = n_train % batch_size.max(1);
        if self.train_size.is_none() && (rest == 1 || rest == 2) && n_train > rest {
            n_train -= rest;
            if n_validation > 0 {
                n_validation += rest;
            }
        }
        if n_train == 0 {
            return Err(Error::TooFewCells {
                what: "the training set".into(),
                found: 0,
                needed: 1,
            });
        }
        Ok((n_train, n_validation))
    }
}
