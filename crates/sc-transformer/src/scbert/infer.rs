use candle_core::{DType, Tensor};
use ndarray::{Array2, ArrayView1};
use rayon::prelude::*;
use sc_model::{Classify, Embed, Mode, Probabilities};
use sc_tensor::ops;

use super::{Scbert, ScbertCells};
use crate::{Error, Result};
use sc_tensor::ops::Stabiliser;

/// Cells whose tokens are read at once.
const BLOCK: usize = 256;
/// Cells with fewer positions than this go through the network side by side; of longer ones, each keeps all threads busy.
pub(super) const SHORT: usize = 2048;

/// Upstream's name of a cell that is of no known type.
pub const UNASSIGNED: &str = "Unassigned";

/// What the vector of a cell is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// The last position, which stands for the cell.
    #[default]
    Last,
    /// The mean over all positions.
    Mean,
}

/// The types that a model gives to cells.
#[derive(Debug, Clone)]
pub struct Annotation {
    /// The probability of each type for each cell.
    pub probabilities: Probabilities,
    /// The most likely type of each cell (a column of the probabilities); none if its probability is below the threshold.
    pub types: Vec<Option<usize>>,
}

impl Annotation {
    /// The type of each cell; [`UNASSIGNED`] for those that are of none.
    pub fn names(&self) -> Vec<&str> {
        let labels = &self.probabilities.labels;
        let name = |t: &Option<usize>| {
            t.and_then(|t| labels.get(t))
                .map_or(UNASSIGNED, String::as_str)
        };
        self.types.iter().map(name).collect()
    }
}

impl Scbert {
    /// Gives each cell its most likely type. With a `threshold` (upstream's is 0.5), cells whose best type is less likely than
    /// that are of none: they may be of a type that the model has not seen.
    ///
    /// # Errors
    /// [`Error::WrongHead`] if the model has no classes, [`Error::InvalidSetting`] if the threshold is no probability, and those
    /// of the source.
    pub fn annotate(&self, cells: &ScbertCells<'_>, threshold: Option<f32>) -> Result<Annotation> {
        if let Some(t) = threshold.filter(|t| !(0.0..=1.0).contains(t)) {
            return Err(Error::InvalidSetting {
                name: "threshold",
                value: t.to_string(),
                reason: "it must be a probability".into(),
            });
        }
        let probabilities = self.classify(cells)?;
        let (best, p) = probabilities.best();
        let known = |p: f32| threshold.is_none_or(|t| p >= t);
        let types = best
            .into_iter()
            .zip(p)
            .map(|(t, p)| known(p).then_some(t))
            .collect();
        Ok(Annotation {
            probabilities,
            types,
        })
    }

    /// One vector a cell, `[cells, dim]`. Upstream defines none; both ways are in use.
    ///
    /// # Errors
    /// Those of the source.
    pub fn embed_with(&self, cells: &ScbertCells<'_>, pooling: Pooling) -> Result<Array2<f32>> {
        let vector = |tokens: &[u32]| {
            let y = self.encode(tokens, Stabiliser::PerSequence)?;
            let y = match pooling {
                Pooling::Last => y.narrow(0, y.dim(0)? - 1, 1)?.flatten_all()?,
                Pooling::Mean => (ops::sum_rows(&y)? / y.dim(0)? as f64)?,
            };
            numbers(&y)
        };
        rows(self.each_cell(cells, vector)?, self.config.dim)
    }

    /// Runs `f` on the tokens of each cell. Cells are on their own: what others there are makes no difference to a bit.
    pub(super) fn each_cell<T: Send>(
        &self,
        cells: &ScbertCells<'_>,
        f: impl Fn(&[u32]) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let every: Vec<usize> = (0..cells.len()).collect();
        let mut all = Vec::with_capacity(cells.len());
        self.each_of(cells, &every, f, |t| all.push(t))?;
        Ok(all)
    }

    /// Runs `f` on the tokens of some cells, and gives what it made to `take`, in order. Results of few cells are held at once.
    pub(super) fn each_of<T: Send>(
        &self,
        cells: &ScbertCells<'_>,
        which: &[usize],
        f: impl Fn(&[u32]) -> Result<T> + Sync,
        mut take: impl FnMut(T),
    ) -> Result<()> {
        let positions = self.panel.positions();
        if cells.panel() != &self.panel {
            return Err(Error::Panel {
                reason: "the cells were read for another panel than the model's".into(),
            });
        }
        for block in which.chunks(BLOCK) {
            let tokens = cells.tokens(block)?;
            if positions < SHORT {
                let made: Result<Vec<T>> = tokens.par_chunks_exact(positions).map(&f).collect();
                made?.into_iter().for_each(&mut take);
            } else {
                for cell in tokens.chunks_exact(positions) {
                    take(f(cell)?);
                }
            }
        }
        Ok(())
    }
}

impl<'a> Classify<ScbertCells<'a>> for Scbert {
    type Error = Error;

    fn classify(&self, cells: &ScbertCells<'a>) -> Result<Probabilities> {
        if self.labels.is_empty() {
            return Err(Error::WrongHead {
                found: "expression",
                wanted: "classes",
                advice: "fine-tune it first",
            });
        }
        let of_cell = |tokens: &[u32]| {
            let y = self.encode(tokens, Stabiliser::PerSequence)?;
            numbers(&ops::softmax(&self.class_scores(&y, &Mode::eval())?)?)
        };
        Ok(Probabilities {
            labels: self.labels.clone(),
            values: rows(self.each_cell(cells, of_cell)?, self.labels.len())?,
        })
    }
}

/// The last position of each cell; [`Scbert::embed_with`] has the mean too.
impl<'a> Embed<ScbertCells<'a>> for Scbert {
    type Error = Error;

    fn n_latent(&self) -> usize {
        self.config.dim
    }

    fn embed(&self, cells: &ScbertCells<'a>) -> Result<Array2<f32>> {
        self.embed_with(cells, Pooling::Last)
    }
}

fn numbers(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn rows(all: Vec<Vec<f32>>, width: usize) -> Result<Array2<f32>> {
    let mut matrix = Array2::zeros((all.len(), width));
    for (mut row, values) in matrix.rows_mut().into_iter().zip(&all) {
        row.assign(&ArrayView1::from(values.as_slice()));
    }
    Ok(matrix)
}
