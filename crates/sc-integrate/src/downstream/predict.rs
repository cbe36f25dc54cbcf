//! One modality from another.

use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_model::{Mode, Parity};
use sc_tensor::rng::Rng;

use super::{CELLS_AT_ONCE, fill_rows};
use crate::cells::{MultiCells, Part};
use crate::losses::log_library;
use crate::model::Clue;
use crate::nets::head::Library;
use crate::{Error, Result};

/// The library size that counts are predicted for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum LibrarySize {
    /// What cells with so many counts in the source modality usually have in the target.
    #[default]
    Predicted,
    /// What the cell has in the target modality, where it was measured; otherwise predicted.
    Observed,
    /// The same for all cells.
    Fixed(f64),
}

/// How to predict.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PredictOptions {
    /// Library sizes.
    pub library: LibrarySize,
    /// The batch that cells are decoded in; `None` takes that of each cell in the source modality.
    pub batch: Option<String>,
    /// Draws of the embedding; 0 takes the posterior mean, and then there is no uncertainty of it.
    pub n_samples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for PredictOptions {
    fn default() -> Self {
        Self {
            library: LibrarySize::default(),
            batch: None,
            n_samples: 25,
            seed: 0,
        }
    }
}

/// Predicted values of a modality.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Prediction {
    /// The cells, by number: those that have the source modality.
    pub cells: Vec<usize>,
    /// Expected values, `[cells, features]`.
    pub mean: Array2<f32>,
    /// How far expected values vary with the place in the embedding, as a standard deviation.
    pub latent_std: Array2<f32>,
    /// How far values are expected to lie from the mean, the noise of measuring included, as a standard deviation.
    pub predictive_std: Array2<f32>,
}

impl Clue {
    /// Predicts a modality from another one, for the cells that have the latter: RNA to proteins, say. From itself, it is
    /// the model's reconstruction.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality or batch, [`Error::NoCells`] if no cell has the source, and if
    /// the cells do not fit the model.
    pub fn predict(
        &self,
        cells: &MultiCells<'_>,
        from: &str,
        to: &str,
        options: &PredictOptions,
    ) -> Result<Prediction> {
        self.fits(cells)?;
        let target = self.registry.modality(to)?;
        let rows = self.cells_with(cells, from)?;
        let shape = (rows.len(), self.registry.modalities[target].n_features());
        let mut out = Prediction {
            cells: rows,
            mean: Array2::zeros(shape),
            latent_std: Array2::zeros(shape),
            predictive_std: Array2::zeros(shape),
        };
        let rows = out.cells.clone();
        for (i, some) in rows.chunks(CELLS_AT_ONCE).enumerate() {
            let start = i * CELLS_AT_ONCE;
            let place = self.place(cells, some, from, to, options)?;
            let moments = place.moments(self, options, start)?;
            fill_rows(&mut out.mean, start, &moments.mean)?;
            fill_rows(&mut out.latent_std, start, &moments.latent_std)?;
            fill_rows(&mut out.predictive_std, start, &moments.predictive_std)?;
        }
        Ok(out)
    }

    /// Where some cells lie, and what else their decoding needs.
    pub(super) fn place(
        &self,
        cells: &MultiCells<'_>,
        some: &[usize],
        from: &str,
        to: &str,
        options: &PredictOptions,
    ) -> Result<Place> {
        let (s, t) = (self.registry.modality(from)?, self.registry.modality(to)?);
        let batch = cells.minibatch(some)?;
        let part = batch.parts[s].as_ref().ok_or_else(|| Error::NoCells {
            what: format!("modality \"{from}\""),
            reason: "none of these cells has it".into(),
        })?;
        let q = self.nets.encode(s, part, &Mode::eval())?;
        let codes = match &options.batch {
            Some(name) => vec![self.registry.batch(name)?; part.n_rows()],
            None => part.batch.clone(),
        };
        let observed = batch.parts[t].as_ref();
        Ok(Place {
            target: t,
            library: self.library_for(s, t, part, observed, batch.n_cells, options.library)?,
            loc: q.loc,
            std: q.std,
            batch: codes,
        })
    }

    fn library_for(
        &self,
        source: usize,
        target: usize,
        part: &Part,
        observed: Option<&Part>,
        n_cells: usize,
        wanted: LibrarySize,
    ) -> Result<Option<Library>> {
        if !self.registry.modalities[target].likelihood.has_library() {
            return Ok(None);
        }
        let sums = part.values.row_sums();
        if self.config.parity == Parity::Upstream
            && wanted == LibrarySize::Predicted
            && let Some(l) = self.nets.estimated_library(source, part, &Mode::eval())?
        {
            return Ok(Some(Library::Size(l.narrow(1, target, 1)?.contiguous()?)));
        }
        let predicted: Vec<f64> = match (wanted, self.nets.line(source, target)) {
            (LibrarySize::Fixed(l), _) if l.is_finite() && l > 0.0 => vec![l.ln(); sums.len()],
            (LibrarySize::Fixed(l), _) => {
                return Err(Error::InvalidSetting {
                    name: "library",
                    value: l.to_string(),
                    reason: "it must be a positive number".into(),
                });
            }
            (_, Some(line)) => {
                let line = line.get()?;
                sums.iter().map(|s| line.at(*s)).collect()
            }
            // The cell's own.
            (_, None) => sums.iter().map(|s| log_library(*s)).collect(),
        };
        let measured = match (wanted, observed) {
            (LibrarySize::Observed, Some(o)) => {
                let own = o.values.row_sums();
                let rows = o.row_of_cell(n_cells);
                let of_cell = |c: &u32| rows.get(*c as usize).copied().flatten();
                let of_row = |c: &u32| of_cell(c).and_then(|r| own.get(r as usize));
                part.cell
                    .iter()
                    .map(|c| of_row(c).map(|s| log_library(*s)))
                    .collect()
            }
            _ => vec![None; sums.len()],
        };
        let logs = measured.iter().zip(&predicted);
        let logs: Vec<f64> = logs.map(|(m, p)| m.unwrap_or(*p)).collect();
        let n = logs.len();
        let t = Tensor::from_vec(logs, n, self.nets.device())?;
        Ok(Some(Library::Log(t.to_dtype(self.nets.dtype())?)))
    }
}

/// Rows of the embedding, ready to be decoded.
pub(super) struct Place {
    target: usize,
    loc: Tensor,
    std: Tensor,
    library: Option<Library>,
    pub(super) batch: Vec<u32>,
}

struct Moments {
    mean: Tensor,
    latent_std: Tensor,
    predictive_std: Tensor,
}

impl Place {
    /// A draw of the places, or their means, as the decoder reads them.
    pub(super) fn draw(&self, model: &Clue, noise: Option<&Tensor>) -> Result<Tensor> {
        let u = match noise {
            Some(noise) => (&self.loc + (&self.std * noise)?)?,
            None => self.loc.clone(),
        };
        let u = model.as_decoded(&u)?;
        let n = model.registry.n_modalities();
        let subspace = model.config.subspace(self.target, n);
        Ok(u.narrow(1, subspace.start, subspace.len())?.contiguous()?)
    }

    /// Mean, and the two variances, over draws.
    fn moments(&self, model: &Clue, options: &PredictOptions, first: usize) -> Result<Moments> {
        let rng = Rng::new(options.seed);
        let stream = rng.stream("predict");
        let draws = options.n_samples.max(1);
        let (mut sum, mut squares, mut within) = (None, None, None);
        for s in 0..draws {
            let noise = match options.n_samples {
                0 => None,
                _ => Some(self.noise(&mut stream.at(&[first as u64, s as u64]))?),
            };
            let u = self.draw(model, noise.as_ref())?;
            let decoder = &model.nets.decoders[self.target];
            let out = decoder.forward(&u, &self.batch, &Mode::eval())?;
            let library = self.library.as_ref();
            let mean = decoder
                .head
                .mean(&out, library, &self.batch)?
                .to_dtype(DType::F64)?;
            let var = decoder.head.variance(&out, library, &self.batch)?;
            crate::losses::add(&mut squares, mean.sqr()?)?;
            crate::losses::add(&mut sum, mean)?;
            crate::losses::add(&mut within, var.to_dtype(DType::F64)?)?;
        }
        let mean_of = |t: Option<Tensor>| -> Result<Tensor> {
            let t = t.ok_or_else(|| Error::NoCells {
                what: "the prediction".into(),
                reason: "there is no draw".into(),
            })?;
            Ok((t / draws as f64)?)
        };
        let (mean, squares, within) = (mean_of(sum)?, mean_of(squares)?, mean_of(within)?);
        let between = (squares - mean.sqr()?)?.relu()?;
        Ok(Moments {
            predictive_std: (&between + within)?.sqrt()?,
            latent_std: between.sqrt()?,
            mean,
        })
    }

    pub(super) fn noise(&self, stream: &mut sc_tensor::Stream) -> Result<Tensor> {
        let (dtype, device) = (self.loc.dtype(), self.loc.device());
        Ok(stream.normal(self.loc.shape().clone(), dtype, device)?)
    }

    /// One draw of the values for given places.
    pub(super) fn sample(
        &self,
        model: &Clue,
        u: &Tensor,
        stream: &mut sc_tensor::Stream,
    ) -> Result<Tensor> {
        let decoder = &model.nets.decoders[self.target];
        let out = decoder.forward(u, &self.batch, &Mode::eval())?;
        decoder
            .head
            .sample(&out, self.library.as_ref(), &self.batch, stream)
    }

    /// Shares of a cell's counts, or expected values, for given places.
    pub(super) fn shares(&self, model: &Clue, u: &Tensor) -> Result<Tensor> {
        let decoder = &model.nets.decoders[self.target];
        let out = decoder.forward(u, &self.batch, &Mode::eval())?;
        decoder.head.shares(&out, &self.batch)
    }
}
