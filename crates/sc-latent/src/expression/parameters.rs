//! The parameters of the likelihood.

use candle_core::Tensor;
use ndarray::{Array2, Array3, Axis};
use sc_tensor::rng::Rng;

use crate::arrays::{decoded_at_once, fill_rows, in_batches, to_array2};
use crate::decoded::Decoded;
use crate::elbo::Noise;
use crate::{Cells, Result, Scvi};

/// The parameters of the likelihood of each cell and gene.
#[derive(Debug, Clone)]
pub struct LikelihoodParameters {
    /// Mean before zero inflation.
    pub mean: Array2<f32>,
    /// Inverse dispersion (for the normal likelihood: standard deviation).
    pub dispersions: Array2<f32>,
    /// Probability of an extra zero, if the likelihood has them.
    pub dropout: Option<Array2<f32>>,
}

/// The parameters of the likelihood at several draws of `z`, each `[samples, cells, genes]`.
#[derive(Debug, Clone)]
pub struct LikelihoodSamples {
    /// Mean before zero inflation.
    pub mean: Array3<f32>,
    /// Inverse dispersion (for the normal likelihood: standard deviation).
    pub dispersions: Array3<f32>,
    /// Probability of an extra zero, if the likelihood has them.
    pub dropout: Option<Array3<f32>>,
}

impl Scvi {
    /// The parameters of the likelihood; at the posterior mean of `z` if `seed` is `None`, else at one draw.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn likelihood_parameters(
        &self,
        cells: &Cells<'_>,
        seed: Option<u64>,
    ) -> Result<LikelihoodParameters> {
        let shape = (cells.n_cells(), self.registry.n_genes());
        let mut out = LikelihoodParameters {
            mean: Array2::zeros(shape),
            dispersions: Array2::zeros(shape),
            dropout: None,
        };
        self.each_decoded(cells, 1, seed, |decoded, _, start| {
            fill_rows(&mut out.mean, start, &decoded.rate()?)?;
            fill_rows(&mut out.dispersions, start, &decoded.theta()?)?;
            if let Some(pi) = decoded.dropout()? {
                let dropout = out.dropout.get_or_insert_with(|| Array2::zeros(shape));
                fill_rows(dropout, start, &pi)?;
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// The parameters of the likelihood at each of `n_samples` draws of `z`. Their mean over the first axis is what
    /// scvi-tools gives for `give_mean=True`.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn likelihood_samples(
        &self,
        cells: &Cells<'_>,
        n_samples: usize,
        seed: u64,
    ) -> Result<LikelihoodSamples> {
        let shape = (n_samples, cells.n_cells(), self.registry.n_genes());
        let mut out = LikelihoodSamples {
            mean: Array3::zeros(shape),
            dispersions: Array3::zeros(shape),
            dropout: None,
        };
        self.each_decoded(cells, n_samples, Some(seed), |decoded, s, start| {
            fill_sample(&mut out.mean, s, start, &decoded.rate()?)?;
            fill_sample(&mut out.dispersions, s, start, &decoded.theta()?)?;
            if let Some(pi) = decoded.dropout()? {
                let dropout = out.dropout.get_or_insert_with(|| Array3::zeros(shape));
                fill_sample(dropout, s, start, &pi)?;
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Calls `f(decoded, sample, first cell)` for all cells, some at a time, and all samples.
    fn each_decoded(
        &self,
        cells: &Cells<'_>,
        n_samples: usize,
        seed: Option<u64>,
        mut f: impl FnMut(&Decoded, usize, usize) -> Result<()>,
    ) -> Result<()> {
        self.fits(cells)?;
        let mut start = 0;
        for rows in in_batches(cells.n_cells(), decoded_at_once(self.registry.n_genes())) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let encoded = self.encode_rows(&batch)?;
            for s in 0..n_samples {
                let noise = match seed.map(Rng::new) {
                    Some(rng) => Noise::draw(self, rows.len(), |name| {
                        rng.stream(&format!("parameters/{name}"))
                            .at(&[start as u64, s as u64])
                    })?,
                    None => Noise::none(),
                };
                f(&self.decode_rows(&encoded, &noise, None)?, s, start)?;
            }
            start += rows.len();
        }
        Ok(())
    }
}

/// Copies a matrix into some rows of one sample.
fn fill_sample(out: &mut Array3<f32>, s: usize, start: usize, t: &Tensor) -> Result<()> {
    let part = to_array2(t)?;
    let mut sample = out.index_axis_mut(Axis(0), s);
    let to = sample.rows_mut().into_iter().skip(start);
    to.zip(part.rows())
        .for_each(|(mut to, from)| to.assign(&from));
    Ok(())
}
