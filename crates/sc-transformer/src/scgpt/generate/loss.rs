//! The loss of generative pre-training.

use candle_core::Tensor;
use sc_model::Mode;

use crate::Result;
use crate::scgpt::decoders::Predicted;
use crate::scgpt::input::Input;
use crate::scgpt::losses::{mask_of, masked_mse, nonzero_nll};
use crate::scgpt::model::ScGpt;

/// The terms of generative pre-training.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GenerativeLoss {
    /// From the genes' rows.
    pub gep: Tensor,
    /// From the cells' vectors.
    pub gepc: Option<Tensor>,
    /// From the genes' rows again, with the cell's vector of the first pass, taken as it is, in place of its first token: the
    /// cell prompt.
    pub prompted: Option<Tensor>,
    /// The probability that values are not zero, of all three together, where the model predicts it. (The released models
    /// don't.)
    pub nonzero: Option<Tensor>,
    /// Their sum.
    pub total: Tensor,
}

impl ScGpt {
    /// The loss of generative pre-training: the error of the values of the genes behind the keys, which are scored. With
    /// `prompted`, the cells are read a second time with their own vector as a prompt.
    ///
    /// # Errors
    /// As [`ScGpt::encode_generative`].
    pub fn generative_loss<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        prompted: bool,
        mode: &Mode<'_>,
    ) -> Result<GenerativeLoss> {
        let input = cells.into();
        let first = self.encode_generative(input, None, mode)?;
        let (dtype, device) = (first.hidden.dtype(), first.hidden.device());
        let target = Tensor::from_slice(&input.tokens.targets, input.tokens.n_tokens(), device)?;
        let target = target.to_dtype(dtype)?;
        let scored = mask_of(&input.tokens.scored, dtype, device)?;
        let mut nonzero: Option<Tensor> = None;
        let mut error = |p: Predicted| -> Result<Tensor> {
            if let Some(logit) = &p.nonzero_logit {
                let nll = nonzero_nll(logit, &target, &scored)?;
                nonzero = Some(match nonzero.take() {
                    Some(sum) => (sum + nll)?,
                    None => nll,
                });
            }
            masked_mse(&p.value, &target, &scored)
        };
        let gep = error(self.decode(&first, mode)?)?;
        let mut total = gep.clone();
        let gepc = match self.nets.mvc {
            Some(_) => Some(error(self.decode_from_cells(&first, mode)?)?),
            None => None,
        };
        let prompted = match prompted {
            true => {
                let prompt = first.cells.detach();
                let mode = mode.pass(1);
                let second = self.encode_generative(input, Some(&prompt), &mode)?;
                Some(error(self.decode(&second, &mode)?)?)
            }
            false => None,
        };
        for term in [&gepc, &prompted, &nonzero].into_iter().flatten() {
            total = (total + term)?;
        }
        Ok(GenerativeLoss {
            gep,
            gepc,
            prompted,
            nonzero,
            total,
        })
    }
}
