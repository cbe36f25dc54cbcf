use ndarray::{Array2, Axis};

use crate::{Csr, Error, Result};

/// A matrix of cells x features: dense or in compressed rows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Matrix {
    /// Dense `f32`.
    Dense(Array2<f32>),
    /// Dense `f64`, as embeddings and distances often are.
    Dense64(Array2<f64>),
    /// Stored entries only.
    Sparse(Csr),
}

impl Matrix {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::Dense(m) => m.nrows(),
            Self::Dense64(m) => m.nrows(),
            Self::Sparse(m) => m.n_rows(),
        }
    }

    /// Number of columns.
    pub fn n_cols(&self) -> usize {
        match self {
            Self::Dense(m) => m.ncols(),
            Self::Dense64(m) => m.ncols(),
            Self::Sparse(m) => m.n_cols(),
        }
    }

    /// A dense `f32` copy.
    pub fn to_dense(&self) -> Array2<f32> {
        match self {
            Self::Dense(m) => m.clone(),
            Self::Dense64(m) => m.mapv(|v| v as f32),
            Self::Sparse(m) => m.to_dense(),
        }
    }

    /// The stored entries as a [`Csr`]; zeros of a dense matrix are dropped.
    pub fn to_csr(&self) -> Csr {
        match self {
            Self::Dense(m) => Csr::from_dense(m),
            Self::Dense64(m) => Csr::from_dense(&m.mapv(|v| v as f32)),
            Self::Sparse(m) => m.clone(),
        }
    }

    /// The rows in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self> {
        if let Some(&r) = rows.iter().find(|&&r| r >= self.n_rows()) {
            return Err(Error::OutOfRange {
                what: "row",
                index: r,
                len: self.n_rows(),
            });
        }
        Ok(match self {
            Self::Dense(m) => Self::Dense(m.select(Axis(0), rows)),
            Self::Dense64(m) => Self::Dense64(m.select(Axis(0), rows)),
            Self::Sparse(m) => Self::Sparse(m.select_rows(rows)?),
        })
    }

    /// The columns in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a column does not exist, [`Error::Duplicate`] if a sparse column is asked for twice.
    pub fn select_columns(&self, columns: &[usize]) -> Result<Self> {
        if let Some(&c) = columns.iter().find(|&&c| c >= self.n_cols()) {
            return Err(Error::OutOfRange {
                what: "column",
                index: c,
                len: self.n_cols(),
            });
        }
        Ok(match self {
            Self::Dense(m) => Self::Dense(m.select(Axis(1), columns)),
            Self::Dense64(m) => Self::Dense64(m.select(Axis(1), columns)),
            Self::Sparse(m) => {
                let columns: Vec<_> = columns.iter().map(|&c| Some(c)).collect();
                Self::Sparse(m.select_columns(&columns)?)
            }
        })
    }
}

impl From<Csr> for Matrix {
    fn from(m: Csr) -> Self {
        Self::Sparse(m)
    }
}

impl From<Array2<f32>> for Matrix {
    fn from(m: Array2<f32>) -> Self {
        Self::Dense(m)
    }
}

impl From<Array2<f64>> for Matrix {
    fn from(m: Array2<f64>) -> Self {
        Self::Dense64(m)
    }
}
