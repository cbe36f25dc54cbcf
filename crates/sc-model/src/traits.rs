use std::ops::Range;

use ndarray::{Array2, Array3};

/// Cells of type `D` to a latent space.
pub trait Embed<D: ?Sized> {
    /// Its error.
    type Error;

    /// Dimensions of the latent space.
    fn n_latent(&self) -> usize;

    /// One row a cell, `[cells, n_latent]`.
    ///
    /// # Errors
    /// If the data does not fit the model.
    fn embed(&self, data: &D) -> Result<Array2<f32>, Self::Error>;
}

/// What expression is asked for.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExpressionOptions {
    /// Draws of the latent variable to average over; 0 takes its posterior mean, which is not random.
    pub n_samples: usize,
    /// Only these genes (columns of the model), in this order; `None` is all.
    pub genes: Option<Vec<usize>>,
    /// Seed of the draws.
    pub seed: u64,
}

/// A model that can generate what it was trained on. Any such model can be judged by posterior predictive checks.
pub trait Generative<D: ?Sized> {
    /// Its error.
    type Error;

    /// How many cells `data` has.
    fn n_cells(&self, data: &D) -> usize;

    /// Draws from the posterior predictive distribution of some of the cells, `[samples, cells, genes]`: the numbers that
    /// [`Generative::posterior_predictive`] has for them, so that all cells can be gone through without holding the draws of
    /// all.
    ///
    /// # Errors
    /// If the data does not fit the model, or lacks some of the cells.
    fn posterior_predictive_rows(
        &self,
        data: &D,
        cells: Range<usize>,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>, Self::Error>;

    /// Draws from the posterior predictive distribution, `[samples, cells, genes]`.
    ///
    /// # Errors
    /// If the data does not fit the model.
    fn posterior_predictive(
        &self,
        data: &D,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>, Self::Error> {
        self.posterior_predictive_rows(data, 0..self.n_cells(data), n_samples, seed)
    }

    /// Expected expression as frequencies that sum to 1 over all genes, `[cells, genes]`.
    ///
    /// # Errors
    /// If the data does not fit the model.
    fn expected_expression(
        &self,
        data: &D,
        options: &ExpressionOptions,
    ) -> Result<Array2<f32>, Self::Error>;
}

/// Probabilities of labels.
#[derive(Debug, Clone)]
pub struct Probabilities {
    /// The labels, in the order of the columns.
    pub labels: Vec<String>,
    /// `[cells, labels]`; each row sums to 1.
    pub values: Array2<f32>,
}

impl Probabilities {
    /// The most likely label of each cell (the first, if several are), as a column, and its probability.
    pub fn best(&self) -> (Vec<usize>, Vec<f32>) {
        let of_cell = |p: ndarray::ArrayView1<'_, f32>| {
            p.iter()
                .enumerate()
                .fold((0, f32::NEG_INFINITY), |best, (i, &v)| {
                    if v > best.1 { (i, v) } else { best }
                })
        };
        self.values.rows().into_iter().map(of_cell).unzip()
    }

    /// The most likely label of each cell.
    pub fn hard(&self) -> Vec<&str> {
        let name = |i: usize| self.labels.get(i).map_or("", String::as_str);
        self.best().0.into_iter().map(name).collect()
    }
}

/// Cells to labels.
pub trait Classify<D: ?Sized> {
    /// Its error.
    type Error;

    /// The probability of each label for each cell.
    ///
    /// # Errors
    /// If the data does not fit the model.
    fn classify(&self, data: &D) -> Result<Probabilities, Self::Error>;
}
