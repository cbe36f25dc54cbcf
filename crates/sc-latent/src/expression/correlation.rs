//! How genes vary together in what the model generates.

use ndarray::Array2;
use rand_distr::{Distribution, Gamma};
use sc_tensor::rng::Rng;

use crate::arrays::{batches, to_array2};
use crate::elbo::Noise;
use crate::{Cells, Result, Scvi};

/// How genes are correlated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Correlation {
    /// Of ranks.
    #[default]
    Spearman,
    /// Of values.
    Pearson,
}

/// Options of [`Scvi::feature_correlation`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FeatureCorrelation {
    /// Draws for each cell.
    pub n_samples: usize,
    /// What the expression of a cell sums to.
    pub size_factor: f64,
    /// The batches to average over; empty: each cell's own.
    pub transform_batch: Vec<String>,
    /// Of ranks or of values.
    pub correlation: Correlation,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for FeatureCorrelation {
    fn default() -> Self {
        Self {
            n_samples: 10,
            size_factor: 1000.0,
            transform_batch: Vec::new(),
            correlation: Correlation::Spearman,
            seed: 0,
        }
    }
}

impl Scvi {
    /// Correlation of genes in expression drawn from the model, `[genes, genes]`: `Gamma(theta, theta / mu)` with cells
    /// scaled to one size (no Poisson noise, no extra zeros), averaged over the batches asked for.
    ///
    /// # Errors
    /// If the cells do not fit the model, or a batch is unknown.
    pub fn feature_correlation(
        &self,
        cells: &Cells<'_>,
        options: &FeatureCorrelation,
    ) -> Result<Array2<f32>> {
        self.fits(cells)?;
        let g = self.registry.n_genes();
        let codes = self.batch_codes(&options.transform_batch)?;
        let mut mean = Array2::<f32>::zeros((g, g));
        for (b, &code) in codes.iter().enumerate() {
            let samples = self.gamma_samples(cells, options, code, b as u64)?;
            mean += &crate::correlate::correlation(samples, options.correlation, self.device())?;
        }
        Ok(mean / codes.len() as f32)
    }

    /// `[samples * cells, genes]` draws of expression.
    fn gamma_samples(
        &self,
        cells: &Cells<'_>,
        options: &FeatureCorrelation,
        code: Option<u32>,
        b: u64,
    ) -> Result<Array2<f32>> {
        let (n, g) = (cells.n_cells(), self.registry.n_genes());
        let mut out = Array2::zeros((n * options.n_samples, g));
        let rng = Rng::new(options.seed);
        let mut row = 0;
        for (k, rows) in batches(n).enumerate() {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let at = [b, k as u64];
            let noise = Noise::draw(self, options.n_samples * rows.len(), |name| {
                rng.stream(&format!("correlation/{name}")).at(&at)
            })?;
            let decoded = self.decode_as(&batch, &noise, code, options.n_samples)?;
            let (scale, theta) = (to_array2(&decoded.scale()?)?, to_array2(&decoded.theta()?)?);
            let mut stream = rng.stream("correlation/gamma").at(&at);
            for (scale, theta) in scale.rows().into_iter().zip(theta.rows()) {
                for ((x, &s), &t) in out.row_mut(row).iter_mut().zip(scale).zip(theta) {
                    let mu = f64::from(s) * options.size_factor;
                    let gamma = Gamma::new(f64::from(t), mu.max(1e-30) / f64::from(t));
                    *x = gamma.map_or(mu, |d| d.sample(&mut stream)) as f32;
                }
                row += 1;
            }
        }
        Ok(out)
    }
}
