//! The mixture for proteins: counts of an antibody come from unspecific background, or from the cell.
//!
//! With background `beta`, `ln beta ~ N(m, s)` in the cell and `N(m_b, s_b)` in its batch beforehand,
//! `p(y) = pi NB(y; beta, theta) + (1 - pi) NB(y; beta (1 + softplus(o)), theta)` (Gayoso et al. 2021).

use std::sync::Arc;

use candle_core::{D, Tensor};
use sc_data::Csr;
use sc_model::{Init, Mode, Param, ParamBuilder};
use sc_tensor::ops::{self, SparseInput};

use super::head::{EPS, Head, Outputs, pick};
use crate::Result;

/// The prior of the background of each protein and batch.
#[derive(Debug, Clone)]
pub(super) struct Background {
    loc: Param,
    log_std: Param,
    /// Of the stream that the background is drawn from.
    name: String,
}

/// The parameters of the mixture for some rows, `[rows, proteins]` each.
pub(super) struct Mixture {
    /// Mean of the background.
    pub(super) low: Tensor,
    /// Mean of the foreground.
    pub(super) high: Tensor,
    /// Logit of background.
    pub(super) logit: Tensor,
    /// `KL(q(ln beta) || p(ln beta))`, summed over proteins, `[rows]`.
    kl: Tensor,
}

impl Background {
    pub(super) fn new(p: &ParamBuilder<'_>, n_features: usize, n_batches: usize) -> Result<Self> {
        let param =
            |name: &str, value| p.transposed(name, n_batches, n_features, Init::Const(value));
        Ok(Self {
            loc: param("background_loc", 0.0)?,
            log_std: param("background_log_std", 0.0)?,
            name: p.path("background"),
        })
    }

    /// Starts the prior at what the counts of a protein usually are.
    pub(super) fn start(&self, log_means: &[f32]) -> Result<()> {
        let loc = self.loc.value();
        let (batches, features) = loc.dims2()?;
        let row = Tensor::from_slice(log_means, (1, features), loc.device())?;
        let row = row
            .to_dtype(loc.dtype())?
            .broadcast_as((batches, features))?;
        Ok(self.loc.var().set(&row.contiguous()?)?)
    }
}

impl Head {
    /// The parameters of the mixture. While training the background is drawn, else it is its mean.
    pub(super) fn mixture(
        &self,
        out: &Outputs,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Option<Mixture>> {
        let (Some(prior), Some(raw)) = (&self.background, &out.background) else {
            return Ok(None);
        };
        let f = out.loc.dim(1)?;
        let part = |i: usize| raw.narrow(1, i * f, f)?.contiguous();
        let prior_loc = pick(prior.loc.get(mode), batch)?;
        let prior_log_std = pick(prior.log_std.get(mode), batch)?;
        let loc = part(1)?.broadcast_add(&prior_loc)?;
        let std = (ops::softplus(&part(2)?)? + EPS)?;
        let log_beta = match mode.dropout_stream(&prior.name) {
            Some(mut stream) => {
                let noise = stream.normal(loc.shape().clone(), loc.dtype(), loc.device())?;
                (&loc + (&std * noise)?)?
            }
            None => loc.clone(),
        };
        let z = loc.broadcast_sub(&prior_loc)?.sqr()?;
        let square = (std.sqr()? + z)?;
        let scaled = square.broadcast_div(&(&prior_log_std * 2.0)?.exp()?)?;
        let spread = std.log()?.broadcast_sub(&prior_log_std)?;
        let kl = (((scaled - 1.0)? * 0.5)? - spread)?;
        let low = log_beta.exp()?;
        let high = (&low * (ops::softplus(&out.loc)? + 1.0)?)?;
        Ok(Some(Mixture {
            low,
            high,
            logit: part(0)?,
            kl: kl.sum(D::Minus1)?,
        }))
    }

    /// `ln p(y) - KL` of each row.
    pub(super) fn mixture_log_density(
        &self,
        out: &Outputs,
        x: &Arc<Csr>,
        batch: &[u32],
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let like = &out.loc;
        let (Some(m), Some(theta)) = (self.mixture(out, batch, mode)?, self.theta(batch, mode)?)
        else {
            return Ok(like.zeros_like()?.sum(D::Minus1)?);
        };
        let theta = theta.broadcast_as(like.shape())?.contiguous()?;
        let x = SparseInput::counts(Arc::clone(x)).to_dense(like.dtype(), like.device())?;
        // ln sigmoid(logit) and ln(1 - sigmoid(logit))
        let low = (negative_binomial(&x, &m.low, &theta)? - ops::softplus(&m.logit.neg()?)?)?;
        let high = (negative_binomial(&x, &m.high, &theta)? - ops::softplus(&m.logit)?)?;
        // ln(e^a + e^b) = a + softplus(b - a)
        let both = (&low + ops::softplus(&(high - &low)?)?)?;
        Ok((both.sum(D::Minus1)? - m.kl)?)
    }
}

/// `ln NB(x; mu, theta)`, entry by entry.
fn negative_binomial(x: &Tensor, mu: &Tensor, theta: &Tensor) -> Result<Tensor> {
    let mu = (mu + EPS)?;
    let log_sum = (theta + &mu)?.log()?;
    let of_theta = (theta * (theta.log()? - &log_sum)?)?;
    let of_mu = (x * (mu.log()? - &log_sum)?)?;
    let gammas =
        ((ops::lgamma(&(x + theta)?)? - ops::lgamma(theta)?)? - ops::lgamma(&(x + 1.0)?)?)?;
    Ok(((of_theta + of_mu)? + gammas)?)
}
