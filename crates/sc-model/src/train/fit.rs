use std::time::Instant;

use candle_core::DType;
use sc_tensor::rng::Rng;

use super::checkpoint::{Kept, Progress, ResumeState, Saver};
use super::config::Split;
use super::shuffle::Schedule;
use super::{
    Control, EpochEvent, Loss, Observer, RunInfo, Step, StepEvent, StopReason, TrainConfig,
    Trainable,
};
use crate::optim::first_non_finite;
use crate::{Error, LrSchedule, Mode, Optimizer, Params, Result};

/// What training left behind besides the weights.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The metrics of each epoch.
    pub history: super::History,
    /// Which cells trained and which validated.
    pub split: Split,
    /// Why it ended.
    pub stop: StopReason,
    /// Seconds that each epoch took, without validation; since the last [`resume`], if there was one.
    pub epoch_seconds: Vec<f64>,
}

/// Trains a model from where its weights are.
///
/// The same seed gives the same weights bit for bit, whatever the number of threads.
///
/// # Errors
/// [`Error::Diverged`] if the loss is no longer finite, and the errors of the model, the data and the observer.
pub fn fit<M: Trainable<D>, D: ?Sized>(
    model: &M,
    data: &D,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    config.check()?;
    check_precision(model.params())?;
    let split = model.split(data, config)?;
    check_minibatches(split.train.len(), config.batch_size, model.min_batch())?;
    let progress = Progress::new(split, config);
    let mut optimizer =
        Optimizer::new(config.optimizer, model.params()).decay_frozen(config.decay_frozen);
    set_masks(model, &mut optimizer)?;
    Loop {
        model,
        data,
        config,
        progress,
        optimizer,
        kept: Kept::default(),
        rng: Rng::new(config.seed),
    }
    .run(observer)
}

/// Goes on from a saved state as if training had never stopped: the result is the same bit for bit.
///
/// # Errors
/// Those of [`fit`], and [`Error::Format`] if the settings are not those of the saved run.
pub fn resume<M: Trainable<D>, D: ?Sized>(
    model: &M,
    data: &D,
    config: &TrainConfig,
    state: &ResumeState,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    config.check()?;
    check_precision(model.params())?;
    state.check(config, &model.settings(), model.n_cells(data))?;
    state.restore(model.params())?;
    let mut optimizer =
        Optimizer::new(config.optimizer, model.params()).decay_frozen(config.decay_frozen);
    optimizer.load_state(model.params(), state.tensors())?;
    set_masks(model, &mut optimizer)?;
    let progress = state.progress().clone();
    let run = Loop {
        model,
        data,
        config,
        progress,
        optimizer,
        kept: Kept::default(),
        rng: Rng::new(config.seed),
    };
    observer.on_resume(state, &run.saver())?;
    run.run(observer)
}

fn set_masks<M: Trainable<D>, D: ?Sized>(model: &M, optimizer: &mut Optimizer) -> Result<()> {
    model
        .masks()
        .into_iter()
        .try_for_each(|(name, mask)| optimizer.set_mask(model.params(), &name, mask))
}

/// Refuses weights that small steps would not change.
fn check_precision(params: &Params) -> Result<()> {
    match params.half() {
        None => Ok(()),
        Some(half) => Err(Error::InvalidSetting {
            name: "dtype",
            value: half.as_str().into(),
            reason:
                "weights in half precision are for inference; load the model in f32 to train it"
                    .into(),
        }),
    }
}

/// Refuses a split whose last minibatch would be too small for the model, before anything is trained.
fn check_minibatches(n_train: usize, batch_size: usize, smallest: usize) -> Result<()> {
    let last = match n_train % batch_size {
        0 => batch_size,
        rest => rest,
    };
    if last >= smallest {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        name: "batch_size",
        value: batch_size.to_string(),
        reason: format!(
            "the last minibatch of {n_train} training cells would hold {last}, and this model needs {smallest} (batch \
             normalisation can't use one cell alone); change batch_size or train_size"
        ),
    })
}

struct Loop<'a, M, D: ?Sized> {
    model: &'a M,
    data: &'a D,
    config: &'a TrainConfig,
    progress: Progress,
    optimizer: Optimizer,
    kept: Kept,
    rng: Rng,
}

impl<M: Trainable<D>, D: ?Sized> Loop<'_, M, D> {
    fn run(mut self, observer: &mut dyn Observer) -> Result<Fitted> {
        let epochs = self.config.epochs(self.model.n_cells(self.data));
        observer.on_start(&RunInfo {
            epochs,
            first_epoch: self.progress.epoch,
            steps_per_epoch: self.schedule(self.progress.epoch).batches.len(),
            n_train: self.progress.split.train.len(),
            n_validation: self.progress.split.validation.len(),
        })?;
        let result = self.train(epochs, observer);
        let reason = *result.as_ref().unwrap_or(&StopReason::Failed);
        let ended = observer.on_end(reason, &self.progress.history, &self.saver());
        let stop = result?;
        ended?;
        let Progress {
            history,
            split,
            epoch_seconds,
            ..
        } = self.progress;
        Ok(Fitted {
            history,
            split,
            stop,
            epoch_seconds,
        })
    }

    fn train(&mut self, epochs: usize, observer: &mut dyn Observer) -> Result<StopReason> {
        // A run that was killed after its last epoch, before it was saved.
        if let Some(rule) = &self.config.early_stopping
            && self.progress.step_in_epoch == 0
            && self.progress.stop.is_done(rule)
        {
            return Ok(StopReason::EarlyStopping);
        }
        while self.progress.epoch < epochs {
            if self.train_epoch(observer)? == Control::Stop {
                return Ok(StopReason::Interrupted);
            }
            let stops_early = self.end_epoch()?;
            let event = EpochEvent {
                epoch: self.progress.epoch - 1,
                epochs,
                history: &self.progress.history,
                state: &self.saver(),
            };
            if observer.on_epoch(&event)? == Control::Stop {
                return Ok(StopReason::Interrupted);
            }
            if stops_early {
                return Ok(StopReason::EarlyStopping);
            }
        }
        Ok(StopReason::Finished)
    }

    fn saver(&self) -> Saver<'_> {
        Saver {
            params: self.model.params(),
            optimizer: &self.optimizer,
            progress: &self.progress,
            config: self.config,
            settings: self.model.settings(),
            kept: &self.kept,
        }
    }

    /// The minibatches of an epoch in their order.
    fn schedule(&self, epoch: usize) -> Schedule {
        let train = &self.progress.split.train;
        let mut stream = self.rng.stream("shuffle").at(&[epoch as u64]);
        let size = self.config.batch_size;
        let mut schedule = Schedule::default();
        for cells in self.config.shuffle.windows(train, &mut stream) {
            let batches = self.model.minibatches(self.data, &cells, size, &mut stream);
            schedule.windows.push((schedule.batches.len(), cells));
            schedule.batches.extend(batches);
        }
        schedule
    }

    fn train_epoch(&mut self, observer: &mut dyn Observer) -> Result<Control> {
        let start = Instant::now();
        let epoch = self.progress.epoch;
        let schedule = self.schedule(epoch);
        let first = self.progress.step_in_epoch;
        for (k, rows) in schedule.batches.iter().enumerate().skip(first) {
            for cells in schedule.soon(k, k == first) {
                self.model.read_ahead(self.data, cells);
            }
            let loss = self.train_step(epoch, k, rows)?;
            self.progress.step_in_epoch = k + 1;
            let event = StepEvent {
                epoch,
                step: k,
                steps_per_epoch: schedule.batches.len(),
                loss,
                state: &self.saver(),
            };
            if observer.on_step(&event)? == Control::Stop {
                return Ok(Control::Stop);
            }
        }
        self.progress
            .epoch_seconds
            .push(start.elapsed().as_secs_f64());
        Ok(Control::Continue)
    }

    fn train_step(&mut self, epoch: usize, step_in_epoch: usize, rows: &[usize]) -> Result<f64> {
        let step = Step {
            mode: Mode::train(&self.rng, self.progress.step),
            epoch,
            step: self.progress.step,
            step_in_epoch,
            batch_size: self.config.batch_size,
            split: &self.progress.split,
            kl_weight: self.config.kl_warmup.weight(epoch, self.progress.step),
            rng: &self.rng,
        };
        let loss = self.model.loss(self.data, rows, &step)?;
        let value = scalar(&loss)?;
        let grads = sc_tensor::backward(&loss.loss)?;
        if !value.is_finite() {
            return Err(Error::Diverged {
                loss: value,
                epoch,
                step: step_in_epoch,
                parameter: first_non_finite(self.model.params(), &grads)?,
                first_cell: rows.first().copied().unwrap_or(0),
            });
        }
        let schedule = &self.config.lr_schedule;
        let lr = schedule.at_step(self.config.lr, self.progress.lr.lr, self.progress.step);
        let params = self.model.params();
        self.optimizer
            .step(params, &grads, lr, self.config.max_grad_norm)?;
        sc_tensor::recycle(grads);
        self.progress.step += 1;
        self.progress.train_sums.add(&loss, value);
        Ok(value)
    }

    /// Closes an epoch: history, validation, learning rate; whether to stop early.
    fn end_epoch(&mut self) -> Result<bool> {
        let epoch = self.progress.epoch;
        let kl_weight = self
            .config
            .kl_warmup
            .weight(epoch, self.progress.step.saturating_sub(1));
        self.progress.history.push("kl_weight", epoch, kl_weight);
        let sums = std::mem::take(&mut self.progress.train_sums);
        sums.note(&mut self.progress.history, "train", epoch);
        if self.config.validates_after(epoch) && !self.progress.split.validation.is_empty() {
            self.validate(epoch, kl_weight)?;
        }
        let metric = |name: &str, p: &Progress| {
            p.history
                .get(name)
                .last()
                .filter(|m| m.0 == epoch)
                .map(|m| m.1)
        };
        let plateau = metric(&self.config.plateau_monitor, &self.progress);
        self.progress
            .lr
            .after_epoch(&self.config.lr_schedule, self.config.lr, epoch, plateau);
        let stops = match &self.config.early_stopping {
            Some(rule) => {
                self.check_metric(&rule.monitor)?;
                metric(&rule.monitor, &self.progress)
                    .is_some_and(|m| self.progress.stop.after_epoch(rule, epoch, m))
            }
            None => false,
        };
        if matches!(self.config.lr_schedule, LrSchedule::Plateau { .. }) {
            self.check_metric(&self.config.plateau_monitor)?;
        }
        if let Some(parameter) = self.model.params().first_non_finite()? {
            return Err(Error::Diverged {
                loss: f64::NAN,
                epoch,
                step: self.progress.step_in_epoch,
                parameter: Some(parameter),
                first_cell: 0,
            });
        }
        self.progress.epoch += 1;
        self.progress.step_in_epoch = 0;
        Ok(stops)
    }

    /// A rule that waits for a metric that never comes would wait for ever.
    fn check_metric(&self, name: &str) -> Result<()> {
        let h = &self.progress.history;
        if self.progress.epoch > 0 || !h.get(name).is_empty() || !self.config.validates_after(0) {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "the monitored metric",
            value: name.to_owned(),
            reason: format!(
                "there is no such metric; there are {}",
                h.names().collect::<Vec<_>>().join(", ")
            ),
        })
    }

    fn validate(&mut self, epoch: usize, kl_weight: f64) -> Result<()> {
        let mut sums = super::checkpoint::Sums::default();
        let cells = self.config.shuffle.in_turn(&self.progress.split.validation);
        for (k, rows) in cells.chunks(self.config.batch_size).enumerate() {
            let step = Step {
                mode: Mode::eval(),
                epoch,
                step: k as u64,
                step_in_epoch: k,
                batch_size: self.config.batch_size,
                split: &self.progress.split,
                kl_weight,
                rng: &self.rng,
            };
            let loss = self.model.loss(self.data, rows, &step)?;
            let value = scalar(&loss)?;
            sums.add(&loss, value);
        }
        sums.note(&mut self.progress.history, "validation", epoch);
        Ok(())
    }
}

fn scalar(loss: &Loss) -> Result<f64> {
    Ok(loss.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?)
}
