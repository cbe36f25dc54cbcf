//! The evidence lower bound.

use candle_core::Tensor;
use sc_model::Mode;
use sc_tensor::likelihood::{kl_normal, kl_standard_normal};
use sc_tensor::rng::{Rng, Stream};

use crate::arrays::{batches, to_vec};
use crate::cells::Minibatch;
use crate::conditions::Conditions;
use crate::nets::Posterior;
use crate::{Cells, Result, Scvi};

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
    pub(crate) fn library_prior(&self, batch: &Minibatch) -> Result<(Tensor, Tensor)> {
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
