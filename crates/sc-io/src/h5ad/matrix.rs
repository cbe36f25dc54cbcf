use hdf5::{Dataset, Group};
use ndarray::Array2;
use sc_data::{Csr, Matrix};

use crate::Result;
use crate::hdf::{H5, Kind, Node};

/// How a sparse matrix says it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SparseHeader {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) by_columns: bool,
}

impl H5 {
    /// The `encoding-type` of an element, `None` before anndata 0.7.
    pub(crate) fn encoding(&self, of: &hdf5::Location) -> Option<String> {
        self.attr_string(of, "encoding-type")
    }

    /// What the attributes of a sparse matrix say; `None` if the group is not one.
    pub(crate) fn sparse_header(&self, group: &Group) -> Result<Option<SparseHeader>> {
        let (format, key) = match self.encoding(group).as_deref() {
            Some("csr_matrix") => ("csr".to_owned(), "shape"),
            Some("csc_matrix") => ("csc".to_owned(), "shape"),
            _ => match self.attr_string(group, "h5sparse_format") {
                Some(format) => (format, "h5sparse_shape"),
                None => return Ok(None),
            },
        };
        let at = group.name();
        let by_columns = match format.as_str() {
            "csr" => false,
            "csc" => true,
            other => return Err(self.wrong(&at, format!("a matrix in {other}"), "csr or csc")),
        };
        let shape = self.attr_ints(group, key)?.unwrap_or_default();
        let dims: Vec<usize> = shape
            .iter()
            .filter_map(|&d| usize::try_from(d).ok())
            .collect();
        match dims[..] {
            [rows, cols] => Ok(Some(SparseHeader {
                rows,
                cols,
                by_columns,
            })),
            _ => Err(self.wrong(
                &at,
                format!("the shape {shape:?}"),
                "two sizes in the attribute \"shape\"",
            )),
        }
    }

    /// A dense or sparse matrix. `rows` and `cols` are what the rest of the file says, where it does.
    pub(crate) fn matrix(
        &self,
        node: &Node,
        rows: Option<usize>,
        cols: Option<usize>,
    ) -> Result<Matrix> {
        match node {
            Node::Group(group) => Ok(Matrix::Sparse(self.sparse(group, rows, cols)?)),
            Node::Dataset(dataset) => self.dense(dataset, rows, cols),
        }
    }

    pub(crate) fn sparse(
        &self,
        group: &Group,
        rows: Option<usize>,
        cols: Option<usize>,
    ) -> Result<Csr> {
        let at = group.name();
        let Some(header) = self.sparse_header(group)? else {
            let found = self.encoding(group).unwrap_or_else(|| "a group".into());
            return Err(self.wrong(&at, found, "a csr_matrix, a csc_matrix or a dense array"));
        };
        self.check_shape(&at, (header.rows, header.cols), rows, cols)?;
        let indptr = self.pointers(&self.dataset(group, "indptr")?)?;
        let indices = self.indices(&self.dataset(group, "indices")?)?;
        let data = self.f32s(&self.dataset(group, "data")?)?;
        if !header.by_columns {
            return Csr::new(header.rows, header.cols, indptr, indices, data)
                .map_err(self.data(&at));
        }
        // The transpose takes memory for every declared row, stored or not.
        if rows.is_none() && header.rows > (1 << 24) + 64 * data.len() {
            let found = format!("{} rows with {} entries", header.rows, data.len());
            return Err(self.wrong(&at, found, "a plausible number of rows"));
        }
        Csr::new(header.cols, header.rows, indptr, indices, data)
            .map(|columns| columns.transpose())
            .map_err(self.data(&at))
    }

    /// A dense matrix; one dimension is taken for a column.
    fn dense(&self, from: &Dataset, rows: Option<usize>, cols: Option<usize>) -> Result<Matrix> {
        let at = from.name();
        let kind = self.kind(from, &at)?;
        if !kind.is_number() {
            return Err(self.wrong(&at, kind.name(), "a matrix of numbers"));
        }
        let shape = match self.shape(from)?[..] {
            [n] => (n, 1),
            [n, g] => (n, g),
            ref other => {
                return Err(self.wrong(
                    &at,
                    format!("{} dimensions", other.len()),
                    "two dimensions",
                ));
            }
        };
        self.check_shape(&at, shape, rows, cols)?;
        let misshapen = |e: ndarray::ShapeError| self.wrong(&at, e.to_string(), "a full matrix");
        if kind == Kind::Float(8) {
            let m = Array2::from_shape_vec(shape, self.raw::<f64>(from)?).map_err(misshapen)?;
            return Ok(Matrix::Dense64(m));
        }
        let m = Array2::from_shape_vec(shape, self.f32s(from)?).map_err(misshapen)?;
        Ok(Matrix::Dense(m))
    }

    pub(crate) fn check_shape(
        &self,
        at: &str,
        found: (usize, usize),
        rows: Option<usize>,
        cols: Option<usize>,
    ) -> Result<()> {
        if rows.is_none_or(|r| r == found.0) && cols.is_none_or(|c| c == found.1) {
            return Ok(());
        }
        let size = |s: Option<usize>| s.map_or("any number".to_owned(), |s| s.to_string());
        Err(self.wrong(
            at,
            format!("{} x {}", found.0, found.1),
            format!("{} x {}, as obs and var have it", size(rows), size(cols)),
        ))
    }
}
