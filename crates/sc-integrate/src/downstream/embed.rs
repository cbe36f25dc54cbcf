//! Places of cells in the embedding.

use std::ops::Range;

use candle_core::Tensor;
use ndarray::{Array2, Axis};
use sc_model::{Embed, Mode};

use super::{CELLS_AT_ONCE, fill_rows};
use crate::cells::{Minibatch, MultiCells};
use crate::model::Clue;
use crate::nets::Encoded;
use crate::{Error, Result};

/// How the modalities of a cell are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compose {
    /// Each subspace from its own modality where the cell has it, else the mean of what the others say: keeps what only one
    /// modality can tell. For clusters and neighbours.
    #[default]
    Own,
    /// The mean over the modalities of vectors of length 1, as in training. For decoding.
    Mean,
    /// The mean over the modalities, weighted by the precisions of their posteriors.
    Product,
    /// The same with the prior, `N(0, I)`, as one more.
    ProductWithPrior,
}

/// The places of the cells that have one modality, seen from it alone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModalityEmbedding {
    /// The cells, by number.
    pub cells: Vec<usize>,
    /// Posterior means, `[cells, embedding]`.
    pub mean: Array2<f32>,
    /// Posterior standard deviations.
    pub std: Array2<f32>,
}

impl ModalityEmbedding {
    /// The means brought to length 1, as decoders and matching compare them.
    pub fn unit(&self) -> Array2<f32> {
        unit_rows(&self.mean)
    }
}

/// The places of all cells, whatever modalities they have.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JointEmbedding {
    /// `[cells, embedding]`
    pub values: Array2<f32>,
    /// The name of each modality, and the columns that are its subspace.
    pub subspaces: Vec<(String, Range<usize>)>,
}

impl JointEmbedding {
    /// The columns that are the subspace of a modality.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn subspace(&self, modality: &str) -> Result<ndarray::ArrayView2<'_, f32>> {
        let found = self.subspaces.iter().find(|s| s.0 == modality);
        let names = || self.subspaces.iter().map(|s| s.0.as_str());
        let (_, range) = found.ok_or_else(|| Error::not_found("modality", modality, names()))?;
        Ok(self.values.slice_axis(Axis(1), range.clone().into()))
    }
}

/// Rows brought to length 1; a row of zeros stays one.
pub(crate) fn unit_rows(a: &Array2<f32>) -> Array2<f32> {
    let mut out = a.clone();
    for mut row in out.axis_iter_mut(Axis(0)) {
        let square: f64 = row.iter().map(|&v| f64::from(v).powi(2)).sum();
        if square > 0.0 {
            let scale = (1.0 / square.sqrt()) as f32;
            row.map_inplace(|v| *v *= scale);
        }
    }
    out
}

impl Clue {
    /// The whole embedding of the cells that have a modality, from it alone.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality, [`Error::NoCells`] if no cell has it, and if the cells do not fit
    /// the model.
    pub fn embed_modality(
        &self,
        cells: &MultiCells<'_>,
        modality: &str,
    ) -> Result<ModalityEmbedding> {
        self.fits(cells)?;
        let k = self.registry.modality(modality)?;
        let rows = self.cells_with(cells, modality)?;
        let shape = (rows.len(), self.n_embedding());
        let (mut mean, mut std) = (Array2::zeros(shape), Array2::zeros(shape));
        for (i, some) in rows.chunks(CELLS_AT_ONCE).enumerate() {
            let batch = cells.minibatch(some)?;
            let Some(part) = &batch.parts[k] else {
                continue;
            };
            let q = self.nets.encode(k, part, &Mode::eval())?;
            fill_rows(&mut mean, i * CELLS_AT_ONCE, &q.loc)?;
            fill_rows(&mut std, i * CELLS_AT_ONCE, &q.std)?;
        }
        Ok(ModalityEmbedding {
            cells: rows,
            mean,
            std,
        })
    }

    /// The cells that have a modality, at least one.
    pub(crate) fn cells_with(&self, cells: &MultiCells<'_>, modality: &str) -> Result<Vec<usize>> {
        let rows = cells.with_modality(modality)?;
        if rows.is_empty() {
            return Err(Error::NoCells {
                what: format!("modality \"{modality}\""),
                reason: "no cell has it".into(),
            });
        }
        Ok(rows)
    }

    /// The embedding of all cells, each from all modalities that it has.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn embed_joint(&self, cells: &MultiCells<'_>, compose: Compose) -> Result<JointEmbedding> {
        self.fits(cells)?;
        let n = cells.n_cells();
        let mut values = Array2::zeros((n, self.n_embedding()));
        for start in (0..n).step_by(CELLS_AT_ONCE) {
            let some: Vec<usize> = (start..(start + CELLS_AT_ONCE).min(n)).collect();
            let batch = cells.minibatch(&some)?;
            fill_rows(&mut values, start, &self.composed(&batch, compose)?)?;
        }
        let modalities = self.registry.modalities.iter().enumerate();
        let named = modalities.map(|(k, m)| {
            let range = self.config.subspace(k, self.registry.n_modalities());
            (m.name.clone(), range)
        });
        Ok(JointEmbedding {
            values,
            subspaces: named.collect(),
        })
    }

    /// The joint places of a minibatch, `[cells, embedding]`.
    pub(super) fn composed(&self, batch: &Minibatch, compose: Compose) -> Result<Tensor> {
        let mut encoded: Vec<Option<Encoded>> = Vec::with_capacity(batch.parts.len());
        for (k, part) in batch.parts.iter().enumerate() {
            encoded.push(match part {
                Some(part) => Some(self.nets.encode(k, part, &Mode::eval())?),
                None => None,
            });
        }
        let scaled = |t: &Tensor| match compose {
            Compose::Own | Compose::Mean => self.as_decoded(t),
            _ => Ok(t.clone()),
        };
        let mut sum: Option<Tensor> = None;
        let mut weight: Option<Tensor> = None;
        for (k, (part, q)) in batch.parts.iter().zip(&encoded).enumerate() {
            let (Some(part), Some(q)) = (part, q) else {
                continue;
            };
            let w = match compose {
                Compose::Product | Compose::ProductWithPrior => q.std.sqr()?.recip()?,
                Compose::Mean => q.std.ones_like()?,
                Compose::Own => self.own_weights(k, &q.std)?,
            };
            let value = (scaled(&q.loc)? * &w)?;
            crate::losses::add_at_cells(&mut sum, &value, part, batch.n_cells)?;
            crate::losses::add_at_cells(&mut weight, &w, part, batch.n_cells)?;
        }
        let (Some(sum), Some(weight)) = (sum, weight) else {
            return Err(Error::NoCells {
                what: "a minibatch".into(),
                reason: "it has no cell with a modality that the model knows".into(),
            });
        };
        let weight = match compose {
            Compose::ProductWithPrior => (weight + 1.0)?,
            _ => weight,
        };
        let joint = (sum / weight)?;
        match compose {
            Compose::Mean => self.as_decoded(&joint),
            _ => Ok(joint),
        }
    }

    /// So much more for the own subspace that the others don't count where there is one.
    fn own_weights(&self, modality: usize, like: &Tensor) -> Result<Tensor> {
        const OWN: f64 = 1e12;
        let subspace = self.config.subspace(modality, self.registry.n_modalities());
        let row: Vec<f64> = (0..self.n_embedding())
            .map(|j| if subspace.contains(&j) { OWN } else { 1.0 })
            .collect();
        let n = row.len();
        let row = Tensor::from_vec(row, (1, n), like.device())?.to_dtype(like.dtype())?;
        Ok(row.broadcast_as(like.shape())?.contiguous()?)
    }
}

impl Embed<MultiCells<'_>> for Clue {
    type Error = Error;

    fn n_latent(&self) -> usize {
        self.n_embedding()
    }

    /// [`Clue::embed_joint`] with [`Compose::Own`].
    fn embed(&self, cells: &MultiCells<'_>) -> Result<Array2<f32>> {
        Ok(self.embed_joint(cells, Compose::Own)?.values)
    }
}
