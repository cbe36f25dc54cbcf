use candle_core::Tensor;
use sc_model::train::{
    Control, EpochEvent, Fitted, History, Observer, RunInfo, Snapshot, StepEvent, StopReason, fit,
};
use sc_model::{Params, Result};

use super::{FineTune, LabelledCells, Recipe};
use crate::scgpt::model::ScGpt;

impl ScGpt {
    /// Fine-tunes the model as a recipe says, and keeps the weights of the epoch with the lowest validation loss. Resuming, or a
    /// loop of another kind: [`FineTune`] and [`KeepBest`].
    ///
    /// # Errors
    /// Those of [`FineTune::new`] and of [`fit`].
    pub fn finetune(
        &self,
        cells: &LabelledCells<'_>,
        recipe: &Recipe,
        observer: &mut dyn Observer,
    ) -> crate::Result<Fitted> {
        let task = FineTune::new(self, recipe.objectives)?;
        let mut watched = Watched {
            best: KeepBest::new(self.parameters()),
            inner: observer,
        };
        let fitted = fit(&task, cells, &recipe.train, &mut watched)?;
        watched.best.restore()?;
        Ok(fitted)
    }
}

/// Somebody else's observer beside [`KeepBest`].
struct Watched<'a> {
    best: KeepBest<'a>,
    inner: &'a mut dyn Observer,
}

impl Observer for Watched<'_> {
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        self.inner.on_start(info)
    }

    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        self.inner.on_step(event)
    }

    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        self.best.on_epoch(event)?;
        self.inner.on_epoch(event)
    }

    fn on_end(&mut self, why: StopReason, history: &History, state: &dyn Snapshot) -> Result<()> {
        self.inner.on_end(why, history, state)
    }
}

/// Keeps the weights of the epoch with the lowest validation loss: the model that the original's recipes end with.
///
/// [`ScGpt::finetune`] does this. For a loop of your own, give it to [`fit`](sc_model::train::fit) as an observer, with a validation every epoch, and call [`KeepBest::restore`]
/// afterwards.
#[derive(Debug)]
pub struct KeepBest<'a> {
    params: &'a Params,
    best: Option<(usize, f64, Vec<Tensor>)>,
}

impl<'a> KeepBest<'a> {
    /// Nothing kept yet.
    pub fn new(params: &'a Params) -> Self {
        Self { params, best: None }
    }

    /// The best epoch, from 0, and its validation loss.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best.as_ref().map(|(e, l, _)| (*e, *l))
    }

    /// Puts the weights of the best epoch back. Without a validation, they stay those of the last.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn restore(self) -> Result<()> {
        match self.best {
            Some((_, _, weights)) => self.params.restore(&weights),
            None => Ok(()),
        }
    }
}

impl Observer for KeepBest<'_> {
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        let last = event.history.get("validation_loss").last().copied();
        if let Some((epoch, loss)) = last
            && epoch == event.epoch
            && self.best.as_ref().is_none_or(|(_, best, _)| loss < *best)
        {
            self.best = Some((epoch, loss, self.params.snapshot()?));
        }
        Ok(Control::Continue)
    }
}
