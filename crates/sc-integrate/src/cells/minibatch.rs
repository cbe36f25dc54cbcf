//! Some cells at a time.

use std::sync::Arc;

use ndarray::{Array2, Axis};
use sc_data::Csr;
use sc_tensor::Stream;

use super::{Loaded, MultiCells};
use crate::{Error, Result};

/// Some cells, ready for the networks.
#[derive(Debug, Clone)]
pub struct Minibatch {
    /// Number of cells.
    pub n_cells: usize,
    /// The data of each modality; `None` if no cell has it.
    pub parts: Vec<Option<Part>>,
}

/// What a minibatch has of one modality.
#[derive(Debug, Clone)]
pub struct Part {
    /// For each row which cell of the minibatch it belongs to.
    pub cell: Vec<u32>,
    /// Whether it was measured in that cell; otherwise another cell stands in ([`sc_model::Parity::Upstream`] only).
    pub real: Vec<bool>,
    /// Values, `[rows, features]`.
    pub values: Arc<Csr>,
    /// What the encoders read instead, `[rows, width]`.
    pub representation: Option<Array2<f32>>,
    /// Codes of batches.
    pub batch: Vec<u32>,
    /// Codes of labels; `u32::MAX` where there is none.
    pub labels: Vec<u32>,
    /// How much each row weighs for the adversary, with mean 1; all the same if there are none.
    pub adversary_weights: Option<Vec<f32>>,
}

impl Part {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.cell.len()
    }

    /// The rows that were measured in their cell.
    pub(crate) fn real_rows(&self) -> Vec<u32> {
        let rows = (0u32..).zip(&self.real);
        rows.filter_map(|(i, &real)| real.then_some(i)).collect()
    }

    /// For each of `n` cells its row, if it was measured.
    pub(crate) fn row_of_cell(&self, n: usize) -> Vec<Option<u32>> {
        let mut out = vec![None; n];
        for ((row, &cell), &real) in (0u32..).zip(&self.cell).zip(&self.real) {
            if let Some(slot) = out.get_mut(cell as usize).filter(|_| real) {
                *slot = Some(row);
            }
        }
        out
    }

    /// Some of the rows' values.
    pub(crate) fn values_of(&self, rows: &[u32]) -> Result<Arc<Csr>> {
        if is_identity(rows, self.n_rows()) {
            return Ok(Arc::clone(&self.values));
        }
        let rows: Vec<usize> = rows.iter().map(|&r| r as usize).collect();
        Ok(Arc::new(self.values.select_rows(&rows)?))
    }
}

/// Whether rows are all of `n` in their order.
pub(crate) fn is_identity(rows: &[u32], n: usize) -> bool {
    rows.len() == n && rows.iter().enumerate().all(|(i, &r)| r as usize == i)
}

impl MultiCells<'_> {
    /// Reads some cells.
    ///
    /// # Errors
    /// If a cell does not exist or cannot be read.
    pub fn minibatch(&self, cells: &[usize]) -> Result<Minibatch> {
        self.read(cells, |m, cell| m.row_of.get(cell).copied().flatten())
    }

    /// The same where, in a modality that a cell lacks, another of the cells `among` stands in, drawn at random: scglue.
    ///
    /// # Errors
    /// If a cell does not exist or cannot be read, or none of `among` has some modality.
    pub(crate) fn minibatch_filled(
        &self,
        cells: &[usize],
        among: &[usize],
        stream: &mut Stream,
    ) -> Result<Minibatch> {
        let mut batch = self.read(cells, |m, cell| m.row_of.get(cell).copied().flatten())?;
        for (k, part) in batch.parts.iter_mut().enumerate() {
            let Some(m) = self.modalities.get(k).and_then(Option::as_ref) else {
                continue;
            };
            let present: Vec<u32> = among
                .iter()
                .filter_map(|&c| m.row_of.get(c).copied().flatten())
                .collect();
            if present.is_empty() {
                let name = self
                    .registry
                    .modalities
                    .get(k)
                    .map_or("", |m| m.name.as_str());
                return Err(Error::NoCells {
                    what: format!("modality \"{name}\""),
                    reason: "none of the cells of this split has it; use another seed, or Parity::Correct".into(),
                });
            }
            let own: Vec<Option<u32>> = cells
                .iter()
                .map(|&c| m.row_of.get(c).copied().flatten())
                .collect();
            let mut uniform = vec![0f64; cells.len()];
            stream.fill_uniform(0.0, 1.0, &mut uniform);
            let rows: Vec<usize> = own
                .iter()
                .zip(&uniform)
                .map(|(own, u)| {
                    let at = ((u * present.len() as f64) as usize).min(present.len() - 1);
                    own.unwrap_or(present[at]) as usize
                })
                .collect();
            let cell = (0..cells.len() as u32).collect();
            let real = own.iter().map(Option::is_some).collect();
            *part = Some(m.part(cell, real, &rows)?);
        }
        Ok(batch)
    }

    fn read(
        &self,
        cells: &[usize],
        row_of: impl Fn(&Loaded<'_>, usize) -> Option<u32>,
    ) -> Result<Minibatch> {
        if let Some(&index) = cells.iter().find(|&&c| c >= self.n_cells()) {
            return Err(sc_data::Error::OutOfRange {
                what: "cell",
                index,
                len: self.n_cells(),
            }
            .into());
        }
        let parts = self.modalities.iter().map(|m| {
            let Some(m) = m else { return Ok(None) };
            let found = (0u32..).zip(cells);
            let (cell, rows): (Vec<u32>, Vec<usize>) = found
                .filter_map(|(i, &c)| Some((i, row_of(m, c)? as usize)))
                .unzip();
            if rows.is_empty() {
                return Ok(None);
            }
            let real = vec![true; rows.len()];
            m.part(cell, real, &rows).map(Some)
        });
        Ok(Minibatch {
            n_cells: cells.len(),
            parts: parts.collect::<Result<_>>()?,
        })
    }

    /// The sum of the values of each cell in a modality that it has, by cell.
    pub(crate) fn library_sizes(&self, modality: usize) -> Result<Vec<Option<f64>>> {
        const ROWS_AT_ONCE: usize = 4096;
        let mut out = vec![None; self.n_cells()];
        let Some(m) = self.modalities.get(modality).and_then(Option::as_ref) else {
            return Ok(out);
        };
        let n = m.values.n_rows();
        for start in (0..n).step_by(ROWS_AT_ONCE) {
            let end = (start + ROWS_AT_ONCE).min(n);
            let sums = m.values.read_range(start..end)?.row_sums();
            for (row, sum) in (start..end).zip(sums) {
                if let Some(slot) = m.cell_of.get(row).and_then(|&c| out.get_mut(c)) {
                    *slot = Some(sum);
                }
            }
        }
        Ok(out)
    }

    /// The mean of `ln(1 + x)` of each feature of a modality.
    pub(crate) fn mean_logs(&self, modality: usize) -> Result<Vec<f32>> {
        const ROWS_AT_ONCE: usize = 4096;
        let Some(m) = self.modalities.get(modality).and_then(Option::as_ref) else {
            return Ok(Vec::new());
        };
        let n = m.values.n_rows();
        let mut sums = vec![0f64; m.values.n_cols()];
        for start in (0..n).step_by(ROWS_AT_ONCE) {
            let part = m.values.read_range(start..(start + ROWS_AT_ONCE).min(n))?;
            for (&c, &v) in part.indices().iter().zip(part.data()) {
                sums[c as usize] += f64::from(v).ln_1p();
            }
        }
        let n = n.max(1) as f64;
        Ok(sums.into_iter().map(|s| (s / n) as f32).collect())
    }
}

impl Loaded<'_> {
    fn part(&self, cell: Vec<u32>, real: Vec<bool>, rows: &[usize]) -> Result<Part> {
        let pick = |v: &[u32]| rows.iter().map(|&r| v[r]).collect();
        Ok(Part {
            cell,
            real,
            values: Arc::new(self.values.read_rows(rows)?),
            representation: self
                .representation
                .as_ref()
                .map(|r| r.select(Axis(0), rows)),
            batch: pick(&self.batch),
            labels: pick(&self.labels),
            adversary_weights: None,
        })
    }
}
