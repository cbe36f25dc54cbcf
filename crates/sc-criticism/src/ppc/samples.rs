//! Where generated counts come from, some cells at a time.

use std::ops::Range;

use ndarray::Axis;
use sc_data::{Csr, RowSource};
use sc_model::Generative;

use crate::{Error, Result};

/// Samples of the counts of cells: several matrices `[cells, genes]`, of which only some cells are read at once.
pub trait Samples {
    /// How many samples there are of each cell.
    fn n_samples(&self) -> usize;

    /// How many cells there are.
    fn n_cells(&self) -> usize;

    /// The samples of some cells, one matrix a sample.
    ///
    /// # Errors
    /// If they can't be made or read.
    fn read(&self, cells: Range<usize>) -> Result<Vec<Csr>>;
}

/// Samples that a model draws when they are asked for.
#[derive(Debug)]
pub struct Drawn<'a, M, D: ?Sized> {
    model: &'a M,
    data: &'a D,
    n_samples: usize,
    seed: u64,
}

impl<'a, M: Generative<D>, D: ?Sized> Drawn<'a, M, D> {
    /// `n_samples` posterior predictive samples of every cell of `data`. The same seed gives the same ones.
    pub fn new(model: &'a M, data: &'a D, n_samples: usize, seed: u64) -> Self {
        Self {
            model,
            data,
            n_samples,
            seed,
        }
    }
}

impl<M, D: ?Sized> Samples for Drawn<'_, M, D>
where
    M: Generative<D>,
    M::Error: std::error::Error + Send + Sync + 'static,
{
    fn n_samples(&self) -> usize {
        self.n_samples
    }

    fn n_cells(&self) -> usize {
        self.model.n_cells(self.data)
    }

    fn read(&self, cells: Range<usize>) -> Result<Vec<Csr>> {
        let drawn = self
            .model
            .posterior_predictive_rows(self.data, cells, self.n_samples, self.seed)
            .map_err(|e| Error::Model(Box::new(e)))?;
        let parts = drawn.axis_iter(Axis(0));
        Ok(parts.map(Csr::from_dense_view).collect())
    }
}

/// Samples that are there already, each a matrix of its own in memory or in a file: those of a model that another program
/// trained.
pub struct Tables<'a> {
    samples: Vec<Box<dyn RowSource + 'a>>,
}

impl<'a> Tables<'a> {
    /// Samples from matrices `[cells, genes]`.
    ///
    /// # Errors
    /// [`Error::Length`] if they have different numbers of cells.
    pub fn new(samples: Vec<Box<dyn RowSource + 'a>>) -> Result<Self> {
        let first = samples.first().map_or(0, RowSource::n_rows);
        match samples.iter().position(|s| s.n_rows() != first) {
            Some(k) => Err(Error::Length {
                what: format!("sample {k}"),
                found: samples.get(k).map_or(0, RowSource::n_rows),
                like: "sample 0".into(),
                expected: first,
            }),
            None => Ok(Self { samples }),
        }
    }
}

impl Samples for Tables<'_> {
    fn n_samples(&self) -> usize {
        self.samples.len()
    }

    fn n_cells(&self) -> usize {
        self.samples.first().map_or(0, RowSource::n_rows)
    }

    fn read(&self, cells: Range<usize>) -> Result<Vec<Csr>> {
        let parts = self.samples.iter();
        Ok(parts
            .map(|s| s.read_range(cells.clone()))
            .collect::<sc_data::Result<_>>()?)
    }
}
