//! Importance weights of cells.

use std::sync::Arc;

use candle_core::Tensor;
use rand_distr::{Distribution, Uniform};
use rayon::prelude::*;
use sc_data::Csr;
use sc_tensor::likelihood::DispersionRows;
use sc_tensor::rng::{Rng, Stream};

use super::draws::Row;
use super::rows::Encoded;
use crate::arrays::{decoded_at_once, to_vec};
use crate::decoded::{Decoded, Logits};
use crate::{Cells, Error, Result, Scvi};

/// Weights by which cells are drawn: a cell counts for more if its place in the latent space explains the counts of the
/// population better than the posteriors of its cells would by themselves (Boyeau et al., Deep generative models for
/// detecting differential expression in single cells, 2019; scvi-tools' `weights="importance"`).
///
/// With anchors `a`, cells of the population drawn at random, the weight of a draw `z` is
///
/// ```text
/// w(z) = p(z) / sum_a q(z | x_a) * sum_a p(x_a | z) / p(x_a)
/// ```
///
/// where `p(x_a)` is the marginal likelihood of the anchor and `p(x_a | z)` is taken at the anchor's library size: the
/// observed one, the mean of the learned one, or the size factor, as the model has it (scvi-tools takes the observed one of
/// every model). It costs one likelihood for each pair of draw and anchor: seconds to minutes, not milliseconds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Importance {
    /// At most so many anchors; 1,024 by default.
    pub anchors: usize,
    /// Draws for the marginal likelihood of each anchor; 500 by default.
    pub n_samples: usize,
    /// Raise weights that are below their mean to it; off by default.
    pub truncate: bool,
}

impl Default for Importance {
    fn default() -> Self {
        Self {
            anchors: 1024,
            n_samples: 500,
            truncate: false,
        }
    }
}

/// The cells whose counts are explained.
struct Anchors {
    counts: Vec<Arc<Csr>>,
    log_library: Vec<Tensor>,
    /// `log p(x_a)`.
    evidence: Vec<f64>,
    /// `q(z | x_a)`: means and variances, anchor after anchor.
    mean: Vec<f64>,
    var: Vec<f64>,
}

impl Scvi {
    /// Draws among some cells by their importance.
    pub(super) fn importance_rows(
        &self,
        cells: &Cells<'_>,
        among: &[usize],
        n_draws: usize,
        options: &Importance,
        code: Option<u32>,
        rng: &Rng,
    ) -> Result<Vec<Row>> {
        cells.require_counts("importance weights")?;
        let candidates = candidates(among, n_draws, rng.stream("candidates"));
        let anchors = self.anchors(cells, among, options, rng)?;
        let mut weights = self.log_importance(cells, &candidates, &anchors, code, rng)?;
        if options.truncate {
            let floor = log_sum_exp(&weights) - (weights.len() as f64).ln();
            weights.iter_mut().for_each(|w| *w = w.max(floor));
        }
        resample(&candidates, &weights, n_draws, rng.stream("rows"))
    }

    fn anchors(
        &self,
        cells: &Cells<'_>,
        among: &[usize],
        options: &Importance,
        rng: &Rng,
    ) -> Result<Anchors> {
        let at_least_one = |name, value: usize| match value {
            0 => Err(Error::InvalidSetting {
                name,
                value: "0".into(),
                reason: "it must be at least 1".into(),
            }),
            _ => Ok(()),
        };
        at_least_one("anchors", options.anchors)?;
        at_least_one("importance n_samples", options.n_samples)?;
        let mut chosen: Vec<usize> = rng
            .stream("anchors")
            .permutation(among.len())
            .into_iter()
            .take(options.anchors)
            .map(|i| among[i])
            .collect();
        chosen.sort_unstable();
        let mut out = Anchors {
            counts: Vec::new(),
            log_library: Vec::new(),
            evidence: self.marginal_ll_of(
                cells,
                &chosen,
                options.n_samples,
                &rng.child("evidence"),
            )?,
            mean: Vec::new(),
            var: Vec::new(),
        };
        for rows in chosen.chunks(decoded_at_once(self.registry.n_genes())) {
            let batch = cells.minibatch(rows, self.config.log_variational)?;
            let encoded = self.encode_rows(&batch)?;
            out.mean.extend(to_vec(&encoded.qz.mean)?);
            out.var.extend(to_vec(&encoded.qz.var)?);
            out.log_library.push(match &encoded.ql {
                Some(q) => q.mean.flatten_all()?,
                None => self.log_library(&batch, None, None)?,
            });
            out.counts.push(batch.counts);
        }
        Ok(out)
    }

    /// The logarithm of the weight of each candidate.
    fn log_importance(
        &self,
        cells: &Cells<'_>,
        candidates: &[Row],
        anchors: &Anchors,
        code: Option<u32>,
        rng: &Rng,
    ) -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(candidates.len());
        let rng = rng.child("batch 0");
        let size = decoded_at_once(self.registry.n_genes());
        for rows in candidates.chunks(size) {
            let (distinct, at) = super::draws::distinct_cells(rows);
            let Some(encoded) = self.encode_cells(cells, &distinct)? else {
                continue;
            };
            let encoded: Encoded = encoded.select(&at)?;
            let noise = self.noise_of(rows, &encoded, &rng)?;
            let z = crate::elbo::draw(&encoded.qz, noise.z.as_ref())?;
            let decoded = self.decode_rows(&encoded, &noise, code)?;
            out.extend(anchors.log_weights(&z, &decoded)?);
        }
        Ok(out)
    }
}

impl Anchors {
    /// The logarithm of the weight of each row of `z`, `[N, n_latent]`, of which `decoded` was made.
    fn log_weights(&self, z: &Tensor, decoded: &Decoded) -> Result<Vec<f64>> {
        let own = log_prior_minus_posterior(&to_vec(z)?, self, z.dim(1)?);
        let each = own.into_iter().enumerate();
        each.map(|(i, own)| Ok(own + explained(decoded, i, self)?))
            .collect()
    }
}

/// The rows that are weighed: all, or as many as there are draws of as many cells.
fn candidates(among: &[usize], n_draws: usize, mut stream: Stream) -> Vec<Row> {
    let mut rows: Vec<Row> = if among.len() <= n_draws {
        // As many as scvi-tools makes.
        let copies = n_draws / among.len().max(1) + 1;
        let of_cell = |&cell: &usize| (0..copies).map(move |copy| Row { cell, copy });
        among.iter().flat_map(of_cell).collect()
    } else {
        let order = stream.permutation(among.len());
        let row = |i: usize| Row {
            cell: among[i],
            copy: 0,
        };
        order.into_iter().take(n_draws).map(row).collect()
    };
    rows.sort_unstable();
    rows
}

/// `log p(z) - logsumexp_a log q(z | x_a)` of each row of `z`.
fn log_prior_minus_posterior(z: &[f64], anchors: &Anchors, n_latent: usize) -> Vec<f64> {
    let log_tau = (2.0 * std::f64::consts::PI).ln();
    z.par_chunks(n_latent.max(1))
        .map(|z| {
            let prior: f64 = z.iter().map(|z| -0.5 * (z * z + log_tau)).sum();
            let posteriors: Vec<f64> = anchors
                .mean
                .chunks(n_latent)
                .zip(anchors.var.chunks(n_latent))
                .map(|(mean, var)| {
                    let terms = z.iter().zip(mean).zip(var);
                    terms
                        .map(|((z, m), v)| -0.5 * ((z - m).powi(2) / v + v.ln() + log_tau))
                        .sum()
                })
                .collect();
            prior - log_sum_exp(&posteriors)
        })
        .collect()
}

/// `logsumexp_a [ log p(x_a | z_i) - log p(x_a) ]` for row `i` of what was decoded.
fn explained(decoded: &Decoded, i: usize, anchors: &Anchors) -> Result<f64> {
    let mut log_ratios = Vec::with_capacity(anchors.evidence.len());
    for (counts, log_library) in anchors.counts.iter().zip(&anchors.log_library) {
        let for_all = decoded.row_for(i, log_library)?;
        log_ratios.extend(to_vec(&for_all.log_prob(counts)?)?);
    }
    let ratios = log_ratios.iter().zip(&anchors.evidence);
    Ok(log_sum_exp(&ratios.map(|(l, e)| l - e).collect::<Vec<_>>()))
}

impl Decoded {
    /// Row `i` once for each of several cells, with their library sizes.
    fn row_for(&self, i: usize, log_library: &Tensor) -> Result<Self> {
        let n = log_library.elem_count();
        let (_, g) = self.logits.dims()?;
        let spread = |logits: &Logits| -> Result<Logits> {
            let row = logits.row(i)?;
            Ok(Logits::Made(row.broadcast_as((n, g))?.contiguous()?))
        };
        let (log_theta, rows) = match &self.rows {
            DispersionRows::PerCell => (
                self.log_theta.narrow(0, i, 1)?.contiguous()?,
                DispersionRows::Shared,
            ),
            DispersionRows::Index(codes) => {
                let code = codes[i % codes.len()];
                (
                    self.log_theta.clone(),
                    DispersionRows::Index(vec![code; n].into()),
                )
            }
            other => (self.log_theta.clone(), other.clone()),
        };
        Ok(Self {
            family: self.family,
            logits: spread(&self.logits)?,
            softplus: self.softplus,
            log_library: log_library.clone(),
            log_theta,
            rows,
            dropout_logits: self.dropout_logits.as_ref().map(spread).transpose()?,
        })
    }
}

/// Draws rows with replacement, each with probability proportional to `e^weight`.
fn resample(rows: &[Row], log_weights: &[f64], n: usize, mut stream: Stream) -> Result<Vec<Row>> {
    let max = log_weights
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    let cumulative: Vec<f64> = log_weights
        .iter()
        .map(|w| {
            total += (w - max).exp();
            total
        })
        .collect();
    let uniform = match Uniform::new(0.0, total) {
        Ok(uniform) if total.is_finite() => uniform,
        _ => {
            return Err(Error::InvalidSetting {
                name: "weights",
                value: "importance".into(),
                reason: "the importance of the cells is not finite; draw uniformly".into(),
            });
        }
    };
    let last = rows.len().saturating_sub(1);
    Ok((0..n)
        .map(|_| {
            let u = uniform.sample(&mut stream);
            rows[cumulative.partition_point(|&c| c <= u).min(last)]
        })
        .collect())
}

fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
#[path = "importance_tests.rs"]
mod tests;
