//! The loss of generative pre-training.

use candle_core::Tensor;
use sc_model::Mode;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::scgpt::decoders::Predicted;
use crate::scgpt::input::Input;
use crate::scgpt::losses::{mask_of, masked_mse, nonzero_nll};
use crate::scgpt::model::ScGpt;
use crate::tokens::TokenBatch;

/// What is known of a cell beside its own vector, where that is the prompt of generative pre-training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellPrompt {
    /// Nothing: all genes of the cell are asked for, and the error reaches what made the vector. So the model has a reason to
    /// put the cell into it, and cells can be generated from it.
    Alone,
    /// The known genes, and the vector is taken as it is: the original's code. What the genes say already, the vector need
    /// not.
    WithGenes,
}

/// The terms of generative pre-training.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GenerativeLoss {
    /// From the genes' rows.
    pub gep: Tensor,
    /// From the cells' vectors.
    pub gepc: Option<Tensor>,
    /// From the genes' rows again, with the cell's vector of the first pass in place of its first token: the cell prompt.
    pub prompted: Option<Tensor>,
    /// The probability that values are not zero, of all three together, where the model predicts it. (The released models
    /// don't.)
    pub nonzero: Option<Tensor>,
    /// Their sum.
    pub total: Tensor,
}

impl ScGpt {
    /// The loss of generative pre-training: the error of the values of the genes behind the keys, which are scored. With a
    /// `prompt`, the cells are read a second time with their own vector in place of the first token.
    ///
    /// # Errors
    /// As [`ScGpt::encode_generative`]; [`Error::InvalidSetting`](crate::Error::InvalidSetting) if cells without `<cls>` are to
    /// be prompts alone.
    pub fn generative_loss<'a>(
        &self,
        cells: impl Into<Input<'a>>,
        prompt: Option<CellPrompt>,
        mode: &Mode<'_>,
    ) -> Result<GenerativeLoss> {
        let input = cells.into();
        let first = self.encode_generative(input, None, mode)?;
        let mut score = Score::new(input.tokens, &first.hidden)?;
        let gep = score.error(self.decode(&first, mode)?)?;
        let gepc = match self.nets.mvc {
            Some(_) => Some(score.error(self.decode_from_cells(&first, mode)?)?),
            None => None,
        };
        let mut nonzero = score.nonzero;
        let prompted = match prompt {
            Some(prompt) => {
                let (error, more) = self.second_pass(input, &first.cells, prompt, mode)?;
                nonzero = sum(nonzero, more)?;
                Some(error)
            }
            None => None,
        };
        let mut total = gep.clone();
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

    /// The errors of values and of probabilities where cells' vectors are prompts.
    fn second_pass(
        &self,
        input: Input<'_>,
        cells: &Tensor,
        prompt: CellPrompt,
        mode: &Mode<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let alone;
        let (tokens, cells) = match prompt {
            CellPrompt::Alone => {
                alone = input.tokens.all_asked(self.config.mask_value)?;
                (&alone, cells.clone())
            }
            CellPrompt::WithGenes => (input.tokens, cells.detach()),
        };
        let mode = mode.pass(1);
        let second = self.encode_generative(Input { tokens, ..input }, Some(&cells), &mode)?;
        let mut score = Score::new(tokens, &second.hidden)?;
        let error = score.error(self.decode(&second, &mode)?)?;
        Ok((error, score.nonzero))
    }
}

/// What predictions of the same tokens are held against.
struct Score {
    target: Tensor,
    scored: Tensor,
    /// The terms of the probabilities, summed.
    nonzero: Option<Tensor>,
}

impl Score {
    fn new(tokens: &TokenBatch, like: &Tensor) -> Result<Self> {
        let (dtype, device) = (like.dtype(), like.device());
        let target = Tensor::from_slice(&tokens.targets, tokens.n_tokens(), device)?;
        Ok(Self {
            target: target.to_dtype(dtype)?,
            scored: mask_of(&tokens.scored, dtype, device)?,
            nonzero: None,
        })
    }

    /// The error of the values; that of the probabilities is added up.
    fn error(&mut self, p: Predicted) -> Result<Tensor> {
        if let Some(logit) = &p.nonzero_logit {
            let nll = nonzero_nll(logit, &self.target, &self.scored)?;
            self.nonzero = sum(self.nonzero.take(), Some(nll))?;
        }
        masked_mse(&p.value, &self.target, &self.scored)
    }
}

/// The sum of those that are there.
fn sum(a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some((a + b)?),
        (a, b) => a.or(b),
    })
}
