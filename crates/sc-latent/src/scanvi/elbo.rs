//! The bound and the marginal likelihood of all cells.

use candle_core::Tensor;
use sc_model::Mode;
use sc_tensor::ops;
use sc_tensor::rng::Rng;

use super::Scanvi;
use super::loss::Halves;
use crate::arrays::{batches, to_vec};
use crate::elbo::{log_density, standard_normal};
use crate::marginal::{Draws, log_mean_exp};
use crate::{CellElbo, Cells, Error, Minibatch, Noise, Parity, Result};

impl Scanvi {
    /// The bound of each cell: with one draw of `z1` and `z2` from `seed`, or at their means if `seed` is `None`.
    ///
    /// As in scvi-tools, [`CellElbo::reconstruction`] holds the terms of `z1` besides `-log p(x | z1)`; see
    /// [`ScanviTerms`](crate::ScanviTerms).
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn elbo(&self, cells: &Cells<'_>, seed: Option<u64>) -> Result<CellElbo> {
        self.scvi.fits(cells)?;
        let mut out = CellElbo::default();
        for (k, rows) in batches(cells.n_cells()).enumerate() {
            let batch = cells.minibatch(&rows, self.scvi.config.log_variational)?;
            let noise = match seed {
                Some(seed) => {
                    let rng = Rng::new(seed);
                    self.noise(rows.len(), |name| {
                        rng.stream(&format!("elbo/{name}")).at(&[k as u64])
                    })?
                }
                None => Noise::none(),
            };
            let halves = Halves::of(&self.elbo_terms(&batch, &noise, &Mode::eval())?)?;
            out.reconstruction.extend(to_vec(&halves.reconstruction)?);
            out.kl.extend(to_vec(&halves.kl)?);
        }
        Ok(out)
    }

    /// `log p(x)` of each cell by importance sampling with `n_samples` draws `s` of `z1` and, for each label, of `z2`:
    ///
    /// ```text
    /// log p(x) ~ logsumexp_s [ log p(x | z1) - log q(z1 | x)
    ///                          + logsumexp_y ( log prior_y + log p(z1 | z2_y, y) + log p(z2_y) - log q(z2_y | z1, y) ) ] - ln S
    /// ```
    ///
    /// (and the ratio of the library size, if that is learned). scvi-tools' `get_marginal_ll` instead puts its
    /// reconstruction loss into scVI's formula, in which the label is averaged outside of the logarithm, `q(z1 | x)` counts
    /// twice and `z1` has a standard normal prior besides; that is no estimate of `log p(x)`. [`Parity::Upstream`] repeats
    /// it.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn marginal_ll(
        &self,
        cells: &Cells<'_>,
        n_samples: usize,
        seed: u64,
        parity: Parity,
    ) -> Result<Vec<f64>> {
        self.scvi.fits(cells)?;
        /// Draws at once; each takes a minibatch of memory, and of small ones for every label.
        const PER_PASS: usize = 4;
        if n_samples == 0 {
            return Err(Error::InvalidSetting {
                name: "n_samples",
                value: "0".into(),
                reason: "it must be at least 1".into(),
            });
        }
        let rng = Rng::new(seed);
        let mut out = Vec::with_capacity(cells.n_cells());
        for (k, rows) in batches(cells.n_cells()).enumerate() {
            let batch = cells.minibatch(&rows, self.scvi.config.log_variational)?;
            let mut weights = Vec::with_capacity(n_samples);
            for start in (0..n_samples).step_by(PER_PASS) {
                let s = PER_PASS.min(n_samples - start);
                let noise = self.noise(s * rows.len(), |name| {
                    rng.stream(&format!("marginal/{name}"))
                        .at(&[k as u64, start as u64])
                })?;
                weights.extend(self.log_weights(&batch, &noise, s, parity)?);
            }
            out.extend(log_mean_exp(&weights, rows.len()));
        }
        Ok(out)
    }

    /// The same for a minibatch and the noise of each sample.
    ///
    /// # Errors
    /// If the minibatch does not fit the model.
    pub fn marginal_ll_with_noise(
        &self,
        batch: &Minibatch,
        samples: &[Noise],
        parity: Parity,
    ) -> Result<Vec<f64>> {
        let weights = samples
            .iter()
            .map(|noise| self.log_weights(batch, noise, 1, parity))
            .collect::<Result<Vec<_>>>()?
            .concat();
        Ok(log_mean_exp(&weights, batch.batch.len()))
    }

    /// The log importance weight of each sample (outer) and cell (inner).
    fn log_weights(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        s: usize,
        parity: Parity,
    ) -> Result<Vec<Vec<f64>>> {
        let d = self.scvi.draws(batch, noise, s)?;
        let z1 = self.scvi.nets.latent_of(&d.z)?;
        let second = self.second_level(&z1, noise.z2.as_ref(), &Mode::eval())?;
        let w = match parity {
            Parity::Upstream => {
                let expected = (&second.probabilities * &second.neg_log_p_z1)?.sum(1)?;
                let log_q = log_density(&z1, &d.qz)?;
                let w = ((&d.log_likelihood - expected)? - (&log_q * 2.0)?)?;
                (w + log_density(&z1, &standard_normal(&z1)?)?)?
            }
            Parity::Correct => {
                let log_p_z2 = log_density(&second.z2, &standard_normal(&second.z2)?)?;
                let ratio = self.by_cell(&(log_p_z2 - log_density(&second.z2, &second.qz2)?)?)?;
                let log_prior = self.semi.prior()?.log()?;
                let of_label = (ratio - &second.neg_log_p_z1)?.broadcast_add(&log_prior)?;
                let log_p_z1 = ops::log_sum_exp(&of_label)?;
                ((&d.log_likelihood + log_p_z1)? - log_density(&z1, &d.qz)?)?
            }
        };
        weights_of(w, d, batch.batch.len())
    }
}

fn weights_of(w: Tensor, d: Draws, n: usize) -> Result<Vec<Vec<f64>>> {
    let w = match d.log_library_ratio {
        Some(l) => (w + l)?,
        None => w,
    };
    Ok(to_vec(&w)?.chunks(n).map(<[f64]>::to_vec).collect())
}
