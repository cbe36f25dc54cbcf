//! The effects of batches on the coordinates, cluster by cluster.

use faer::Mat;
use faer::linalg::solvers::Solve;
use rayon::prelude::*;

use super::cluster::Clusters;
use super::design::Design;
use crate::{Error, Result};

/// Clusters that one thread sums up at a time, which lie together in memory.
const AT_ONCE: usize = 8;

/// The coordinates without the effects of batches: in each cluster `z ~ intercept + batch`, weighted by the cells' shares,
/// with a ridge penalty on the batches' coefficients; these are subtracted, again by shares.
pub(super) fn correct(
    z: &[f64],
    dims: usize,
    clusters: &Clusters,
    design: &Design,
    lambda: f64,
) -> Result<Vec<f64>> {
    let k = clusters.k;
    let effects: Vec<Vec<Vec<f64>>> = (0..k)
        .step_by(AT_ONCE)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|first| {
            let sums = Sums::new(z, dims, clusters, design, first..(first + AT_ONCE).min(k));
            sums.iter()
                .map(|s| s.effects(design, lambda, dims))
                .collect()
        })
        .collect::<Result<_>>()?;
    let effects: Vec<Vec<f64>> = effects.into_iter().flatten().collect();
    let mut corrected = z.to_vec();
    corrected
        .par_chunks_exact_mut(dims)
        .enumerate()
        .with_min_len(64)
        .for_each(|(i, row)| {
            let shares = &clusters.shares[i * k..(i + 1) * k];
            for (share, effect) in shares.iter().zip(&effects) {
                for &level in design.of(i) {
                    let start = level as usize * dims;
                    for (v, e) in row.iter_mut().zip(&effect[start..start + dims]) {
                        *v -= share * e;
                    }
                }
            }
        });
    Ok(corrected)
}

/// What the regression of one cluster needs.
struct Sums {
    /// For each pair of levels the sum of shares of cells with both.
    pairs: Vec<f64>,
    /// For each level the weighted sum of coordinates.
    coordinates: Vec<f64>,
}

impl Sums {
    fn new(
        z: &[f64],
        dims: usize,
        clusters: &Clusters,
        design: &Design,
        which: std::ops::Range<usize>,
    ) -> Vec<Self> {
        let levels = design.n_levels();
        let mut all: Vec<Self> = which
            .clone()
            .map(|_| Self {
                pairs: vec![0.0; levels * levels],
                coordinates: vec![0.0; levels * dims],
            })
            .collect();
        let rows = z
            .chunks_exact(dims)
            .zip(clusters.shares.chunks_exact(clusters.k));
        for (i, (row, shares)) in rows.enumerate() {
            let own = design.of(i);
            for (sums, share) in all.iter_mut().zip(&shares[which.clone()]) {
                for &level in own {
                    let level = level as usize;
                    for &other in own {
                        sums.pairs[level * levels + other as usize] += share;
                    }
                    let start = level * dims;
                    let to = &mut sums.coordinates[start..start + dims];
                    to.iter_mut().zip(row).for_each(|(t, v)| *t += share * v);
                }
            }
        }
        all
    }

    /// The coefficients of each level; zeros for a cluster that no cell belongs to.
    fn effects(&self, design: &Design, lambda: f64, dims: usize) -> Result<Vec<f64>> {
        let levels = design.n_levels();
        // Each cell has one level of the first variable, whose levels together are all cells.
        let n_first = design.first_levels;
        let mut total = 0.0;
        let mut left = Mat::<f64>::zeros(levels + 1, levels + 1);
        let mut right = Mat::<f64>::zeros(levels + 1, dims);
        for b in 0..levels {
            let own = self.pairs[b * levels + b];
            left[(0, b + 1)] = own;
            left[(b + 1, 0)] = own;
            for c in 0..levels {
                left[(b + 1, c + 1)] = self.pairs[b * levels + c];
            }
            left[(b + 1, b + 1)] += lambda;
            for j in 0..dims {
                let v = self.coordinates[b * dims + j];
                right[(b + 1, j)] = v;
                if b < n_first {
                    right[(0, j)] += v;
                }
            }
            if b < n_first {
                total += own;
            }
        }
        if total <= 0.0 {
            return Ok(vec![0.0; levels * dims]);
        }
        left[(0, 0)] = total;
        let solved = left.partial_piv_lu().solve(&right);
        let mut effects = Vec::with_capacity(levels * dims);
        for b in 0..levels {
            effects.extend((0..dims).map(|j| solved[(b + 1, j)]));
        }
        if effects.iter().all(|e| e.is_finite()) {
            Ok(effects)
        } else {
            Err(Error::NoConvergence {
                what: "the regression on batches (choose lambda above 0)",
            })
        }
    }
}
