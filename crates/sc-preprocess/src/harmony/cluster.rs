//! Soft clusters in which the batches are mixed.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rand::Rng;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::design::Design;
use super::{HarmonyOptions, unit_rows};

/// Cells that one thread takes at a time. Fixed, because the order of sums depends on it.
const AT_ONCE: usize = 256;
/// Rounds over which the objective is averaged before it is said to have settled.
const WINDOW: usize = 3;

pub(super) struct Clusters {
    pub(super) k: usize,
    dims: usize,
    /// The centres, of length 1, one after the other.
    centres: Vec<f64>,
    /// The share of each cell in each cluster, cell after cell.
    pub(super) shares: Vec<f64>,
    /// For each level of the batch variables the sum of shares of its cells, level after level.
    pub(super) observed: Vec<f64>,
    /// The sum of all shares in each cluster.
    totals: Vec<f64>,
}

/// What new shares of some cells sum up to.
struct Part {
    shares: Vec<f64>,
    observed: Vec<f64>,
    totals: Vec<f64>,
    /// Distances to the centres and entropies, weighted by shares.
    distance: f64,
    entropy: f64,
}

impl Clusters {
    /// Shares by distance alone.
    pub(super) fn new(
        z: &[f64],
        dims: usize,
        centres: Vec<f64>,
        design: &Design,
        sigma: f64,
    ) -> Self {
        let k = centres.len() / dims;
        let cells = z.len() / dims;
        let mut new = Self {
            k,
            dims,
            centres,
            shares: vec![0.0; cells * k],
            observed: vec![0.0; design.n_levels() * k],
            totals: vec![0.0; k],
        };
        let order: Vec<u32> = (0..cells as u32).collect();
        let none = vec![1.0; design.n_levels() * k];
        new.assign(&order, z, design, sigma, &none);
        new
    }

    /// Moves centres and shares in turns until the objective settles, and returns it.
    pub(super) fn settle(
        &mut self,
        z: &[f64],
        design: &Design,
        options: &HarmonyOptions,
        rng: &mut impl Rng,
    ) -> f64 {
        let mut history: Vec<f64> = Vec::new();
        for _ in 0..options.max_iter_cluster.max(1) {
            self.move_centres(z);
            history.push(self.reassign(z, design, options, rng));
            if let Some(start) = history.len().checked_sub(WINDOW + 1) {
                let window = history.get(start..).unwrap_or_default();
                let before: f64 = window.iter().take(WINDOW).sum();
                let now: f64 = window.iter().skip(1).sum();
                if (before - now).abs() / before.abs() < options.epsilon_cluster {
                    break;
                }
            }
        }
        history.last().copied().unwrap_or(f64::NAN)
    }

    /// To the directions of the weighted sums of the cells.
    fn move_centres(&mut self, z: &[f64]) {
        let (k, dims) = (self.k, self.dims);
        let parts: Vec<Mat<f64>> = z
            .par_chunks(AT_ONCE * dims)
            .zip(self.shares.par_chunks(AT_ONCE * k))
            .map(|(z, shares)| {
                let n = z.len() / dims;
                let z = MatRef::from_row_major_slice(z, n, dims);
                let shares = MatRef::from_row_major_slice(shares, n, k);
                let mut sums = Mat::zeros(k, dims);
                let across = shares.transpose();
                matmul(sums.as_mut(), Accum::Replace, across, z, 1.0, Par::Seq);
                sums
            })
            .collect();
        let mut sums = vec![0.0; k * dims];
        for part in &parts {
            for c in 0..k {
                for j in 0..dims {
                    sums[c * dims + j] += part[(c, j)];
                }
            }
        }
        self.centres = unit_rows(&sums, dims);
    }

    /// New shares for all cells, a block of random cells at a time; returns the objective.
    fn reassign(
        &mut self,
        z: &[f64],
        design: &Design,
        options: &HarmonyOptions,
        rng: &mut impl Rng,
    ) -> f64 {
        let cells = z.len() / self.dims;
        let mut order: Vec<u32> = (0..cells as u32).collect();
        order.shuffle(rng);
        let block = ((cells as f64 * options.block_size).ceil() as usize).max(1);
        let (mut distance, mut entropy) = (0.0, 0.0);
        for cells in order.chunks(block) {
            self.remove(cells, design);
            let weights = self.weights(design);
            let (d, e) = self.assign(cells, z, design, options.sigma, &weights);
            distance += d;
            entropy += e;
        }
        distance + options.sigma * (entropy + self.crowding(design))
    }

    /// Takes cells out of the sums.
    fn remove(&mut self, cells: &[u32], design: &Design) {
        let k = self.k;
        let parts: Vec<(Vec<f64>, Vec<f64>)> = cells
            .par_chunks(AT_ONCE)
            .map(|some| {
                let mut sums = (vec![0.0; design.n_levels() * k], vec![0.0; k]);
                for &i in some {
                    let i = i as usize;
                    add_cell(&mut sums, design.of(i), &self.shares[i * k..(i + 1) * k]);
                }
                sums
            })
            .collect();
        for (observed, totals) in &parts {
            accumulate(&mut self.observed, observed, -1.0);
            accumulate(&mut self.totals, totals, -1.0);
        }
    }

    /// `((E + 1) / (O + 1))^theta` for each level and cluster.
    fn weights(&self, design: &Design) -> Vec<f64> {
        self.ratio(design)
            .iter()
            .enumerate()
            .map(|(at, ratio)| (-design.theta[at / self.k] * ratio).exp())
            .collect()
    }

    /// `ln((O + 1) / (E + 1))` for each level and cluster.
    fn ratio(&self, design: &Design) -> Vec<f64> {
        let each = self.observed.iter().enumerate();
        each.map(|(at, observed)| {
            let expected = design.share[at / self.k] * self.totals[at % self.k];
            ((observed + 1.0) / (expected + 1.0)).ln()
        })
        .collect()
    }

    /// The penalty on clusters with more cells of a batch than expected.
    fn crowding(&self, design: &Design) -> f64 {
        let ratio = self.ratio(design);
        let each = self.observed.iter().zip(&ratio).enumerate();
        each.map(|(at, (observed, ratio))| design.theta[at / self.k] * observed * ratio)
            .sum()
    }

    /// New shares for some cells, which are added to the sums; returns the weighted distances and the entropy.
    fn assign(
        &mut self,
        cells: &[u32],
        z: &[f64],
        design: &Design,
        sigma: f64,
        weights: &[f64],
    ) -> (f64, f64) {
        let parts: Vec<Part> = cells
            .par_chunks(AT_ONCE)
            .map(|some| self.part(some, z, design, sigma, weights))
            .collect();
        let (mut distance, mut entropy) = (0.0, 0.0);
        for (some, part) in cells.chunks(AT_ONCE).zip(&parts) {
            for (&i, new) in some.iter().zip(part.shares.chunks_exact(self.k)) {
                let start = i as usize * self.k;
                self.shares[start..start + self.k].copy_from_slice(new);
            }
            accumulate(&mut self.observed, &part.observed, 1.0);
            accumulate(&mut self.totals, &part.totals, 1.0);
            distance += part.distance;
            entropy += part.entropy;
        }
        (distance, entropy)
    }

    fn part(&self, cells: &[u32], z: &[f64], design: &Design, sigma: f64, weights: &[f64]) -> Part {
        let (k, dims) = (self.k, self.dims);
        let mut own = Vec::with_capacity(cells.len() * dims);
        for &i in cells {
            let start = i as usize * dims;
            own.extend_from_slice(&z[start..start + dims]);
        }
        let own = MatRef::from_row_major_slice(&own, cells.len(), dims);
        let centres = MatRef::from_row_major_slice(&self.centres, k, dims);
        // One column a cell, so that a cell's numbers lie together.
        let mut dots = Mat::zeros(k, cells.len());
        let across = own.transpose();
        matmul(
            dots.as_mut(),
            Accum::Replace,
            centres,
            across,
            1.0,
            Par::Seq,
        );
        let mut part = Part {
            shares: vec![0.0; cells.len() * k],
            observed: vec![0.0; design.n_levels() * k],
            totals: vec![0.0; k],
            distance: 0.0,
            entropy: 0.0,
        };
        let mut sums = (
            std::mem::take(&mut part.observed),
            std::mem::take(&mut part.totals),
        );
        for (c, (&i, shares)) in cells
            .iter()
            .zip(part.shares.chunks_exact_mut(k))
            .enumerate()
        {
            let levels = design.of(i as usize);
            let distance = |j: usize| 2.0 * (1.0 - dots[(j, c)]);
            let nearest = (0..k).map(distance).fold(f64::INFINITY, f64::min);
            for (j, share) in shares.iter_mut().enumerate() {
                *share = ((nearest - distance(j)) / sigma).exp();
                for &level in levels {
                    *share *= weights[level as usize * k + j];
                }
            }
            let total: f64 = shares.iter().sum();
            for (j, share) in shares.iter_mut().enumerate() {
                *share /= total;
                part.distance += *share * distance(j);
                if *share > 0.0 {
                    part.entropy += *share * share.ln();
                }
            }
            add_cell(&mut sums, levels, shares);
        }
        (part.observed, part.totals) = sums;
        part
    }
}

/// Adds one cell's shares to the sums of its levels and to the totals.
fn add_cell((observed, totals): &mut (Vec<f64>, Vec<f64>), levels: &[u32], shares: &[f64]) {
    let k = shares.len();
    for &level in levels {
        let start = level as usize * k;
        accumulate(&mut observed[start..start + k], shares, 1.0);
    }
    accumulate(totals, shares, 1.0);
}

fn accumulate(to: &mut [f64], from: &[f64], factor: f64) {
    for (a, b) in to.iter_mut().zip(from) {
        *a += factor * b;
    }
}
