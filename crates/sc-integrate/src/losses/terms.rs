use candle_core::{DType, Tensor};

use super::Learner;
use crate::{LossWeights, Result};

/// The terms of the loss of a minibatch, scalars each; `None` where nothing contributes, or the weight is 0.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Terms {
    /// The reconstruction of each modality from itself, per feature.
    pub nll: Vec<Option<Tensor>>,
    /// Its KL term, per feature.
    pub kl: Vec<Option<Tensor>>,
    /// Reconstruction from all modalities of a cell together.
    pub joint: Option<Tensor>,
    /// Reconstruction of one modality from another.
    pub real: Option<Tensor>,
    /// Nearness of the embeddings of one cell.
    pub pairing: Option<Tensor>,
    /// The adversary's cross entropy.
    pub adversary: Option<Tensor>,
    /// The Sinkhorn divergence between modalities.
    pub transport: Option<Tensor>,
    /// The classifier's.
    pub supervised: Option<Tensor>,
}

impl Terms {
    pub(super) fn new(n_modalities: usize) -> Self {
        Self {
            nll: vec![None; n_modalities],
            kl: vec![None; n_modalities],
            joint: None,
            real: None,
            pairing: None,
            adversary: None,
            transport: None,
            supervised: None,
        }
    }

    /// The evidence lower bound of each modality, negative: `nll + weights.kl * kl`, weighted by modality and summed.
    fn own(&self, weights: &LossWeights, of_modality: &[f64]) -> Result<Option<Tensor>> {
        let mut sum = None;
        for ((nll, kl), &w) in self.nll.iter().zip(&self.kl).zip(of_modality) {
            if let (Some(nll), Some(kl)) = (nll, kl) {
                let elbo = (nll + (kl * weights.kl)?)?;
                super::add(&mut sum, (elbo * w)?)?;
            }
        }
        Ok(sum)
    }

    /// What encoders and decoders minimise. The adversary's part enters with the opposite sign.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn generator(&self, weights: &LossWeights, of_modality: &[f64]) -> Result<Tensor> {
        let others = self.without_adversary(weights, of_modality)?;
        Ok(match &self.adversary {
            Some(a) => (others - (a * weights.align)?)?,
            None => others,
        })
    }

    /// The same without the adversary.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn without_adversary(&self, weights: &LossWeights, of_modality: &[f64]) -> Result<Tensor> {
        let mut sum = None;
        if let Some(own) = self.own(weights, of_modality)? {
            super::add(&mut sum, (own * weights.data)?)?;
        }
        for (term, weight) in [
            (&self.supervised, weights.supervised),
            (&self.joint, weights.joint_cross),
            (&self.real, weights.real_cross),
            (&self.pairing, weights.pairing),
            (&self.transport, weights.align),
        ] {
            if let Some(term) = term {
                super::add(&mut sum, (term * weight)?)?;
            }
        }
        sum.ok_or_else(|| crate::Error::NoCells {
            what: "a minibatch".into(),
            reason: "it has no cell with a modality that the model knows".into(),
        })
    }

    /// What is differentiated when this side learns. Its value is that of [`Terms::generator`], or the adversary's loss.
    pub(crate) fn objective(
        &self,
        learner: Learner,
        weights: &LossWeights,
        of_modality: &[f64],
    ) -> Result<Tensor> {
        match (learner, &self.adversary) {
            (Learner::Adversary, Some(a)) => Ok((a * weights.align)?),
            (Learner::Both, Some(a)) => {
                // The gradient is reversed already; the value must not be.
                let others = self.without_adversary(weights, of_modality)?;
                let reversed = (a * weights.align)?;
                let twice = (a.detach() * (2.0 * weights.align))?;
                Ok(((others + reversed)? - twice)?)
            }
            _ => self.generator(weights, of_modality),
        }
    }

    /// Values by name, as the history has them.
    pub(crate) fn values(&self, of_modality: &[f64]) -> Result<Vec<(&'static str, f64)>> {
        let weighted = |terms: &[Option<Tensor>]| -> Result<f64> {
            let mut sum = 0.0;
            for (t, w) in terms.iter().zip(of_modality) {
                if let Some(t) = t {
                    sum += number(t)? * w;
                }
            }
            Ok(sum)
        };
        let mut out = vec![
            ("reconstruction_loss", weighted(&self.nll)?),
            ("kl", weighted(&self.kl)?),
        ];
        for (name, term) in [
            ("joint_cross", &self.joint),
            ("real_cross", &self.real),
            ("pairing", &self.pairing),
            ("adversary", &self.adversary),
            ("transport", &self.transport),
            ("supervised", &self.supervised),
        ] {
            if let Some(t) = term {
                out.push((name, number(t)?));
            }
        }
        Ok(out)
    }
}

/// A scalar as a number.
pub(crate) fn number(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(DType::F64)?.to_scalar::<f64>()?)
}
