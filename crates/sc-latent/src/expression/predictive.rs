//! Counts that the model generates.

use std::ops::Range;

use candle_core::Tensor;
use ndarray::{Array3, Axis};
use sc_tensor::likelihood;
use sc_tensor::rng::Rng;

use super::rows::Encoded;
use crate::arrays::{BATCH, to_array2};
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
        let rows = 0..cells.n_cells();
        self.predictive_rows(cells, rows, n_samples, transform_batch, genes, seed)
    }

    /// [`Scvi::posterior_predictive_sample`] of some of the cells: the numbers that it has for them.
    pub(crate) fn predictive_rows(
        &self,
        cells: &Cells<'_>,
        rows: Range<usize>,
        n_samples: usize,
        transform_batch: &[String],
        genes: Option<&[usize]>,
        seed: u64,
    ) -> Result<Array3<f32>> {
        self.fits(cells)?;
        if rows.end > cells.n_cells() {
            return Err(sc_data::Error::OutOfRange {
                what: "cell",
                index: rows.end - 1,
                len: cells.n_cells(),
            }
            .into());
        }
        let columns = self.columns(genes)?;
        let codes = self.batch_codes(transform_batch)?;
        let n_genes = columns
            .as_ref()
            .map_or(self.registry.n_genes(), Tensor::elem_count);
        let mut out = Array3::zeros((n_samples, rows.len(), n_genes));
        let rng = Rng::new(seed);
        // Cells are always drawn in the same company, so that their draws do not depend on which were asked for.
        let first = rows.start / BATCH * BATCH;
        for start in (first..rows.end).step_by(BATCH) {
            let all: Vec<usize> = (start..(start + BATCH).min(cells.n_cells())).collect();
            let skipped = rows.start.saturating_sub(start);
            let to = (start + skipped).saturating_sub(rows.start);
            let batch = cells.minibatch(&all, self.config.log_variational)?;
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
                    let mean = match codes.len() {
                        1 => to_array2(&sum)?,
                        n => to_array2(&(sum / n as f64)?)?,
                    };
                    let mut sample = out.index_axis_mut(Axis(0), s);
                    let target = sample.rows_mut().into_iter().skip(to);
                    target
                        .zip(mean.rows().into_iter().skip(skipped))
                        .for_each(|(mut to, from)| to.assign(&from));
                }
            }
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
