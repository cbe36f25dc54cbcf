//! The evidence lower bound of SCANVI (Xu et al. 2021, after Kingma et al. 2014), with all labels enumerated.

use candle_core::{DType, Tensor};
use sc_model::Mode;
use sc_tensor::likelihood::{kl_standard_normal, neg_log_normal};
use sc_tensor::ops;
use sc_tensor::rng::Stream;

use super::Scanvi;
use crate::arrays::to_vec;
use crate::elbo::{Forward, Noise, Sums, draw, log_density};
use crate::nets::Posterior;
use crate::{Minibatch, Result};

/// The terms of the bound. With `N` cells and `K` labels
///
/// ```text
/// reconstruction_total = -log p(x | z1) + log q(z1 | x) + sum_y p_y (-log p(z1 | z2_y, y))
/// kl_total             = sum_y p_y KL(q(z2 | z1, y) || N(0, I)) + KL(p || prior) + KL_library
/// -ELBO                = reconstruction_total + kl_total
/// ```
///
/// where `p = softmax(classifier(z1))`.
#[derive(Debug, Clone)]
pub struct ScanviTerms {
    /// `-log p(x | z1)`, `[N]`.
    pub reconstruction: Tensor,
    /// `log q(z1 | x)`, `[N]`.
    pub log_q_z1: Tensor,
    /// `-log p(z1 | z2_y, y)` for every label, `[N, K]`.
    pub neg_log_p_z1: Tensor,
    /// `KL(q(z2 | z1, y) || N(0, I))` for every label, `[N, K]`.
    pub kl_z2: Tensor,
    /// The probability of every label, `[N, K]`.
    pub probabilities: Tensor,
    /// `KL(Cat(p) || Cat(prior))`, `[N]`.
    pub kl_labels: Tensor,
    /// `KL(q(l | x) || p(l | batch))`, `[N]`, if the library size is learned.
    pub kl_library: Option<Tensor>,
}

impl ScanviTerms {
    /// `-log p(x | z1) + log q(z1 | x) + sum_y p_y (-log p(z1 | z2_y, y))`, `[N]`: what scvi-tools calls the
    /// reconstruction loss.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn reconstruction_total(&self) -> Result<Tensor> {
        let expected = (&self.probabilities * &self.neg_log_p_z1)?.sum(1)?;
        Ok(((&self.reconstruction + &self.log_q_z1)? + expected)?)
    }

    /// All KL terms, `[N]`.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn kl_total(&self) -> Result<Tensor> {
        let expected = (&self.probabilities * &self.kl_z2)?.sum(1)?;
        let mut kl = (expected + &self.kl_labels)?;
        if let Some(l) = &self.kl_library {
            kl = (kl + l)?;
        }
        Ok(kl)
    }

    /// What is minimised, but for the classification loss: the mean over cells of
    /// `reconstruction_total + kl_weight * kl_total`. Unlike in scVI the KL of the library size is weighted too.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn loss(&self, kl_weight: f64) -> Result<Tensor> {
        Ok((self.reconstruction_total()? + (self.kl_total()? * kl_weight)?)?.mean_all()?)
    }
}

/// The two halves of the bound, `[N]` each.
pub(crate) struct Halves {
    pub(crate) reconstruction: Tensor,
    pub(crate) kl: Tensor,
}

impl Halves {
    pub(crate) fn of(terms: &ScanviTerms) -> Result<Self> {
        Ok(Self {
            reconstruction: terms.reconstruction_total()?,
            kl: terms.kl_total()?,
        })
    }

    pub(crate) fn loss(&self, kl_weight: f64) -> Result<Tensor> {
        Ok((&self.reconstruction + (&self.kl * kl_weight)?)?.mean_all()?)
    }

    pub(crate) fn sums(&self) -> Result<Sums> {
        let sum = |t: &Tensor| -> Result<f64> { Ok(to_vec(&t.detach())?.iter().sum()) };
        Ok(Sums {
            reconstruction: sum(&self.reconstruction)?,
            kl: sum(&self.kl)?,
        })
    }
}

/// The second level for given places `z1`.
pub(crate) struct SecondLevel {
    pub(crate) neg_log_p_z1: Tensor,
    pub(crate) qz2: Posterior,
    /// The draws, `[K * N, n_latent]`.
    pub(crate) z2: Tensor,
    pub(crate) probabilities: Tensor,
    pub(crate) kl_labels: Tensor,
}

impl Scanvi {
    /// Noise from streams called `z`, `library` and `z2`.
    pub(crate) fn noise(&self, n: usize, stream: impl Fn(&str) -> Stream) -> Result<Noise> {
        let mut noise = Noise::draw(&self.scvi, n, &stream)?;
        let shape = (self.semi.n_labels() * n, self.scvi.config.n_latent);
        noise.z2 = Some(stream("z2").normal(shape, self.scvi.dtype(), self.scvi.device())?);
        Ok(noise)
    }

    /// The terms of the bound for a minibatch and given noise.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn elbo_terms(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        mode: &Mode<'_>,
    ) -> Result<ScanviTerms> {
        let Forward {
            qz,
            z,
            reconstruction,
            kl_library,
        } = self.scvi.forward(batch, noise, mode)?;
        // scvi-tools hands the softmax of a logistic normal to the second level, and takes the densities there too.
        let z1 = self.scvi.nets.latent_of(&z)?;
        let second = self.second_level(&z1, noise.z2.as_ref(), mode)?;
        let kl_z2 = kl_standard_normal(&second.qz2.mean, &second.qz2.var)?;
        Ok(ScanviTerms {
            reconstruction,
            log_q_z1: log_density(&z1, &qz)?,
            neg_log_p_z1: second.neg_log_p_z1,
            kl_z2: self.by_cell(&kl_z2)?,
            probabilities: second.probabilities,
            kl_labels: second.kl_labels,
            kl_library,
        })
    }

    /// Draws `z2` for every cell and label, and says how likely `z1` is from there. The order of the networks is
    /// scvi-tools', which matters for the running statistics of batch norms.
    pub(crate) fn second_level(
        &self,
        z1: &Tensor,
        noise: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<SecondLevel> {
        let semi = &self.semi;
        let labels = semi.labels_of(z1)?;
        let qz2 = semi.encode(z1, labels.as_ref(), mode)?;
        let z2 = draw(&qz2, noise)?;
        let prior = semi.decode(&z2, labels.as_ref(), mode)?;
        let neg_log_p = neg_log_normal(z1, &prior.mean, &prior.log_var)?;
        let probabilities = ops::softmax(&semi.classifier.logits(z1, mode)?)?;
        Ok(SecondLevel {
            neg_log_p_z1: self.by_cell(&neg_log_p)?,
            kl_labels: self.kl_labels(&probabilities)?,
            probabilities,
            qz2,
            z2,
        })
    }

    /// `[K * N]`, label after label, to `[N, K]`.
    pub(crate) fn by_cell(&self, by_label: &Tensor) -> Result<Tensor> {
        let k = self.semi.n_labels();
        let n = by_label.elem_count() / k.max(1);
        Ok(by_label.reshape((k, n))?.t()?.contiguous()?)
    }

    /// `KL(Cat(p) || Cat(prior))` of each row. As in torch, probabilities are kept off 0 and 1 by one epsilon of their type
    /// where their logarithm is taken.
    fn kl_labels(&self, p: &Tensor) -> Result<Tensor> {
        let prior = log_clamped(&self.semi.prior()?)?;
        let log_ratio = log_clamped(p)?.broadcast_sub(&prior)?;
        Ok((p * log_ratio)?.sum(1)?)
    }
}

fn log_clamped(p: &Tensor) -> Result<Tensor> {
    let eps = match p.dtype() {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    };
    Ok(p.clamp(eps, 1.0 - eps)?.log()?)
}
