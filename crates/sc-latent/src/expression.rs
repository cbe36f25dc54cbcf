//! What the decoder says of cells: expression, parameters, simulated counts, correlations.

use candle_core::Tensor;
use ndarray::{Array2, Array3};
use rand_distr::{Distribution, Gamma};
use sc_model::Mode;
use sc_tensor::likelihood;
use sc_tensor::ops;
use sc_tensor::rng::Rng;

use crate::arrays::{batches, fill_rows, to_array2, to_vec};
use crate::cells::Minibatch;
use crate::conditions::Conditions;
use crate::decoded::Decoded;
use crate::elbo::{Noise, draw, repeat};
use crate::{Cells, LatentDistribution, Result, Scvi};

/// The posterior of each cell.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Mean, `[cells, n_latent]`; of a logistic normal the mean of its softmax.
    pub mean: Array2<f32>,
    /// Variance, `[cells, n_latent]`, of the normal (before a softmax).
    pub variance: Array2<f32>,
}

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
    /// Mean and variance of `q(z | x)`. For a logistic normal latent the mean is that of 5,000 draws with seed 0.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn latent(&self, cells: &Cells<'_>) -> Result<Latent> {
        self.fits(cells)?;
        const DRAWS: usize = 5000;
        let shape = (cells.n_cells(), self.config.n_latent);
        let mut out = Latent {
            mean: Array2::zeros(shape),
            variance: Array2::zeros(shape),
        };
        let rng = Rng::new(0);
        let mut start = 0;
        for rows in batches(cells.n_cells()) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let (q, _) = self.nets.encode(&batch, &Mode::eval())?;
            let mean = match self.config.latent_distribution {
                LatentDistribution::Normal => q.mean.clone(),
                LatentDistribution::LogisticNormal => {
                    let mut sum = q.mean.zeros_like()?;
                    let mut stream = rng.stream("logistic").at(&[start as u64]);
                    for _ in 0..DRAWS {
                        let noise =
                            stream.normal(q.mean.shape().clone(), self.dtype(), self.device())?;
                        sum = (sum + ops::softmax(&q.draw(&noise)?)?)?;
                    }
                    (sum / DRAWS as f64)?
                }
            };
            fill_rows(&mut out.mean, start, &mean)?;
            fill_rows(&mut out.variance, start, &q.var)?;
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
        for rows in batches(cells.n_cells()) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            match self.nets.encode(&batch, &Mode::eval())?.1 {
                Some(q) => out.extend(to_vec(&(&q.mean + (&q.var * 0.5)?)?.exp()?)?),
                None => out.extend(batch.library_size()),
            }
        }
        Ok(out)
    }

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
        self.fits(cells)?;
        let columns = self.columns(options.genes.as_deref())?;
        let batches_to = self.batch_codes(&options.transform_batch)?;
        let rng = Rng::new(options.seed);
        let n_genes = columns
            .as_ref()
            .map_or(self.registry.n_genes(), Tensor::elem_count);
        let mut out = Array2::zeros((cells.n_cells(), n_genes));
        let mut start = 0;
        for rows in batches(cells.n_cells()) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let mut sum: Option<Tensor> = None;
            let draws = options.n_samples.max(1);
            for (b, &code) in batches_to.iter().enumerate() {
                for s in 0..draws {
                    let noise = if options.n_samples == 0 {
                        Noise::none()
                    } else {
                        let at = [start as u64, b as u64, s as u64];
                        Noise::draw(self, rows.len(), |name| {
                            rng.stream(&format!("expression/{name}")).at(&at)
                        })?
                    };
                    let decoded = self.decode_as(&batch, &noise, code, 1)?;
                    let value = match options.library_size {
                        LibrarySize::Fixed(size) => (decoded.scale()? * size)?,
                        LibrarySize::Latent => decoded.rate()?,
                    };
                    let value = select(&value, columns.as_ref())?;
                    sum = Some(match sum {
                        Some(sum) => (sum + value)?,
                        None => value,
                    });
                }
            }
            if let Some(sum) = sum {
                fill_rows(&mut out, start, &(sum / (draws * batches_to.len()) as f64)?)?;
            }
            start += rows.len();
        }
        Ok(out)
    }

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
            for s in 0..n_samples {
                let mut sum: Option<Tensor> = None;
                for (b, &code) in codes.iter().enumerate() {
                    let at = [start as u64, s as u64, b as u64];
                    let drawn = self.predict(&batch, code, columns.as_ref(), &rng, &at)?;
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

    /// One draw of the counts of a minibatch.
    fn predict(
        &self,
        batch: &Minibatch,
        code: Option<u32>,
        columns: Option<&Tensor>,
        rng: &Rng,
        at: &[u64],
    ) -> Result<Tensor> {
        let noise = Noise::draw(self, batch.batch.len(), |name| {
            rng.stream(&format!("predictive/{name}")).at(at)
        })?;
        let decoded = self.decode_as(batch, &noise, code, 1)?;
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

    /// The parameters of the likelihood; at the posterior mean of `z` if `seed` is `None`, else at one draw.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn likelihood_parameters(
        &self,
        cells: &Cells<'_>,
        seed: Option<u64>,
    ) -> Result<LikelihoodParameters> {
        self.fits(cells)?;
        let shape = (cells.n_cells(), self.registry.n_genes());
        let mut out = LikelihoodParameters {
            mean: Array2::zeros(shape),
            dispersions: Array2::zeros(shape),
            dropout: None,
        };
        let mut start = 0;
        for rows in batches(cells.n_cells()) {
            let batch = cells.minibatch(&rows, self.config.log_variational)?;
            let noise = match seed.map(Rng::new) {
                Some(rng) => Noise::draw(self, rows.len(), |name| {
                    rng.stream(&format!("parameters/{name}"))
                        .at(&[start as u64])
                })?,
                None => Noise::none(),
            };
            let decoded = self.decode_as(&batch, &noise, None, 1)?;
            fill_rows(&mut out.mean, start, &decoded.rate()?)?;
            fill_rows(&mut out.dispersions, start, &decoded.theta()?)?;
            if let Some(pi) = decoded.dropout()? {
                fill_rows(
                    out.dropout.get_or_insert_with(|| Array2::zeros(shape)),
                    start,
                    &pi,
                )?;
            }
            start += rows.len();
        }
        Ok(out)
    }

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

    /// Decodes `repeats` draws of each cell of a minibatch, as if all were of batch `code` if one is given.
    pub(crate) fn decode_as(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        code: Option<u32>,
        repeats: usize,
    ) -> Result<Decoded> {
        let mode = Mode::eval();
        let (qz, ql) = self.nets.encode(batch, &mode)?;
        let z = draw(&repeat(&qz, repeats)?, noise.z.as_ref())?;
        let log_library = match &ql {
            Some(ql) => {
                self.log_library(batch, Some(&repeat(ql, repeats)?), noise.library.as_ref())?
            }
            None => self.log_library(batch, None, None)?.repeat(repeats)?,
        };
        let mut conditions = Conditions::of(batch, self.dtype(), self.device(), repeats)?;
        if let Some(code) = code {
            conditions.batch.fill(code);
        }
        self.nets.decode(&z, &log_library, &conditions, &mode)
    }

    /// The distribution of the counts of a minibatch at given noise, as if all cells were of batch `transform_batch` if
    /// one is given.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn decode(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        transform_batch: Option<u32>,
    ) -> Result<Decoded> {
        self.decode_as(batch, noise, transform_batch, 1)
    }

    /// Codes of batches by name; `[None]` (each cell's own) for none.
    fn batch_codes(&self, names: &[String]) -> Result<Vec<Option<u32>>> {
        if names.is_empty() {
            return Ok(vec![None]);
        }
        names
            .iter()
            .map(|n| Ok(Some(self.registry.batch_code(n)?)))
            .collect()
    }

    fn columns(&self, genes: Option<&[usize]>) -> Result<Option<Tensor>> {
        let Some(genes) = genes else { return Ok(None) };
        let len = self.registry.n_genes();
        if let Some(&index) = genes.iter().find(|&&g| g >= len) {
            return Err(sc_data::Error::OutOfRange {
                what: "gene",
                index,
                len,
            }
            .into());
        }
        let genes: Vec<u32> = genes.iter().map(|&g| g as u32).collect();
        Ok(Some(Tensor::from_slice(
            &genes,
            genes.len(),
            self.device(),
        )?))
    }
}

fn select(t: &Tensor, columns: Option<&Tensor>) -> Result<Tensor> {
    Ok(match columns {
        Some(c) => t.index_select(c, 1)?,
        None => t.clone(),
    })
}
