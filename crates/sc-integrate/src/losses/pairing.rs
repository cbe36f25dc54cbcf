//! What holds the embeddings of one cell from its modalities together.

use candle_core::Tensor;
use sc_model::Parity;
use sc_tensor::ops;

use super::forward::{Forward, cosines, rows_of, unit};
use super::{add, batch_counts};
use crate::cells::Minibatch;
use crate::model::Clue;
use crate::{PairingLoss, Result};

impl Clue {
    /// Cells with one modality tell nothing about pairing: they count for scglue only, whose mean they dilute.
    pub(super) fn pairing(&self, f: &Forward, batch: &Minibatch) -> Result<Option<Tensor>> {
        if self.config.pairing == PairingLoss::InfoNce {
            return self.contrast(f, batch);
        }
        let counts = batch_counts(batch);
        let fewest = if self.config.parity == Parity::Upstream {
            1
        } else {
            2
        };
        let n_counted = counts.iter().filter(|&&c| c >= fewest).count();
        let mut sum: Option<Tensor> = None;
        for (part, u) in batch.parts.iter().zip(&f.u) {
            let (Some(part), Some(u)) = (part, u) else {
                continue;
            };
            let rows = part.real_rows().into_iter();
            let counted = |r: &u32| counts[part.cell[*r as usize] as usize] >= fewest;
            let rows: Vec<u32> = rows.filter(counted).collect();
            if rows.is_empty() {
                continue;
            }
            let cells: Vec<u32> = rows.iter().map(|&r| part.cell[r as usize]).collect();
            let u = rows_of(u, &rows)?;
            let joint = rows_of(&f.joint, &cells)?;
            let term = match self.config.pairing {
                PairingLoss::Cosine | PairingLoss::InfoNce => {
                    (1.0 - cosines(&u, &joint)?.mean_all()?)?
                }
                PairingLoss::Mse => {
                    let shares = cells.iter().map(|&c| 1.0 / counts[c as usize] as f64);
                    let shares: Vec<f64> = shares.collect();
                    let shares = Tensor::from_vec(shares, cells.len(), u.device())?;
                    let square = (u - joint)?.sqr()?.sum(1)?;
                    let weighted = (square * shares.to_dtype(self.nets.dtype())?)?;
                    (weighted.sum_all()? / n_counted.max(1) as f64)?
                }
            };
            add(&mut sum, term)?;
        }
        Ok(sum)
    }

    /// InfoNCE of all pairs of modalities: the mean over the cells that have both of `-ln softmax_j(cos(u_i, v_j) / temperature)`
    /// at `j = i`, from either side.
    fn contrast(&self, f: &Forward, batch: &Minibatch) -> Result<Option<Tensor>> {
        let (mut sum, mut pairs) = (None, 0.0);
        for (s, (a, u)) in batch.parts.iter().zip(&f.u).enumerate() {
            for (b, v) in batch.parts.iter().zip(&f.u).skip(s + 1) {
                let (Some(a), Some(b), Some(u), Some(v)) = (a, b, u, v) else {
                    continue;
                };
                let (of_a, of_b) = (a.row_of_cell(batch.n_cells), b.row_of_cell(batch.n_cells));
                let both = of_a
                    .iter()
                    .zip(&of_b)
                    .filter_map(|(a, b)| Some(((*a)?, (*b)?)));
                let (left, right): (Vec<u32>, Vec<u32>) = both.unzip();
                // A cell alone finds itself.
                if left.len() < 2 {
                    continue;
                }
                let (u, v) = (unit(&rows_of(u, &left)?)?, unit(&rows_of(v, &right)?)?);
                add(&mut sum, info_nce(&u, &v, self.config.temperature)?)?;
                pairs += 1.0;
            }
        }
        Ok(match sum {
            Some(sum) => Some((sum / pairs)?),
            None => None,
        })
    }
}

/// Rows of both are of length 1, and row i of one belongs to row i of the other.
fn info_nce(u: &Tensor, v: &Tensor, temperature: f64) -> Result<Tensor> {
    let logits = (u.matmul(&v.t()?.contiguous()?)? / temperature)?;
    let n = logits.dim(0)?;
    let own: Vec<u32> = (0..n as u32).collect();
    let own = ops::one_hot(&own, n, logits.dtype(), logits.device())?;
    let found =
        |logits: &Tensor| -> Result<Tensor> { Ok((ops::log_softmax(logits)? * &own)?.sum_all()?) };
    let both = (found(&logits)? + found(&logits.t()?.contiguous()?)?)?;
    Ok((both * (-0.5 / n as f64))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn contrast_is_the_cross_entropy_of_finding_oneself() {
        let t = |v: &[f64]| Tensor::from_slice(v, (2, 2), &Device::Cpu).unwrap();
        // Cosines: 1 and 0.6 for the first, 0 and 0.8 for the second.
        let (u, v) = (t(&[1.0, 0.0, 0.0, 1.0]), t(&[1.0, 0.0, 0.6, 0.8]));
        let cosines = [[1.0f64, 0.6], [0.0, 0.8]];
        let nll = |right: f64, wrong: f64| (1.0 + ((wrong - right) / 0.5).exp()).ln();
        let rows = nll(cosines[0][0], cosines[0][1]) + nll(cosines[1][1], cosines[1][0]);
        let columns = nll(cosines[0][0], cosines[1][0]) + nll(cosines[1][1], cosines[0][1]);
        let found = info_nce(&u, &v, 0.5).unwrap().to_scalar::<f64>().unwrap();
        assert!((found - (rows + columns) / 4.0).abs() < 1e-12, "{found}");
    }
}
