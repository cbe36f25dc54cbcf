//! Training, in one stage or two.

use sc_model::train::{
    Fitted, Loss, Observer, ResumeState, Split, Step, TrainConfig, Trainable, fit, resume,
};
use sc_model::{EarlyStopping, KlWarmup, LrSchedule, OptimizerKind, Params, Parity};
use sc_tensor::Stream;
use serde::{Deserialize, Serialize};

use crate::cells::MultiCells;
use crate::config::Turns;
use crate::losses::{Learner, Noise, log_library};
use crate::model::{Clue, Training};
use crate::nets::Line;
use crate::{Error, Result};

/// The longest training that [`ClueTrainConfig::for_cells`] asks for: scglue's rule wants thousands of epochs for few cells.
const MOST_EPOCHS: usize = 500;

/// How [`Clue`] is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClueTrainConfig {
    /// The loop's own settings.
    pub train: TrainConfig,
    /// Epochs in which noise makes the adversary's task harder, less and less.
    pub align_burn_in: usize,
    /// How the adversary and the rest take turns.
    pub turns: Turns,
}

impl Default for ClueTrainConfig {
    /// For about 10,000 cells.
    fn default() -> Self {
        Self::for_cells(10_000)
    }
}

impl ClueTrainConfig {
    /// scglue's settings for so many cells (the union of all modalities), at most 500 epochs: RMSprop at 2e-3, which falls to
    /// a tenth where the validation loss stays, until it stays for long.
    pub fn for_cells(n_cells: usize) -> Self {
        Self::with_lr(n_cells, 2e-3)
    }

    /// The second stage of the competition's winners, which takes new unpaired cells in: half the rate, no burn-in, at
    /// most 50 epochs.
    pub fn second_stage(n_cells: usize) -> Self {
        let mut config = Self::with_lr(n_cells, 1e-3);
        config.align_burn_in = 0;
        config.train.max_epochs = Some(50);
        config.plateau(8, 3);
        config
    }

    fn with_lr(n_cells: usize, lr: f64) -> Self {
        let mut train = TrainConfig::default();
        train.lr = lr;
        train.optimizer = OptimizerKind::RmsProp {
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        };
        train.kl_warmup = KlWarmup::constant(1.0);
        let epochs = |p: f64| auto_epochs(p, n_cells, &train);
        let (burn_in, most) = (epochs(12.0), epochs(72.0).min(MOST_EPOCHS));
        let (patience, lr_patience) = (epochs(9.0), epochs(3.0));
        train.max_epochs = Some(most);
        let mut config = Self {
            train,
            align_burn_in: burn_in.min(most / 6),
            turns: Turns::default(),
        };
        config.plateau(patience.min(most), lr_patience.min(most));
        config
    }

    /// Lowers the rate after so many epochs without a better validation loss, and stops after so many, both counted from
    /// the end of the burn-in.
    pub fn plateau(&mut self, stop: usize, lower: usize) {
        self.train.lr_schedule = LrSchedule::Plateau {
            factor: 0.1,
            patience: lower,
            threshold: 0.0,
            min_lr: 0.0,
        };
        self.train.plateau_monitor = "validation_loss".into();
        self.train.early_stopping = Some(EarlyStopping {
            monitor: "validation_loss".into(),
            min_delta: 0.0,
            patience: stop,
            minimise: true,
            warmup_epochs: self.align_burn_in,
        });
    }

    /// How much noise the adversary gets in an epoch, from 0.
    fn noise(&self, epoch: usize) -> f64 {
        match self.align_burn_in {
            0 => 0.0,
            n => (1.0 - epoch as f64 / n as f64).max(0.0),
        }
    }
}

/// scglue's rule: epochs such that there are as many steps as for a large data set.
fn auto_epochs(p: f64, n_cells: usize, train: &TrainConfig) -> usize {
    let share = train.split.train_size.unwrap_or(0.9);
    let per_epoch = n_cells.max(1) as f64 * share / train.batch_size.max(1) as f64;
    (p / train.lr / per_epoch).ceil().max(p.ceil()) as usize
}

/// A model together with how it is trained.
struct Run<'m> {
    model: &'m Clue,
    config: &'m ClueTrainConfig,
}

impl Run<'_> {
    /// Whether each minibatch comes twice: first for the adversary, then for the rest.
    fn alternates(&self) -> bool {
        self.config.turns == Turns::Alternate && self.model.config.has_adversary()
    }

    fn learner(&self, step: &Step<'_>) -> Learner {
        match (step.mode.is_training(), self.alternates()) {
            (true, true) if step.step_in_epoch.is_multiple_of(2) => Learner::Adversary,
            (true, false) if self.model.config.has_adversary() => Learner::Both,
            _ => Learner::Rest,
        }
    }

    fn terms_of(&self, cells: &MultiCells<'_>, rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let model = self.model;
        let batch = match model.config.parity {
            Parity::Correct => cells.minibatch(rows)?,
            Parity::Upstream => {
                let among = match step.mode.is_training() {
                    true => &step.split.train,
                    false => &step.split.validation,
                };
                cells.minibatch_filled(rows, among, &mut step.stream("fillers"))?
            }
        };
        let noise = Noise::draw(model, &batch, self.config.noise(step.epoch), |n| {
            step.stream(n)
        })?;
        let learner = self.learner(step);
        let terms = model.terms(&batch, &noise, learner, &step.mode)?;
        let of_modality = model.registry.weights();
        let mut weights = model.config.weights;
        weights.kl *= step.kl_weight;
        let loss = terms.objective(learner, &weights, &of_modality)?;
        if learner == Learner::Adversary {
            // Its turn is no part of the metrics: the same cells come again for the rest.
            return Ok(Loss {
                loss,
                sums: Vec::new(),
                n_cells: 0,
            });
        }
        let n = rows.len();
        let sums = terms.values(&of_modality)?.into_iter();
        Ok(Loss {
            loss,
            sums: sums.map(|(name, v)| (name, v * n as f64)).collect(),
            n_cells: n,
        })
    }
}

impl<'d> Trainable<MultiCells<'d>> for Run<'_> {
    fn params(&self) -> &Params {
        &self.model.params
    }

    fn n_cells(&self, cells: &MultiCells<'d>) -> usize {
        cells.n_cells()
    }

    fn split(&self, cells: &MultiCells<'d>, config: &TrainConfig) -> sc_model::Result<Split> {
        Ok(cells.split(&config.split, config.batch_size, config.seed)?)
    }

    fn minibatches(
        &self,
        cells: &MultiCells<'d>,
        rows: &[usize],
        batch_size: usize,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let batches = cells.minibatches(rows, batch_size, 2, stream);
        if !self.alternates() {
            return batches;
        }
        batches.into_iter().flat_map(|b| [b.clone(), b]).collect()
    }

    fn read_ahead(&self, cells: &MultiCells<'d>, rows: &[usize]) {
        cells.read_ahead(rows);
    }

    fn settings(&self) -> String {
        let own = (self.config.align_burn_in, self.config.turns);
        format!("{own:?} {:?}", self.model.config)
    }

    fn loss(
        &self,
        cells: &MultiCells<'d>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        Ok(self.terms_of(cells, rows, step)?)
    }
}

impl Clue {
    /// Trains from where the weights are. See [`sc_model::train::fit`]; give it
    /// [`KeepBest`](sc_model::train::KeepBest) as an observer to keep the best epoch, or call [`Clue::fit_best`].
    ///
    /// The history has `reconstruction_loss`, `kl`, `joint_cross`, `real_cross`, `pairing`, `adversary` or `transport`, and
    /// `supervised`, as far as they have a weight, each of `_train` and `_validation`.
    ///
    /// # Errors
    /// [`Error::WrongValues`] if a likelihood can't have a value, [`Error::NoCells`] if a modality has no cell, and those of
    /// [`sc_model::train::fit`].
    pub fn fit(
        &mut self,
        cells: &MultiCells<'_>,
        config: &ClueTrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        self.prepare(cells)?;
        let run = Run {
            model: self,
            config,
        };
        let fitted = fit(&run, cells, &config.train, observer)?;
        let mut history = self.training.take().map(|t| t.history).unwrap_or_default();
        history.append(&fitted.history);
        self.training = Some(Training {
            split: fitted.split.clone(),
            history,
        });
        Ok(fitted)
    }

    /// [`Clue::fit`], then the weights of the epoch with the lowest validation loss are put back. Needs a validation after
    /// every epoch, as [`ClueTrainConfig::for_cells`] has it.
    ///
    /// # Errors
    /// As [`Clue::fit`].
    pub fn fit_best(
        &mut self,
        cells: &MultiCells<'_>,
        config: &ClueTrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let params = self.params.clone();
        let mut both = (sc_model::train::KeepBest::new(&params), observer);
        let fitted = self.fit(cells, config, &mut both)?;
        both.0.restore()?;
        Ok(fitted)
    }

    /// [`Clue::resume`], then the weights of the best epoch are put back, as [`Clue::fit_best`] does.
    ///
    /// # Errors
    /// As [`Clue::resume`].
    pub fn resume_best(
        &mut self,
        cells: &MultiCells<'_>,
        config: &ClueTrainConfig,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let params = self.params.clone();
        let mut both = (sc_model::train::KeepBest::new(&params), observer);
        let fitted = self.resume(cells, config, state, &mut both)?;
        both.0.restore()?;
        Ok(fitted)
    }

    /// Goes on with training that was interrupted; the result is that of an undisturbed run, bit for bit.
    ///
    /// # Errors
    /// Those of [`sc_model::train::resume`].
    pub fn resume(
        &mut self,
        cells: &MultiCells<'_>,
        config: &ClueTrainConfig,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        self.prepare(cells)?;
        let run = Run {
            model: self,
            config,
        };
        let fitted = resume(&run, cells, &config.train, state, observer)?;
        self.training = Some(Training {
            split: fitted.split.clone(),
            history: fitted.history.clone(),
        });
        Ok(fitted)
    }

    /// Refuses data that can't be trained on, and learns what is not learned by gradients.
    fn prepare(&self, cells: &MultiCells<'_>) -> Result<()> {
        self.fits(cells)?;
        for (k, info) in self.registry.modalities.iter().enumerate() {
            if !cells.has_any(k) {
                return Err(Error::NoCells {
                    what: format!("modality \"{}\"", info.name),
                    reason: "the model has it, and can't be trained without cells of it".into(),
                });
            }
        }
        cells.check_values()?;
        self.fit_libraries(cells)?;
        self.start_backgrounds(cells)
    }

    /// Library sizes of each modality from each other one.
    fn fit_libraries(&self, cells: &MultiCells<'_>) -> Result<()> {
        let n = self.registry.n_modalities();
        if self.config.parity == Parity::Upstream || n < 2 {
            return Ok(());
        }
        let sums = (0..n)
            .map(|k| cells.library_sizes(k))
            .collect::<Result<Vec<_>>>()?;
        for t in 0..n {
            let all: Vec<f64> = sums[t].iter().flatten().map(|s| log_library(*s)).collect();
            for s in 0..n {
                let Some(line) = self.nets.line(s, t) else {
                    continue;
                };
                let pairs = sums[s].iter().zip(&sums[t]);
                let both = pairs.filter_map(|(a, b)| Some(((*a)?, (*b)?)));
                let (x, y): (Vec<f64>, Vec<f64>) = both
                    .map(|(a, b)| (a.max(0.0).ln_1p(), log_library(b)))
                    .unzip();
                // Without any pair, what is usual.
                line.set(match x.is_empty() {
                    true => Line::fit(&vec![0.0; all.len()], &all),
                    false => Line::fit(&x, &y),
                })?;
            }
        }
        Ok(())
    }

    /// The background of proteins starts at what is usual of each.
    fn start_backgrounds(&self, cells: &MultiCells<'_>) -> Result<()> {
        if self.training.is_some() {
            return Ok(());
        }
        for (k, decoder) in self.nets.decoders.iter().enumerate() {
            if decoder.head.has_background() {
                decoder.head.start_background(&cells.mean_logs(k)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
