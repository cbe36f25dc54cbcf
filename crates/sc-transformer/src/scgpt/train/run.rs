//! A recipe from beginning to end.

use sc_model::Result;
use sc_model::train::{
    Control, EpochEvent, Fitted, History, Observer, RunInfo, Snapshot, StepEvent, StopReason, fit,
};

use super::{FineTune, LabelledCells, Recipe};
use crate::scgpt::{KeepBest, ScGpt};

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
