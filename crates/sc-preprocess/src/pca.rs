use ndarray::Array2;
use sc_data::{Columns, RowSource};

use crate::columns::BLOCK;
use crate::covariance::Covariance;
use crate::gram::{self, Gram};
use crate::lanczos::{self, Eigen, Reading};
use crate::moments::moments;
use crate::values::Check;
use crate::{Error, Result};

/// Up to so many genes the covariance matrix is made (8 bytes an entry: 128 MB).
const GENES_OF_GRAM: usize = 4000;

/// How [`pca_with`] finds components.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PcaSolver {
    /// [`PcaSolver::Covariance`] up to 4000 genes; with more genes but at most 4096 cells the same of cells x cells;
    /// otherwise [`PcaSolver::Lanczos`].
    #[default]
    Auto,
    /// Makes the covariance matrix of the genes in one reading of the data, then iterates on that. Exact; the memory grows
    /// with the square of the number of genes.
    Covariance,
    /// A block Lanczos iteration on the data, read a dozen times (in narrower blocks, more often, if they lie in memory).
    /// Exact.
    Lanczos,
    /// Halko, Martinsson and Tropp's randomised subspace iteration: `power + 1` readings of the data. Approximate:
    /// [`Pca::residual`] says how far from exact it is.
    Randomized {
        /// Directions more than asked for, usually 10.
        oversample: usize,
        /// Iterations; 7 is plenty for components that stand out.
        power: usize,
    },
}

/// Options of [`pca_with`].
///
/// ```
/// use sc_preprocess::{PcaOptions, PcaSolver};
/// let mut options = PcaOptions::new(50);
/// options.solver = PcaSolver::Randomized { oversample: 10, power: 7 };
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PcaOptions {
    /// How many components.
    pub n_components: usize,
    /// How they are found.
    pub solver: PcaSolver,
    /// Subtract the mean of each gene (implicitly). Without it this is a truncated singular value decomposition.
    pub center: bool,
    /// Only these genes, usually the highly variable ones; the components are 0 for the others.
    pub mask: Option<Vec<bool>>,
    /// Start of the iteration. It does not show in exact results beyond rounding.
    pub seed: u64,
}

impl PcaOptions {
    /// So many components of centred data, everything else as usual.
    pub fn new(n_components: usize) -> Self {
        Self {
            n_components,
            solver: PcaSolver::Auto,
            center: true,
            mask: None,
            seed: 0,
        }
    }
}

/// Principal components of cells x genes.
#[derive(Debug, Clone)]
pub struct Pca {
    /// The coordinates of each cell, `[n_cells, k]`.
    pub scores: Array2<f32>,
    /// The directions, one a row, of length 1, `[k, n_genes]`. The largest entry of each by magnitude is positive.
    pub components: Array2<f32>,
    /// The mean of each gene, which is subtracted before projecting; zeros if the data are not centred.
    pub mean: Vec<f64>,
    /// The variance of each score (with `n - 1`), descending.
    pub explained_variance: Vec<f64>,
    /// The same as a share of the total variance of all genes (of those in the mask).
    pub explained_variance_ratio: Vec<f64>,
    /// How far the worst pair is from being exact: `|C v - lambda v| / lambda` for the covariance matrix `C`. At most
    /// 1e-6 with an exact solver, unless the variances are so much alike that the iteration was given up.
    pub residual: f64,
}

/// The `n_components` directions in which the cells vary most: [`pca_with`] the usual options.
///
/// # Errors
/// As [`pca_with`].
pub fn pca(source: &dyn RowSource, n_components: usize, seed: u64) -> Result<Pca> {
    let mut options = PcaOptions::new(n_components);
    options.seed = seed;
    pca_with(source, &options)
}

/// The directions in which the cells vary most.
///
/// With `X` centred, `C = X^T X / (n - 1)` and `C v = lambda v`, the scores are `X v`. The centred matrix is never made:
/// the mean is subtracted from the products, so that sparse data stay sparse, and the source is read block by block,
/// so that it may lie on disk. The eigenpairs come from a block Lanczos iteration with a random start (see
/// Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate singular value decomposition",
/// NIPS 2015), run until they are exact to about single precision, or from [`PcaSolver::Randomized`]. The same seed gives the
/// same bits on any number of threads.
///
/// # Errors
/// Those of the source; [`Error::TooSmall`] with fewer than two cells, [`Error::InvalidParameter`] unless
/// `1 <= n_components <= min(n_cells, n_genes)` (genes in the mask) or if the mask has another length than there are genes,
/// [`Error::InvalidValue`] if a value is not finite.
pub fn pca_with(source: &dyn RowSource, options: &PcaOptions) -> Result<Pca> {
    let Some(mask) = &options.mask else {
        return of_all_genes(source, options);
    };
    if mask.len() != source.n_cols() {
        return Err(Error::InvalidParameter {
            name: "the length of the mask",
            found: mask.len().to_string(),
            expected: format!("the {} genes of the data", source.n_cols()),
        });
    }
    let genes: Vec<usize> = (0..mask.len()).filter(|&g| mask[g]).collect();
    let columns: Vec<Option<usize>> = genes.iter().map(|&g| Some(g)).collect();
    let found = match source.in_memory() {
        Some(all) => of_all_genes(&all.select_columns(&columns)?, options)?,
        None => of_all_genes(&Columns::new(source, columns)?, options)?,
    };
    let mut components = Array2::zeros((found.components.nrows(), mask.len()));
    let mut mean = vec![0.0; mask.len()];
    for (k, &g) in genes.iter().enumerate() {
        components.column_mut(g).assign(&found.components.column(k));
        mean[g] = found.mean[k];
    }
    Ok(Pca {
        components,
        mean,
        ..found
    })
}

fn of_all_genes(source: &dyn RowSource, options: &PcaOptions) -> Result<Pca> {
    let k = options.n_components;
    let mut found = decompose(source, options)?;
    for vector in found.eigen.vectors.chunks_exact_mut(source.n_cols()) {
        fix_sign(vector);
    }
    let scores = found.scores(source)?;
    let variance = if options.center {
        found.eigen.values
    } else {
        variances(&scores, k)
    };
    let total: f64 = found.variance.iter().sum();
    let ratio = |v: &f64| if total > 0.0 { v / total } else { 0.0 };
    Ok(Pca {
        scores: matrix(source.n_rows(), k, &scores)?,
        components: matrix(k, source.n_cols(), &found.eigen.vectors)?,
        explained_variance_ratio: variance.iter().map(ratio).collect(),
        explained_variance: variance,
        residual: found.eigen.residual,
        mean: found.mean,
    })
}

/// The largest eigenpairs of `X^T X / (n - 1)`, with or without centring.
pub(crate) struct Decomposition {
    pub(crate) eigen: Eigen,
    /// What is subtracted from each gene: its mean, or 0.
    pub(crate) mean: Vec<f64>,
    /// The variance of each gene.
    pub(crate) variance: Vec<f64>,
}

impl Decomposition {
    /// `(X - 1 mean^T) V`, row after row.
    pub(crate) fn scores(&self, source: &dyn RowSource) -> Result<Vec<f64>> {
        let covariance = Covariance {
            source,
            mean: &self.mean,
        };
        covariance.scores(&self.eigen.vectors)
    }
}

/// Without regard to the mask.
pub(crate) fn decompose(source: &dyn RowSource, options: &PcaOptions) -> Result<Decomposition> {
    let k = options.n_components;
    check_shape(source, k)?;
    let genes = source.n_cols();
    let by_matrix = match options.solver {
        PcaSolver::Auto => genes <= GENES_OF_GRAM,
        PcaSolver::Covariance => true,
        PcaSolver::Lanczos | PcaSolver::Randomized { .. } => false,
    };
    let centre = |mean: Vec<f64>| match options.center {
        true => mean,
        false => vec![0.0; genes],
    };
    if by_matrix {
        let gram = Gram::new(source, options.center)?;
        let eigen = lanczos::largest(
            genes,
            k,
            options.seed,
            Reading::Cheap,
            |w| Ok(gram.apply(w)),
        )?;
        return Ok(Decomposition {
            eigen,
            mean: centre(gram.mean),
            variance: gram.variance,
        });
    }
    if options.solver == PcaSolver::Auto
        && source.n_rows() <= BLOCK
        && let Some(found) = gram::by_cells(source, k, options.seed, options.center)?
    {
        return Ok(found);
    }
    let found = moments(source, Check::Finite, f64::from)?;
    let mean = centre(found.mean);
    let covariance = Covariance {
        source,
        mean: &mean,
    };
    let apply = |w: &[f64]| covariance.apply(w);
    let eigen = match options.solver {
        PcaSolver::Randomized { oversample, power } => {
            lanczos::randomized(genes, k, options.seed, (oversample, power), apply)?
        }
        _ => {
            let reading = match source.in_memory() {
                Some(_) => Reading::Cheap,
                None => Reading::Dear,
            };
            lanczos::largest(genes, k, options.seed, reading, apply)?
        }
    };
    Ok(Decomposition {
        eigen,
        mean,
        variance: found.variance,
    })
}

fn check_shape(source: &dyn RowSource, n_components: usize) -> Result<()> {
    let (cells, genes) = (source.n_rows(), source.n_cols());
    if cells < 2 {
        return Err(Error::TooSmall {
            what: "cells",
            found: cells,
            needed: 2,
        });
    }
    if n_components == 0 || n_components > cells.min(genes) {
        return Err(Error::InvalidParameter {
            name: "n_components",
            found: n_components.to_string(),
            expected: format!(
                "1 to {} for {cells} cells x {genes} genes",
                cells.min(genes)
            ),
        });
    }
    Ok(())
}

/// The variance of each of `k` columns of scores, given row after row.
fn variances(scores: &[f64], k: usize) -> Vec<f64> {
    let n = (scores.len() / k) as f64;
    (0..k)
        .map(|j| {
            let column = || scores.iter().skip(j).step_by(k);
            let mean = column().sum::<f64>() / n;
            column().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)
        })
        .collect()
}

impl Pca {
    /// The coordinates of other cells with the same genes: `(X - mean) components^T`, `[n_cells, k]`.
    ///
    /// # Errors
    /// Those of the source; [`Error::InvalidParameter`] if it has another number of genes.
    pub fn transform(&self, source: &dyn RowSource) -> Result<Array2<f32>> {
        if source.n_cols() != self.mean.len() {
            return Err(Error::InvalidParameter {
                name: "the number of genes",
                found: source.n_cols().to_string(),
                expected: format!(
                    "the {} genes the components were found with",
                    self.mean.len()
                ),
            });
        }
        let covariance = Covariance {
            source,
            mean: &self.mean,
        };
        let vectors: Vec<f64> = self.components.iter().map(|&v| f64::from(v)).collect();
        matrix(
            source.n_rows(),
            self.components.nrows(),
            &covariance.scores(&vectors)?,
        )
    }
}

/// Makes the entry of the largest magnitude positive; of equal ones the first.
fn fix_sign(vector: &mut [f64]) {
    let mut largest = 0f64;
    for &v in vector.iter() {
        if v.abs() > largest.abs() {
            largest = v;
        }
    }
    if largest < 0.0 {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
}

pub(crate) fn matrix(rows: usize, cols: usize, values: &[f64]) -> Result<Array2<f32>> {
    let found = values.len();
    let values = values.iter().map(|&v| v as f32).collect();
    Array2::from_shape_vec((rows, cols), values).map_err(|_| {
        Error::Data(sc_data::Error::LengthMismatch {
            what: "the result".into(),
            found,
            expected: rows * cols,
        })
    })
}

#[cfg(test)]
#[path = "pca_tests.rs"]
mod tests;
