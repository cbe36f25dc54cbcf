//! The traits through which posterior predictive checks meet a modality of the model.

use std::ops::Range;

use candle_core::Tensor;
use ndarray::{Array2, Array3, Axis};
use sc_model::{ExpressionOptions, Generative};
use sc_tensor::rng::Rng;

use super::predict::{LibrarySize, PredictOptions};
use super::{CELLS_AT_ONCE, fill_rows};
use crate::cells::MultiCells;
use crate::losses::add;
use crate::model::Clue;
use crate::{Error, Result};

/// One modality of a model, generated from itself or from another: it can be judged by posterior predictive checks.
///
/// Its cells are those that have the source modality, in their order. Library sizes are those observed in the target, where
/// it was measured.
#[derive(Debug, Clone)]
pub struct OfModality<'m> {
    model: &'m Clue,
    from: String,
    to: String,
}

impl Clue {
    /// A modality as the model generates it from the cell's own values of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn of_modality(&self, name: &str) -> Result<OfModality<'_>> {
        self.across(name, name)
    }

    /// A modality as the model generates it from another one.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn across(&self, from: &str, to: &str) -> Result<OfModality<'_>> {
        self.registry.modality(from)?;
        self.registry.modality(to)?;
        Ok(OfModality {
            model: self,
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }
}

impl OfModality<'_> {
    fn n_features(&self) -> Result<usize> {
        let k = self.model.registry.modality(&self.to)?;
        Ok(self.model.registry.modalities[k].n_features())
    }

    fn options(&self) -> PredictOptions {
        PredictOptions {
            library: LibrarySize::Observed,
            ..PredictOptions::default()
        }
    }

    fn rows(&self, cells: &MultiCells<'_>) -> Result<Vec<usize>> {
        self.model.fits(cells)?;
        self.model.cells_with(cells, &self.from)
    }
}

impl Generative<MultiCells<'_>> for OfModality<'_> {
    type Error = Error;

    fn n_cells(&self, cells: &MultiCells<'_>) -> usize {
        cells.with_modality(&self.from).map_or(0, |c| c.len())
    }

    /// Draws are made in blocks of cells, so that each cell has the same ones whichever cells are asked for.
    fn posterior_predictive_rows(
        &self,
        cells: &MultiCells<'_>,
        wanted: Range<usize>,
        n_samples: usize,
        seed: u64,
    ) -> Result<Array3<f32>> {
        let rows = self.rows(cells)?;
        if wanted.end > rows.len() {
            return Err(sc_data::Error::OutOfRange {
                what: "cell",
                index: wanted.end,
                len: rows.len(),
            }
            .into());
        }
        let mut out = Array3::zeros((n_samples, wanted.len(), self.n_features()?));
        let stream = Rng::new(seed).stream("posterior predictive");
        let first = wanted.start / CELLS_AT_ONCE;
        let blocks = rows.chunks(CELLS_AT_ONCE).enumerate().skip(first);
        for (b, some) in blocks.take_while(|(b, _)| b * CELLS_AT_ONCE < wanted.end) {
            let place = self
                .model
                .place(cells, some, &self.from, &self.to, &self.options())?;
            let start = b * CELLS_AT_ONCE;
            for s in 0..n_samples {
                let mut stream = stream.at(&[b as u64, s as u64]);
                let noise = place.noise(&mut stream)?;
                let u = place.draw(self.model, Some(&noise))?;
                let mut block = Array2::zeros((some.len(), out.dim().2));
                fill_rows(&mut block, 0, &place.sample(self.model, &u, &mut stream)?)?;
                let mut to = out.index_axis_mut(Axis(0), s);
                for (i, row) in block.rows().into_iter().enumerate() {
                    if wanted.contains(&(start + i)) {
                        to.row_mut(start + i - wanted.start).assign(&row);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Each feature's share of a cell where the likelihood is one of counts; expected values otherwise.
    fn expected_expression(
        &self,
        cells: &MultiCells<'_>,
        options: &ExpressionOptions,
    ) -> Result<Array2<f32>> {
        let rows = self.rows(cells)?;
        let mut out = Array2::zeros((rows.len(), self.n_features()?));
        let stream = Rng::new(options.seed).stream("expected expression");
        for (i, some) in rows.chunks(CELLS_AT_ONCE).enumerate() {
            let place = self
                .model
                .place(cells, some, &self.from, &self.to, &self.options())?;
            let mut sum: Option<Tensor> = None;
            for s in 0..options.n_samples.max(1) {
                let noise = match options.n_samples {
                    0 => None,
                    _ => Some(place.noise(&mut stream.at(&[i as u64, s as u64]))?),
                };
                let u = place.draw(self.model, noise.as_ref())?;
                add(&mut sum, place.shares(self.model, &u)?)?;
            }
            if let Some(sum) = sum {
                let mean = (sum / options.n_samples.max(1) as f64)?;
                fill_rows(&mut out, i * CELLS_AT_ONCE, &mean)?;
            }
        }
        match &options.genes {
            None => Ok(out),
            Some(genes) => match genes.iter().find(|&&g| g >= out.ncols()) {
                Some(&index) => Err(sc_data::Error::OutOfRange {
                    what: "feature",
                    index,
                    len: out.ncols(),
                }
                .into()),
                None => Ok(out.select(Axis(1), genes)),
            },
        }
    }
}
