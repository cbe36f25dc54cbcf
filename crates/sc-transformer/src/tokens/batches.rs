//! Minibatches for inference.

use std::collections::VecDeque;
use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use sc_data::RowSource;

use super::{CellTokens, TokenBatch, Tokenizer};
use crate::{Error, Result};

/// How large minibatches are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Tokens of all cells together, on which memory depends. A cell with more comes alone.
    pub max_tokens: usize,
    /// Cells.
    pub max_cells: usize,
    /// Cells that are read at once and sorted by length. The rows of a window are read in one go, which files do faster.
    pub window: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_tokens: 16_384,
            max_cells: 512,
            window: 1024,
        }
    }
}

/// All cells of a source as minibatches of cells of about the same length, which threads share evenly.
///
/// Each cell comes once; [`TokenBatch::cells`] says which ones a batch has, and [`scatter`] puts results in their place.
pub struct Batches<'a> {
    tokenizer: &'a Tokenizer,
    source: &'a dyn RowSource,
    limits: BatchLimits,
    pass: u64,
    next_row: usize,
    window: Vec<(usize, CellTokens)>,
    ready: VecDeque<Range<usize>>,
}

impl Tokenizer {
    /// All cells of a source as minibatches; the same `pass` gives the same tokens.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if a limit is 0. Batches fail as [`Tokenizer::batch`] does.
    pub fn batches<'a>(
        &'a self,
        source: &'a dyn RowSource,
        limits: BatchLimits,
        pass: u64,
    ) -> Result<Batches<'a>> {
        let named = [
            ("max_tokens", limits.max_tokens),
            ("max_cells", limits.max_cells),
            ("window", limits.window),
        ];
        if let Some((name, _)) = named.into_iter().find(|(_, n)| *n == 0) {
            return Err(Error::InvalidSetting {
                name,
                value: "0".into(),
                reason: "at least 1 is needed".into(),
            });
        }
        Ok(Batches {
            tokenizer: self,
            source,
            limits,
            pass,
            next_row: 0,
            window: Vec::new(),
            ready: VecDeque::new(),
        })
    }
}

impl Batches<'_> {
    /// Reads the next cells and cuts them into batches.
    fn fill(&mut self) -> Result<()> {
        let start = self.next_row;
        let end = (start + self.limits.window).min(self.source.n_rows());
        self.next_row = end;
        let cells = self.tokenizer.range(self.source, start..end, self.pass)?;
        self.window = (start..end).zip(cells).collect();
        // Longest first; the sort is stable.
        self.window
            .sort_by_key(|(_, c)| std::cmp::Reverse(c.ids.len()));
        let lengths: Vec<usize> = self.window.iter().map(|(_, c)| c.ids.len()).collect();
        self.ready = cut(&lengths, self.limits).into();
        Ok(())
    }

    fn batch(&mut self, range: Range<usize>) -> Result<TokenBatch> {
        let slots = self.window.get_mut(range).unwrap_or_default();
        let (rows, cells): (Vec<usize>, Vec<CellTokens>) = slots
            .iter_mut()
            .map(|(r, c)| (*r, std::mem::take(c)))
            .unzip();
        self.tokenizer.pack(rows, &cells)
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<TokenBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let more = self.ready.is_empty() && self.next_row < self.source.n_rows();
        if more && let Err(e) = self.fill() {
            self.next_row = usize::MAX;
            return Some(Err(e));
        }
        let range = self.ready.pop_front()?;
        Some(self.batch(range))
    }
}

/// Runs of cells within the limits.
fn cut(lengths: &[usize], limits: BatchLimits) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut tokens) = (0, 0usize);
    for (i, &n) in lengths.iter().enumerate() {
        let full = tokens.saturating_add(n) > limits.max_tokens || i - start == limits.max_cells;
        if full && i > start {
            runs.push(start..i);
            (start, tokens) = (i, 0);
        }
        tokens = tokens.saturating_add(n);
    }
    if start < lengths.len() {
        runs.push(start..lengths.len());
    }
    runs
}

/// Puts the results of a minibatch, a row for each of its cells, where they belong among those of all cells.
///
/// # Errors
/// [`Error::Length`] if the shapes don't fit, [`Error::Data`] if a cell is beyond the end.
pub fn scatter(cells: &[usize], results: ArrayView2<'_, f32>, all: &mut Array2<f32>) -> Result<()> {
    let fits = [
        ("the results of a minibatch", results.nrows(), cells.len()),
        ("a result", results.ncols(), all.ncols()),
    ];
    if let Some((what, found, expected)) = fits.into_iter().find(|(_, a, b)| a != b) {
        return Err(Error::Length {
            what,
            found,
            expected,
        });
    }
    let len = all.nrows();
    if let Some(&index) = cells.iter().find(|&&c| c >= len) {
        let what = "cell";
        return Err(sc_data::Error::OutOfRange { what, index, len }.into());
    }
    for (&cell, result) in cells.iter().zip(results.rows()) {
        all.row_mut(cell).assign(&result);
    }
    Ok(())
}
