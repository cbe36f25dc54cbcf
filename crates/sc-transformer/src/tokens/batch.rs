use sc_tensor::ops::Segments;

use crate::{Error, Result};

/// The tokens of the cells of a minibatch, one cell after the other without padding.
///
/// All vectors but `cells` have one entry for each token (a row of what the transformer computes); `segments` says which
/// tokens are those of which cell, and how many of them, the first ones, may be attended to.
///
/// If cells have a `<cls>` token it is the first of each. In a batch for generative pre-training the first
/// [`keys`](sc_tensor::ops::Segment::keys) tokens of a cell are the known genes; the others are unknown, and `values` holds
/// the mask value there.
#[derive(Debug, Clone)]
pub struct TokenBatch {
    /// The row of each cell in the data set: where its results belong.
    pub cells: Vec<usize>,
    /// Which gene, or special token.
    pub ids: Vec<u32>,
    /// Its value as the model sees it: a bin, or the mask value where it is hidden.
    pub values: Vec<f32>,
    /// Its true value, if some values are hidden; the same as `values` otherwise.
    pub targets: Vec<f32>,
    /// Whether the prediction of this value is scored. All `false` if nothing is hidden.
    pub scored: Vec<bool>,
    /// The modality of each token, if there are several.
    pub modality: Option<Vec<u32>>,
    /// A condition of each token, e.g. whether the gene is perturbed.
    pub flags: Option<Vec<u32>>,
    /// Whether the first token of each cell is `<cls>`.
    pub has_cls: bool,
    /// The tokens of each cell.
    pub segments: Segments,
}

impl TokenBatch {
    /// Nothing hidden.
    pub(crate) fn plain(
        cells: Vec<usize>,
        ids: Vec<u32>,
        values: Vec<f32>,
        has_cls: bool,
        segments: Segments,
    ) -> Self {
        Self {
            cells,
            targets: values.clone(),
            scored: vec![false; ids.len()],
            ids,
            values,
            modality: None,
            flags: None,
            has_cls,
            segments,
        }
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.segments.len()
    }

    /// Number of tokens of all cells.
    pub fn n_tokens(&self) -> usize {
        self.segments.rows()
    }

    /// The tokens of the longest cell.
    pub fn longest(&self) -> usize {
        self.segments.iter().map(|s| s.rows).max().unwrap_or(0)
    }

    /// The first token of each cell, that of `<cls>` if there is one.
    pub fn first_tokens(&self) -> Vec<u32> {
        self.segments.iter().map(|s| s.start as u32).collect()
    }

    /// Cells without any gene: `<cls>` alone. What a model makes of them means nothing.
    pub fn without_genes(&self) -> Vec<usize> {
        let few = usize::from(self.has_cls);
        let cells = self.segments.iter().zip(&self.cells);
        cells
            .filter(|(s, _)| s.rows <= few)
            .map(|(_, &c)| c)
            .collect()
    }

    /// Makes sure that all vectors have an entry for each token, as a batch that was put together by hand may not.
    ///
    /// # Errors
    /// [`Error::Length`].
    pub fn check(&self) -> Result<()> {
        let n = self.n_tokens();
        let lengths = [
            ("the cells of the batch", self.cells.len(), self.n_cells()),
            ("the token ids", self.ids.len(), n),
            ("the values", self.values.len(), n),
            ("the targets", self.targets.len(), n),
            ("the marks of scored tokens", self.scored.len(), n),
            (
                "the modalities",
                self.modality.as_ref().map_or(n, Vec::len),
                n,
            ),
            ("the flags", self.flags.as_ref().map_or(n, Vec::len), n),
        ];
        match lengths
            .into_iter()
            .find(|(_, found, needed)| found != needed)
        {
            Some((what, found, expected)) => Err(Error::Length {
                what,
                found,
                expected,
            }),
            None => Ok(()),
        }
    }
}
