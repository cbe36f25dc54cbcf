//! What CLUE minimises, term by term.
//!
//! For modality `k` with samples `u_k` of its posterior and their mean `ubar` over the modalities of a cell, with `[t]` the
//! slice that is the subspace of modality `t`:
//!
//! ```text
//! nll_k       -ln p(x_k | u_k[k])                        averaged over rows and features
//! kl_k        KL(q(z | x_k) || N(0, I)) / features
//! joint       sum_k -ln p(x_k | ubar[k])                 over cells that have k
//! real        sum_t sum_{s != t} -ln p(x_t | u_s[t])     over cells that have s and t
//! pairing     sum_k 1 - cos(u_k, ubar)
//! adversary   cross entropy of the guess which modality a posterior mean came from
//! transport   Sinkhorn divergence between the posterior means of modalities, if asked for instead
//! supervised  cross entropy of labels
//! ```

mod adversary;
mod forward;
mod pairing;
mod terms;
mod transport;

pub use forward::Noise;
pub use terms::Terms;

use candle_core::Tensor;
use sc_model::{Mode, Parity};

use crate::Result;
use crate::cells::Minibatch;
use crate::model::Clue;
use crate::nets::head::Library;
use forward::Forward;

/// Who learns from a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learner {
    /// The adversary.
    Adversary,
    /// Encoders, decoders and classifier.
    Rest,
    /// Both.
    Both,
}

impl Clue {
    /// All terms of the loss of some cells.
    pub(crate) fn terms(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        learner: Learner,
        mode: &Mode<'_>,
    ) -> Result<Terms> {
        let w = &self.config.weights;
        let f = self.forward(batch, noise, mode)?;
        let n = batch.parts.len();
        let mut terms = Terms::new(n);
        if learner != Learner::Adversary {
            for (k, part) in batch.parts.iter().enumerate() {
                let (Some(part), Some(u), Some(q)) = (part, &f.u[k], &f.encoded[k]) else {
                    continue;
                };
                let rows: Vec<u32> = (0..part.n_rows() as u32).collect();
                let library = self.library(&f, batch, (k, &rows), (k, &rows), mode)?;
                let nll = self.decode_nll(u, k, part, &rows, library.as_ref(), &mode.pass(0))?;
                terms.nll[k] = Some(nll);
                terms.kl[k] = Some(self.kl(q, k)?);
            }
            if w.joint_cross > 0.0 {
                terms.joint = self.joint(&f, batch, mode)?;
            }
            if w.real_cross > 0.0 {
                terms.real = self.real(&f, batch, mode)?;
            }
            if w.pairing > 0.0 {
                terms.pairing = self.pairing(&f, batch)?;
            }
            terms.supervised = self.supervised(&f, batch, noise, mode)?;
        }
        if w.align > 0.0 && learner != Learner::Adversary && !self.config.has_adversary() {
            terms.transport = self.transport(&f, batch, noise)?;
        }
        if self.config.has_adversary() {
            terms.adversary = self.adversary(&f, batch, noise, learner, mode)?;
        }
        Ok(terms)
    }

    /// `KL(N(loc, std) || N(0, 1))` summed over the embedding, averaged over rows, divided by the number of features.
    fn kl(&self, q: &crate::nets::Encoded, modality: usize) -> Result<Tensor> {
        let rows = sc_tensor::likelihood::kl_standard_normal(&q.loc, &q.std.sqr()?)?;
        let features = self.registry.modalities[modality].n_features();
        Ok((rows.mean_all()? / features as f64)?)
    }

    /// `-ln p(x_t | u[t])` averaged over some rows of modality `t` and over its features; `u` has a row for each of these.
    fn decode_nll(
        &self,
        u: &Tensor,
        target: usize,
        part: &crate::cells::Part,
        rows: &[u32],
        library: Option<&Library>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let subspace = self.config.subspace(target, self.registry.n_modalities());
        let slice = u.narrow(1, subspace.start, subspace.len())?.contiguous()?;
        let batch: Vec<u32> = rows.iter().map(|&r| part.batch[r as usize]).collect();
        let decoder = &self.nets.decoders[target];
        let out = decoder.forward(&slice, &batch, mode)?;
        let values = part.values_of(rows)?;
        decoder.head.nll(&out, &values, library, &batch, mode)
    }

    /// Library sizes of rows of a target modality, given the rows of a source that belong to the same cells.
    fn library(
        &self,
        f: &Forward,
        batch: &Minibatch,
        source: (usize, &[u32]),
        target: (usize, &[u32]),
        mode: &Mode<'_>,
    ) -> Result<Option<Library>> {
        if !self.registry.modalities[target.0].likelihood.has_library() {
            return Ok(None);
        }
        if self.config.parity == Parity::Upstream {
            return self.upstream_library(f, batch, source, target, mode);
        }
        let Some(part) = &batch.parts[target.0] else {
            return Ok(None);
        };
        let sums = part.values_of(target.1)?.row_sums();
        let logs: Vec<f64> = sums.iter().map(|s| log_library(*s)).collect();
        let n = logs.len();
        let t = Tensor::from_vec(logs, n, self.nets.device())?;
        Ok(Some(Library::Log(t.to_dtype(self.nets.dtype())?)))
    }

    /// scglue's: an estimate from the source.
    fn upstream_library(
        &self,
        f: &Forward,
        batch: &Minibatch,
        source: (usize, &[u32]),
        target: (usize, &[u32]),
        _mode: &Mode<'_>,
    ) -> Result<Option<Library>> {
        let column = |k: usize, rows: &[u32]| -> Result<Option<Library>> {
            let (Some(estimate), Some(_)) = (&f.library[k], &batch.parts[k]) else {
                return Ok(None);
            };
            let l = estimate.narrow(1, target.0, 1)?.contiguous()?;
            Ok(Some(Library::Size(forward::rows_of(&l, rows)?)))
        };
        // A source that is not one of counts has no estimate, and scglue fails; the target's own stands in.
        match column(source.0, source.1)? {
            Some(found) => Ok(Some(found)),
            None => column(target.0, target.1),
        }
    }

    fn joint(&self, f: &Forward, batch: &Minibatch, mode: &Mode<'_>) -> Result<Option<Tensor>> {
        let weights = self.registry.weights();
        let mut sum: Option<Tensor> = None;
        for (k, part) in batch.parts.iter().enumerate() {
            let Some(part) = part else { continue };
            let rows = part.real_rows();
            if rows.is_empty() {
                continue;
            }
            let cells: Vec<u32> = rows.iter().map(|&r| part.cell[r as usize]).collect();
            let u = forward::rows_of(&f.joint, &cells)?;
            let library = self.library(f, batch, (k, &rows), (k, &rows), mode)?;
            let nll = self.decode_nll(&u, k, part, &rows, library.as_ref(), &mode.pass(1))?;
            add(&mut sum, (nll * weights[k])?)?;
        }
        Ok(sum)
    }

    fn real(&self, f: &Forward, batch: &Minibatch, mode: &Mode<'_>) -> Result<Option<Tensor>> {
        let weights = self.registry.weights();
        let rows: Vec<Option<Vec<Option<u32>>>> = batch
            .parts
            .iter()
            .map(|p| p.as_ref().map(|p| p.row_of_cell(batch.n_cells)))
            .collect();
        let mut sum: Option<Tensor> = None;
        for (t, part) in batch.parts.iter().enumerate() {
            for (s, u) in f.u.iter().enumerate().filter(|(s, _)| *s != t) {
                let (Some(part), Some(u), Some(of_t), Some(of_s)) = (part, u, &rows[t], &rows[s])
                else {
                    continue;
                };
                let both = of_s
                    .iter()
                    .zip(of_t)
                    .filter_map(|(a, b)| Some(((*a)?, (*b)?)));
                let (from, to): (Vec<u32>, Vec<u32>) = both.unzip();
                if to.is_empty() {
                    continue;
                }
                let u = forward::rows_of(u, &from)?;
                let library = self.library(f, batch, (s, &from), (t, &to), mode)?;
                let pass = &mode.pass(2 + s as u64);
                let nll = self.decode_nll(&u, t, part, &to, library.as_ref(), pass)?;
                add(&mut sum, (nll * weights[t])?)?;
            }
        }
        Ok(sum)
    }
}

/// How many modalities each cell has.
fn batch_counts(batch: &Minibatch) -> Vec<usize> {
    let mut counts = vec![0; batch.n_cells];
    for part in batch.parts.iter().flatten() {
        for (&cell, &real) in part.cell.iter().zip(&part.real) {
            if let Some(c) = counts.get_mut(cell as usize) {
                *c += usize::from(real);
            }
        }
    }
    counts
}

/// Adds rows of a modality at their cells, zeros elsewhere.
pub(crate) fn add_at_cells(
    sum: &mut Option<Tensor>,
    rows: &Tensor,
    part: &crate::cells::Part,
    n_cells: usize,
) -> Result<()> {
    add(sum, forward::by_cell(rows, part, n_cells)?)
}

/// Adds a term to a sum that may not have begun.
pub(crate) fn add(sum: &mut Option<Tensor>, term: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(s) => (s + term)?,
        None => term,
    });
    Ok(())
}

/// The logarithm of a library size; cells without any count are taken for cells with one.
pub(crate) fn log_library(sum: f64) -> f64 {
    sum.max(1.0).ln()
}
