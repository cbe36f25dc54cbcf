use sc_model::Params;
use sc_model::train::{
    self, Fitted, KeepBest, Observer, ResumeState, StopReason, TrainConfig, Trainable,
};

use super::autoencoder::Reconstruction;
use super::session::Session;
use super::{AverageWeights, Keep, SdeTraining, Snapshots};
use crate::model::ScDiffEq;
use crate::{Error, Result};

impl ScDiffEq {
    /// Trains the model on cells of several times, from where its weights are.
    ///
    /// The same seed gives the same weights bit for bit, whatever the number of threads. The history has `validation_loss`, the
    /// divergence of cells that don't train, and `sinkhorn_train`, `velocity_ratio_train` and others.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] and [`Error::Shape`] if the model can't be trained so on these cells;
    /// [`Error::InEpoch`] with the epoch and what went wrong there, e.g. a path that diverged ([`Error::Diverged`]: where);
    /// [`Error::Model`] if the loss is no longer a number, or for an observer's error.
    pub fn fit(
        &mut self,
        data: &Snapshots,
        training: &SdeTraining,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let session = Session::new(self, data, training)?;
        let run = one_chunk(&training.run, data);
        keeping(&session, training.keep, observer, |observer| {
            train::fit(&session, data, &run, observer)
        })
    }

    /// Goes on from a state that [`Checkpoint`](sc_model::train::Checkpoint) saved, as if training had never stopped: the
    /// weights are the same bit for bit.
    ///
    /// # Errors
    /// As [`ScDiffEq::fit`], and if settings or cells aren't those of then.
    pub fn resume(
        &mut self,
        data: &Snapshots,
        training: &SdeTraining,
        state: &ResumeState,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let session = Session::new(self, data, training)?;
        let run = one_chunk(&training.run, data);
        keeping(&session, training.keep, observer, |observer| {
            train::resume(&session, data, &run, state, observer)
        })
    }

    /// Trains the nets around the latent space alone, to reconstruct the cells of the first time; before
    /// [`ScDiffEq::fit`]. See [`SdeTraining::pretraining`] for the settings.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the model has no such nets, and as [`ScDiffEq::fit`].
    pub fn pretrain_autoencoder(
        &mut self,
        data: &Snapshots,
        run: &TrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        let task = Reconstruction::new(self, data)?;
        train::fit(&task, data, run, observer).map_err(unwrapped)
    }
}

/// Validation sees all of its cells at once, to group them by time.
fn one_chunk(run: &TrainConfig, data: &Snapshots) -> TrainConfig {
    let mut run = run.clone();
    run.batch_size = data.n_cells().max(1);
    run
}

/// Trains, and leaves the weights that are asked for.
pub(crate) fn keeping<D: ?Sized>(
    task: &impl Trainable<D>,
    keep: Keep,
    observer: &mut dyn Observer,
    train: impl FnOnce(&mut dyn Observer) -> sc_model::Result<Fitted>,
) -> Result<Fitted> {
    let params: &Params = task.params();
    let run = || -> sc_model::Result<Fitted> {
        match keep {
            Keep::Last => train(observer),
            Keep::Best => {
                let mut best = KeepBest::new(params);
                let fitted = train(&mut (&mut best, observer))?;
                if fitted.stop != StopReason::Interrupted {
                    best.restore()?;
                }
                Ok(fitted)
            }
            Keep::Average => {
                let mut average = AverageWeights::new(params);
                let fitted = train(&mut (&mut average, observer))?;
                if fitted.stop != StopReason::Interrupted {
                    average.apply()?;
                }
                Ok(fitted)
            }
        }
    };
    run().map_err(unwrapped)
}

/// An error of this crate that went through the loop, as itself.
fn unwrapped(error: sc_model::Error) -> Error {
    match error {
        sc_model::Error::Model(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::Model(sc_model::Error::Model(other)),
        },
        other => Error::Model(other),
    }
}
