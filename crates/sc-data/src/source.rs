use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, Axis};

use crate::{Csr, Error, Matrix, Result};

/// Where a model reads cells from: memory, a file, several files. All models and preprocessing take `&dyn RowSource`,
/// ask for the rows of one minibatch at a time, and never for the whole.
pub trait RowSource: Send + Sync {
    /// Number of rows (cells).
    fn n_rows(&self) -> usize;

    /// Number of columns (features).
    fn n_cols(&self) -> usize;

    /// The rows in the order given. A row may be asked for more than once.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist, [`Error::Source`] if reading fails.
    fn read_rows(&self, rows: &[usize]) -> Result<Csr>;

    /// A run of rows, which files read faster than a list of them.
    ///
    /// # Errors
    /// As [`RowSource::read_rows`].
    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        self.read_rows(&rows.collect::<Vec<_>>())
    }

    /// The whole matrix, if it lies in memory as it is: what goes over all rows need not copy them then.
    fn in_memory(&self) -> Option<&Csr> {
        None
    }

    /// Says which rows will be asked for soon, in any order, so that a source on a disk can read them together and ahead of time.
    /// A hint: other rows may be asked for, and these may not.
    fn read_ahead(&self, rows: &[usize]) {
        let _ = rows;
    }
}

impl RowSource for Csr {
    fn n_rows(&self) -> usize {
        self.n_rows()
    }
    fn n_cols(&self) -> usize {
        self.n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        self.select_rows(rows)
    }
    fn in_memory(&self) -> Option<&Csr> {
        Some(self)
    }
}

impl RowSource for Array2<f32> {
    fn n_rows(&self) -> usize {
        self.nrows()
    }
    fn n_cols(&self) -> usize {
        self.ncols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        match rows.iter().find(|&&r| r >= self.nrows()) {
            Some(&index) => Err(Error::OutOfRange {
                what: "row",
                index,
                len: self.nrows(),
            }),
            None => Ok(Csr::from_dense(&self.select(Axis(0), rows))),
        }
    }
}

impl RowSource for Matrix {
    fn n_rows(&self) -> usize {
        self.n_rows()
    }
    fn n_cols(&self) -> usize {
        self.n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        match self {
            Self::Sparse(m) => m.select_rows(rows),
            dense => Ok(dense.select_rows(rows)?.to_csr()),
        }
    }
    fn in_memory(&self) -> Option<&Csr> {
        match self {
            Self::Sparse(m) => Some(m),
            _ => None,
        }
    }
}

impl<T: RowSource + ?Sized> RowSource for &T {
    fn n_rows(&self) -> usize {
        (**self).n_rows()
    }
    fn n_cols(&self) -> usize {
        (**self).n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        (**self).read_rows(rows)
    }
    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        (**self).read_range(rows)
    }
    fn in_memory(&self) -> Option<&Csr> {
        (**self).in_memory()
    }
    fn read_ahead(&self, rows: &[usize]) {
        (**self).read_ahead(rows);
    }
}

impl<T: RowSource + ?Sized> RowSource for Box<T> {
    fn n_rows(&self) -> usize {
        (**self).n_rows()
    }
    fn n_cols(&self) -> usize {
        (**self).n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        (**self).read_rows(rows)
    }
    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        (**self).read_range(rows)
    }
    fn in_memory(&self) -> Option<&Csr> {
        (**self).in_memory()
    }
    fn read_ahead(&self, rows: &[usize]) {
        (**self).read_ahead(rows);
    }
}

impl<T: RowSource + ?Sized> RowSource for Arc<T> {
    fn n_rows(&self) -> usize {
        (**self).n_rows()
    }
    fn n_cols(&self) -> usize {
        (**self).n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        (**self).read_rows(rows)
    }
    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        (**self).read_range(rows)
    }
    fn in_memory(&self) -> Option<&Csr> {
        (**self).in_memory()
    }
    fn read_ahead(&self, rows: &[usize]) {
        (**self).read_ahead(rows);
    }
}

/// Some rows of another source, in an order of their own, and optionally other columns.
pub struct Rows<'a> {
    source: &'a dyn RowSource,
    rows: Vec<usize>,
}

impl<'a> Rows<'a> {
    /// The rows of `source` in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn new(source: &'a dyn RowSource, rows: Vec<usize>) -> Result<Self> {
        match rows.iter().find(|&&r| r >= source.n_rows()) {
            Some(&index) => Err(Error::OutOfRange {
                what: "row",
                index,
                len: source.n_rows(),
            }),
            None => Ok(Self { source, rows }),
        }
    }
}

impl Rows<'_> {
    /// Rows of the source that follow each other, if these do.
    fn consecutive(&self, rows: &Range<usize>) -> Option<Range<usize>> {
        let inner = self.rows.get(rows.clone())?;
        let first = *inner.first()?;
        let follow = inner.iter().enumerate().all(|(k, &r)| r == first + k);
        follow.then(|| first..first + inner.len())
    }
}

impl RowSource for Rows<'_> {
    fn n_rows(&self) -> usize {
        self.rows.len()
    }
    fn n_cols(&self) -> usize {
        self.source.n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        let rows = rows
            .iter()
            .map(|&r| {
                self.rows.get(r).copied().ok_or(Error::OutOfRange {
                    what: "row",
                    index: r,
                    len: self.rows.len(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        self.source.read_rows(&rows)
    }
    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        match self.consecutive(&rows) {
            Some(inner) => self.source.read_range(inner),
            None => self.read_rows(&rows.collect::<Vec<_>>()),
        }
    }
    fn read_ahead(&self, rows: &[usize]) {
        let inner = rows.iter().filter_map(|r| self.rows.get(*r).copied());
        self.source.read_ahead(&inner.collect::<Vec<_>>());
    }
}

/// Other columns of another source: reordered, left out, or (as `None`) empty ones for features that it lacks.
pub struct Columns<S> {
    source: S,
    columns: Vec<Option<usize>>,
}

impl<S: RowSource> Columns<S> {
    /// The columns of `source` in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a column does not exist.
    pub fn new(source: S, columns: Vec<Option<usize>>) -> Result<Self> {
        let len = source.n_cols();
        match columns.iter().flatten().find(|&&c| c >= len) {
            Some(&index) => Err(Error::OutOfRange {
                what: "column",
                index,
                len,
            }),
            None => Ok(Self { source, columns }),
        }
    }
}

impl<S: RowSource> RowSource for Columns<S> {
    fn n_rows(&self) -> usize {
        self.source.n_rows()
    }
    fn n_cols(&self) -> usize {
        self.columns.len()
    }
    fn read_rows(&self, rows: &[usize]) -> Result<Csr> {
        self.source.read_rows(rows)?.select_columns(&self.columns)
    }
    fn read_range(&self, rows: Range<usize>) -> Result<Csr> {
        self.source.read_range(rows)?.select_columns(&self.columns)
    }
    fn read_ahead(&self, rows: &[usize]) {
        self.source.read_ahead(rows);
    }
}

/// What is odd about a value that should be a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CountProblem {
    /// Below zero.
    Negative,
    /// NaN or infinite.
    NonFinite,
    /// Has a fraction.
    NonInteger,
}

impl std::fmt::Display for CountProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Negative => "negative",
            Self::NonFinite => "not finite",
            Self::NonInteger => "not an integer",
        })
    }
}

/// What [`check_counts`] found.
#[derive(Debug, Clone, Default)]
pub struct CountReport {
    /// The first offender of each kind: problem, row, column, value.
    pub problems: Vec<(CountProblem, usize, usize, f32)>,
    /// Rows whose values sum to zero.
    pub empty_rows: Vec<usize>,
}

impl CountReport {
    /// The first offender of a kind: row, column, value.
    pub fn first(&self, problem: CountProblem) -> Option<(usize, usize, f32)> {
        self.problems
            .iter()
            .find(|p| p.0 == problem)
            .map(|p| (p.1, p.2, p.3))
    }
}

/// Reads a source once and says whether it holds counts.
///
/// # Errors
/// Those of the source.
pub fn check_counts(source: &dyn RowSource) -> Result<CountReport> {
    const ROWS_AT_ONCE: usize = 4096;
    let mut report = CountReport::default();
    for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
        let end = (start + ROWS_AT_ONCE).min(source.n_rows());
        let part = source.read_range(start..end)?;
        for i in 0..part.n_rows() {
            let (cols, values) = part.row(i);
            if values.iter().all(|&v| v == 0.0) {
                report.empty_rows.push(start + i);
            }
            for (&c, &v) in cols.iter().zip(values) {
                let problem = if !v.is_finite() {
                    CountProblem::NonFinite
                } else if v < 0.0 {
                    CountProblem::Negative
                } else if v.fract() != 0.0 {
                    CountProblem::NonInteger
                } else {
                    continue;
                };
                if report.first(problem).is_none() {
                    report.problems.push((problem, start + i, c as usize, v));
                }
            }
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn the_first_offender_of_each_kind() {
        let m = array![[1.0f32, 0.5], [0.0, 0.0], [-1.0, f32::NAN], [0.25, -2.0]];
        let report = check_counts(&m).unwrap();
        assert_eq!(report.empty_rows, vec![1]);
        assert_eq!(report.first(CountProblem::NonInteger), Some((0, 1, 0.5)));
        assert_eq!(report.first(CountProblem::Negative), Some((2, 0, -1.0)));
        assert!(report.first(CountProblem::NonFinite).is_some());
    }

    #[test]
    fn rows_of_rows() {
        let m = array![[1.0f32], [2.0], [3.0]];
        let sub = Rows::new(&m, vec![2, 1]).unwrap();
        assert_eq!(
            sub.read_rows(&[1, 0, 0]).unwrap().row_sums(),
            vec![2.0, 3.0, 3.0]
        );
        assert_eq!(sub.read_range(0..2).unwrap().row_sums(), vec![3.0, 2.0]);
        let run = Rows::new(&m, vec![1, 2]).unwrap();
        assert_eq!(run.read_range(0..2).unwrap().row_sums(), vec![2.0, 3.0]);
        assert!(run.read_range(1..3).is_err());
        assert!(sub.read_rows(&[2]).is_err());
        assert!(Rows::new(&m, vec![3]).is_err());
    }
}
