//! Flow matching as the beginning of the training of a neural SDE.

use sc_model::train::{self, Fitted, Observer};

use super::FlowTraining;
use super::coupling::Coupling;
use super::session::{Learner, Session};
use crate::model::ScDiffEq;
use crate::train::{Snapshots, keeping};
use crate::{Error, Result};

impl ScDiffEq {
    /// Teaches the drift to point along straight bridges between transported cells, by least squares, before
    /// [`ScDiffEq::fit`]: minutes instead of hours. The drift doesn't depend on time, so where bridges of different times
    /// cross it learns their mean. The diffusion stays as it is.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for models with an autoencoder and for couplings that belong to a
    /// [`Flow`](super::Flow); otherwise as [`Flow::fit`](super::Flow::fit).
    pub fn pretrain_drift(
        &mut self,
        data: &Snapshots,
        training: &FlowTraining,
        observer: &mut dyn Observer,
    ) -> Result<Fitted> {
        if self.config().autoencoder.is_some() {
            return Err(Error::InvalidSetting {
                name: "autoencoder",
                value: "set".into(),
                reason: "the space in which cells move isn't known before the encoder is trained"
                    .into(),
            });
        }
        if !matches!(training.coupling, Coupling::Independent | Coupling::Exact) {
            return Err(Error::InvalidSetting {
                name: "coupling",
                value: format!("{:?}", training.coupling),
                reason: "a drift alone is trained on Coupling::Exact or Coupling::Independent"
                    .into(),
            });
        }
        let size = speed(data)?;
        let n_latent = self.config().n_latent;
        let learner = Learner::Drift(self, size);
        let session = Session::new(learner, n_latent, None, data, training)?;
        let run = session.run(data);
        keeping(&session, training.keep, observer, |observer| {
            train::fit(&session, data, &run, observer)
        })
    }
}

/// The size of the data over its time: what velocities are measured in.
fn speed(data: &Snapshots) -> Result<f64> {
    let c = super::Flow::params(data)?.check()?;
    let c = c.config();
    Ok(c.scale / c.span)
}
