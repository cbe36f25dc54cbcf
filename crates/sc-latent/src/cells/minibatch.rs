//! Some cells at a time.

use std::borrow::Cow;
use std::sync::Arc;

use ndarray::Array2;
use sc_data::Csr;
use sc_tensor::ops::SparseInput;

use super::Cells;
use crate::minify::StoredRows;
use crate::{Error, Result};

/// Some cells, ready for the networks.
#[derive(Debug, Clone)]
pub struct Minibatch {
    /// Counts, `[N, G]`.
    pub counts: Arc<Csr>,
    /// What the encoder reads: the counts or their `ln(1 + x)`.
    pub input: SparseInput,
    /// Code of the batch of each cell.
    pub batch: Vec<u32>,
    /// Code of the label of each cell.
    pub labels: Vec<u32>,
    /// Codes of each categorical covariate.
    pub categorical: Vec<Vec<u32>>,
    /// Continuous covariates, `[N, K]`.
    pub continuous: Array2<f32>,
    /// Size factors.
    pub size_factor: Option<Vec<f32>>,
    /// The posterior of minified cells, which is used instead of the encoder. Without counts, `counts` is empty.
    pub stored: Option<StoredRows>,
}

impl Minibatch {
    /// The library size of each cell: the sum of its counts, as it was stored if the cells are minified.
    pub fn library_size(&self) -> Vec<f64> {
        match &self.stored {
            Some(stored) => stored.library_size.iter().map(|&l| f64::from(l)).collect(),
            None => self.counts.row_sums(),
        }
    }

    /// The same cells as they are without their stored posterior: the encoder looks at the counts. `what` is done with
    /// them, for the message.
    ///
    /// # Errors
    /// [`Error::NeedsCounts`] if they are minified without them.
    pub fn counted(&self, what: &'static str) -> Result<Cow<'_, Self>> {
        match &self.stored {
            None => Ok(Cow::Borrowed(self)),
            Some(stored) if stored.kind.has_counts() => Ok(Cow::Owned(Self {
                stored: None,
                ..self.clone()
            })),
            Some(_) => Err(Error::NeedsCounts { what }),
        }
    }
}

impl Cells<'_> {
    /// Reads some cells.
    ///
    /// # Errors
    /// If a row does not exist or cannot be read.
    pub fn minibatch(&self, rows: &[usize], log1p: bool) -> Result<Minibatch> {
        let stored = self.stored.as_ref().map(|s| s.rows(rows)).transpose()?;
        let counts = Arc::new(if self.has_counts() {
            self.counts.read_rows(rows)?
        } else {
            Csr::zeros(rows.len(), self.registry.n_genes())
        });
        let pick = |v: &[u32]| rows.iter().map(|&r| v[r]).collect::<Vec<_>>();
        Ok(Minibatch {
            input: if log1p {
                SparseInput::log1p(counts.clone())
            } else {
                SparseInput::counts(counts.clone())
            },
            batch: pick(&self.batch),
            labels: pick(&self.labels),
            categorical: self.categorical.iter().map(|c| pick(c)).collect(),
            continuous: self.continuous.select(ndarray::Axis(0), rows),
            size_factor: self
                .size_factor
                .as_ref()
                .map(|s| rows.iter().map(|&r| s[r]).collect()),
            stored,
            counts,
        })
    }
}
