//! From values to samples of the embedding.

use candle_core::{D, Tensor};
use sc_model::{Mode, Parity};
use sc_tensor::{Stream, ops};

use crate::cells::{Minibatch, Part, is_identity};
use crate::model::Clue;
use crate::nets::Encoded;
use crate::{Fusion, Result};

/// The random numbers of one pass, standard normal.
#[derive(Debug, Clone, Default)]
pub struct Noise {
    /// For the posterior of each modality, `[rows, embedding]`.
    pub posterior: Vec<Option<Tensor>>,
    /// For the product of the posteriors, `[cells, embedding]`.
    pub joint: Option<Tensor>,
    /// Added to what the adversary reads of each modality, `[rows, embedding]`, times [`Noise::burn_in`].
    pub adversary: Vec<Option<Tensor>>,
    /// How much of it: 1 at the start, 0 after the burn-in.
    pub burn_in: f64,
}

impl Noise {
    /// Fresh noise for some cells.
    pub(crate) fn draw(
        model: &Clue,
        batch: &Minibatch,
        burn_in: f64,
        stream: impl Fn(&str) -> Stream,
    ) -> Result<Self> {
        let width = model.n_embedding();
        let normal = |name: &str, rows: usize| -> Result<Tensor> {
            let (dtype, device) = (model.nets.dtype(), model.nets.device());
            Ok(stream(name).normal((rows, width), dtype, device)?)
        };
        let each = |kind: &str| {
            let parts = batch.parts.iter().zip(&model.registry.modalities);
            let draw = parts.map(|(part, info)| {
                let name = format!("{kind}/{}", info.name);
                part.as_ref().map(|p| normal(&name, p.n_rows())).transpose()
            });
            draw.collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            posterior: each("posterior")?,
            joint: match model.config.fusion {
                Fusion::Product => Some(normal("posterior of all", batch.n_cells)?),
                Fusion::Mean => None,
            },
            adversary: if burn_in > 0.0 {
                each("burn-in")?
            } else {
                Vec::new()
            },
            burn_in,
        })
    }
}

/// What the encoders make of a minibatch.
pub(super) struct Forward {
    pub(super) encoded: Vec<Option<Encoded>>,
    /// Samples of each modality's posterior, `[rows, embedding]`, of length 1 if the model says so.
    pub(super) u: Vec<Option<Tensor>>,
    /// Of all modalities of a cell together, `[cells, embedding]`.
    pub(super) joint: Tensor,
    /// scglue's library sizes.
    pub(super) library: Vec<Option<Tensor>>,
}

impl Clue {
    pub(super) fn forward(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        mode: &Mode<'_>,
    ) -> Result<Forward> {
        let mut encoded = Vec::new();
        let mut u = Vec::new();
        let mut library = Vec::new();
        for (k, part) in batch.parts.iter().enumerate() {
            let Some(part) = part else {
                encoded.push(None);
                u.push(None);
                library.push(None);
                continue;
            };
            let q = self.nets.encode(k, part, mode)?;
            let sample = match noise.posterior.get(k).and_then(Option::as_ref) {
                Some(noise) => (&q.loc + (&q.std * noise)?)?,
                None => q.loc.clone(),
            };
            u.push(Some(self.as_decoded(&sample)?));
            library.push(match self.config.parity {
                Parity::Upstream => self.nets.estimated_library(k, part, mode)?,
                Parity::Correct => None,
            });
            encoded.push(Some(q));
        }
        let joint = match self.config.fusion {
            Fusion::Mean => mean_of(&u, batch)?,
            Fusion::Product => product_of(&encoded, batch, noise)?,
        };
        Ok(Forward {
            encoded,
            u,
            joint: self.as_decoded(&joint)?,
            library,
        })
    }

    /// A place of the embedding as the decoders read it.
    pub(crate) fn as_decoded(&self, u: &Tensor) -> Result<Tensor> {
        match self.config.normalize {
            true => unit(u),
            false => Ok(u.clone()),
        }
    }
}

/// The mean of the samples of the modalities that a cell has.
fn mean_of(u: &[Option<Tensor>], batch: &Minibatch) -> Result<Tensor> {
    let mut sum = None;
    for (part, u) in batch.parts.iter().zip(u) {
        if let (Some(part), Some(u)) = (part, u) {
            super::add(&mut sum, by_cell(u, part, batch.n_cells)?)?;
        }
    }
    let sum = sum.ok_or_else(nothing)?;
    let counts = super::batch_counts(batch);
    let shares: Vec<f64> = counts.iter().map(|&c| 1.0 / c.max(1) as f64).collect();
    let shares = Tensor::from_vec(shares, (batch.n_cells, 1), sum.device())?;
    Ok(sum.broadcast_mul(&shares.to_dtype(sum.dtype())?)?)
}

/// A sample of the product of the posteriors: the mean weighted by precisions, with the sum of these.
fn product_of(encoded: &[Option<Encoded>], batch: &Minibatch, noise: &Noise) -> Result<Tensor> {
    let (mut precision, mut weighted) = (None, None);
    for (part, q) in batch.parts.iter().zip(encoded) {
        let (Some(part), Some(q)) = (part, q) else {
            continue;
        };
        let p = q.std.sqr()?.recip()?;
        let m = (&p * &q.loc)?;
        super::add(&mut precision, by_cell(&p, part, batch.n_cells)?)?;
        super::add(&mut weighted, by_cell(&m, part, batch.n_cells)?)?;
    }
    let (precision, weighted) = precision.zip(weighted).ok_or_else(nothing)?;
    let mean = (weighted / &precision)?;
    Ok(match &noise.joint {
        Some(noise) => (mean + (noise / precision.sqrt()?)?)?,
        None => mean,
    })
}

/// Rows of a modality put at their cells; zeros where a cell does not have it.
pub(super) fn by_cell(t: &Tensor, part: &Part, n_cells: usize) -> Result<Tensor> {
    let rows = part.row_of_cell(n_cells);
    let (n, width) = t.dims2()?;
    if let Some(all) = rows.iter().copied().collect::<Option<Vec<u32>>>() {
        return rows_of(t, &all);
    }
    let none = Tensor::zeros((1, width), t.dtype(), t.device())?;
    let padded = Tensor::cat(&[t, &none], 0)?;
    let rows: Vec<u32> = rows.iter().map(|r| r.unwrap_or(n as u32)).collect();
    Ok(ops::embedding_ids(&padded, &rows)?)
}

/// Some rows of a matrix.
pub(super) fn rows_of(t: &Tensor, rows: &[u32]) -> Result<Tensor> {
    Ok(match is_identity(rows, t.dim(0)?) {
        true => t.clone(),
        false => ops::embedding_ids(t, rows)?,
    })
}

/// Rows brought to length 1.
pub(crate) fn unit(t: &Tensor) -> Result<Tensor> {
    // So small that it changes nothing, and a row of zeros stays one.
    let length = (t.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?;
    Ok(t.broadcast_div(&length)?)
}

/// The cosines of the rows of two matrices.
pub(super) fn cosines(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok((unit(a)? * unit(b)?)?.sum(D::Minus1)?)
}

fn nothing() -> crate::Error {
    crate::Error::NoCells {
        what: "a minibatch".into(),
        reason: "it has no cell with a modality that the model knows".into(),
    }
}
