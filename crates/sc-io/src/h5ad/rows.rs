//! Matrices that are written as they are read.

use hdf5::types::H5Type;
use hdf5::{Dataset, Group, SimpleExtents};
use ndarray::{ArrayView, ArrayView1};
use sc_data::RowSource;

use super::write::Compression;
use super::write_parts::{CHUNK, Out};
use crate::{Error, Result};

/// Rows that are held at once.
const ROWS: usize = 4096;

impl Out<'_> {
    /// A sparse matrix, some rows at a time.
    pub(super) fn rows(&self, parent: &Group, name: &str, from: &dyn RowSource) -> Result<()> {
        let (rows, cols) = (from.n_rows(), from.n_cols());
        let group = self.sparse_group(parent, name, rows, cols)?;
        // How many entries there will be is not known; indices and pointers have one type, as scipy wants it.
        let small = rows
            .checked_mul(cols)
            .is_some_and(|n| n <= i32::MAX as usize);
        if small {
            self.rows_as(&group, from, |i| i as i32)
        } else {
            self.rows_as(&group, from, |i| i as i64)
        }
    }

    fn rows_as<I: H5Type + Copy>(
        &self,
        group: &Group,
        from: &dyn RowSource,
        index: impl Fn(usize) -> I,
    ) -> Result<()> {
        let mut data = Growing::new(self.growing::<f32>(group, "data")?);
        let mut indices = Growing::new(self.growing::<I>(group, "indices")?);
        let mut pointers = vec![index(0)];
        let n = from.n_rows();
        for start in (0..n).step_by(ROWS) {
            let block = from
                .read_range(start..(start + ROWS).min(n))
                .map_err(Error::data(self.path, group.name()))?;
            let stored = data.len;
            pointers.extend(block.indptr().iter().skip(1).map(|p| index(stored + p)));
            let own: Vec<I> = block.indices().iter().map(|&c| index(c as usize)).collect();
            data.add(ArrayView::from(block.data()))
                .and_then(|()| indices.add(ArrayView::from(&own)))
                .map_err(self.at(group, "data"))?;
        }
        self.array(group, "indptr", ArrayView::from(&pointers), None)
    }

    fn growing<T: H5Type>(&self, group: &Group, name: &str) -> Result<Dataset> {
        let mut builder = group
            .new_dataset::<T>()
            .chunk([CHUNK / size_of::<T>()])
            .shape(SimpleExtents::resizable([0usize]));
        if let Compression::Gzip(level) = self.compression {
            builder = builder.shuffle().deflate(level);
        }
        builder.create(name).map_err(self.at(group, name))
    }
}

/// A vector in the file that gets longer.
struct Growing {
    dataset: Dataset,
    len: usize,
}

impl Growing {
    fn new(dataset: Dataset) -> Self {
        Self { dataset, len: 0 }
    }

    fn add<T: H5Type>(&mut self, values: ArrayView1<'_, T>) -> hdf5::Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let start = self.len;
        self.len += values.len();
        self.dataset.resize([self.len])?;
        self.dataset.write_slice(values, start..self.len)
    }
}
