//! The loss of generative pre-training.

use candle_core::Tensor;
use sc_model::Mode;

use crate::Result;
use crate::scgpt::input::Input;
use crate::scgpt::losses::{mask_of, masked_mse};
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
        let error = |p: &Tensor| masked_mse(p, &target, &scored);
        let gep = error(&self.decode(&first, mode)?.value)?;
        let mut total = gep.clone();
        let gepc = match self.nets.mvc {
            Some(_) => Some(error(&self.decode_from_cells(&first, mode)?.value)?),
            None => None,
        };
        if let Some(gepc) = &gepc {
            total = (total + gepc)?;
        }
        let prompted = match prompted {
            true => {
                let prompt = first.cells.detach();
                let mode = mode.pass(1);
                let second = self.encode_generative(input, Some(&prompt), &mode)?;
                Some(error(&self.decode(&second, &mode)?.value)?)
            }
            false => None,
        };
        if let Some(second) = &prompted {
            total = (total + second)?;
        }
        Ok(GenerativeLoss {
            gep,
            gepc,
            prompted,
            total,
        })
    }
}
