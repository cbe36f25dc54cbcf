use std::path::Path;

use hdf5::plist::group_create::AttrCreationOrder;
use hdf5::types::{H5Type, IntSize, TypeDescriptor, VarLenUnicode};
use hdf5::{Group, Location};
use ndarray::{ArrayView, ArrayViewD, Dimension, IxDyn};
use sc_data::{Categorical, Column, Csr, Matrix, Table};

use super::write::Compression;
use crate::hdf::child;
use crate::{Error, Result};

/// Bytes of a chunk of packed numbers: large enough to pack well, small enough for the default chunk cache of 1 MiB.
pub(super) const CHUNK: usize = 512 << 10;
/// Smaller arrays are not packed.
const TOO_SMALL: usize = 1 << 10;
/// More columns than this need attributes beyond 64 KiB, which old object headers cannot hold.
const MANY_COLUMNS: usize = 1000;

type Encoding = (&'static str, &'static str);

/// Writes the parts of a file.
pub(crate) struct Out<'a> {
    pub(crate) path: &'a Path,
    pub(crate) compression: Compression,
}

impl<'a> Out<'a> {
    pub(crate) fn new(path: &'a Path, compression: Compression) -> Self {
        Self { path, compression }
    }

    pub(crate) fn at(&self, parent: &Location, name: &str) -> impl FnOnce(hdf5::Error) -> Error {
        Error::hdf5(self.path, child(&parent.name(), name))
    }

    pub(super) fn unknown(&self, parent: &Group, name: &str) -> Error {
        Error::content(
            self.path,
            child(&parent.name(), name),
            "a value of a newer kind",
            "a matrix or a table",
        )
    }

    /// HDF5 takes a slash for a level.
    pub(crate) fn check_name(&self, parent: &Group, name: &str) -> Result<()> {
        if name.is_empty() || name == "." || name.contains(['/', '\0']) {
            return Err(Error::content(
                self.path,
                parent.name(),
                format!("the name {name:?}"),
                "a name that is not empty and has no slash; rename it",
            ));
        }
        Ok(())
    }

    pub(crate) fn varlen(&self, at: &Location, text: &str) -> Result<VarLenUnicode> {
        text.parse().map_err(|_| {
            Error::content(
                self.path,
                at.name(),
                format!("a NUL byte in {text:?}"),
                "text without one",
            )
        })
    }

    pub(crate) fn attr_text(&self, of: &Location, name: &str, value: &str) -> Result<()> {
        let value = self.varlen(of, value)?;
        of.new_attr::<VarLenUnicode>()
            .create(name)
            .and_then(|a| a.write_scalar(&value))
            .map_err(self.at(of, name))
    }

    /// Says what an element is.
    pub(crate) fn encode(&self, of: &Location, kind: &str, version: &str) -> Result<()> {
        self.attr_text(of, "encoding-type", kind)?;
        self.attr_text(of, "encoding-version", version)
    }

    pub(crate) fn group(
        &self,
        parent: &Group,
        name: &str,
        kind: &str,
        version: &str,
    ) -> Result<Group> {
        self.check_name(parent, name)?;
        let group = parent.create_group(name).map_err(self.at(parent, name))?;
        self.encode(&group, kind, version)?;
        Ok(group)
    }

    /// An array of numbers or truth values; the three arrays of a sparse matrix carry no encoding.
    pub(crate) fn array<T: H5Type + Clone, D: Dimension>(
        &self,
        parent: &Group,
        name: &str,
        values: ArrayView<'_, T, D>,
        encoding: Option<Encoding>,
    ) -> Result<()> {
        self.array_as(parent, name, values, &T::type_descriptor(), encoding)
    }

    /// As [`Out::array`], converted to another type by libhdf5.
    // A view is a reference already.
    #[allow(clippy::needless_pass_by_value)]
    fn array_as<T: H5Type + Clone, D: Dimension>(
        &self,
        parent: &Group,
        name: &str,
        values: ArrayView<'_, T, D>,
        stored: &TypeDescriptor,
        encoding: Option<Encoding>,
    ) -> Result<()> {
        self.check_name(parent, name)?;
        let values = values.as_standard_layout();
        let mut builder = parent.new_dataset_builder();
        if let Compression::Gzip(level) = self.compression
            && values.ndim() > 0
            && values.len() * stored.size() >= TOO_SMALL
        {
            builder = builder
                .chunk(chunk_shape(values.shape(), stored.size()))
                .shuffle()
                .deflate(level);
        }
        let dataset = builder
            .with_data_as(values.view(), stored)
            .create(name)
            .map_err(self.at(parent, name))?;
        match encoding {
            Some((kind, version)) => self.encode(&dataset, kind, version),
            None => Ok(()),
        }
    }

    pub(super) fn scalar<T: H5Type>(
        &self,
        parent: &Group,
        name: &str,
        value: &T,
        (kind, version): Encoding,
    ) -> Result<()> {
        self.check_name(parent, name)?;
        let dataset = parent
            .new_dataset::<T>()
            .create(name)
            .map_err(self.at(parent, name))?;
        dataset.write_scalar(value).map_err(self.at(parent, name))?;
        self.encode(&dataset, kind, version)
    }

    pub(super) fn null(&self, parent: &Group, name: &str) -> Result<()> {
        self.check_name(parent, name)?;
        let dataset = parent
            .new_dataset::<f32>()
            .shape(hdf5::Extents::Null)
            .create(name)
            .map_err(self.at(parent, name))?;
        self.encode(&dataset, "null", "0.1.0")
    }

    pub(super) fn strings(
        &self,
        parent: &Group,
        name: &str,
        shape: &[usize],
        texts: &[String],
    ) -> Result<()> {
        self.check_name(parent, name)?;
        let texts = texts
            .iter()
            .map(|t| self.varlen(parent, t))
            .collect::<Result<Vec<_>>>()?;
        let dataset = ArrayViewD::from_shape(IxDyn(shape), &texts)
            .map_err(|e| hdf5::Error::from(e.to_string()))
            .and_then(|a| parent.new_dataset_builder().with_data(a).create(name))
            .map_err(self.at(parent, name))?;
        self.encode(&dataset, "string-array", "0.2.0")
    }

    pub(super) fn matrix(&self, parent: &Group, name: &str, matrix: &Matrix) -> Result<()> {
        const ARRAY: Encoding = ("array", "0.2.0");
        match matrix {
            Matrix::Dense(m) => self.array(parent, name, m.view(), Some(ARRAY)),
            Matrix::Dense64(m) => self.array(parent, name, m.view(), Some(ARRAY)),
            Matrix::Sparse(m) => self.sparse(parent, name, m),
            _ => Err(self.unknown(parent, name)),
        }
    }

    /// Indices and pointers have one type, as scipy wants it.
    pub(super) fn sparse(&self, parent: &Group, name: &str, m: &Csr) -> Result<()> {
        let group = self.sparse_group(parent, name, m.n_rows(), m.n_cols())?;
        let small = i32::MAX as usize;
        let index = TypeDescriptor::Integer(if m.n_stored() <= small && m.n_cols() <= small {
            IntSize::U4
        } else {
            IntSize::U8
        });
        let pointers: Vec<u64> = m.indptr().iter().map(|&p| p as u64).collect();
        self.array(&group, "data", ArrayView::from(m.data()), None)?;
        self.array_as(
            &group,
            "indices",
            ArrayView::from(m.indices()),
            &index,
            None,
        )?;
        self.array_as(&group, "indptr", ArrayView::from(&pointers), &index, None)
    }

    /// The group of a matrix stored by rows.
    pub(super) fn sparse_group(
        &self,
        parent: &Group,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Group> {
        let group = self.group(parent, name, "csr_matrix", "0.1.0")?;
        group
            .new_attr_builder()
            .with_data(&[rows as i64, cols as i64])
            .create("shape")
            .map_err(self.at(&group, "shape"))?;
        Ok(group)
    }

    pub(crate) fn table(&self, parent: &Group, name: &str, table: &Table) -> Result<()> {
        self.check_name(parent, name)?;
        let mut builder = parent.create_group_builder();
        if table.columns().len() > MANY_COLUMNS {
            builder = builder.with_gcpl(|p| p.attr_creation_order(AttrCreationOrder::Tracked));
        }
        let group = builder.create(name).map_err(self.at(parent, name))?;
        self.encode(&group, "dataframe", "0.2.0")?;
        let mut index = table.index_name().unwrap_or("_index");
        if table.get(index).is_some() {
            if index == "_index" {
                return Err(Error::content(
                    self.path,
                    group.name(),
                    "a column called \"_index\"",
                    "another name: this one is reserved",
                ));
            }
            tracing::warn!(file = %self.path.display(), "{}: the index and a column are both called \"{index}\"; the index loses its name", group.name());
            index = "_index";
        }
        self.attr_text(&group, "_index", index)?;
        let order = table
            .columns()
            .map(|(n, _)| self.varlen(&group, n))
            .collect::<Result<Vec<_>>>()?;
        group
            .new_attr_builder()
            .with_data(&order)
            .create("column-order")
            .map_err(self.at(&group, "column-order"))?;
        self.strings(&group, index, &[table.n_rows()], table.index())?;
        table
            .columns()
            .try_for_each(|(n, column)| self.column(&group, n, column))
    }

    fn column(&self, g: &Group, name: &str, column: &Column) -> Result<()> {
        const ARRAY: Option<Encoding> = Some(("array", "0.2.0"));
        match column {
            Column::Bool(v) => self.array(g, name, ArrayView::from(v), ARRAY),
            Column::Int32(v) => self.array(g, name, ArrayView::from(v), ARRAY),
            Column::Int(v) => self.array(g, name, ArrayView::from(v), ARRAY),
            Column::Float32(v) => self.array(g, name, ArrayView::from(v), ARRAY),
            Column::Float(v) => self.array(g, name, ArrayView::from(v), ARRAY),
            Column::Str(v) => self.strings(g, name, &[v.len()], v),
            Column::Categorical(c) => self.categorical(g, name, c),
            Column::OptBool(v) => {
                let group = self.masked(g, name, "nullable-boolean", v)?;
                let values: Vec<bool> = v.iter().map(|b| b.unwrap_or_default()).collect();
                self.array(&group, "values", ArrayView::from(&values), ARRAY)
            }
            Column::OptInt(v) => {
                let group = self.masked(g, name, "nullable-integer", v)?;
                let values: Vec<i64> = v.iter().map(|i| i.unwrap_or_default()).collect();
                self.array(&group, "values", ArrayView::from(&values), ARRAY)
            }
            Column::OptStr(v) => {
                let group = self.masked(g, name, "nullable-string-array", v)?;
                let values: Vec<String> = v.iter().map(|s| s.clone().unwrap_or_default()).collect();
                self.strings(&group, "values", &[values.len()], &values)
            }
            _ => Err(self.unknown(g, name)),
        }
    }

    /// A nullable column without its values.
    fn masked<T>(&self, g: &Group, name: &str, kind: &str, values: &[Option<T>]) -> Result<Group> {
        let group = self.group(g, name, kind, "0.1.0")?;
        let mask: Vec<bool> = values.iter().map(Option::is_none).collect();
        self.array(
            &group,
            "mask",
            ArrayView::from(&mask),
            Some(("array", "0.2.0")),
        )?;
        Ok(group)
    }

    fn categorical(&self, g: &Group, name: &str, c: &Categorical) -> Result<()> {
        let group = self.group(g, name, "categorical", "0.2.0")?;
        group
            .new_attr::<bool>()
            .create("ordered")
            .and_then(|a| a.write_scalar(&c.is_ordered()))
            .map_err(self.at(&group, "ordered"))?;
        let codes: Vec<i64> = c.codes().iter().map(|c| c.map_or(-1, i64::from)).collect();
        let size = match c.categories().len() {
            0..=127 => IntSize::U1,
            128..=32767 => IntSize::U2,
            _ => IntSize::U4,
        };
        self.array_as(
            &group,
            "codes",
            ArrayView::from(&codes),
            &TypeDescriptor::Integer(size),
            Some(("array", "0.2.0")),
        )?;
        self.strings(
            &group,
            "categories",
            &[c.categories().len()],
            c.categories(),
        )
    }
}

/// Whole rows that make up about [`CHUNK`] bytes, or pieces of a row if one is longer.
fn chunk_shape(shape: &[usize], each: usize) -> Vec<usize> {
    let mut left = (CHUNK / each).max(1);
    let mut chunk = vec![1; shape.len()];
    for (c, &dim) in chunk.iter_mut().zip(shape).rev() {
        *c = dim.min(left).max(1);
        left /= *c;
        if left == 0 {
            break;
        }
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_about_half_a_mebibyte() {
        assert_eq!(chunk_shape(&[10, 3], 4), [10, 3]);
        assert_eq!(chunk_shape(&[1_000_000], 4), [CHUNK / 4]);
        assert_eq!(chunk_shape(&[50_000, 2_000], 4), [65, 2_000]);
        assert_eq!(chunk_shape(&[3, 1_000_000], 8), [1, CHUNK / 8]);
    }
}
