use candle_core::{Device, Tensor};

use super::{Control, EpochEvent, History, Observer, ResumeState, Snapshot};
use crate::{Params, Result};

/// What the weights are called in a saved state.
const NAME: &str = "best";
/// The entry that says of which epoch they are.
const EPOCH: &str = "epoch";

/// Keeps the weights of the best epoch: that with the lowest validation loss, or by another metric.
///
/// Give it to [`fit`](super::fit()) or [`resume`](super::resume) as an observer, with a validation every epoch, and call
/// [`KeepBest::restore`] afterwards. A [`Checkpoint`](super::Checkpoint) saves its weights, too, so that a resumed run ends
/// with those of an undisturbed one, bit for bit.
#[derive(Debug)]
pub struct KeepBest<'a> {
    params: &'a Params,
    metric: &'static str,
    highest: bool,
    best: Option<Best>,
}

/// An epoch, and what may have changed since: parameters that are trained, and buffers.
#[derive(Debug)]
struct Best {
    epoch: usize,
    value: f64,
    weights: Vec<(String, Tensor)>,
}

impl<'a> KeepBest<'a> {
    /// Of the epoch with the lowest `validation_loss`.
    pub fn new(params: &'a Params) -> Self {
        Self {
            params,
            metric: "validation_loss",
            highest: false,
            best: None,
        }
    }

    /// Of the epoch in which a metric of the history was highest.
    pub fn highest(params: &'a Params, metric: &'static str) -> Self {
        Self {
            params,
            metric,
            highest: true,
            best: None,
        }
    }

    /// The best epoch, from 0, and its metric.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.best.as_ref().map(|b| (b.epoch, b.value))
    }

    /// Puts the weights of the best epoch back. Without a validation, they stay those of the last.
    ///
    /// # Errors
    /// If a copy fails.
    pub fn restore(self) -> Result<()> {
        for (name, value) in self.best.iter().flat_map(|b| &b.weights) {
            if let Some(p) = self.params.get(name) {
                p.var().set(value)?;
            }
        }
        Ok(())
    }

    fn changing(&self) -> impl Iterator<Item = &crate::Param> {
        let all = self.params.iter();
        all.filter(|p| p.is_buffer() || p.is_trainable())
    }

    fn keep(&mut self, epoch: usize, value: f64) -> Result<()> {
        let copies = self.changing();
        let copies = copies.map(|p| Ok((p.name().to_owned(), p.value().copy()?)));
        self.best = Some(Best {
            epoch,
            value,
            weights: copies.collect::<Result<_>>()?,
        });
        Ok(())
    }

    /// Has them saved with the state.
    fn give(&self, state: &dyn Snapshot) -> Result<()> {
        let Some(best) = &self.best else {
            return Ok(());
        };
        let of = u32::try_from(best.epoch).unwrap_or(u32::MAX);
        let mut all = best.weights.clone();
        all.push((EPOCH.to_owned(), Tensor::new(of, &Device::Cpu)?));
        state.keep(NAME, all);
        Ok(())
    }

    fn is_better(&self, value: f64, than: f64) -> bool {
        match self.highest {
            true => value > than,
            false => value < than,
        }
    }

    /// The first of the best epochs so far.
    fn best_of(&self, history: &History) -> Option<(usize, f64)> {
        let all = history.get(self.metric).iter().copied();
        all.reduce(|best, next| match self.is_better(next.1, best.1) {
            true => next,
            false => best,
        })
    }

    /// The weights that a state has of the best epoch.
    fn saved(&self, state: &ResumeState, epoch: usize) -> Result<Option<Vec<(String, Tensor)>>> {
        let of = match state.kept(NAME, EPOCH) {
            Some(t) => t.to_scalar::<u32>()? as usize,
            None => return Ok(None),
        };
        if of != epoch {
            return Ok(None);
        }
        let saved = self.changing().map(|p| {
            let like = p.value();
            let t = state.kept(NAME, p.name());
            let t = t.filter(|t| t.dims() == like.dims() && t.dtype() == like.dtype());
            let moved = t.map(|t| t.to_device(like.device())).transpose()?;
            Ok(moved.map(|t| (p.name().to_owned(), t)))
        });
        saved.collect()
    }
}

impl Observer for KeepBest<'_> {
    fn on_resume(&mut self, state: &ResumeState, now: &dyn Snapshot) -> Result<()> {
        let Some((epoch, value)) = self.best_of(state.history()) else {
            return Ok(());
        };
        if let Some(weights) = self.saved(state, epoch)? {
            self.best = Some(Best {
                epoch,
                value,
                weights,
            });
        } else if state.epoch() == epoch + 1 && state.is_between_epochs() {
            // Saved at the end of the best epoch, by an observer that comes before this one: they are the model's.
            self.keep(epoch, value)?;
        } else {
            return Err(state.lacks(format_args!(
                "the weights of epoch {}, the best so far by {}, because it was written without `KeepBest`; start again",
                epoch + 1,
                self.metric
            )));
        }
        self.give(now)
    }

    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        let last = event.history.get(self.metric).last().copied();
        let Some((epoch, value)) = last.filter(|(epoch, _)| *epoch == event.epoch) else {
            return Ok(Control::Continue);
        };
        let known = self.best.as_ref().map(|b| b.value);
        if known.is_some_and(|known| !self.is_better(value, known)) {
            return Ok(Control::Continue);
        }
        self.keep(epoch, value)?;
        self.give(event.state)?;
        Ok(Control::Continue)
    }
}

#[cfg(test)]
#[path = "best_tests.rs"]
mod tests;
