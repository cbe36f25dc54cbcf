//! Likelihoods: what is left of a decoder after its last linear map.

use std::sync::Arc;

use candle_core::{D, Tensor};
use sc_data::Csr;
use sc_model::{Mode, Param, ParamBuilder};
use sc_tensor::likelihood::{Dispersion, Family, Mean, log_prob};
use sc_tensor::ops::{self, SparseInput};

use super::ZERO;
use super::protein::Background;
use crate::{Likelihood, Result};

/// Added to means and standard deviations, as in scglue.
pub(super) const EPS: f64 = 1e-7;
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_8;

/// What a decoder gives.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    /// `[rows, features]`
    pub(crate) loc: Tensor,
    /// `[rows, 3 features]`, of the mixture for proteins.
    pub(crate) background: Option<Tensor>,
}

/// Library sizes of rows.
#[derive(Debug, Clone)]
pub(crate) enum Library {
    /// Natural logarithms, `[rows]`.
    Log(Tensor),
    /// Sizes, `[rows, 1]`, which may be 0: scglue.
    Size(Tensor),
}

/// The parameters of a likelihood for each feature and batch. Kept `[batches, features]`, in files `[features, batches]`.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(super) likelihood: Likelihood,
    n_features: usize,
    scale_lin: Option<Param>,
    bias: Option<Param>,
    log_theta: Option<Param>,
    std_lin: Option<Param>,
    zi_logits: Option<Param>,
    pub(super) background: Option<Background>,
}

impl Head {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        likelihood: Likelihood,
        n_features: usize,
        n_batches: usize,
    ) -> Result<Self> {
        let param = |name: &str, wanted: bool| {
            let made = wanted.then(|| p.transposed(name, n_batches, n_features, ZERO));
            made.transpose()
        };
        let l = likelihood;
        Ok(Self {
            likelihood,
            n_features,
            scale_lin: param("scale_lin", l.has_scale())?,
            bias: param("bias", l.has_scale())?,
            log_theta: param("log_theta", l.has_theta())?,
            std_lin: param("std_lin", l.has_std())?,
            zi_logits: param("zi_logits", l.has_extra_zeros())?,
            background: match l {
                Likelihood::NbMixture => Some(Background::new(p, n_features, n_batches)?),
                _ => None,
            },
        })
    }

    /// The negative log-likelihood, averaged over rows and features.
    pub(crate) fn nll(
        &self,
        out: &Outputs,
        x: &Arc<Csr>,
        library: Option<&Library>,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let per_row = self.log_density(out, x, library, batch, mode)?;
        let n = (x.n_rows().max(1) * self.n_features) as f64;
        let mean = (per_row.sum_all()? * (-1.0 / n))?;
        Ok(match self.likelihood {
            Likelihood::Rmse => mean.sqrt()?,
            _ => mean,
        })
    }

    /// The log-density of each row, summed over features; of the errors MSE and RMSE the negative sum of squares.
    pub(crate) fn log_density(
        &self,
        out: &Outputs,
        x: &Arc<Csr>,
        library: Option<&Library>,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        match self.likelihood {
            Likelihood::Nb | Likelihood::Zinb | Likelihood::Poisson => {
                self.counts(out, x, library, batch, mode)
            }
            Likelihood::NbMixture => self.mixture_log_density(out, x, batch, mode),
            _ => {
                let like = &out.loc;
                let dense = SparseInput::counts(Arc::clone(x));
                let dense = dense.to_dense(like.dtype(), like.device())?;
                let entries = self.continuous(out, &dense, batch, mode)?;
                Ok(entries.sum(D::Minus1)?)
            }
        }
    }

    fn counts(
        &self,
        out: &Outputs,
        x: &Arc<Csr>,
        library: Option<&Library>,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let family = match self.likelihood {
            Likelihood::Poisson => Family::Poisson,
            Likelihood::Zinb => Family::ZeroInflatedNegativeBinomial,
            _ => Family::NegativeBinomial,
        };
        let logits = self.logits(out, batch, mode)?;
        let rate;
        let mean = match library {
            Some(Library::Log(log_library)) => Mean::Softmax {
                logits: &logits,
                log_library,
            },
            _ => {
                // 1e-8 of it is inside of the kernel's logarithms.
                rate = (self.rate(&logits, library)? + (EPS - 1e-8))?;
                Mean::Rate(&rate)
            }
        };
        let theta = self.log_theta.as_ref();
        let dispersion = theta.map(|t| Dispersion::indexed(t.get(mode), batch.to_vec()));
        let zeros = self.rows(self.zi_logits.as_ref(), batch, mode)?;
        let zeros = match zeros {
            Some(z) => Some(z.broadcast_as(logits.shape())?.contiguous()?),
            None => None,
        };
        Ok(log_prob(
            family,
            x,
            &mean,
            dispersion.as_ref(),
            zeros.as_ref(),
        )?)
    }

    /// Log-densities of entries, `[rows, features]`.
    fn continuous(
        &self,
        out: &Outputs,
        x: &Tensor,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let o = &out.loc;
        match self.likelihood {
            Likelihood::Mse | Likelihood::Rmse => Ok((o - x)?.sqr()?.neg()?),
            Likelihood::Bernoulli => {
                let logits = self.logits(out, batch, mode)?;
                Ok(((x * &logits)? - ops::softplus(&logits)?)?)
            }
            Likelihood::Zin => {
                let normal = normal(x, o, &self.std(batch, mode)?)?;
                let (pi, norm) = self.zero_logits(o, batch, mode)?;
                let at_zero = ((normal.exp()? + pi.exp()?)? + EPS)?.log()?;
                let zero = x.abs()?.lt(EPS)?;
                Ok((zero.where_cond(&at_zero, &normal)? - norm)?)
            }
            Likelihood::Ziln => {
                let zero = x.abs()?.lt(EPS)?;
                // Where x is 0 its logarithm is not used, and must not make the gradient infinite.
                let log_x = zero.where_cond(&x.ones_like()?, x)?.log()?;
                let density = (normal(&log_x, o, &self.std(batch, mode)?)? - &log_x)?;
                let (pi, norm) = self.zero_logits(o, batch, mode)?;
                Ok((zero.where_cond(&pi, &density)? - norm)?)
            }
            _ => normal(x, o, &self.std(batch, mode)?),
        }
    }

    /// Whether there is background to be told from signal.
    pub(crate) fn has_background(&self) -> bool {
        self.background.is_some()
    }

    /// Starts the background at these logarithms.
    pub(crate) fn start_background(&self, log_means: &[f32]) -> Result<()> {
        match &self.background {
            Some(b) => b.start(log_means),
            None => Ok(()),
        }
    }

    /// Zero-inflation logits of all entries, and their softplus.
    fn zero_logits(
        &self,
        like: &Tensor,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let pi = match self.rows(self.zi_logits.as_ref(), batch, mode)? {
            Some(pi) => pi.broadcast_as(like.shape())?.contiguous()?,
            None => like.zeros_like()?,
        };
        let norm = ops::softplus(&pi)?;
        Ok((pi, norm))
    }

    /// `softplus(scale) o + bias`.
    pub(super) fn logits(&self, out: &Outputs, batch: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        let mut o = out.loc.clone();
        if let Some(scale) = &self.scale_lin {
            let scale = ops::softplus(scale.get(mode))?;
            o = o.broadcast_mul(&pick(&scale, batch)?)?;
        }
        if let Some(bias) = self.rows(self.bias.as_ref(), batch, mode)? {
            o = o.broadcast_add(&bias)?;
        }
        Ok(o)
    }

    /// `l softmax(logits)`.
    pub(super) fn rate(&self, logits: &Tensor, library: Option<&Library>) -> Result<Tensor> {
        let shares = ops::softmax(logits)?;
        Ok(match library {
            Some(Library::Size(l)) => shares.broadcast_mul(l)?,
            Some(Library::Log(l)) => shares.broadcast_mul(&l.exp()?.reshape(((), 1))?)?,
            None => shares,
        })
    }

    /// Standard deviations, broadcast to rows.
    pub(super) fn std(&self, batch: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        match &self.std_lin {
            Some(p) => pick(&(ops::softplus(p.get(mode))? + EPS)?, batch),
            None => Err(crate::Error::InvalidSetting {
                name: "likelihood",
                value: self.likelihood.to_string(),
                reason: "it has no standard deviations".into(),
            }),
        }
    }

    /// Inverse dispersions, broadcast to rows.
    pub(super) fn theta(&self, batch: &[u32], mode: &Mode<'_>) -> Result<Option<Tensor>> {
        let log = self.rows(self.log_theta.as_ref(), batch, mode)?;
        Ok(log.map(|t| t.exp()).transpose()?)
    }

    /// Zero-inflation logits, broadcast to rows.
    pub(super) fn zeros(&self, batch: &[u32]) -> Result<Option<Tensor>> {
        self.rows(self.zi_logits.as_ref(), batch, &Mode::eval())
    }

    fn rows(
        &self,
        param: Option<&Param>,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Option<Tensor>> {
        param.map(|p| pick(p.get(mode), batch)).transpose()
    }
}

/// The row of each batch, `[rows, features]`; one row for all if there is one batch.
pub(super) fn pick(table: &Tensor, batch: &[u32]) -> Result<Tensor> {
    Ok(match table.dim(0)? {
        1 => table.clone(),
        _ => ops::embedding_ids(table, batch)?,
    })
}

/// `ln N(x; mean, std)`.
fn normal(x: &Tensor, mean: &Tensor, std: &Tensor) -> Result<Tensor> {
    let z = (x - mean)?.broadcast_div(std)?;
    let log = (std.log()? + HALF_LN_2PI)?;
    Ok((z.sqr()? * -0.5)?.broadcast_sub(&log)?)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
