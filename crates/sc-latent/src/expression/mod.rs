//! What the decoder says of cells: expression, parameters, simulated counts, correlations.

mod correlation;
pub(crate) mod draws;
mod importance;
mod latent;
mod normalized;
mod parameters;
mod predictive;
pub(crate) mod rows;

pub use correlation::{Correlation, FeatureCorrelation};
pub use draws::{DrawOptions, ExpressionDraws, Weights};
pub use importance::Importance;
pub use latent::Latent;
pub use normalized::{Expression, LibrarySize};
pub use parameters::{LikelihoodParameters, LikelihoodSamples};

use sc_model::Mode;

use crate::cells::Minibatch;
use crate::conditions::Conditions;
use crate::decoded::Decoded;
use crate::elbo::{Noise, draw, repeat};
use crate::{Result, Scvi};

impl Scvi {
    /// Decodes `repeats` draws of each cell of a minibatch, as if all were of batch `code` if one is given.
    pub(crate) fn decode_as(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        code: Option<u32>,
        repeats: usize,
    ) -> Result<Decoded> {
        let mode = Mode::eval();
        let (qz, ql) = self.encode(batch, &mode)?;
        let z = draw(&repeat(&qz, repeats)?, noise.z.as_ref())?;
        let log_library = match &ql {
            Some(ql) => {
                self.log_library(batch, Some(&repeat(ql, repeats)?), noise.library.as_ref())?
            }
            None => self.log_library(batch, None, None)?.repeat(repeats)?,
        };
        let mut conditions = Conditions::of(batch, self.dtype(), self.device(), repeats)?;
        if let Some(code) = code {
            conditions.batch.fill(code);
        }
        self.nets.decode(&z, &log_library, &conditions, &mode)
    }

    /// The distribution of the counts of a minibatch at given noise, as if all cells were of batch `transform_batch` if
    /// one is given.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn decode(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        transform_batch: Option<u32>,
    ) -> Result<Decoded> {
        self.decode_as(batch, noise, transform_batch, 1)
    }
}
