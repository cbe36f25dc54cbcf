use std::ops::Range;

use rayon::prelude::*;
use sc_data::{Csr, RowSource};
use sc_tensor::ops::Segments;

use super::TokenBatch;
use super::binning::Binner;
use super::draws::{Draws, content_key};
use super::modality::Modalities;
use super::options::{Overflow, TokenizerOptions};
use crate::vocab::{GeneMatch, GeneVocab};
use crate::{Error, Result};

/// Turns cells into tokens, those of a minibatch at a time.
///
/// A cell is its row's non-zero values (or all values) in columns that the vocabulary knows, in the order of the columns,
/// after `<cls>`. Values are binned before genes are sampled. A cell without any known gene is `<cls>` alone.
///
/// ```
/// use ndarray::array;
/// use sc_transformer::tokens::{Tokenizer, TokenizerOptions};
/// use sc_transformer::vocab::{GeneCase, GeneVocab};
/// let vocab = GeneVocab::new(["CD3D", "LYZ", "NKG7", "<pad>", "<cls>"])?;
/// let genes = vocab.match_genes(&["NKG7", "unknown", "LYZ"], GeneCase::Exact)?;
/// let tokenizer = Tokenizer::new(&vocab, &genes, TokenizerOptions::default())?;
/// let counts = array![[5.0f32, 1.0, 2.0], [0.0, 3.0, 0.0]];
/// let batch = tokenizer.batch(&counts, &[1, 0], 0)?;
/// assert_eq!(batch.ids, [4, 4, 2, 1]);
/// assert_eq!(batch.values, [-2.0, -2.0, 50.0, 1.0]);
/// assert_eq!(batch.without_genes(), [1]);
/// # Ok::<(), sc_transformer::Error>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    genes: GeneMatch,
    cls: Option<(u32, f32)>,
    include_zeros: bool,
    binner: Option<Binner>,
    /// The most genes of a cell.
    room: usize,
    overflow: Overflow,
    draws: Option<Draws>,
    modalities: Option<Modalities>,
}

/// The tokens of one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellTokens {
    /// Which genes.
    pub ids: Vec<u32>,
    /// Their values.
    pub values: Vec<f32>,
    /// Their modalities; empty if there are none.
    pub modality: Vec<u32>,
}

impl Tokenizer {
    /// For data with these genes.
    ///
    /// # Errors
    /// [`Error::MissingToken`] if there shall be a `<cls>` token and the vocabulary has none; [`Error::InvalidSetting`] if a
    /// setting cannot be.
    pub fn new(vocab: &GeneVocab, genes: &GeneMatch, options: TokenizerOptions) -> Result<Self> {
        let cls = match options.cls {
            Some(value) => Some((vocab.cls()?, check_cls(value)?)),
            None => None,
        };
        let reserved = usize::from(cls.is_some());
        let room = match options.max_len {
            None => usize::MAX,
            Some(n) if n > reserved => n - reserved,
            Some(n) => {
                return Err(Error::InvalidSetting {
                    name: "max_len",
                    value: n.to_string(),
                    reason: format!("at least {} are needed for one gene", reserved + 1),
                });
            }
        };
        let draws = match options.overflow {
            Overflow::Sample(generator) => Some(Draws::new(generator, "genes")),
            _ => None,
        };
        Ok(Self {
            genes: genes.clone(),
            cls,
            include_zeros: options.include_zeros,
            binner: options.binning.map(Binner::new).transpose()?,
            room,
            overflow: options.overflow,
            draws,
            modalities: None,
        })
    }

    /// With the modality of each column, by name: each token gets one, and the values of each are binned apart.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is a name for each column; [`Error::Vocabulary`] if one is that of a special token.
    pub fn with_modalities<S: AsRef<str>>(mut self, of_columns: &[S]) -> Result<Self> {
        if of_columns.len() != self.genes.n_columns() {
            return Err(Error::Length {
                what: "the modalities of the columns",
                found: of_columns.len(),
                expected: self.genes.n_columns(),
            });
        }
        self.modalities = Some(Modalities::new(of_columns)?);
        Ok(self)
    }

    /// The numbers of the modalities, if there are several.
    pub fn modalities(&self) -> Option<&GeneVocab> {
        self.modalities.as_ref().map(Modalities::vocab)
    }

    /// The genes of the data.
    pub fn genes(&self) -> &GeneMatch {
        &self.genes
    }

    /// The tokens of some cells, in the order given. Bins and samples are drawn anew for each `pass`; give the same number
    /// to get the same tokens.
    ///
    /// # Errors
    /// Those of the source; [`Error::Length`] if it has another number of columns; [`Error::InvalidValue`] for a value that is
    /// negative or not finite; [`Error::InvalidSetting`] if a cell has neither a gene nor `<cls>`.
    pub fn batch(&self, source: &dyn RowSource, rows: &[usize], pass: u64) -> Result<TokenBatch> {
        self.check_columns(source.n_cols())?;
        let block = source.read_rows(rows)?;
        let cells = self.block(&block, pass, |i| rows.get(i).copied().unwrap_or(i))?;
        self.pack(rows.to_vec(), &cells)
    }

    /// The tokens of cells that follow each other in the source.
    pub(super) fn range(
        &self,
        source: &dyn RowSource,
        rows: Range<usize>,
        pass: u64,
    ) -> Result<Vec<CellTokens>> {
        self.check_columns(source.n_cols())?;
        let start = rows.start;
        self.block(&source.read_range(rows)?, pass, |i| start + i)
    }

    /// The tokens of all rows of a block; `cell` tells their numbers.
    fn block(
        &self,
        block: &Csr,
        pass: u64,
        cell: impl Fn(usize) -> usize + Sync,
    ) -> Result<Vec<CellTokens>> {
        let one = |i: usize| {
            let (columns, values) = block.row(i);
            self.cell(cell(i), columns, values, pass)
        };
        if self.is_sequential() {
            return (0..block.n_rows()).map(one).collect();
        }
        // Errors in order, so that it is always the first bad cell that is named.
        let cells: Vec<_> = (0..block.n_rows()).into_par_iter().map(one).collect();
        cells.into_iter().collect()
    }

    /// How many tokens each cell will have. Reads the source once, some rows at a time.
    ///
    /// # Errors
    /// Those of the source; [`Error::Length`] if it has another number of columns.
    pub fn lengths(&self, source: &dyn RowSource) -> Result<Vec<usize>> {
        const ROWS_AT_ONCE: usize = 4096;
        self.check_columns(source.n_cols())?;
        let known = self.genes.ids().iter().flatten().count();
        let cls = usize::from(self.cls.is_some());
        let mut lengths = Vec::with_capacity(source.n_rows());
        for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
            let block = source.read_range(start..(start + ROWS_AT_ONCE).min(source.n_rows()))?;
            lengths.extend((0..block.n_rows()).map(|i| {
                let (columns, values) = block.row(i);
                let stored = columns.iter().zip(values);
                let present = stored.filter(|(c, v)| **v != 0.0 && self.id(**c).is_some());
                let genes = if self.include_zeros {
                    known
                } else {
                    present.count()
                };
                genes.min(self.room) + cls
            }));
        }
        Ok(lengths)
    }

    /// The tokens of one cell: stored columns, ascending, and values. `cell` is its row, for errors.
    ///
    /// # Errors
    /// As [`Tokenizer::batch`].
    pub fn cell(
        &self,
        cell: usize,
        columns: &[u32],
        values: &[f32],
        pass: u64,
    ) -> Result<CellTokens> {
        let (columns, raw) = self.known(cell, columns, values)?;
        let ids: Vec<u32> = columns.iter().filter_map(|&c| self.id(c)).collect();
        let key = [content_key(&ids, &raw), pass];
        let binned = self.binned(&key, &columns, &raw);
        let chosen = self.chosen(&key, &raw);
        let mut out = CellTokens::default();
        if let Some((id, value)) = self.cls {
            out.ids.push(id);
            out.values.push(value);
            out.modality
                .extend(self.modalities.as_ref().map(Modalities::cls));
        }
        out.ids.extend(pick(&ids, &chosen));
        out.values.extend(pick(&binned, &chosen));
        if let Some(modalities) = &self.modalities {
            let of = |c: u32| modalities.of(c);
            out.modality.extend(pick(&columns, &chosen).map(of));
        }
        if out.ids.is_empty() {
            return Err(Error::InvalidSetting {
                name: "cls",
                value: "None".into(),
                reason: format!(
                    "cell {cell} has no gene of the vocabulary with a count, so nothing is left of it; drop such cells, or let \
                     cells begin with <cls>"
                ),
            });
        }
        Ok(out)
    }

    /// Puts cells behind each other.
    pub(super) fn pack(&self, rows: Vec<usize>, cells: &[CellTokens]) -> Result<TokenBatch> {
        let segments = Segments::new(cells.iter().map(|c| c.ids.len()))?;
        let ids = cells.iter().flat_map(|c| c.ids.iter().copied()).collect();
        let values = cells
            .iter()
            .flat_map(|c| c.values.iter().copied())
            .collect();
        let mut batch = TokenBatch::plain(rows, ids, values, self.cls.is_some(), segments);
        if self.modalities.is_some() {
            let all = cells.iter().flat_map(|c| c.modality.iter().copied());
            batch.modality = Some(all.collect());
        }
        Ok(batch)
    }

    /// Whether tokens depend on the cells that came before.
    pub fn is_sequential(&self) -> bool {
        self.binner.as_ref().is_some_and(Binner::is_sequential)
            || self.draws.as_ref().is_some_and(Draws::is_sequential)
    }

    fn id(&self, column: u32) -> Option<u32> {
        self.genes.ids().get(column as usize).copied().flatten()
    }

    fn check_columns(&self, found: usize) -> Result<()> {
        if found == self.genes.n_columns() {
            return Ok(());
        }
        Err(Error::Length {
            what: "a row of the data",
            found,
            expected: self.genes.n_columns(),
        })
    }

    /// The columns that become tokens, and their values.
    fn known(&self, cell: usize, columns: &[u32], values: &[f32]) -> Result<(Vec<u32>, Vec<f32>)> {
        let mut kept = (Vec::new(), Vec::new());
        let mut stored = columns.iter().copied().zip(values.iter().copied());
        for (column, value) in stored.by_ref() {
            if self.id(column).is_none() {
                continue;
            }
            if !(value.is_finite() && value >= 0.0) {
                return Err(self.invalid(cell, column, value));
            }
            if value != 0.0 {
                kept.0.push(column);
                kept.1.push(value);
            }
        }
        Ok(if self.include_zeros {
            self.with_zeros(&kept)
        } else {
            kept
        })
    }

    /// All known columns, with zeros where nothing is stored.
    fn with_zeros(&self, (columns, values): &(Vec<u32>, Vec<f32>)) -> (Vec<u32>, Vec<f32>) {
        let mut present = columns.iter().zip(values).peekable();
        let ids = self.genes.ids().iter().zip(0u32..);
        let known = ids.filter(|(id, _)| id.is_some()).map(|(_, c)| c);
        known
            .map(|c| match present.next_if(|(p, _)| **p == c) {
                Some((_, &v)) => (c, v),
                None => (c, 0.0),
            })
            .unzip()
    }

    fn invalid(&self, cell: usize, column: u32, value: f32) -> Error {
        let gene = self.genes.names().get(column as usize);
        Error::InvalidValue {
            cell,
            gene: gene.cloned().unwrap_or_else(|| format!("column {column}")),
            value,
            expected: "counts, or what normalising and log1p make of them, are finite and not negative; scaled or centred data cannot be used",
        }
    }

    fn binned(&self, key: &[u64], columns: &[u32], raw: &[f32]) -> Vec<f32> {
        match (&self.binner, &self.modalities) {
            (None, _) => raw.to_vec(),
            (Some(binner), None) => binner.bin(key, raw),
            (Some(binner), Some(modalities)) => modalities.bin(binner, key, columns, raw),
        }
    }

    /// The places of the genes that stay.
    fn chosen(&self, key: &[u64], raw: &[f32]) -> Vec<usize> {
        let (n, room) = (raw.len(), self.room);
        if n <= room {
            return (0..n).collect();
        }
        match (&self.draws, self.overflow) {
            (Some(draws), Overflow::Sample(_)) => draws.choose(key, n, room),
            (_, Overflow::Top) => top(raw, room),
            _ => (0..room).collect(),
        }
    }
}

/// The places of the `n` highest values, ascending; of equal values the first.
fn top(values: &[f32], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // The sort is stable.
    order.sort_by(|&a, &b| match (values.get(a), values.get(b)) {
        (Some(a), Some(b)) => b.total_cmp(a),
        _ => std::cmp::Ordering::Equal,
    });
    order.truncate(n);
    order.sort_unstable();
    order
}

fn pick<'a, T: Copy>(values: &'a [T], at: &'a [usize]) -> impl Iterator<Item = T> + 'a {
    at.iter().filter_map(|&i| values.get(i).copied())
}

fn check_cls(value: f32) -> Result<f32> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::InvalidSetting {
        name: "cls",
        value: value.to_string(),
        reason: "the value of <cls> must be a number; -2 for released models".into(),
    })
}
