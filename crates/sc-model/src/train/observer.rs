use std::path::Path;

use candle_core::Tensor;

use super::{History, ResumeState};
use crate::Result;

/// Whether training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// It does.
    Continue,
    /// It stops here, with the weights it has.
    Stop,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// All epochs are done.
    Finished,
    /// The monitored metric no longer improved.
    EarlyStopping,
    /// An observer asked for it (for example Ctrl-C).
    Interrupted,
    /// An error, which the caller gets.
    Failed,
}

/// What is known before the first step.
#[derive(Debug, Clone, Copy)]
pub struct RunInfo {
    /// Epochs to train.
    pub epochs: usize,
    /// The epoch it starts at (more than 0 when resumed).
    pub first_epoch: usize,
    /// Minibatches of an epoch.
    pub steps_per_epoch: usize,
    /// Cells that train.
    pub n_train: usize,
    /// Cells that validate.
    pub n_validation: usize,
}

/// The state of training at this moment; it can be saved.
pub trait Snapshot {
    /// Writes everything that is needed to go on from here, into one file that is whole or absent.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save(&self, path: &Path) -> Result<()>;

    /// Has tensors of an observer saved in this and all later states of the run, under a name of its own, instead of those it
    /// gave before; [`Observer::on_resume`] finds them by [`ResumeState::kept`].
    fn keep(&self, name: &'static str, tensors: Vec<(String, Tensor)>);
}

/// A minibatch has been trained on.
pub struct StepEvent<'a> {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The minibatch within the epoch, from 0.
    pub step: usize,
    /// Minibatches of an epoch.
    pub steps_per_epoch: usize,
    /// The loss.
    pub loss: f64,
    /// The state after it.
    pub state: &'a dyn Snapshot,
}

/// An epoch has ended.
pub struct EpochEvent<'a> {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// All metrics so far.
    pub history: &'a History,
    /// The state after it.
    pub state: &'a dyn Snapshot,
}

/// Watches training: progress bars, logs, checkpoints. Combine several in a tuple.
pub trait Observer {
    /// Before all else where a run goes on from a saved state. The model has its weights already; `now` saves the run that
    /// begins.
    ///
    /// # Errors
    /// An error ends training.
    fn on_resume(&mut self, _state: &ResumeState, _now: &dyn Snapshot) -> Result<()> {
        Ok(())
    }

    /// Before the first step.
    ///
    /// # Errors
    /// An error ends training.
    fn on_start(&mut self, _info: &RunInfo) -> Result<()> {
        Ok(())
    }

    /// After each minibatch.
    ///
    /// # Errors
    /// An error ends training.
    fn on_step(&mut self, _event: &StepEvent<'_>) -> Result<Control> {
        Ok(Control::Continue)
    }

    /// After each epoch.
    ///
    /// # Errors
    /// An error ends training.
    fn on_epoch(&mut self, _event: &EpochEvent<'_>) -> Result<Control> {
        Ok(Control::Continue)
    }

    /// At the end, whatever its reason.
    ///
    /// # Errors
    /// An error is passed on.
    fn on_end(
        &mut self,
        _reason: StopReason,
        _history: &History,
        _state: &dyn Snapshot,
    ) -> Result<()> {
        Ok(())
    }
}

/// Watches nothing.
impl Observer for () {}

impl<O: Observer + ?Sized> Observer for &mut O {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        (**self).on_resume(state, now)
    }
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        (**self).on_start(info)
    }
    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        (**self).on_step(event)
    }
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        (**self).on_epoch(event)
    }
    fn on_end(
        &mut self,
        reason: StopReason,
        history: &History,
        state: &dyn Snapshot,
    ) -> Result<()> {
        (**self).on_end(reason, history, state)
    }
}

impl<O: Observer + ?Sized> Observer for Box<O> {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        (**self).on_resume(state, now)
    }
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        (**self).on_start(info)
    }
    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        (**self).on_step(event)
    }
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        (**self).on_epoch(event)
    }
    fn on_end(
        &mut self,
        reason: StopReason,
        history: &History,
        state: &dyn Snapshot,
    ) -> Result<()> {
        (**self).on_end(reason, history, state)
    }
}

impl<O: Observer> Observer for Option<O> {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        self.as_mut().map_or(Ok(()), |o| o.on_resume(state, now))
    }
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        self.as_mut().map_or(Ok(()), |o| o.on_start(info))
    }
    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        self.as_mut()
            .map_or(Ok(Control::Continue), |o| o.on_step(event))
    }
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        self.as_mut()
            .map_or(Ok(Control::Continue), |o| o.on_epoch(event))
    }
    fn on_end(
        &mut self,
        reason: StopReason,
        history: &History,
        state: &dyn Snapshot,
    ) -> Result<()> {
        self.as_mut()
            .map_or(Ok(()), |o| o.on_end(reason, history, state))
    }
}

fn either(a: Control, b: Control) -> Control {
    if a == Control::Stop { a } else { b }
}

/// Both watch; training stops if one of them says so.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        self.0.on_resume(state, now)?;
        self.1.on_resume(state, now)
    }
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        self.0.on_start(info)?;
        self.1.on_start(info)
    }
    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        Ok(either(self.0.on_step(event)?, self.1.on_step(event)?))
    }
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        Ok(either(self.0.on_epoch(event)?, self.1.on_epoch(event)?))
    }
    fn on_end(
        &mut self,
        reason: StopReason,
        history: &History,
        state: &dyn Snapshot,
    ) -> Result<()> {
        self.0.on_end(reason, history, state)?;
        self.1.on_end(reason, history, state)
    }
}

/// All watch; training stops if one of them says so.
impl Observer for Vec<Box<dyn Observer + '_>> {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.on_resume(state, now))
    }
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.on_start(info))
    }
    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        self.iter_mut()
            .try_fold(Control::Continue, |c, o| Ok(either(c, o.on_step(event)?)))
    }
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        self.iter_mut()
            .try_fold(Control::Continue, |c, o| Ok(either(c, o.on_epoch(event)?)))
    }
    fn on_end(
        &mut self,
        reason: StopReason,
        history: &History,
        state: &dyn Snapshot,
    ) -> Result<()> {
        self.iter_mut()
            .try_for_each(|o| o.on_end(reason, history, state))
    }
}
