use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, Axis, CowArray, Ix2};
use sc_data::{AnnData, Annotation, Csr, Matrix, RowSource};

use super::{MinifiedKeys, MinifyKind};
use crate::nets::Posterior;
use crate::{Error, Registry, Result};

/// `q(z | x)` and the library size of each cell, as they were found when there were counts.
#[derive(Debug, Clone)]
pub struct StoredPosterior<'a> {
    kind: MinifyKind,
    mean: CowArray<'a, f32, Ix2>,
    variance: CowArray<'a, f32, Ix2>,
    library_size: Vec<f32>,
}

/// The stored posterior of the cells of a minibatch.
#[derive(Debug, Clone)]
pub struct StoredRows {
    /// What the data keep.
    pub kind: MinifyKind,
    /// Mean, `[N, n_latent]`.
    pub mean: Array2<f32>,
    /// Variance, `[N, n_latent]`.
    pub variance: Array2<f32>,
    /// The sum of the counts of each cell.
    pub library_size: Vec<f32>,
}

impl<'a> StoredPosterior<'a> {
    /// From its parts: mean and variance of `[cells, n_latent]`, and one library size a cell.
    ///
    /// # Errors
    /// If the shapes differ, a number is not finite, or a variance or library size is negative.
    pub fn new(
        kind: MinifyKind,
        mean: impl Into<CowArray<'a, f32, Ix2>>,
        variance: impl Into<CowArray<'a, f32, Ix2>>,
        library_size: Vec<f32>,
    ) -> Result<Self> {
        let (mean, variance) = (mean.into(), variance.into());
        let length = |what: &str, found, expected| {
            if found == expected {
                return Ok(());
            }
            Err(Error::Data(sc_data::Error::LengthMismatch {
                what: what.into(),
                found,
                expected,
            }))
        };
        length(
            "a row of the stored variance",
            variance.ncols(),
            mean.ncols(),
        )?;
        length("the stored variance", variance.nrows(), mean.nrows())?;
        length("the stored library size", library_size.len(), mean.nrows())?;
        for (name, values) in [("mean", &mean), ("variance", &variance)] {
            let bad = |v: &f32| !v.is_finite() || (name == "variance" && *v < 0.0);
            if let Some(((cell, _), v)) = values.indexed_iter().find(|(_, v)| bad(v)) {
                return Err(damaged(name, cell, *v));
            }
        }
        if let Some(cell) = library_size
            .iter()
            .position(|l| !(l.is_finite() && *l >= 0.0))
        {
            return Err(damaged("library size", cell, library_size[cell]));
        }
        Ok(Self {
            kind,
            mean,
            variance,
            library_size,
        })
    }

    /// What the data keep.
    pub fn kind(&self) -> MinifyKind {
        self.kind
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.library_size.len()
    }

    /// Number of dimensions of the latent space.
    pub fn n_latent(&self) -> usize {
        self.mean.ncols()
    }

    /// The sum of the counts of each cell.
    pub fn library_size(&self) -> &[f32] {
        &self.library_size
    }

    /// Some cells.
    ///
    /// # Errors
    /// [`sc_data::Error::OutOfRange`] if one does not exist.
    pub fn rows(&self, rows: &[usize]) -> Result<StoredRows> {
        let len = self.n_cells();
        if let Some(&index) = rows.iter().find(|&&r| r >= len) {
            let what = "cell";
            return Err(sc_data::Error::OutOfRange { what, index, len }.into());
        }
        Ok(StoredRows {
            kind: self.kind,
            mean: self.mean.select(Axis(0), rows),
            variance: self.variance.select(Axis(0), rows),
            library_size: rows.iter().map(|&r| self.library_size[r]).collect(),
        })
    }

    /// A copy that borrows nothing.
    pub fn into_owned<'b>(self) -> StoredPosterior<'b> {
        StoredPosterior {
            kind: self.kind,
            mean: self.mean.into_owned().into(),
            variance: self.variance.into_owned().into(),
            library_size: self.library_size,
        }
    }
}

fn damaged(what: &str, cell: usize, value: f32) -> Error {
    Error::InvalidSetting {
        name: "stored posterior",
        value: format!("{value} as the {what} of cell {cell}"),
        reason: "means must be finite, variances and library sizes finite and not negative; minify the data again"
            .into(),
    }
}

impl StoredRows {
    /// As the encoder gives it.
    pub(crate) fn posterior(
        &self,
        n_latent: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Posterior> {
        let shape = self.mean.dim();
        if shape.1 != n_latent {
            return Err(Error::InvalidSetting {
                name: "stored posterior",
                value: format!("of {} dimensions", shape.1),
                reason: format!(
                    "the model has a latent space of {n_latent}; minify the data with this model"
                ),
            });
        }
        let tensor = |m: &Array2<f32>| -> Result<Tensor> {
            let values = m.iter().copied().collect::<Vec<_>>();
            Ok(Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)
        };
        Ok(Posterior {
            mean: tensor(&self.mean)?,
            var: tensor(&self.variance)?,
        })
    }
}

/// The stored posterior of minified data; `None` for other data.
///
/// # Errors
/// If the data say that they are minified and lack its parts.
pub(crate) fn find<'a>(
    data: &'a AnnData,
    model: Option<&Registry>,
) -> Result<Option<StoredPosterior<'a>>> {
    let Some(kind) = MinifyKind::of(data)? else {
        return Ok(None);
    };
    let keys = match (kind, model) {
        // Where there are counts the encoder can be asked: only what the model registered as its own spares that.
        (MinifyKind::PosteriorWithCounts, model) => {
            let own = model.and_then(|m| m.minified.clone());
            match own.filter(|keys| keys.are_in(data)) {
                Some(keys) => keys,
                None => return Ok(None),
            }
        }
        (MinifyKind::Posterior, Some(model)) => MinifiedKeys::find_for(data, model)?,
        (MinifyKind::Posterior, None) => MinifiedKeys::find(data, None)?,
    };
    let library = data.obs.column("obs", &keys.library_size)?;
    let library = library.to_f64(&keys.library_size)?;
    StoredPosterior::new(
        kind,
        matrix(data, &keys.mean)?,
        matrix(data, &keys.variance)?,
        library.into_iter().map(|l| l as f32).collect(),
    )
    .map(Some)
}

fn matrix<'a>(data: &'a AnnData, key: &str) -> Result<CowArray<'a, f32, Ix2>> {
    match data.obsm.get(key) {
        Some(Annotation::Matrix(Matrix::Dense(m))) => Ok(m.into()),
        Some(Annotation::Matrix(m)) => Ok(m.to_dense().into()),
        _ => Err(sc_data::Error::WrongType {
            name: format!("obsm/{key}"),
            found: "a table",
            expected: "a matrix",
        }
        .into()),
    }
}

/// The counts of data that have none: reading them fails, so that nobody takes zeros for counts.
pub(crate) struct NoCounts {
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
}

impl RowSource for NoCounts {
    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn n_cols(&self) -> usize {
        self.n_cols
    }

    fn read_rows(&self, _: &[usize]) -> sc_data::Result<Csr> {
        Err(sc_data::Error::Source(Box::new(Error::NeedsCounts {
            what: "reading counts",
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn what_cannot_be_is_refused() {
        let m = array![[0.5f32, -1.0], [0.0, 2.0]];
        let v = array![[1.0f32, 0.1], [0.5, 0.2]];
        let new = |m: &Array2<f32>, v: &Array2<f32>, l: Vec<f32>| {
            StoredPosterior::new(MinifyKind::Posterior, m.clone(), v.clone(), l).map(|_| ())
        };
        assert!(new(&m, &v, vec![1.0, 0.0]).is_ok());
        assert!(new(&m, &v, vec![1.0]).is_err());
        assert!(new(&m, &array![[1.0f32, 0.1]], vec![1.0, 1.0]).is_err());
        let message = new(&m, &(-&v), vec![1.0, 1.0]).unwrap_err().to_string();
        assert!(message.contains("variance of cell 0"), "{message}");
        assert!(new(&array![[f32::NAN, 0.0], [0.0, 0.0]], &v, vec![1.0, 1.0]).is_err());
        assert!(new(&m, &v, vec![1.0, -1.0]).is_err());
    }

    #[test]
    fn rows_come_in_the_order_asked_for() {
        let m = array![[1.0f32], [2.0], [3.0]];
        let q = StoredPosterior::new(
            MinifyKind::PosteriorWithCounts,
            m.view(),
            m.view(),
            vec![10.0, 20.0, 30.0],
        )
        .unwrap();
        let rows = q.rows(&[2, 0, 2]).unwrap();
        assert_eq!(rows.mean, array![[3.0], [1.0], [3.0]]);
        assert_eq!(rows.library_size, [30.0, 10.0, 30.0]);
        assert!(q.rows(&[3]).is_err());
        let device = Device::Cpu;
        assert!(rows.posterior(2, DType::F32, &device).is_err());
        let p = rows.posterior(1, DType::F64, &device).unwrap();
        assert_eq!(p.mean.to_vec2::<f64>().unwrap()[1], [1.0]);
    }
}
