//! Harmony: Korsunsky et al., "Fast, sensitive and accurate integration of single-cell data with Harmony", Nature Methods
//! 2019.

mod cluster;
mod correct;
mod design;
mod kmeans;

#[cfg(test)]
mod tests;

use ndarray::{Array2, ArrayView2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sc_data::Categorical;

use self::cluster::Clusters;
use self::design::Design;
use crate::{Error, Result};

/// Options of [`harmony`]; the defaults are those of the paper's programs.
///
/// ```
/// use sc_preprocess::HarmonyOptions;
/// let mut options = HarmonyOptions::default();
/// options.theta = 1.0;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HarmonyOptions {
    /// How strongly clusters of few batches are avoided, 2; at 0 they are not.
    pub theta: f64,
    /// Ridge penalty of the correction, 1. Larger values correct less.
    pub lambda: f64,
    /// Width of the soft clusters, 0.1. Larger values assign cells to more of them.
    pub sigma: f64,
    /// Number of clusters; `None` is one for 30 cells, 100 at most.
    pub n_clusters: Option<usize>,
    /// Protects small batches: with fewer than about `tau` cells a cluster, a batch's `theta` is lowered. 0 switches it off.
    pub tau: f64,
    /// Share of the cells that are reassigned at once, 0.05.
    pub block_size: f64,
    /// Rounds of clustering and correction, 10.
    pub max_iter: usize,
    /// Rounds of clustering in each of them, 20.
    pub max_iter_cluster: usize,
    /// The relative change of the objective at which clustering ends, 1e-5.
    pub epsilon_cluster: f64,
    /// The relative change of the objective at which all ends, 1e-4.
    pub epsilon: f64,
    /// Starts of k-means, of which the best is taken, 10.
    pub n_starts: usize,
    /// Chooses the first clusters and the order of cells.
    pub seed: u64,
}

impl Default for HarmonyOptions {
    fn default() -> Self {
        Self {
            theta: 2.0,
            lambda: 1.0,
            sigma: 0.1,
            n_clusters: None,
            tau: 0.0,
            block_size: 0.05,
            max_iter: 10,
            max_iter_cluster: 20,
            epsilon_cluster: 1e-5,
            epsilon: 1e-4,
            n_starts: 10,
            seed: 0,
        }
    }
}

impl HarmonyOptions {
    fn check(&self, cells: usize) -> Result<()> {
        let wrong = |name, found: String, expected: &str| {
            Err(Error::InvalidParameter {
                name,
                found,
                expected: expected.into(),
            })
        };
        for (name, value) in [
            ("theta", self.theta),
            ("lambda", self.lambda),
            ("tau", self.tau),
        ] {
            if !value.is_finite() || value < 0.0 {
                return wrong(name, value.to_string(), "a finite number from 0");
            }
        }
        if !self.sigma.is_finite() || self.sigma <= 0.0 {
            return wrong("sigma", self.sigma.to_string(), "more than 0, usually 0.1");
        }
        if self.block_size.is_nan() || self.block_size <= 0.0 || self.block_size > 1.0 {
            let found = self.block_size.to_string();
            return wrong("block_size", found, "more than 0, up to 1, usually 0.05");
        }
        if let Some(k) = self.n_clusters.filter(|&k| k == 0 || k > cells) {
            return wrong(
                "n_clusters",
                k.to_string(),
                &format!("1 to {cells}, the number of cells"),
            );
        }
        if self.n_starts == 0 {
            return wrong("n_starts", "0".into(), "at least 1");
        }
        Ok(())
    }
}

/// What [`harmony`] found.
#[derive(Debug, Clone)]
pub struct Harmony {
    /// The corrected coordinates, `[n_cells, d]`.
    pub embedding: Array2<f32>,
    /// The objective after each round.
    pub objective: Vec<f64>,
    /// Whether the objective settled before the rounds were up.
    pub converged: bool,
}

/// Moves cells of different batches together, where they lie in the same clusters of an embedding (usually the principal
/// components): the linear baseline of integration.
///
/// In turns: soft clusters of the directions of cells, `R_ki ~ exp(-2 (1 - y_k . z_i / |z_i|) / sigma)`, each weighted by
/// `((E + 1) / (O + 1))^theta` with the expected and observed number of the batch's cells in the cluster; then for each
/// cluster a ridge regression of the coordinates on the batch, whose effects are subtracted. `batches` are one or more
/// variables (donor, technology); with several the weights are multiplied.
///
/// Takes 8 bytes a cell and cluster. The same seed gives the same bits on any number of threads.
///
/// ```
/// use ndarray::Array2;
/// use sc_data::Categorical;
/// use sc_preprocess::{HarmonyOptions, harmony};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Three clouds of cells, of which the second batch has all shifted along one axis.
/// let batch: Vec<&str> = (0..240).map(|i| ["a", "b"][i % 2]).collect();
/// let z = Array2::from_shape_fn((240, 3), |(i, j)| {
///     let cloud = if i % 3 == j { 5.0 } else { 0.0 };
///     let shift = if i % 2 == 1 && j == 0 { 1.5 } else { 0.0 };
///     cloud + shift + ((i * 37 + j * 11) % 17) as f32 / 17.0
/// });
/// let corrected = harmony(z.view(), &[&Categorical::from_labels(&batch)], &HarmonyOptions::default())?;
/// let gap = |z: &Array2<f32>| {
///     let mean = |b: usize| (0..240).filter(|i| i % 2 == b).map(|i| z[[i, 0]]).sum::<f32>() / 120.0;
///     (mean(0) - mean(1)).abs()
/// };
/// assert!(gap(&corrected.embedding) < 0.2 * gap(&z));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::InvalidValue`] if a coordinate is not finite, [`Error::TooSmall`] with fewer than two cells,
/// [`Error::InvalidParameter`] if an option is out of range, there is no batch variable or one with a single batch,
/// [`Error::Data`] if a cell has no batch or there are other numbers of batches and cells.
pub fn harmony(
    embedding: ArrayView2<'_, f32>,
    batches: &[&Categorical],
    options: &HarmonyOptions,
) -> Result<Harmony> {
    let (cells, dims) = embedding.dim();
    options.check(cells)?;
    check_embedding(embedding)?;
    let n_clusters = options
        .n_clusters
        .unwrap_or_else(|| ((cells as f64 / 30.0).round() as usize).clamp(1, 100));
    let design = Design::new(batches, cells, n_clusters, options)?;
    let original: Vec<f64> = embedding.iter().map(|&v| f64::from(v)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut corrected = original.clone();
    let mut directions = unit_rows(&corrected, dims);
    let centres = kmeans::kmeans(&directions, dims, n_clusters, options.n_starts, &mut rng);
    let centres = unit_rows(&centres, dims);
    let mut clusters = Clusters::new(&directions, dims, centres, &design, options.sigma);
    let mut objective: Vec<f64> = Vec::new();
    let mut converged = false;
    for _ in 0..options.max_iter {
        let now = clusters.settle(&directions, &design, options, &mut rng);
        corrected = correct::correct(&original, dims, &clusters, &design, options.lambda)?;
        directions = unit_rows(&corrected, dims);
        let before = objective.last().copied();
        objective.push(now);
        if let Some(before) = before
            && (before - now) / before.abs() < options.epsilon
        {
            converged = true;
            break;
        }
    }
    Ok(Harmony {
        embedding: crate::pca::matrix(cells, dims, &corrected)?,
        objective,
        converged,
    })
}

fn check_embedding(z: ArrayView2<'_, f32>) -> Result<()> {
    if z.nrows() < 2 {
        return Err(Error::TooSmall {
            what: "cells",
            found: z.nrows(),
            needed: 2,
        });
    }
    if z.ncols() == 0 {
        return Err(Error::TooSmall {
            what: "dimensions",
            found: 0,
            needed: 1,
        });
    }
    match z.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some(((row, column), &value)) => Err(Error::InvalidValue {
            row,
            column,
            value,
            expected: "a finite coordinate",
        }),
    }
}

/// Each row divided by its length; a row of zeros stays.
fn unit_rows(z: &[f64], dims: usize) -> Vec<f64> {
    let mut out = z.to_vec();
    for row in out.chunks_exact_mut(dims) {
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v /= length);
        }
    }
    out
}
