//! Where cells lie in the latent space.

use ndarray::{Array2, Array3, Axis};
use rayon::prelude::*;
use sc_model::Mode;
use sc_tensor::ops;
use sc_tensor::rng::Rng;

use crate::arrays::{ENCODED_AT_ONCE, fill, in_batches, to_array2, to_vec};
use crate::nets::Posterior;
use crate::{Cells, LatentDistribution, Result, Scvi};

/// The posterior of each cell.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Mean, `[cells, n_latent]`; of a logistic normal the mean of its softmax.
    pub mean: Array2<f32>,
    /// Variance, `[cells, n_latent]`, of the normal (before a softmax).
    pub variance: Array2<f32>,
}

/// Draws of which the mean of a logistic normal is computed.
const LOGISTIC_DRAWS: usize = 5000;

impl Scvi {
    /// Mean and variance of `q(z | x)`. For a logistic normal latent the mean is that of 5,000 draws with seed 0.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn latent(&self, cells: &Cells<'_>) -> Result<Latent> {
        self.fits(cells)?;
        let shape = (cells.n_cells(), self.config.n_latent);
        let mut out = Latent {
            mean: Array2::zeros(shape),
            variance: Array2::zeros(shape),
        };
        let each = ENCODED_AT_ONCE * shape.1.max(1);
        let mean = out.mean.as_slice_mut().unwrap_or_default();
        let variance = out.variance.as_slice_mut().unwrap_or_default();
        let work = in_batches(shape.0, ENCODED_AT_ONCE)
            .zip(mean.chunks_mut(each).zip(variance.chunks_mut(each)))
            .par_bridge();
        work.try_for_each(|(rows, (mean, variance))| -> Result<()> {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let (q, _) = self.encode(&batch, &Mode::eval())?;
            fill(variance, &q.var)?;
            match self.config.latent_distribution {
                LatentDistribution::Normal => fill(mean, &q.mean),
                LatentDistribution::LogisticNormal => {
                    let start = rows.first().copied().unwrap_or_default();
                    fill(mean, &self.logistic_mean(&q, start)?)
                }
            }
        })?;
        Ok(out)
    }

    /// The mean of the softmax of a normal, by draws: it has no closed form.
    fn logistic_mean(&self, q: &Posterior, start: usize) -> Result<candle_core::Tensor> {
        let mut sum = q.mean.zeros_like()?;
        let mut stream = Rng::new(0).stream("logistic").at(&[start as u64]);
        for _ in 0..LOGISTIC_DRAWS {
            let noise = stream.normal(q.mean.shape().clone(), self.dtype(), self.device())?;
            sum = (sum + ops::softmax(&q.draw(&noise)?)?)?;
        }
        Ok((sum / LOGISTIC_DRAWS as f64)?)
    }

    /// Draws of `z` from the posterior of each cell, `[samples, cells, n_latent]`; of a logistic normal their softmax.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn latent_samples(
        &self,
        cells: &Cells<'_>,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>> {
        self.fits(cells)?;
        let rng = Rng::new(seed);
        let mut out = Array3::zeros((n_samples, cells.n_cells(), self.config.n_latent));
        let mut start = 0;
        for rows in in_batches(cells.n_cells(), ENCODED_AT_ONCE) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let (q, _) = self.encode(&batch, &Mode::eval())?;
            for s in 0..n_samples {
                let mut stream = rng.stream("latent/z").at(&[start as u64, s as u64]);
                let noise = stream.normal(q.mean.shape().clone(), self.dtype(), self.device())?;
                let z = q.draw(&noise)?;
                let z = to_array2(&match self.config.latent_distribution {
                    LatentDistribution::Normal => z,
                    LatentDistribution::LogisticNormal => ops::softmax(&z)?,
                })?;
                let mut sample = out.index_axis_mut(Axis(0), s);
                let to = sample.rows_mut().into_iter().skip(start);
                to.zip(z.rows()).for_each(|(mut to, from)| to.assign(&from));
            }
            start += rows.len();
        }
        Ok(out)
    }

    /// The library size of each cell: the mean `exp(m + v / 2)` of a learned one, or the sum of the counts.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn latent_library_size(&self, cells: &Cells<'_>) -> Result<Vec<f64>> {
        self.fits(cells)?;
        let mut out = Vec::with_capacity(cells.n_cells());
        for rows in in_batches(cells.n_cells(), ENCODED_AT_ONCE) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            match self.encode(&batch, &Mode::eval())?.1 {
                Some(q) => out.extend(to_vec(&(&q.mean + (&q.var * 0.5)?)?.exp()?)?),
                None => out.extend(batch.library_size()),
            }
        }
        Ok(out)
    }
}
