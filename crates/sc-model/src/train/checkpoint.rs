use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::config::Split;
use super::{
    Control, EpochEvent, History, Loss, Observer, Snapshot, StepEvent, StopReason, TrainConfig,
};
use crate::schedule::{LrState, StopState};
use crate::{Error, Optimizer, Params, Result, tensors};

/// The entry of a checkpoint with [`Trainable::settings`](super::Trainable::settings).
const SETTINGS: &str = "settings";

/// What observers had saved is called `kept/<observer>/<tensor>`.
const KEPT: &str = "kept";

/// Tensors that observers want saved, by observer.
pub(super) type Kept = RefCell<BTreeMap<&'static str, Vec<(String, Tensor)>>>;

/// Stands for `train` or `validation` in the name of a metric.
const SET: &str = "{set}";

/// Sums of the metrics over the minibatches of an epoch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    n_cells: usize,
    loss: f64,
    /// Each metric's sum, and how many cells the minibatches that had it held: a term may come with some only.
    by_name: IndexMap<String, (f64, usize)>,
}

impl Sums {
    pub(super) fn add(&mut self, loss: &Loss, value: f64) {
        self.n_cells += loss.n_cells;
        self.loss += value * loss.n_cells as f64;
        for (name, sum) in &loss.sums {
            let (total, n) = self.by_name.entry((*name).to_owned()).or_default();
            *total += sum;
            *n += loss.n_cells;
        }
    }

    /// Writes the means to the history as `<metric>_<set>`, or where the name of the metric says `{set}`.
    pub(super) fn note(&self, history: &mut History, set: &str, epoch: usize) {
        let loss = if set == "train" {
            "train_loss_epoch".to_owned()
        } else {
            format!("{set}_loss")
        };
        history.push(&loss, epoch, self.loss / self.n_cells.max(1) as f64);
        for (name, &(sum, n)) in &self.by_name {
            let name = if name.contains(SET) {
                name.replace(SET, set)
            } else {
                format!("{name}_{set}")
            };
            history.push(&name, epoch, sum / n.max(1) as f64);
        }
    }
}

/// Where training stands besides the weights and the optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) epoch: usize,
    pub(super) step_in_epoch: usize,
    pub(super) step: u64,
    pub(super) split: Split,
    pub(super) lr: LrState,
    pub(super) stop: StopState,
    pub(super) train_sums: Sums,
    pub(super) history: History,
    /// Not saved: the same run gives the same files.
    #[serde(skip)]
    pub(super) epoch_seconds: Vec<f64>,
}

impl Progress {
    pub(super) fn new(split: Split, config: &TrainConfig) -> Self {
        Self {
            epoch: 0,
            step_in_epoch: 0,
            step: 0,
            split,
            lr: LrState::new(config.lr_schedule.first(config.lr)),
            stop: StopState::default(),
            train_sums: Sums::default(),
            history: History::default(),
            epoch_seconds: Vec::new(),
        }
    }
}

/// Saves the state of a running loop.
pub(super) struct Saver<'a> {
    pub(super) params: &'a Params,
    pub(super) optimizer: &'a Optimizer,
    pub(super) progress: &'a Progress,
    pub(super) config: &'a TrainConfig,
    pub(super) settings: String,
    pub(super) kept: &'a Kept,
}

impl Snapshot for Saver<'_> {
    fn save(&self, path: &Path) -> Result<()> {
        // A checkpoint of a run that has gone wrong must not replace a good one.
        if let Some(name) = self.params.first_non_finite()? {
            return Err(Error::Diverged {
                loss: f64::NAN,
                epoch: self.progress.epoch,
                step: self.progress.step_in_epoch,
                parameter: Some(name),
                first_cell: 0,
            });
        }
        let mut all: Vec<(String, Tensor)> = self
            .params
            .iter()
            .map(|p| (format!("model/{}", p.name()), p.value().clone()))
            .collect();
        all.extend(self.optimizer.state(self.params)?);
        for (observer, tensors) in self.kept.borrow().iter() {
            let named = |(name, t): &(String, Tensor)| (kept(observer, name), t.clone());
            all.extend(tensors.iter().map(named));
        }
        let metadata = [
            ("progress", serde_json::to_string(self.progress)),
            ("config", serde_json::to_string(self.config)),
            (SETTINGS, Ok(self.settings.clone())),
        ]
        .into_iter()
        .map(|(k, v)| match v {
            Ok(v) => Ok((k.to_owned(), v)),
            Err(e) => Err(Error::Format {
                path: path.to_owned(),
                reason: e.to_string(),
            }),
        })
        .collect::<Result<tensors::Metadata>>()?;
        tensors::write(path, &all, &metadata)
    }

    fn keep(&self, name: &'static str, tensors: Vec<(String, Tensor)>) {
        self.kept.borrow_mut().insert(name, tensors);
    }
}

/// What a tensor of an observer is called in a file.
fn kept(observer: &str, tensor: &str) -> String {
    format!("{KEPT}/{observer}/{tensor}")
}

/// A state of training that was saved by [`Checkpoint`].
#[derive(Debug)]
pub struct ResumeState {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    progress: Progress,
    config: TrainConfig,
    settings: String,
}

impl ResumeState {
    /// Reads it.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Format`].
    pub fn load(path: &Path) -> Result<Self> {
        let (tensors, metadata) = tensors::read(path, &Device::Cpu)?;
        Ok(Self {
            progress: tensors::json_entry(path, &metadata, "progress")?,
            config: tensors::json_entry(path, &metadata, "config")?,
            settings: metadata.get(SETTINGS).cloned().unwrap_or_default(),
            tensors,
            path: path.to_owned(),
        })
    }

    /// The settings of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The epoch it had reached, from 0.
    pub fn epoch(&self) -> usize {
        self.progress.epoch
    }

    /// Whether it was saved after an epoch, not in the middle of one.
    pub fn is_between_epochs(&self) -> bool {
        self.progress.step_in_epoch == 0
    }

    /// The metrics of the epochs so far.
    pub fn history(&self) -> &History {
        &self.progress.history
    }

    /// A tensor that an observer had saved by [`Snapshot::keep`].
    pub fn kept(&self, observer: &str, tensor: &str) -> Option<&Tensor> {
        self.tensors.get(&kept(observer, tensor))
    }

    /// The error of an observer that needs something else than is there.
    pub fn lacks(&self, what: impl std::fmt::Display) -> Error {
        Error::Format {
            path: self.path.clone(),
            reason: format!("lacks {what}"),
        }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }

    /// More epochs are fine; anything else would not be the same run.
    pub(super) fn check(&self, config: &TrainConfig, settings: &str, n_cells: usize) -> Result<()> {
        if settings != self.settings {
            return Err(Error::Format {
                path: self.path.clone(),
                reason: format!(
                    "was saved with other settings of the model's training; found {}, now {settings}",
                    self.settings
                ),
            });
        }
        let same_length = TrainConfig {
            max_epochs: self.config.max_epochs,
            ..config.clone()
        };
        if same_length != self.config {
            return Err(Error::Format {
                path: self.path.clone(),
                reason: format!(
                    "was saved with other training settings; found {}, now {}",
                    serde_json::to_string(&self.config).unwrap_or_default(),
                    serde_json::to_string(config).unwrap_or_default()
                ),
            });
        }
        let epochs = config.epochs(n_cells);
        if self.progress.epoch > epochs
            || (self.progress.epoch == epochs && self.progress.step_in_epoch > 0)
        {
            return Err(Error::InvalidSetting {
                name: "max_epochs",
                value: epochs.to_string(),
                reason: format!(
                    "{} is already in epoch {}",
                    self.path.display(),
                    self.progress.epoch + 1
                ),
            });
        }
        let s = &self.progress.split;
        let highest = s
            .train
            .iter()
            .chain(&s.validation)
            .chain(&s.test)
            .max()
            .copied()
            .unwrap_or(0);
        let n = s.train.len() + s.validation.len() + s.test.len();
        if highest >= n_cells || (config.split.given.is_none() && n != n_cells) {
            return Err(Error::Format {
                path: self.path.clone(),
                reason: format!("was saved while training on {n} cells, the data has {n_cells}"),
            });
        }
        Ok(())
    }

    /// Puts the weights into the model.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::WrongShape`].
    pub fn restore(&self, params: &Params) -> Result<()> {
        for p in params.iter() {
            let t = self
                .tensors
                .get(&format!("model/{}", p.name()))
                .ok_or_else(|| Error::MissingTensor {
                    path: self.path.clone(),
                    name: p.name().to_owned(),
                    what: "a parameter of the model".into(),
                })?;
            if t.dims() != p.value().dims() {
                return Err(Error::WrongShape {
                    path: self.path.clone(),
                    name: p.name().to_owned(),
                    found: t.dims().to_vec(),
                    expected: p.value().dims().to_vec(),
                });
            }
            p.var().set(
                &t.to_dtype(p.value().dtype())?
                    .to_device(p.value().device())?,
            )?;
        }
        Ok(())
    }
}

/// Saves the state every so often, and when training is interrupted, so that it can be [resumed](super::resume).
pub struct Checkpoint {
    path: PathBuf,
    every: Duration,
    last: Instant,
}

impl Checkpoint {
    /// To `path`, at most once in `every`; zero saves after every minibatch.
    pub fn new(path: impl Into<PathBuf>, every: Duration) -> Self {
        Self {
            path: path.into(),
            every,
            last: Instant::now(),
        }
    }

    fn save_if_due(&mut self, state: &dyn Snapshot) -> Result<()> {
        if self.last.elapsed() >= self.every {
            state.save(&self.path)?;
            self.last = Instant::now();
        }
        Ok(())
    }
}

impl Observer for Checkpoint {
    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        self.save_if_due(event.state)?;
        Ok(Control::Continue)
    }

    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        self.save_if_due(event.state)?;
        Ok(Control::Continue)
    }

    fn on_end(&mut self, reason: StopReason, _: &History, state: &dyn Snapshot) -> Result<()> {
        if reason == StopReason::Interrupted {
            state.save(&self.path)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_term_of_some_minibatches_is_a_mean_over_their_cells() {
        let loss = |sums: &[(&'static str, f64)], n_cells: usize| Loss {
            loss: Tensor::new(0f64, &Device::Cpu).unwrap(),
            sums: sums.to_vec(),
            n_cells,
        };
        let mut sums = Sums::default();
        sums.add(&loss(&[("all", 6.0)], 3), 1.0);
        sums.add(&loss(&[("all", 4.0), ("some", 8.0)], 2), 6.0);
        let mut history = History::default();
        sums.note(&mut history, "train", 0);
        assert_eq!(history.last("train_loss_epoch"), Some(3.0));
        assert_eq!(history.last("all_train"), Some(2.0));
        assert_eq!(history.last("some_train"), Some(4.0));
    }
}
