use std::ops::Range;

use ndarray::{Array2, Array3};
use sc_model::{Embed, ExpressionOptions, Generative};

use crate::{Cells, Error, Expression, Result, Scvi};

impl Embed<Cells<'_>> for Scvi {
    type Error = Error;

    fn n_latent(&self) -> usize {
        self.config().n_latent
    }

    fn embed(&self, cells: &Cells<'_>) -> Result<Array2<f32>> {
        Ok(self.latent(cells)?.mean)
    }
}

impl Generative<Cells<'_>> for Scvi {
    type Error = Error;

    fn n_cells(&self, cells: &Cells<'_>) -> usize {
        cells.n_cells()
    }

    fn posterior_predictive_rows(
        &self,
        cells: &Cells<'_>,
        rows: Range<usize>,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>> {
        self.predictive_rows(cells, rows, n_samples, &[], None, seed)
    }

    fn expected_expression(
        &self,
        cells: &Cells<'_>,
        options: &ExpressionOptions,
    ) -> Result<Array2<f32>> {
        let expression = Expression {
            genes: options.genes.clone(),
            n_samples: options.n_samples,
            seed: options.seed,
            ..Expression::default()
        };
        self.normalized_expression(cells, &expression)
    }
}
