//! Counts that the model generates.

use candle_core::Tensor;
use ndarray::Array3;
use sc_tensor::likelihood;
use sc_tensor::rng::Rng;

use super::rows::Encoded;
use crate::arrays::{batches, to_array2};
use crate::elbo::Noise;
use crate::{Cells, Result, Scvi};

impl Scvi {
    /// Counts drawn from the posterior predictive distribution, `[samples, cells, genes]`; as if all cells were of batch
    /// `transform_batch`, or the mean of draws for several batches (then no whole numbers).
    ///
    /// # Errors
    /// If the cells do not fit the model, or a batch or gene is unknown.
    pub fn posterior_predictive_sample(
        &self,
        cells: &Cells<'_>,
        n_samples: usize,
        transform_batch: &[String],
        genes: Option<&[usize]>,
        seed: u64,
    ) -> Result<Array3<f32>> {
        self.fits(cells)?;
        let columns = self.columns(genes)?;
        let codes = self.batch_codes(transform_batch)?;
        let n_genes = columns
            .as_ref()
            .map_or(self.registry.n_genes(), Tensor::elem_count);
        let mut out = Array3::zeros((n_samples, cells.n_cells(), n_genes));
        let rng = Rng::new(seed);
        let mut start = 0;
        for rows in batches(cells.n_cells()) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let encoded = self.encode_rows(&batch)?;
            for s in 0..n_samples {
                let mut sum: Option<Tensor> = None;
                for (b, &code) in codes.iter().enumerate() {
                    let at = [start as u64, s as u64, b as u64];
                    let drawn = self.predict(&encoded, code, columns.as_ref(), &rng, &at)?;
                    sum = Some(match sum {
                        Some(sum) => (sum + drawn)?,
                        None => drawn,
                    });
                }
                if let Some(sum) = sum {
                    let mean = to_array2(&(sum / codes.len() as f64)?)?;
                    let mut sample = out.index_axis_mut(ndarray::Axis(0), s);
                    let to = sample.rows_mut().into_iter().skip(start);
                    to.zip(mean.rows())
                        .for_each(|(mut to, from)| to.assign(&from));
                }
            }
            start += rows.len();
        }
        Ok(out)
    }

    /// One draw of the counts of some cells.
    fn predict(
        &self,
        cells: &Encoded,
        code: Option<u32>,
        columns: Option<&Tensor>,
        rng: &Rng,
        at: &[u64],
    ) -> Result<Tensor> {
        let noise = Noise::draw(self, cells.len(), |name| {
            rng.stream(&format!("predictive/{name}")).at(at)
        })?;
        let decoded = self.decode_rows(cells, &noise, code)?;
        let mu = select(&decoded.rate()?, columns)?;
        let theta = select(&decoded.theta()?, columns)?;
        let dropout = decoded
            .dropout_tensor()?
            .map(|t| select(&t, columns))
            .transpose()?;
        let mut stream = rng.stream("predictive/counts").at(at);
        let family = self.config.likelihood.family();
        Ok(likelihood::sample(
            family,
            &mu,
            Some(&theta),
            dropout.as_ref(),
            &mut stream,
        )?)
    }

    fn columns(&self, genes: Option<&[usize]>) -> Result<Option<Tensor>> {
        self.n_selected(genes)?;
        let Some(genes) = genes else { return Ok(None) };
        let genes: Vec<u32> = genes.iter().map(|&g| g as u32).collect();
        let n = genes.len();
        Ok(Some(Tensor::from_vec(genes, n, self.device())?))
    }
}

fn select(t: &Tensor, columns: Option<&Tensor>) -> Result<Tensor> {
    Ok(match columns {
        Some(c) => t.index_select(c, 1)?,
        None => t.clone(),
    })
}
