use ndarray::Array2;
use sc_data::RowSource;

use crate::columns::blocks;
use crate::covariance::Covariance;
use crate::pca::{PcaOptions, decompose};
use crate::tfidf::{LogNormalized, TfIdf, TfIdfFlavor};
use crate::transform::{Streamed, Transform};
use crate::{Error, Result};

/// Latent semantic indexing of open chromatin, as scglue (Cao and Gao, "Multi-omics single-cell data integration and
/// regulatory inference with graph-linked embedding", Nat Biotechnol 2022) does it.
///
/// ```
/// use sc_preprocess::Lsi;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 30 cells x 40 peaks; every other cell has its counts in the first half.
/// let counts = ndarray::Array2::from_shape_fn((30, 40), |(i, j)| {
///     if (i % 2 == 0) == (j < 20) { ((i * 7 + j * 3) % 4) as f32 } else { ((i + j) % 9 / 8) as f32 }
/// });
/// let lsi = Lsi::fit(&counts, 5, 0)?;
/// assert_eq!(lsi.embedding.dim(), (30, 5));
/// // New cells, by the same weights and directions:
/// let again = lsi.transform(&counts)?;
/// assert!((&again - &lsi.embedding).iter().all(|d| d.abs() < 1e-4));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Lsi {
    /// The coordinates of each cell, `[n_cells, k]`: its row of the left singular vectors, minus its mean, divided by its
    /// standard deviation (`k - 1`).
    pub embedding: Array2<f64>,
    /// The left singular vectors, `[n_cells, k]`. The largest entry of each by magnitude is positive.
    pub u: Array2<f64>,
    /// The singular values, descending.
    pub singular_values: Vec<f64>,
    /// The right singular vectors, one a row, `[k, n_features]`.
    pub components: Array2<f64>,
    /// The weights of features.
    pub tfidf: TfIdf,
    /// As [`crate::Pca::residual`].
    pub residual: f64,
}

impl Lsi {
    /// Embeds the cells in `n_components` dimensions: [`TfIdf`], each cell scaled to a sum of 1e4, `ln(1 + x)`, singular
    /// vectors (not centred), each cell standardised over its coordinates. The counts are read block by block.
    ///
    /// The first direction is kept; where it only follows the depth of cells, leave it out.
    ///
    /// # Errors
    /// Those of the source; [`Error::EmptyCell`] if a cell has no counts, [`Error::InvalidValue`] if a value is negative or not
    /// finite, [`Error::TooSmall`] with fewer than two cells, [`Error::InvalidParameter`] unless
    /// `2 <= n_components <= min(n_cells, n_features)`.
    pub fn fit(source: &dyn RowSource, n_components: usize, seed: u64) -> Result<Self> {
        let mut options = PcaOptions::new(n_components);
        options.center = false;
        options.seed = seed;
        Self::fit_with(source, &options)
    }

    /// The same with another solver; [`PcaOptions::center`] and [`PcaOptions::mask`] are not looked at.
    ///
    /// # Errors
    /// As [`Lsi::fit`].
    pub fn fit_with(source: &dyn RowSource, options: &PcaOptions) -> Result<Self> {
        let k = options.n_components;
        if k == 1 {
            return Err(Error::InvalidParameter {
                name: "n_components",
                found: "1".into(),
                expected: "at least 2: each cell is standardised over its coordinates".into(),
            });
        }
        refuse_empty(source)?;
        let step = LogNormalized(TfIdf::fit(source, TfIdfFlavor::Glue)?);
        let options = PcaOptions {
            center: false,
            mask: None,
            ..options.clone()
        };
        let decomposed = |x: &dyn RowSource| {
            let found = decompose(x, &options)?;
            let scores = found.scores(x)?;
            Ok::<_, Error>((found, scores))
        };
        // In memory the logarithms are taken once, and not in each reading.
        let (found, scores) = match source.in_memory() {
            Some(counts) => decomposed(&step.apply(counts.clone())?)?,
            None => decomposed(&Streamed::new(source, &step))?,
        };
        let mut u = array(source.n_rows(), k, scores)?;
        let mut components = array(k, source.n_cols(), found.eigen.vectors)?;
        let mut singular_values = Vec::with_capacity(k);
        for (mut column, mut direction) in u.columns_mut().into_iter().zip(components.rows_mut()) {
            let length = column.dot(&column).sqrt();
            singular_values.push(length);
            let sign = if largest(column.iter()) < 0.0 {
                -1.0
            } else {
                1.0
            };
            // Of a direction in which nothing lies there is no vector.
            let factor = if length > 0.0 { sign / length } else { 0.0 };
            column.mapv_inplace(|v| v * factor);
            direction.mapv_inplace(|v| v * sign);
        }
        Ok(Self {
            embedding: standardised(&u),
            u,
            singular_values,
            components,
            tfidf: step.0,
            residual: found.eigen.residual,
        })
    }

    /// The coordinates of new cells, `[n_cells, k]`: with the weights, directions and singular values that were found.
    ///
    /// # Errors
    /// Those of the source; [`Error::EmptyCell`] if a cell has no counts, [`Error::InvalidValue`] if a value is negative or not
    /// finite, or there are other numbers of features.
    pub fn transform(&self, source: &dyn RowSource) -> Result<Array2<f64>> {
        crate::transform::same_genes(source.n_cols(), self.tfidf.idf.len())?;
        refuse_empty(source)?;
        let step = LogNormalized(self.tfidf.clone());
        let covariance = Covariance {
            source: &Streamed::new(source, &step),
            mean: &vec![0.0; source.n_cols()],
        };
        let vectors: Vec<f64> = self.components.iter().copied().collect();
        let scores = covariance.scores(&vectors)?;
        let mut u = array(source.n_rows(), self.singular_values.len(), scores)?;
        for (mut column, &s) in u.columns_mut().into_iter().zip(&self.singular_values) {
            let factor = if s > 0.0 { 1.0 / s } else { 0.0 };
            column.mapv_inplace(|v| v * factor);
        }
        Ok(standardised(&u))
    }
}

/// Each row minus its mean, divided by its standard deviation.
fn standardised(u: &Array2<f64>) -> Array2<f64> {
    let mut out = u.clone();
    let k = u.ncols() as f64;
    for mut row in out.rows_mut() {
        let mean = row.sum() / k;
        let squares: f64 = row.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (squares / (k - 1.0)).sqrt();
        let factor = if deviation > 0.0 {
            1.0 / deviation
        } else {
            0.0
        };
        row.mapv_inplace(|v| (v - mean) * factor);
    }
    out
}

fn largest<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.fold(0.0, |a, &v| if v.abs() > a.abs() { v } else { a })
}

fn refuse_empty(source: &dyn RowSource) -> Result<()> {
    for block in blocks(source) {
        let block = block?;
        let empty = (0..block.n_rows()).find(|&i| block.row(i).1.iter().all(|&v| v == 0.0));
        if let Some(i) = empty {
            return Err(Error::EmptyCell {
                row: block.first + i,
            });
        }
    }
    Ok(())
}

fn array(rows: usize, cols: usize, values: Vec<f64>) -> Result<Array2<f64>> {
    let found = values.len();
    Array2::from_shape_vec((rows, cols), values).map_err(|_| {
        Error::Data(sc_data::Error::LengthMismatch {
            what: "the result".into(),
            found,
            expected: rows * cols,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PcaSolver, Transform};
    use ndarray::array;
    use sc_data::Csr;

    #[test]
    fn weights_and_frequencies() {
        let x = Csr::from_dense(&array![[1.0, 3.0, 0.0], [2.0, 0.0, 0.0]]);
        let glue = TfIdf::fit(&x, TfIdfFlavor::Glue).unwrap();
        assert_eq!(glue.idf, [2.0 / 3.0, 2.0 / 3.0, 0.0]);
        let y = glue.apply(x.clone()).unwrap().to_dense();
        assert!((y[[0, 1]] - 0.5).abs() < 1e-7);
        // A feature that no cell had before tells nothing.
        let new = Csr::from_dense(&array![[1.0, 0.0, 5.0]]);
        assert_eq!(glue.apply(new).unwrap().to_dense()[[0, 2]], 0.0);
        assert!(glue.apply(Csr::zeros(1, 2)).is_err());
    }

    #[test]
    fn bad_input_is_named() {
        let x = array![[1.0f32, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]];
        let message = Lsi::fit(&x, 2, 0).unwrap_err().to_string();
        assert!(message.contains("row 1"), "{message}");
        let x = array![[1.0f32, 2.0], [3.0, 1.0]];
        assert!(Lsi::fit(&x, 1, 0).is_err());
        let message = Lsi::fit(&x, 3, 0).unwrap_err().to_string();
        assert!(message.contains("n_components is 3"), "{message}");
        let x = array![[1.0f32, -2.0], [3.0, 1.0]];
        assert!(Lsi::fit(&x, 2, 0).is_err());
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let x = Array2::from_shape_fn((300, 90), |(i, j)| {
            (((i * 31 + j * 17 + i * j) % 11) / 8) as f32 + f32::from(u8::from(j == i % 90))
        });
        for solver in [PcaSolver::Lanczos, PcaSolver::Covariance] {
            let mut options = PcaOptions::new(6);
            options.solver = solver;
            let run = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap()
                    .install(|| Lsi::fit_with(&x, &options).unwrap().embedding)
            };
            assert_eq!(run(1), run(3));
        }
    }
}
