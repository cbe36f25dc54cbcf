use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use sc_data::{Csr, Error, Result, RowSource};

/// Parts that are held: the one that is used and the next.
const HELD: usize = 2;

/// Reads rows that were announced ([`RowSource::read_ahead`]) while others are used: a part of an epoch in one piece, by a
/// thread of its own, and the next one meanwhile.
///
/// Rows that were not announced come from the source as ever.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sc_data::RowSource;
/// let cells = sc_io::ReadAhead::new(sc_io::h5ad::read_backed("atlas.h5ad", None)?);
/// cells.read_ahead(&[7, 3, 900_000]);
/// // ... something else ...
/// let three = cells.read_rows(&[900_000, 7])?;
/// # Ok(())
/// # }
/// ```
pub struct ReadAhead<S> {
    source: Arc<S>,
    parts: Mutex<VecDeque<Part>>,
}

/// Distinct rows in ascending order.
struct Part {
    rows: Vec<usize>,
    values: Values,
}

enum Values {
    Pending(Option<JoinHandle<Result<Csr>>>),
    Read(Csr),
}

impl<S: RowSource + 'static> ReadAhead<S> {
    /// Reads ahead from `source`.
    pub fn new(source: S) -> Self {
        Self {
            source: Arc::new(source),
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
        part.values()?.select_rows(&places).map(Some)
    }
}

impl Part {
    fn has(&self, rows: &[usize]) -> bool {
        !rows.is_empty() && rows.iter().all(|r| self.rows.binary_search(r).is_ok())
    }

    /// Waits until it is read.
    fn values(&mut self) -> Result<&Csr> {
        if let Values::Pending(thread) = &mut self.values {
            let failed = |what: &str| Error::Source(what.to_owned().into());
            let thread = thread
                .take()
                .ok_or_else(|| failed("reading ahead failed"))?;
            let read = thread
                .join()
                .map_err(|_| failed("the thread that reads ahead panicked"))??;
            self.values = Values::Read(read);
        }
        match &self.values {
            Values::Read(values) => Ok(values),
            Values::Pending(_) => Err(Error::Source("reading ahead failed".into())),
        }
    }
}

impl<S: RowSource + 'static> RowSource for ReadAhead<S> {
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
        let (source, wanted) = (Arc::clone(&self.source), sorted.clone());
        let thread = std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || source.read_rows(&wanted));
        // Without a thread the rows are read when they are needed.
        if let Ok(thread) = thread {
            parts.push_back(Part {
                rows: sorted,
                values: Values::Pending(Some(thread)),
            });
        }
    }
}

#[cfg(test)]
mod tests {
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
