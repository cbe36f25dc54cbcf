use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use sc_data::{Csr, Result, RowSource};

/// Parts that are remembered: the one that is used and the next.
const HELD: usize = 2;

/// Reads rows that were announced ([`RowSource::read_ahead`]) in one piece when the first of them is asked for, and holds
/// them until rows of the next piece are. The source hears of a piece as soon as it is announced, and can fetch its bytes from the
/// disk meanwhile, as [`h5ad::read_backed`](crate::h5ad::read_backed) does.
///
/// To unpack the next piece meanwhile, too, would be no gain: it takes all processors for a moment, and would take them from
/// whatever uses this piece.
///
/// Rows that were not announced come from the source as ever.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sc_data::RowSource;
/// let cells = sc_io::ReadAhead::new(sc_io::h5ad::read_backed("atlas.h5ad", None)?);
/// cells.read_ahead(&[7, 3, 900_000]);
/// // ... something else ...
/// let two = cells.read_rows(&[900_000, 7])?;
/// # Ok(())
/// # }
/// ```
pub struct ReadAhead<S> {
    source: S,
    parts: Mutex<VecDeque<Part>>,
}

/// Distinct rows in ascending order, and what they hold once they are read.
struct Part {
    rows: Vec<usize>,
    values: Option<Csr>,
}

impl<S: RowSource> ReadAhead<S> {
    /// Reads ahead from `source`.
    pub fn new(source: S) -> Self {
        Self {
            source,
            parts: Mutex::new(VecDeque::new()),
        }
    }

    /// The rows, if a part has them all. Parts before it are given up.
    fn announced(&self, rows: &[usize]) -> Result<Option<Csr>> {
        // Whoever panicked with the lock in hand left whole parts behind.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = parts.iter().position(|p| p.has(rows)) else {
            return Ok(None);
        };
        parts.drain(..at);
        let Some(part) = parts.front_mut() else {
            return Ok(None);
        };
        let places: Vec<usize> = rows
            .iter()
            .map(|r| part.rows.partition_point(|p| p < r))
            .collect();
        let values = match part.values.take() {
            Some(values) => values,
            None => self.source.read_rows(&part.rows)?,
        };
        part.values.insert(values).select_rows(&places).map(Some)
    }
}

impl Part {
    fn has(&self, rows: &[usize]) -> bool {
        !rows.is_empty() && rows.iter().all(|r| self.rows.binary_search(r).is_ok())
    }
}

impl<S: RowSource> RowSource for ReadAhead<S> {
    fn n_rows(&self) -> usize {
        self.source.n_rows()
    }

    fn n_cols(&self) -> usize {
        self.source.n_cols()
    }

    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        match self.announced(rows)? {
            Some(found) => Ok(found),
            None => self.source.read_rows(rows),
        }
    }

    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        self.source.read_range(rows)
    }

    fn read_ahead(&self, rows: &[usize]) {
        let mut sorted = rows.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if sorted.is_empty() || parts.iter().any(|p| p.rows == sorted) {
            return;
        }
        if parts.len() >= HELD {
            parts.pop_front();
        }
        self.source.read_ahead(&sorted);
        parts.push_back(Part {
            rows: sorted,
            values: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ndarray::Array2;

    use super::*;

    /// Counts how often it is asked.
    struct Counted(Csr, Arc<AtomicUsize>);

    impl RowSource for Counted {
        fn n_rows(&self) -> usize {
            self.0.n_rows()
        }
        fn n_cols(&self) -> usize {
            self.0.n_cols()
        }
        fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.select_rows(rows)
        }
    }

    #[test]
    fn announced_rows_are_read_once() {
        let x = Array2::from_shape_fn((100, 5), |(i, j)| ((i * j) % 7) as f32);
        let x = Csr::from_dense(&x);
        let asked = Arc::new(AtomicUsize::new(0));
        let source = ReadAhead::new(Counted(x.clone(), Arc::clone(&asked)));
        let parts: Vec<Vec<usize>> = (0..4)
            .map(|k| (0..25).map(|i| (i * 4 + k) % 100).collect())
            .collect();
        source.read_ahead(&parts[0]);
        for k in 0..4 {
            if let Some(next) = parts.get(k + 1) {
                source.read_ahead(next);
            }
            for rows in parts[k].chunks(7) {
                let turned: Vec<usize> = rows.iter().rev().copied().collect();
                assert_eq!(
                    source.read_rows(&turned).unwrap(),
                    x.select_rows(&turned).unwrap()
                );
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        // Not announced, and out of range.
        assert_eq!(
            source.read_rows(&[0, 1]).unwrap(),
            x.select_rows(&[0, 1]).unwrap()
        );
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        source.read_ahead(&[100]);
        assert!(source.read_rows(&[100]).is_err());
        assert!(source.read_rows(&[100]).is_err());
    }
}
