//! What a likelihood expects, how far values lie around it, and draws from it.

use candle_core::{DType, Tensor};
use sc_model::Mode;
use sc_tensor::likelihood::{
    Family, negative_binomial_variance, sample, zero_inflated_mean, zero_inflated_variance,
};
use sc_tensor::{Stream, ops};

use super::head::{Head, Library, Outputs};
use super::protein::Mixture;
use crate::{Error, Likelihood, Result};

impl Head {
    /// The expected values, `[rows, features]`.
    pub(crate) fn mean(
        &self,
        out: &Outputs,
        library: Option<&Library>,
        batch: &[u32],
    ) -> Result<Tensor> {
        let o = &out.loc;
        let eval = &Mode::eval();
        Ok(match self.likelihood {
            Likelihood::Nb | Likelihood::Poisson => self.counts_mean(out, library, batch)?,
            Likelihood::Zinb => {
                let mu = self.counts_mean(out, library, batch)?;
                zero_inflated_mean(&mu, &self.inflation(&mu, batch)?)?
            }
            Likelihood::NbMixture => {
                let m = self.need_mixture(out, batch)?;
                let pi = ops::sigmoid(&m.logit)?;
                (&m.high + (pi * (&m.low - &m.high)?)?)?
            }
            Likelihood::Bernoulli => ops::sigmoid(&self.logits(out, batch, eval)?)?,
            Likelihood::Zin => (o * self.kept(o, batch)?)?,
            Likelihood::Ziln => {
                let half = (self.std(batch, eval)?.sqr()? * 0.5)?;
                (o.broadcast_add(&half)?.exp()? * self.kept(o, batch)?)?
            }
            _ => o.clone(),
        })
    }

    /// The variances around them; zeros for MSE and RMSE, which have none.
    pub(crate) fn variance(
        &self,
        out: &Outputs,
        library: Option<&Library>,
        batch: &[u32],
    ) -> Result<Tensor> {
        let o = &out.loc;
        let eval = &Mode::eval();
        let theta = || self.need_theta(batch);
        Ok(match self.likelihood {
            Likelihood::Poisson => self.counts_mean(out, library, batch)?,
            Likelihood::Nb => {
                let mu = self.counts_mean(out, library, batch)?;
                negative_binomial_variance(&mu, &theta()?)?
            }
            Likelihood::Zinb => {
                let mu = self.counts_mean(out, library, batch)?;
                zero_inflated_variance(&mu, &theta()?, &self.inflation(&mu, batch)?)?
            }
            Likelihood::NbMixture => {
                let m = self.need_mixture(out, batch)?;
                let pi = ops::sigmoid(&m.logit)?;
                let theta = theta()?;
                let low = negative_binomial_variance(&m.low, &theta)?;
                let high = negative_binomial_variance(&m.high, &theta)?;
                let within = (&high + (&pi * (low - &high)?)?)?;
                let apart = (&m.high - &m.low)?.sqr()?;
                (within + (apart * (&pi - pi.sqr()?)?)?)?
            }
            Likelihood::Bernoulli => {
                let p = ops::sigmoid(&self.logits(out, batch, eval)?)?;
                (&p - p.sqr()?)?
            }
            Likelihood::Normal => {
                let var = self.std(batch, eval)?.sqr()?;
                var.broadcast_as(o.shape())?.contiguous()?
            }
            Likelihood::Zin => {
                let kept = self.kept(o, batch)?;
                let second = o.sqr()?.broadcast_add(&self.std(batch, eval)?.sqr()?)?;
                ((second * &kept)? - (o * &kept)?.sqr()?)?
            }
            Likelihood::Ziln => {
                let kept = self.kept(o, batch)?;
                let var = self.std(batch, eval)?.sqr()?;
                let first = o.broadcast_add(&(&var * 0.5)?)?.exp()?;
                let second = (o.broadcast_add(&var)? * 2.0)?.exp()?;
                ((second * &kept)? - (first * &kept)?.sqr()?)?
            }
            Likelihood::Mse | Likelihood::Rmse => o.zeros_like()?,
        })
    }

    /// One draw of each value.
    pub(crate) fn sample(
        &self,
        out: &Outputs,
        library: Option<&Library>,
        batch: &[u32],
        stream: &mut Stream,
    ) -> Result<Tensor> {
        let o = &out.loc;
        let eval = &Mode::eval();
        Ok(match self.likelihood {
            Likelihood::Poisson => {
                let mu = self.counts_mean(out, library, batch)?;
                sample(Family::Poisson, &mu, None, None, stream)?
            }
            Likelihood::Nb => {
                let mu = self.counts_mean(out, library, batch)?;
                let theta = self.need_theta(batch)?;
                sample(Family::NegativeBinomial, &mu, Some(&theta), None, stream)?
            }
            Likelihood::Zinb => {
                let mu = self.counts_mean(out, library, batch)?;
                let theta = self.need_theta(batch)?;
                let zeros = self.inflation(&mu, batch)?;
                let family = Family::ZeroInflatedNegativeBinomial;
                sample(family, &mu, Some(&theta), Some(&zeros), stream)?
            }
            Likelihood::NbMixture => {
                let m = self.need_mixture(out, batch)?;
                let low = below(&ops::sigmoid(&m.logit)?, stream)?;
                let mu = low.where_cond(&m.low, &m.high)?;
                let theta = self.need_theta(batch)?;
                sample(Family::NegativeBinomial, &mu, Some(&theta), None, stream)?
            }
            Likelihood::Bernoulli => {
                let p = ops::sigmoid(&self.logits(out, batch, eval)?)?;
                below(&p, stream)?.to_dtype(DType::F32)?
            }
            Likelihood::Normal => self.normal_draw(o, batch, stream)?,
            Likelihood::Zin => {
                let x = self.normal_draw(o, batch, stream)?;
                below(&self.kept(o, batch)?, stream)?.where_cond(&x, &x.zeros_like()?)?
            }
            Likelihood::Ziln => {
                let x = self.normal_draw(o, batch, stream)?.exp()?;
                below(&self.kept(o, batch)?, stream)?.where_cond(&x, &x.zeros_like()?)?
            }
            Likelihood::Mse | Likelihood::Rmse => o.clone(),
        })
    }

    /// Each feature's share of a cell, `[rows, features]`, where the likelihood is one of counts with a library size;
    /// otherwise the expected values.
    pub(crate) fn shares(&self, out: &Outputs, batch: &[u32]) -> Result<Tensor> {
        match self.likelihood.has_library() {
            true => Ok(ops::softmax(&self.logits(out, batch, &Mode::eval())?)?),
            false => self.mean(out, None, batch),
        }
    }

    fn counts_mean(
        &self,
        out: &Outputs,
        library: Option<&Library>,
        batch: &[u32],
    ) -> Result<Tensor> {
        let logits = self.logits(out, batch, &Mode::eval())?;
        self.rate(&logits, library)
    }

    fn normal_draw(&self, o: &Tensor, batch: &[u32], stream: &mut Stream) -> Result<Tensor> {
        let noise = stream.normal(o.shape().clone(), o.dtype(), o.device())?;
        let std = self.std(batch, &Mode::eval())?;
        Ok((o + noise.broadcast_mul(&std)?)?)
    }

    /// The probability that a value is not an extra zero.
    fn kept(&self, like: &Tensor, batch: &[u32]) -> Result<Tensor> {
        Ok(ops::sigmoid(&self.inflation(like, batch)?.neg()?)?)
    }

    fn inflation(&self, like: &Tensor, batch: &[u32]) -> Result<Tensor> {
        Ok(match self.zeros(batch)? {
            Some(z) => z.broadcast_as(like.shape())?.contiguous()?,
            None => (like.zeros_like()? - 1e4)?,
        })
    }

    fn need_theta(&self, batch: &[u32]) -> Result<Tensor> {
        self.theta(batch, &Mode::eval())?
            .ok_or_else(|| self.lacks("dispersions"))
    }

    fn need_mixture(&self, out: &Outputs, batch: &[u32]) -> Result<Mixture> {
        self.mixture(out, batch, &Mode::eval())?
            .ok_or_else(|| self.lacks("background"))
    }

    fn lacks(&self, what: &str) -> Error {
        Error::InvalidSetting {
            name: "likelihood",
            value: self.likelihood.to_string(),
            reason: format!("it has no {what}"),
        }
    }
}

/// 1 where a uniform number is below `p`.
fn below(p: &Tensor, stream: &mut Stream) -> Result<Tensor> {
    let u = stream.uniform(0.0, 1.0, p.shape().clone(), p.dtype(), p.device())?;
    Ok(u.lt(p)?)
}
