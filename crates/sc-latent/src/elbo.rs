//! The evidence lower bound and the marginal likelihood.

use candle_core::Tensor;
use sc_model::Mode;
use sc_tensor::likelihood::{kl_normal, kl_standard_normal};
use sc_tensor::rng::{Rng, Stream};

use crate::arrays::{BATCH, batches, to_vec};
use crate::cells::Minibatch;
use crate::conditions::Conditions;
use crate::nets::Posterior;
use crate::{Cells, LatentDistribution, Parity, Result, Scvi};

/// Standard normal noise for the draws of a minibatch; `None` takes the means instead.
#[derive(Debug, Clone, Default)]
pub struct Noise {
    /// For `z`, `[N, n_latent]`.
    pub z: Option<Tensor>,
    /// For a learned log library size, `[N, 1]`.
    pub library: Option<Tensor>,
    /// For SCANVI's `z2`, `[labels * N, n_latent]`: the rows of the first label, then those of the second, and so on.
    pub z2: Option<Tensor>,
}

impl Noise {
    /// No noise: everything is at its mean, and nothing is random.
    pub fn none() -> Self {
        Self::default()
    }

    /// Noise from streams called `z` and `library`.
    pub(crate) fn draw(model: &Scvi, n: usize, stream: impl Fn(&str) -> Stream) -> Result<Self> {
        let (dtype, device) = (model.dtype(), model.device());
        Ok(Self {
            z: Some(stream("z").normal((n, model.config.n_latent), dtype, device)?),
            library: match model.nets.library_prior {
                Some(_) => Some(stream("library").normal((n, 1), dtype, device)?),
                None => None,
            },
            z2: None,
        })
    }
}

/// What a forward pass gives, before any KL of `z`.
pub(crate) struct Forward {
    pub(crate) qz: Posterior,
    /// The draw of `z`, before the softmax of a logistic normal.
    pub(crate) z: Tensor,
    /// `-log p(x | z, l)`, `[N]`.
    pub(crate) reconstruction: Tensor,
    /// `KL(q(l | x) || p(l | batch))`, `[N]`, if the library size is learned.
    pub(crate) kl_library: Option<Tensor>,
}

/// The terms of the bound, each `[N]`: `-ELBO = reconstruction + kl_z + kl_library`.
#[derive(Debug, Clone)]
pub struct ElboTerms {
    /// `-log p(x | z, l)`.
    pub reconstruction: Tensor,
    /// `KL(q(z | x) || N(0, I))`.
    pub kl_z: Tensor,
    /// `KL(q(l | x) || p(l | batch))` if the library size is learned.
    pub kl_library: Option<Tensor>,
}

pub(crate) struct Sums {
    pub(crate) reconstruction: f64,
    pub(crate) kl: f64,
}

impl ElboTerms {
    /// What is minimised: the mean over cells of `reconstruction + kl_weight * kl_z + kl_library` (the KL of the library
    /// size is not weighted, as in scvi-tools).
    ///
    /// # Errors
    /// If the computation fails.
    pub fn loss(&self, kl_weight: f64) -> Result<Tensor> {
        let mut each = (&self.reconstruction + (&self.kl_z * kl_weight)?)?;
        if let Some(l) = &self.kl_library {
            each = (each + l)?;
        }
        Ok(each.mean_all()?)
    }

    pub(crate) fn sums(&self) -> Result<Sums> {
        let sum = |t: &Tensor| -> Result<f64> { Ok(to_vec(t)?.iter().sum()) };
        let library = self.kl_library.as_ref().map_or(Ok(0.0), sum)?;
        Ok(Sums {
            reconstruction: sum(&self.reconstruction)?,
            kl: sum(&self.kl_z)? + library,
        })
    }
}

/// The bound of each cell.
#[derive(Debug, Clone, Default)]
pub struct CellElbo {
    /// `-log p(x | z, l)`.
    pub reconstruction: Vec<f64>,
    /// All KL terms together.
    pub kl: Vec<f64>,
}

impl CellElbo {
    /// The mean bound, higher is better: scvi-tools' `get_elbo`.
    pub fn elbo(&self) -> f64 {
        -(self.reconstruction_error() + self.kl_divergence())
    }

    /// Some of the cells, e.g. those that validated.
    ///
    /// # Errors
    /// If a cell does not exist.
    pub fn select(&self, cells: &[usize]) -> Result<Self> {
        let len = self.reconstruction.len();
        if let Some(&index) = cells.iter().find(|&&c| c >= len) {
            return Err(sc_data::Error::OutOfRange {
                what: "cell",
                index,
                len,
            }
            .into());
        }
        let pick = |v: &[f64]| cells.iter().map(|&c| v[c]).collect();
        Ok(Self {
            reconstruction: pick(&self.reconstruction),
            kl: pick(&self.kl),
        })
    }

    /// The mean of `-log p(x | z)`, lower is better: scvi-tools' `get_reconstruction_error`.
    pub fn reconstruction_error(&self) -> f64 {
        mean(&self.reconstruction)
    }

    /// The mean KL.
    pub fn kl_divergence(&self) -> f64 {
        mean(&self.kl)
    }
}

fn mean(v: &[f64]) -> f64 {
    v.iter().sum::<f64>() / v.len().max(1) as f64
}

impl Scvi {
    /// The terms of the bound for a minibatch and given noise.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn elbo_terms(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        mode: &Mode<'_>,
    ) -> Result<ElboTerms> {
        let f = self.forward(batch, noise, mode)?;
        Ok(ElboTerms {
            reconstruction: f.reconstruction,
            kl_z: kl_standard_normal(&f.qz.mean, &f.qz.var)?,
            kl_library: f.kl_library,
        })
    }

    /// Encodes, draws and decodes a minibatch.
    pub(crate) fn forward(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        mode: &Mode<'_>,
    ) -> Result<Forward> {
        let batch = &*batch.counted("the evidence lower bound")?;
        let (qz, ql) = self.nets.encode(batch, mode)?;
        let z = draw(&qz, noise.z.as_ref())?;
        let log_library = self.log_library(batch, ql.as_ref(), noise.library.as_ref())?;
        let conditions = Conditions::of(batch, self.dtype(), self.device(), 1)?;
        let decoded = self.nets.decode(&z, &log_library, &conditions, mode)?;
        Ok(Forward {
            reconstruction: decoded.log_prob(&batch.counts)?.neg()?,
            kl_library: match &ql {
                Some(ql) => {
                    let (mean, var) = self.library_prior(batch)?;
                    Some(kl_normal(&ql.mean, &ql.var, &mean, &var)?)
                }
                None => None,
            },
            qz,
            z,
        })
    }

    /// The log library size of each cell, `[N]`: of its size factor, drawn from `q(l | x)`, or of the sum of its counts.
    pub(crate) fn log_library(
        &self,
        batch: &Minibatch,
        ql: Option<&Posterior>,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        if let Some(ql) = ql {
            return Ok(draw(ql, noise)?.flatten_all()?);
        }
        let logs: Vec<f64> = match &batch.size_factor {
            Some(s) => s.iter().map(|&s| f64::from(s).ln()).collect(),
            None => batch.library_size().iter().map(|s| s.ln()).collect(),
        };
        let n = logs.len();
        Ok(Tensor::from_vec(logs, n, self.device())?.to_dtype(self.dtype())?)
    }

    /// Mean and variance of `p(l | batch)` of each cell, `[N, 1]`.
    fn library_prior(&self, batch: &Minibatch) -> Result<(Tensor, Tensor)> {
        let codes = Tensor::from_slice(&batch.batch, batch.batch.len(), self.device())?;
        let pick = |t: &Tensor| -> Result<Tensor> {
            Ok(t.flatten_all()?.index_select(&codes, 0)?.unsqueeze(1)?)
        };
        match &self.nets.library_prior {
            Some((mean, var)) => Ok((pick(mean.value())?, pick(var.value())?)),
            None => Err(crate::Error::InvalidSetting {
                name: "use_observed_lib_size",
                value: "true".into(),
                reason: "an observed library size has no prior".into(),
            }),
        }
    }

    /// The bound of each cell: with one draw of `z` from `seed`, or at its mean if `seed` is `None`.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn elbo(&self, cells: &Cells<'_>, seed: Option<u64>) -> Result<CellElbo> {
        self.fits(cells)?;
        let mut out = CellElbo::default();
        for (k, rows) in batches(cells.n_cells()).enumerate() {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let noise = match seed {
                Some(seed) => {
                    let rng = Rng::new(seed);
                    Noise::draw(self, rows.len(), |name| {
                        rng.stream(&format!("elbo/{name}")).at(&[k as u64])
                    })?
                }
                None => Noise::none(),
            };
            let terms = self.elbo_terms(&batch, &noise, &Mode::eval())?;
            out.reconstruction.extend(to_vec(&terms.reconstruction)?);
            let mut kl = to_vec(&terms.kl_z)?;
            if let Some(l) = &terms.kl_library {
                kl.iter_mut().zip(to_vec(l)?).for_each(|(k, l)| *k += l);
            }
            out.kl.extend(kl);
        }
        Ok(out)
    }

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

/// A standard normal of the shape of `x`.
pub(crate) fn standard_normal(x: &Tensor) -> Result<Posterior> {
    Ok(Posterior {
        mean: x.zeros_like()?,
        var: x.ones_like()?,
    })
}

pub(crate) fn draw(q: &Posterior, noise: Option<&Tensor>) -> Result<Tensor> {
    noise.map_or_else(|| Ok(q.mean.clone()), |noise| q.draw(noise))
}

pub(crate) fn repeat(q: &Posterior, s: usize) -> Result<Posterior> {
    Ok(Posterior {
        mean: q.mean.repeat((s, 1))?,
        var: q.var.repeat((s, 1))?,
    })
}

/// `log N(x; mean, var)` summed over the columns.
pub(crate) fn log_density(x: &Tensor, p: &Posterior) -> Result<Tensor> {
    let constant = (2.0 * std::f64::consts::PI).ln();
    let squares = ((x - &p.mean)?.sqr()? / &p.var)?;
    Ok((((squares + p.var.log()?)? + constant)? * -0.5)?.sum(1)?)
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
