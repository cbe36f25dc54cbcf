//! The marginal likelihood, by importance sampling.

use candle_core::Tensor;
use sc_model::Mode;
use sc_tensor::rng::Rng;

use crate::arrays::{BATCH, to_vec};
use crate::cells::Minibatch;
use crate::conditions::Conditions;
use crate::elbo::{draw, log_density, repeat, standard_normal};
use crate::nets::Posterior;
use crate::{Cells, LatentDistribution, Noise, Parity, Result, Scvi};

impl Scvi {
    /// `log p(x)` of each cell by importance sampling with `n_samples` draws from `q(z | x)`:
    ///
    /// ```text
    /// log p(x) ~ logsumexp_s [ log p(z_s) + log p(x | z_s, l_s) - log q(z_s | x) + log p(l_s) - log q(l_s | x) ] - ln S
    /// ```
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn marginal_ll(&self, cells: &Cells<'_>, n_samples: usize, seed: u64) -> Result<Vec<f64>> {
        self.fits(cells)?;
        let rows: Vec<usize> = (0..cells.n_cells()).collect();
        self.marginal_ll_of(cells, &rows, n_samples, &Rng::new(seed))
    }

    /// [`Scvi::marginal_ll`] of some cells.
    pub(crate) fn marginal_ll_of(
        &self,
        cells: &Cells<'_>,
        rows: &[usize],
        n_samples: usize,
        rng: &Rng,
    ) -> Result<Vec<f64>> {
        /// Draws at once: more do not help, and each takes a minibatch of memory.
        const PER_PASS: usize = 8;
        if n_samples == 0 {
            return Err(crate::Error::InvalidSetting {
                name: "n_samples",
                value: "0".into(),
                reason: "it must be at least 1".into(),
            });
        }
        let mut out = Vec::with_capacity(rows.len());
        for (k, rows) in rows.chunks(BATCH).enumerate() {
            let batch = cells.minibatch(rows, self.config.log_variational)?;
            let mut weights = Vec::with_capacity(n_samples);
            for start in (0..n_samples).step_by(PER_PASS) {
                let s = PER_PASS.min(n_samples - start);
                let noise = Noise::draw(self, s * rows.len(), |name| {
                    rng.stream(&format!("marginal/{name}"))
                        .at(&[k as u64, start as u64])
                })?;
                weights.extend(self.log_weights(&batch, &noise, s, Parity::Correct)?);
            }
            out.extend(log_mean_exp(&weights, rows.len()));
        }
        Ok(out)
    }

    /// The same for a minibatch and given noise of `n_samples * N` rows, sample after sample.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn marginal_ll_with_noise(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        n_samples: usize,
        parity: Parity,
    ) -> Result<Vec<f64>> {
        let weights = self.log_weights(batch, noise, n_samples, parity)?;
        Ok(log_mean_exp(&weights, batch.batch.len()))
    }

    /// The log importance weight of each sample (outer) and cell (inner).
    fn log_weights(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        s: usize,
        parity: Parity,
    ) -> Result<Vec<Vec<f64>>> {
        let d = self.draws(batch, noise, s)?;
        // scvi-tools evaluates both densities of a logistic normal at its softmax.
        let at = match (parity, self.config.latent_distribution) {
            (Parity::Upstream, LatentDistribution::LogisticNormal) => {
                sc_tensor::ops::softmax(&d.z)?
            }
            _ => d.z,
        };
        let mut w = (d.log_likelihood + log_density(&at, &standard_normal(&at)?)?)?;
        w = (w - log_density(&at, &d.qz)?)?;
        if let Some(l) = d.log_library_ratio {
            w = (w + l)?;
        }
        Ok(to_vec(&w)?
            .chunks(batch.batch.len())
            .map(<[f64]>::to_vec)
            .collect())
    }

    /// `s` draws of each cell of a minibatch, sample after sample, and what they weigh.
    pub(crate) fn draws(&self, batch: &Minibatch, noise: &Noise, s: usize) -> Result<Draws> {
        let batch = &*batch.counted("the marginal likelihood")?;
        let mode = Mode::eval();
        let (qz, ql) = self.nets.encode(batch, &mode)?;
        let (qz, ql) = (
            repeat(&qz, s)?,
            ql.as_ref().map(|q| repeat(q, s)).transpose()?,
        );
        let z = draw(&qz, noise.z.as_ref())?;
        let log_library = match &ql {
            Some(ql) => self.log_library(batch, Some(ql), noise.library.as_ref())?,
            None => self.log_library(batch, None, None)?.repeat(s)?,
        };
        let conditions = Conditions::of(batch, self.dtype(), self.device(), s)?;
        let decoded = self.nets.decode(&z, &log_library, &conditions, &mode)?;
        let log_library_ratio = match &ql {
            Some(ql) => {
                let (mean, var) = self.library_prior(batch)?;
                let prior = repeat(&Posterior { mean, var }, s)?;
                let l = log_library.unsqueeze(1)?;
                Some((log_density(&l, &prior)? - log_density(&l, ql)?)?)
            }
            None => None,
        };
        Ok(Draws {
            log_likelihood: decoded.log_prob(&batch.counts)?,
            log_library_ratio,
            qz,
            z,
        })
    }
}

/// Draws of some cells, `[draws * N]` rows.
pub(crate) struct Draws {
    /// `q(z | x)`, repeated for each draw.
    pub(crate) qz: Posterior,
    /// The draws of `z`, before the softmax of a logistic normal.
    pub(crate) z: Tensor,
    /// `log p(x | z, l)`.
    pub(crate) log_likelihood: Tensor,
    /// `log p(l) - log q(l | x)` if the library size is learned.
    pub(crate) log_library_ratio: Option<Tensor>,
}

/// For each cell the log of the mean of the exponentials over samples.
pub(crate) fn log_mean_exp(weights: &[Vec<f64>], n: usize) -> Vec<f64> {
    (0..n)
        .map(|i| {
            let max = weights
                .iter()
                .map(|w| w[i])
                .fold(f64::NEG_INFINITY, f64::max);
            if max == f64::NEG_INFINITY {
                return max;
            }
            let sum: f64 = weights.iter().map(|w| (w[i] - max).exp()).sum();
            max + sum.ln() - (weights.len() as f64).ln()
        })
        .collect()
}
