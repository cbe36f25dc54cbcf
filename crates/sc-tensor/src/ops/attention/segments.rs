use std::sync::Arc;

use crate::{Error, Result};

/// Sequences of different lengths, one after the other in the rows of one tensor, without padding between them.
///
/// Each sequence says how many of its rows, the first ones, may be attended to: its *keys*. All of its rows ask. A sequence
/// whose last rows are padding has fewer keys than rows; in generative pre-training the keys are the genes whose value is
/// known.
///
/// ```
/// use sc_tensor::ops::Segments;
/// let cells = Segments::new([3, 5])?;
/// assert_eq!((cells.len(), cells.rows()), (2, 8));
/// # Ok::<(), sc_tensor::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Segments {
    all: Arc<[Segment]>,
    rows: usize,
}

/// One sequence of [`Segments`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its first row.
    pub start: usize,
    /// How many rows it has.
    pub rows: usize,
    /// How many of these, from the first, are keys.
    pub keys: usize,
}

impl Segments {
    /// Sequences of these lengths; all rows are keys.
    ///
    /// # Errors
    /// See [`Segments::with_keys`].
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Result<Self> {
        Self::with_keys(lengths.into_iter().map(|n| (n, n)))
    }

    /// Sequences of `(rows, keys)`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a sequence has more keys than rows, or there are more rows than can be counted.
    pub fn with_keys(lengths: impl IntoIterator<Item = (usize, usize)>) -> Result<Self> {
        let mut start = 0usize;
        let mut all = Vec::new();
        for (position, (rows, keys)) in lengths.into_iter().enumerate() {
            let end = start.checked_add(rows);
            let Some(end) = end.filter(|_| keys <= rows) else {
                return Err(Error::OutOfRange {
                    op: "segments",
                    index: keys,
                    position,
                    len: rows,
                });
            };
            all.push(Segment { start, rows, keys });
            start = end;
        }
        Ok(Self {
            all: all.into(),
            rows: start,
        })
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The rows of all sequences together.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The sequences in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Segment> + '_ {
        self.all.iter().copied()
    }

    /// The rows of each sequence, of `width` numbers each, out of those of all.
    pub(crate) fn split<'a, T>(&self, rows: &'a mut [T], width: usize) -> Vec<&'a mut [T]> {
        let mut rest = rows;
        self.iter()
            .map(|s| {
                let (mine, others) = std::mem::take(&mut rest).split_at_mut(s.rows * width);
                rest = others;
                mine
            })
            .collect()
    }
}
