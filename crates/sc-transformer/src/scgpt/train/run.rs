//! A recipe from beginning to end.

use sc_model::train::{Fitted, Observer, fit};

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
        let mut observers = (KeepBest::new(self.parameters()), observer);
        let fitted = fit(&task, cells, &recipe.train, &mut observers)?;
        observers.0.restore()?;
        Ok(fitted)
    }
}
