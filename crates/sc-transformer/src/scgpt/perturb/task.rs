//! Training on pairs of a control cell and a perturbed cell.

use candle_core::Tensor;
use sc_model::Params;
use sc_model::train::{Loss, Step, Trainable};

use super::ScGptPerturb;
use crate::Result;
use crate::scgpt::losses::{masked_mse, nonzero_nll};
use crate::tokens::PerturbationTokens;

/// A model and its training on [`PerturbationTokens`]: the mean squared error of all genes that are read, and the likelihood
/// of which are zero, where the model predicts that.
///
/// Perturbed genes are always read, unless
/// [`keep_perturbed`](crate::tokens::PerturbationOptions::keep_perturbed) is off, as in the original.
#[derive(Debug, Clone)]
pub struct PerturbTask<'a> {
    model: &'a ScGptPerturb,
}

impl<'a> PerturbTask<'a> {
    /// The recipe of the original; [`Recipe::perturbation`](crate::scgpt::Recipe::perturbation) has the settings of its training.
    pub fn new(model: &'a ScGptPerturb) -> Self {
        Self { model }
    }

    fn error(
        &self,
        data: &PerturbationTokens<'_>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> Result<Tensor> {
        let cells = rows.iter().filter_map(|&r| data.cells().get(r).copied());
        let cells: Vec<usize> = cells.collect();
        let pass = match step.mode.is_training() {
            true => step.epoch as u64 + 1,
            // The same pairs and genes in each epoch, so that losses can be compared.
            false => 0,
        };
        let batch = data.batch(&cells, pass)?;
        let made = self.model.forward(&batch, &step.mode)?.expression;
        let value = &made.value;
        let target = Tensor::from_slice(&batch.targets, value.dims(), value.device())?;
        let (target, all) = (target.to_dtype(value.dtype())?, value.ones_like()?);
        let error = masked_mse(value, &target, &all)?;
        match &made.nonzero_logit {
            Some(logit) => Ok((error + nonzero_nll(logit, &target, &all)?)?),
            None => Ok(error),
        }
    }
}

impl Trainable<PerturbationTokens<'_>> for PerturbTask<'_> {
    fn params(&self) -> &Params {
        self.model.parameters()
    }

    /// Those whose perturbed genes are measured and known.
    fn n_cells(&self, data: &PerturbationTokens<'_>) -> usize {
        data.cells().len()
    }

    fn settings(&self) -> String {
        "scgpt perturb".into()
    }

    fn loss(
        &self,
        data: &PerturbationTokens<'_>,
        rows: &[usize],
        step: &Step<'_>,
    ) -> sc_model::Result<Loss> {
        let loss = self
            .error(data, rows, step)
            .map_err(sc_model::Error::model)?;
        Ok(Loss {
            loss,
            sums: Vec::new(),
            n_cells: rows.len(),
        })
    }
}
