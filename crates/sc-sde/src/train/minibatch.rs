//! A minibatch, and what it costs.

use candle_core::Tensor;

use crate::{Error, Result};

/// Cells to be moved, and what was observed.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The time of the start, then the times to be compared.
    pub times: Vec<f64>,
    /// The cells that are moved, `[cells, D]`.
    pub start: Tensor,
    /// Their growth rates, `[cells]`.
    pub rates: Option<Tensor>,
    /// What was observed at each of the times, `[any number, D]`; `None` where nothing is compared, as at the start.
    pub observed: Vec<Option<Tensor>>,
    /// Cells that were observed last, and where others have drifted to from there, for
    /// [`Contrast`](super::Contrast).
    pub contrast: Option<(Tensor, Tensor)>,
}

impl Batch {
    /// Refuses parts that don't fit together.
    pub(super) fn check(&self) -> Result<()> {
        if self.observed.len() != self.times.len() {
            return Err(Error::Shape {
                what: "the observed cells of a minibatch",
                found: vec![self.observed.len()],
                expected: format!("[{}], one entry for each time", self.times.len()),
            });
        }
        if let Some(rates) = &self.rates
            && rates.dims() != [self.start.dim(0)?]
        {
            return Err(Error::Shape {
                what: "the growth rates of a minibatch",
                found: rates.dims().to_vec(),
                expected: format!("[{}], one for each cell", self.start.dim(0)?),
            });
        }
        Ok(())
    }
}

/// What a minibatch costs, term by term.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Terms {
    /// The Sinkhorn divergence at each time; 0 where nothing is compared.
    pub sinkhorn: Vec<f64>,
    /// The velocity ratio's term at each time.
    pub velocity_ratio: Vec<f64>,
    /// The ratio itself, mean over the times.
    pub ratio: Option<f64>,
    /// The divergence of the paths from those of the prior drift.
    pub path_kl: Option<f64>,
    /// PRESCIENT's term, the energy of the drift and the floor of the diffusion together.
    pub others: f64,
}

impl Terms {
    /// Their sum: the loss.
    pub fn total(&self) -> f64 {
        let sum = |v: &[f64]| v.iter().sum::<f64>();
        sum(&self.sinkhorn)
            + sum(&self.velocity_ratio)
            + self.path_kl.unwrap_or_default()
            + self.others
    }
}

/// A loss, and what it is made of.
#[derive(Debug)]
pub struct Evaluated {
    /// A number to call `backward` on: its gradients in the parameters are those of the loss. At inference it is the sum of
    /// the divergences, without a graph.
    pub loss: Tensor,
    /// Its parts.
    pub terms: Terms,
}
