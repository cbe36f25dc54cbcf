use sc_data::{Csr, RowSource};

use super::{Alignment, GenePanel, Scbert};
use crate::{Error, Result};

/// Cells read at a time where all are gone through.
const BLOCK: usize = 1024;

/// How cells become tokens.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CellsConfig {
    /// Leave out cells in which fewer genes of the panel are detected; 200.
    pub min_genes: usize,
    /// The sum over the panel's genes to which the counts of a cell are scaled; 10,000. A panel of few genes needs less, or all
    /// that are expressed get the highest token.
    pub target_sum: f64,
}

impl Default for CellsConfig {
    fn default() -> Self {
        Self {
            min_genes: 200,
            target_sum: 1e4,
        }
    }
}

/// Cells as scBERT reads them. Raw counts are put into the order of the panel, scaled to the same sum *over the panel's
/// genes*, and become `log2(1 + x)`; a gene's token is the whole part of that, up to the highest token. Cells are read when
/// they are needed, a minibatch at a time.
pub struct ScbertCells<'a> {
    source: &'a dyn RowSource,
    panel: GenePanel,
    alignment: Alignment,
    max_bin: usize,
    target_sum: f64,
    kept: Vec<usize>,
    dropped: Vec<(usize, usize)>,
}

impl Scbert {
    /// Cells for this model: raw counts, whose columns are called `genes`.
    ///
    /// # Errors
    /// [`Error::NoGenesInCommon`], [`Error::BadCount`] if a count is negative or no number, [`Error::NoCells`] if too few genes
    /// are detected in all cells, and those of the source.
    pub fn cells<'a, S: AsRef<str>>(
        &self,
        source: &'a dyn RowSource,
        genes: &[S],
        config: &CellsConfig,
    ) -> Result<ScbertCells<'a>> {
        ScbertCells::new(source, genes, &self.panel, self.config.max_bin, config)
    }
}

impl<'a> ScbertCells<'a> {
    /// Cells for a model with these genes, whose highest token is `max_bin`.
    ///
    /// # Errors
    /// As [`Scbert::cells`].
    pub fn new<S: AsRef<str>>(
        source: &'a dyn RowSource,
        genes: &[S],
        panel: &GenePanel,
        max_bin: usize,
        config: &CellsConfig,
    ) -> Result<Self> {
        if genes.len() != source.n_cols() {
            return Err(sc_data::Error::LengthMismatch {
                what: "the list of genes".into(),
                found: genes.len(),
                expected: source.n_cols(),
            }
            .into());
        }
        if !(config.target_sum.is_finite() && config.target_sum > 0.0) {
            return Err(Error::InvalidSetting {
                name: "target_sum",
                value: config.target_sum.to_string(),
                reason: "it must be a positive number".into(),
            });
        }
        let mut cells = Self {
            source,
            alignment: panel.align(genes)?,
            panel: panel.clone(),
            max_bin,
            target_sum: config.target_sum,
            kept: Vec::new(),
            dropped: Vec::new(),
        };
        cells.filter(genes, config.min_genes)?;
        Ok(cells)
    }

    /// Goes over all cells once: which have enough genes, and whether all counts are counts.
    fn filter<S: AsRef<str>>(&mut self, genes: &[S], min_genes: usize) -> Result<()> {
        let n = self.source.n_rows();
        for start in (0..n).step_by(BLOCK) {
            let block = self.source.read_range(start..n.min(start + BLOCK))?;
            for i in 0..block.n_rows() {
                let (columns, values) = block.row(i);
                if let Some((&column, &value)) =
                    (columns.iter().zip(values)).find(|(_, v)| !(v.is_finite() && **v >= 0.0))
                {
                    return Err(Error::BadCount {
                        cell: start + i,
                        gene: genes
                            .get(column as usize)
                            .map_or("", AsRef::as_ref)
                            .to_owned(),
                        value,
                    });
                }
                match self.counts(columns, values).count() {
                    detected if detected >= min_genes.max(1) => self.kept.push(start + i),
                    detected => self.dropped.push((start + i, detected)),
                }
            }
        }
        if self.kept.is_empty() {
            return Err(Error::NoCells {
                found: n,
                reason: format!(
                    "fewer than {} of the {} panel genes in the data are detected in each; min_genes sets how many are needed",
                    min_genes.max(1),
                    self.alignment.n_found()
                ),
            });
        }
        Ok(())
    }

    /// Position and count of the panel's genes that a cell expresses.
    fn counts(&self, columns: &[u32], values: &[f32]) -> impl Iterator<Item = (u32, f32)> {
        let positions = &self.alignment.positions;
        (columns.iter().zip(values)).filter_map(move |(&c, &v)| {
            let position = positions.get(c as usize).copied().flatten()?;
            (v > 0.0).then_some((position, v))
        })
    }

    /// How the genes of the data stand in the panel.
    pub fn alignment(&self) -> &Alignment {
        &self.alignment
    }

    /// The genes of the model.
    pub fn panel(&self) -> &GenePanel {
        &self.panel
    }

    /// How many cells have enough genes; all others are left out.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Rows of the source, those that were left out included.
    pub fn n_rows(&self) -> usize {
        self.source.n_rows()
    }

    /// Never: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The rows of the source that these cells are, in order.
    pub fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// Rows of the source that were left out, and how many genes of the panel are detected in each.
    pub fn dropped(&self) -> &[(usize, usize)] {
        &self.dropped
    }

    /// Reads some of the cells.
    fn read(&self, cells: &[usize]) -> Result<Csr> {
        let rows = cells.iter().map(|&c| {
            self.kept.get(c).copied().ok_or(sc_data::Error::OutOfRange {
                what: "cell",
                index: c,
                len: self.kept.len(),
            })
        });
        let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(self.source.read_rows(&rows)?)
    }

    /// The expression of a cell's genes, `log2(1 + x)`, by position.
    fn expression_of(&self, columns: &[u32], values: &[f32]) -> Vec<(u32, f64)> {
        let sum: f64 = self
            .counts(columns, values)
            .map(|(_, v)| f64::from(v))
            .sum();
        let level = |v: f32| (f64::from(v) * self.target_sum / sum + 1.0).log2();
        self.counts(columns, values)
            .map(|(p, v)| (p, level(v)))
            .collect()
    }

    /// `log2(1 + x)` of some cells, with `x` the scaled counts: `[cells, genes of the panel]`.
    ///
    /// # Errors
    /// If a cell does not exist, or the source fails.
    pub fn expression(&self, cells: &[usize]) -> Result<Csr> {
        let counts = self.read(cells)?;
        let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
        for i in 0..counts.n_rows() {
            let (columns, values) = counts.row(i);
            let mut row = self.expression_of(columns, values);
            row.sort_unstable_by_key(|&(p, _)| p);
            indices.extend(row.iter().map(|&(p, _)| p));
            data.extend(row.iter().map(|&(_, v)| v as f32));
            indptr.push(indices.len());
        }
        Ok(Csr::new(
            counts.n_rows(),
            self.panel.len(),
            indptr,
            indices,
            data,
        )?)
    }

    /// The tokens of some cells, one after the other: those of the panel's genes, and a 0 for the cell.
    ///
    /// # Errors
    /// If a cell does not exist, or the source fails.
    pub fn tokens(&self, cells: &[usize]) -> Result<Vec<u32>> {
        let counts = self.read(cells)?;
        let length = self.panel.positions();
        let mut all = vec![0; length * counts.n_rows()];
        for (i, cell) in all.chunks_exact_mut(length).enumerate() {
            let (columns, values) = counts.row(i);
            for (position, level) in self.expression_of(columns, values) {
                // As a whole number, at most `max_bin`.
                cell[position as usize] = level.min(self.max_bin as f64) as u32;
            }
        }
        Ok(all)
    }
}
