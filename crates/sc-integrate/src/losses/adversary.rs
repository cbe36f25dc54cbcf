//! The adversary's loss, and that of the classifier.

use candle_core::Tensor;
use sc_model::Mode;
use sc_tensor::ops;

use super::forward::{Forward, Noise, rows_of, unit};
use super::{Learner, add};
use crate::cells::{Minibatch, Part, UNLABELLED};
use crate::model::Clue;
use crate::{AdversaryInput, Result};

impl Clue {
    /// The cross entropy of the adversary's guesses: each modality counts the same, however many rows it has.
    pub(super) fn adversary(
        &self,
        f: &Forward,
        batch: &Minibatch,
        noise: &Noise,
        learner: Learner,
        mode: &Mode<'_>,
    ) -> Result<Option<Tensor>> {
        let mut inputs = Vec::new();
        let mut batches = Vec::new();
        let mut spans = Vec::new();
        for (k, part) in batch.parts.iter().enumerate() {
            let Some((part, u)) = part.as_ref().zip(self.seen(f, noise, k)?) else {
                continue;
            };
            spans.push((k, batches.len(), part));
            batches.extend_from_slice(&part.batch);
            inputs.push(match learner {
                Learner::Adversary => u.detach(),
                Learner::Rest => u,
                Learner::Both => ops::grad_reverse(&u, 1.0)?,
            });
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        let all = Tensor::cat(&inputs, 0)?;
        let frozen = learner == Learner::Rest;
        let logits = self.nets.adversary.forward(&all, &batches, frozen, mode)?;
        let log_p = ops::log_softmax(&logits)?;
        let mut sum = None;
        let share = 1.0 / spans.len() as f64;
        for (k, start, part) in spans {
            let right = log_p.narrow(0, start, part.n_rows())?.narrow(1, k, 1)?;
            let right = weighted(&right.contiguous()?.flatten_all()?, part)?;
            add(&mut sum, (right.mean_all()? * -share)?)?;
        }
        Ok(sum)
    }

    /// What the adversary makes of places in the embedding, in these batches: a logit of each modality, `[rows, modalities]`.
    /// The nearer the chances are to equal, the better modalities are aligned.
    ///
    /// # Errors
    /// If the places are not those of this model.
    pub fn guess_modality(&self, u: &Tensor, batches: &[u32]) -> Result<Tensor> {
        self.nets.adversary.forward(u, batches, true, &Mode::eval())
    }

    /// What the adversary and the classifier read of a modality.
    pub(super) fn seen(&self, f: &Forward, noise: &Noise, k: usize) -> Result<Option<Tensor>> {
        let Some(q) = &f.encoded[k] else {
            return Ok(None);
        };
        let mean = match self.config.adversary_input {
            AdversaryInput::Mean => q.loc.clone(),
            AdversaryInput::UnitMean => unit(&q.loc)?,
        };
        Ok(Some(
            match noise.adversary.get(k).and_then(Option::as_ref) {
                Some(added) if noise.burn_in > 0.0 => (mean + (added * noise.burn_in)?)?,
                _ => mean,
            },
        ))
    }

    /// The cross entropy of the labels of all rows that have one.
    pub(super) fn supervised(
        &self,
        f: &Forward,
        batch: &Minibatch,
        noise: &Noise,
        mode: &Mode<'_>,
    ) -> Result<Option<Tensor>> {
        let Some(classifier) = &self.nets.classifier else {
            return Ok(None);
        };
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        for (k, part) in batch.parts.iter().enumerate() {
            let Some((part, u)) = part.as_ref().zip(self.seen(f, noise, k)?) else {
                continue;
            };
            let known = (0u32..).zip(&part.labels);
            let rows: Vec<u32> = known
                .filter_map(|(i, &l)| (l != UNLABELLED).then_some(i))
                .collect();
            if rows.is_empty() {
                continue;
            }
            labels.extend(rows.iter().map(|&r| part.labels[r as usize]));
            inputs.push(rows_of(&u, &rows)?);
        }
        if labels.is_empty() {
            return Ok(None);
        }
        let logits = classifier.forward(&Tensor::cat(&inputs, 0)?, mode)?;
        let log_p = ops::log_softmax(&logits)?;
        let truth = ops::one_hot(
            &labels,
            self.registry.labels.len(),
            log_p.dtype(),
            log_p.device(),
        )?;
        let sum = (log_p * truth)?.sum_all()?;
        Ok(Some((sum * (-1.0 / labels.len() as f64))?))
    }
}

fn weighted(right: &Tensor, part: &Part) -> Result<Tensor> {
    let Some(weights) = &part.adversary_weights else {
        return Ok(right.clone());
    };
    let w = Tensor::from_slice(weights, weights.len(), right.device())?;
    Ok((right * w.to_dtype(right.dtype())?)?)
}
