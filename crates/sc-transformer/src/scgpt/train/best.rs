use candle_core::Tensor;
use sc_model::train::{Control, EpochEvent, Observer};
use sc_model::{Params, Result};

/// Keeps the weights of the epoch with the lowest validation loss: the model that the original's recipes end with.
///
/// Give it to [`fit`](sc_model::train::fit) as an observer, with a validation every epoch, and call [`KeepBest::restore`]
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
