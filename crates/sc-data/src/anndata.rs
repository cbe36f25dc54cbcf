use indexmap::IndexMap;
use ndarray::ArrayD;

use crate::table::names_or_nothing;
use crate::{Csr, Error, Matrix, Result, Table};

/// Annotated data: a matrix of cells x features with everything known about cells and features.
///
/// The fields are public, as in Python; [`AnnData::check`] says whether they fit together, and every reader and
/// writer calls it.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct AnnData {
    /// Cells x features. May be absent.
    pub x: Option<Matrix>,
    /// One row a cell.
    pub obs: Table,
    /// One row a feature.
    pub var: Table,
    /// Other matrices of the same shape, e.g. `counts`.
    pub layers: IndexMap<String, Matrix>,
    /// Cells x anything, e.g. `X_pca`.
    pub obsm: IndexMap<String, Annotation>,
    /// Features x anything.
    pub varm: IndexMap<String, Annotation>,
    /// Cells x cells, e.g. `connectivities`.
    pub obsp: IndexMap<String, Matrix>,
    /// Features x features.
    pub varp: IndexMap<String, Matrix>,
    /// Anything else.
    pub uns: IndexMap<String, Uns>,
    /// The data before features were filtered.
    pub raw: Option<Raw>,
}

/// What `obsm` and `varm` hold: a matrix or a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Annotation {
    /// Numbers.
    Matrix(Matrix),
    /// Named columns.
    Table(Table),
}

impl Annotation {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        match self {
            Self::Matrix(m) => m.n_rows(),
            Self::Table(t) => t.n_rows(),
        }
    }

    /// The rows in the order given.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn select_rows(&self, rows: &[usize]) -> Result<Self> {
        Ok(match self {
            Self::Matrix(m) => Self::Matrix(m.select_rows(rows)?),
            Self::Table(t) => Self::Table(t.select_rows(rows)?),
        })
    }
}

impl<M: Into<Matrix>> From<M> for Annotation {
    fn from(m: M) -> Self {
        Self::Matrix(m.into())
    }
}

/// `raw`: the same cells with their own features.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw {
    /// Cells x raw features.
    pub x: Matrix,
    /// One row a raw feature.
    pub var: Table,
    /// Raw features x anything.
    pub varm: IndexMap<String, Annotation>,
}

/// A value in `uns`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Uns {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Str(String),
    /// Integers of any shape.
    Ints(ArrayD<i64>),
    /// Numbers of any shape.
    Floats(ArrayD<f64>),
    /// Single-precision numbers of any shape.
    Floats32(ArrayD<f32>),
    /// Truth values of any shape.
    Bools(ArrayD<bool>),
    /// Texts of any shape.
    Strings(ArrayD<String>),
    /// A sparse matrix.
    Sparse(Csr),
    /// A table.
    Table(Table),
    /// Names and values.
    Dict(IndexMap<String, Uns>),
}

impl AnnData {
    /// Cells, features and a matrix, nothing else.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if the shapes do not fit.
    pub fn new(x: impl Into<Matrix>, obs: Table, var: Table) -> Result<Self> {
        let data = Self {
            x: Some(x.into()),
            obs,
            var,
            ..Self::default()
        };
        data.check()?;
        Ok(data)
    }

    /// Number of cells.
    pub fn n_obs(&self) -> usize {
        self.obs.n_rows()
    }

    /// Number of features.
    pub fn n_vars(&self) -> usize {
        self.var.n_rows()
    }

    /// `X`, or the layer called `layer`.
    ///
    /// # Errors
    /// [`Error::NotFound`], which lists the layers there are.
    pub fn matrix(&self, layer: Option<&str>) -> Result<&Matrix> {
        let (found, kind, name) = match layer {
            Some(l) => (self.layers.get(l), "layer", l),
            None => (self.x.as_ref(), "matrix", "X"),
        };
        found.ok_or_else(|| Error::NotFound {
            container: "the data".into(),
            kind,
            name: name.to_owned(),
            available: match layer {
                None if !self.layers.is_empty() => {
                    format!("layers {}", names_or_nothing(self.layers.keys()))
                }
                _ => names_or_nothing(self.layers.keys()),
            },
        })
    }

    /// Whether all parts have the shapes that `obs` and `var` give.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] names the first part that does not.
    pub fn check(&self) -> Result<()> {
        let (n, g) = (self.n_obs(), self.n_vars());
        let same = |what: String, found: usize, expected: usize| {
            if found == expected {
                Ok(())
            } else {
                Err(Error::LengthMismatch {
                    what,
                    found,
                    expected,
                })
            }
        };
        let mut matrices: Vec<(String, &Matrix, usize, usize)> = Vec::new();
        matrices.extend(self.x.iter().map(|m| ("X".to_owned(), m, n, g)));
        matrices.extend(
            self.layers
                .iter()
                .map(|(k, m)| (format!("layers/{k}"), m, n, g)),
        );
        matrices.extend(
            self.obsp
                .iter()
                .map(|(k, m)| (format!("obsp/{k}"), m, n, n)),
        );
        matrices.extend(
            self.varp
                .iter()
                .map(|(k, m)| (format!("varp/{k}"), m, g, g)),
        );
        if let Some(raw) = &self.raw {
            matrices.push(("raw/X".into(), &raw.x, n, raw.var.n_rows()));
            for (k, a) in &raw.varm {
                same(
                    format!("rows of raw/varm/{k}"),
                    a.n_rows(),
                    raw.var.n_rows(),
                )?;
            }
        }
        for (name, m, rows, cols) in matrices {
            same(format!("rows of {name}"), m.n_rows(), rows)?;
            same(format!("columns of {name}"), m.n_cols(), cols)?;
        }
        for (k, a) in &self.obsm {
            same(format!("rows of obsm/{k}"), a.n_rows(), n)?;
        }
        for (k, a) in &self.varm {
            same(format!("rows of varm/{k}"), a.n_rows(), g)?;
        }
        Ok(())
    }

    /// The cells in the order given. `obsp` is left out, because its columns are cells too.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a row does not exist.
    pub fn select_obs(&self, rows: &[usize]) -> Result<Self> {
        let each = |m: &IndexMap<String, Annotation>| -> Result<IndexMap<String, Annotation>> {
            m.iter()
                .map(|(k, a)| Ok((k.clone(), a.select_rows(rows)?)))
                .collect()
        };
        Ok(Self {
            x: self.x.as_ref().map(|x| x.select_rows(rows)).transpose()?,
            obs: self.obs.select_rows(rows)?,
            var: self.var.clone(),
            layers: self
                .layers
                .iter()
                .map(|(k, m)| Ok((k.clone(), m.select_rows(rows)?)))
                .collect::<Result<_>>()?,
            obsm: each(&self.obsm)?,
            varm: self.varm.clone(),
            obsp: IndexMap::new(),
            varp: self.varp.clone(),
            uns: self.uns.clone(),
            raw: match &self.raw {
                Some(raw) => Some(Raw {
                    x: raw.x.select_rows(rows)?,
                    var: raw.var.clone(),
                    varm: raw.varm.clone(),
                }),
                None => None,
            },
        })
    }

    /// The features in the order given. `varp` and `raw` are left as they were, `varp` out.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a feature does not exist.
    pub fn select_vars(&self, columns: &[usize]) -> Result<Self> {
        let mut out = self.clone();
        out.x = self
            .x
            .as_ref()
            .map(|x| x.select_columns(columns))
            .transpose()?;
        out.var = self.var.select_rows(columns)?;
        out.layers = self
            .layers
            .iter()
            .map(|(k, m)| Ok((k.clone(), m.select_columns(columns)?)))
            .collect::<Result<_>>()?;
        out.varm = self
            .varm
            .iter()
            .map(|(k, a)| Ok((k.clone(), a.select_rows(columns)?)))
            .collect::<Result<_>>()?;
        out.varp = IndexMap::new();
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;
    use ndarray::array;

    fn names(prefix: &str, n: usize) -> Table {
        Table::new((0..n).map(|i| format!("{prefix}{i}")).collect())
    }

    #[test]
    fn shapes_are_checked() {
        let x = array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let mut a = AnnData::new(x.clone(), names("c", 3), names("g", 2)).unwrap();
        assert!(AnnData::new(x, names("c", 2), names("g", 2)).is_err());
        a.obsm.insert("X_pca".into(), array![[1.0f32]].into());
        let message = a.check().unwrap_err().to_string();
        assert!(
            message.contains("obsm/X_pca") && message.contains('3'),
            "{message}"
        );
        let message = a.matrix(Some("counts")).unwrap_err().to_string();
        assert!(message.contains("layer \"counts\""), "{message}");
    }

    #[test]
    fn subsets_take_everything_along() {
        let x = array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let mut a = AnnData::new(Csr::from_dense(&x), names("c", 3), names("g", 2)).unwrap();
        a.obs.insert("batch", Column::Int(vec![0, 1, 2])).unwrap();
        let b = a.select_obs(&[2, 0]).unwrap().select_vars(&[1]).unwrap();
        b.check().unwrap();
        assert_eq!(b.x.unwrap().to_dense(), array![[6.0], [2.0]]);
        assert_eq!(b.obs.get("batch"), Some(&Column::Int(vec![2, 0])));
    }
}
