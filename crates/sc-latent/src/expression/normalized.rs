//! Expected expression of each cell.

use ndarray::{Array2, Array3};
use rayon::prelude::*;
use sc_tensor::rng::Rng;

use super::rows::Writer;
use crate::arrays::{decoded_at_once, in_batches};
use crate::elbo::Noise;
use crate::{Cells, Result, Scvi};

/// What expression is scaled to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LibrarySize {
    /// Each cell sums to this number.
    Fixed(f64),
    /// Each cell sums to its own (observed or learned) library size: the mean of the likelihood.
    Latent,
}

/// Options of [`Scvi::normalized_expression`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Expression {
    /// What expression is scaled to; 1 by default.
    pub library_size: LibrarySize,
    /// Decode as if all cells were of this batch; of several, the mean over them. Empty: each cell's own batch.
    pub transform_batch: Vec<String>,
    /// Only these genes (columns of the model).
    pub genes: Option<Vec<usize>>,
    /// Draws of `z` to average over; 0 takes its posterior mean, which is not random.
    pub n_samples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Expression {
    fn default() -> Self {
        Self {
            library_size: LibrarySize::Fixed(1.0),
            transform_batch: Vec::new(),
            genes: None,
            n_samples: 1,
            seed: 0,
        }
    }
}

impl Scvi {
    /// Expected expression of each cell and gene, `[cells, genes]`, without noise and, with `transform_batch`, as if all
    /// cells came from one batch: scvi-tools' `get_normalized_expression`.
    ///
    /// # Errors
    /// If the cells do not fit the model, or a batch or gene is unknown.
    pub fn normalized_expression(
        &self,
        cells: &Cells<'_>,
        options: &Expression,
    ) -> Result<Array2<f32>> {
        let n_genes = self.n_selected(options.genes.as_deref())?;
        let mut out = Array2::zeros((cells.n_cells(), n_genes));
        self.expression_into(cells, options, out.as_slice_mut().unwrap_or_default())?;
        Ok(out)
    }

    /// Expected expression at each draw of `z`, `[samples, cells, genes]`: what [`Scvi::normalized_expression`] averages.
    /// With `n_samples = 0` there is one sample, at the posterior mean.
    ///
    /// # Errors
    /// As [`Scvi::normalized_expression`].
    pub fn expression_samples(
        &self,
        cells: &Cells<'_>,
        options: &Expression,
    ) -> Result<Array3<f32>> {
        let n_genes = self.n_selected(options.genes.as_deref())?;
        let mut out = Array3::zeros((options.n_samples.max(1), cells.n_cells(), n_genes));
        self.expression_into(cells, options, out.as_slice_mut().unwrap_or_default())?;
        Ok(out)
    }

    /// Writes the mean of all draws, `[cells, genes]`, or each of them, `[samples, cells, genes]`: `out` says by its length.
    fn expression_into(
        &self,
        cells: &Cells<'_>,
        options: &Expression,
        out: &mut [f32],
    ) -> Result<()> {
        self.fits(cells)?;
        let n = cells.n_cells();
        let width = self.n_selected(options.genes.as_deref())?;
        let codes = self.batch_codes(&options.transform_batch)?;
        let at_once = decoded_at_once(self.registry.n_genes());
        let mut blocks: Vec<Vec<&mut [f32]>> = Vec::new();
        blocks.resize_with(n.div_ceil(at_once), Vec::new);
        for sample in out.chunks_mut((n * width).max(1)) {
            let parts = sample.chunks_mut((at_once * width).max(1));
            for (block, part) in blocks.iter_mut().zip(parts) {
                block.push(part);
            }
        }
        let work = blocks.into_iter().zip(in_batches(n, at_once)).par_bridge();
        work.try_for_each(|(mut out, rows)| {
            self.expression_of_block(cells, &rows, options, &codes, &mut out)
        })
    }

    /// Expression of some cells: each draw into an array of its own, or all into one.
    fn expression_of_block(
        &self,
        cells: &Cells<'_>,
        rows: &[usize],
        options: &Expression,
        codes: &[Option<u32>],
        out: &mut [&mut [f32]],
    ) -> Result<()> {
        let draws = options.n_samples.max(1);
        let averaged = codes.len() * (draws / out.len().max(1));
        let genes = options.genes.as_deref();
        let mut writer = Writer::new(options.library_size, genes, 1.0 / averaged as f64);
        let rng = Rng::new(options.seed);
        let start = rows.first().copied().unwrap_or_default() as u64;
        let batch = cells.minibatch(rows, self.config.log_variational)?;
        let encoded = self.encode_rows(&batch)?;
        for (b, &code) in codes.iter().enumerate() {
            for s in 0..draws {
                let noise = if options.n_samples == 0 {
                    Noise::none()
                } else {
                    let at = [start, b as u64, s as u64];
                    Noise::draw(self, rows.len(), |name| {
                        rng.stream(&format!("expression/{name}")).at(&at)
                    })?
                };
                let decoded = self.decode_rows(&encoded, &noise, code)?;
                let (k, first) = if out.len() == 1 {
                    (0, s == 0)
                } else {
                    (s, true)
                };
                if let Some(to) = out.get_mut(k) {
                    writer.write(&decoded, !(first && b == 0), to)?;
                }
            }
        }
        Ok(())
    }

    /// Codes of batches by name; `[None]` (each cell's own) for none.
    pub(super) fn batch_codes(&self, names: &[String]) -> Result<Vec<Option<u32>>> {
        if names.is_empty() {
            return Ok(vec![None]);
        }
        names
            .iter()
            .map(|n| Ok(Some(self.registry.batch_code(n)?)))
            .collect()
    }

    /// How many genes are asked for, if the model has all of them.
    pub(super) fn n_selected(&self, genes: Option<&[usize]>) -> Result<usize> {
        let len = self.registry.n_genes();
        let Some(genes) = genes else { return Ok(len) };
        match genes.iter().find(|&&g| g >= len) {
            Some(&index) => Err(sc_data::Error::OutOfRange {
                what: "gene",
                index,
                len,
            }
            .into()),
            None => Ok(genes.len()),
        }
    }
}
