use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hdf5::{Dataset, Group, Hyperslab};
use ndarray::{Array2, Axis};
use sc_data::{Csr, RowSource};

use crate::hdf::{Entries, H5, Node};
use crate::{Error, Result};

/// Stored entries between two wanted rows that are read rather than skipped, because one read costs more.
const GAP: usize = 4096;
/// Dense rows between two wanted rows that are read rather than skipped.
const GAP_ROWS: usize = 8;
/// Rows of a minibatch come from anywhere, and each takes a chunk with it.
const CACHE: usize = 64 << 20;

/// A matrix of an `.h5ad` file of which only the rows asked for are read. See [`crate::h5ad::read_backed`].
///
/// The row pointers are held in memory (8 bytes a row), the entries are not. Sparse matrices are read by all threads, past
/// libhdf5 where they are stored as anndata stores them. A chunk of a packed file is unpacked whole, for one row or for all that
/// it has: read many rows at once, or shuffle blocks of rows instead of single ones.
pub struct BackedMatrix {
    h5: H5,
    at: String,
    n_rows: usize,
    n_cols: usize,
    stored: Stored,
}

enum Stored {
    Sparse {
        indptr: Vec<usize>,
        indices: Dataset,
        data: Dataset,
        /// Indices and data once more, past libhdf5.
        direct: Option<Arc<(Entries, Entries)>>,
    },
    Dense(Dataset),
}

impl std::fmt::Debug for BackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}:{} {} x {}",
            self.h5.path.display(),
            self.at,
            self.n_rows,
            self.n_cols
        )
    }
}

impl BackedMatrix {
    pub(crate) fn open(path: &Path, layer: Option<&str>) -> Result<Self> {
        let h5 = H5::open_with_cache(path, Some(CACHE))?;
        super::is_annotated(&h5)?;
        let root: &Group = &h5.root;
        let node = match layer {
            None => h5.require(root, "X")?,
            Some(name) => match h5.require(root, "layers")? {
                Node::Group(layers) => h5.require(&layers, name)?,
                Node::Dataset(_) => return Err(h5.wrong("/layers", "a dataset", "a group")),
            },
        };
        match node {
            Node::Group(group) => Self::sparse(h5, &group),
            Node::Dataset(dataset) => Self::dense(h5, dataset),
        }
    }

    fn sparse(h5: H5, group: &Group) -> Result<Self> {
        let at = group.name();
        let header = h5
            .sparse_header(group)?
            .ok_or_else(|| h5.wrong(&at, "a group", "a csr_matrix or a dense array"))?;
        if header.by_columns {
            return Err(h5.wrong(
                &at,
                "a matrix stored by columns (csc)",
                "one stored by rows (csr): read the file whole and write it again",
            ));
        }
        let indptr = h5.pointers(&h5.dataset(group, "indptr")?)?;
        let indices = h5.dataset(group, "indices")?;
        let data = h5.dataset(group, "data")?;
        let stored = h5.length_1d(&data)?;
        let same = h5.length_1d(&indices)? == stored;
        let fits = header.rows.checked_add(1) == Some(indptr.len())
            && indptr.first() == Some(&0)
            && indptr.last() == Some(&stored)
            && indptr.windows(2).all(|w| w[0] <= w[1]);
        if !same || !fits {
            return Err(h5.wrong(
                &at,
                "indptr, indices and data that contradict each other",
                format!("{} ascending row pointers up to {stored}", header.rows),
            ));
        }
        let direct = h5.entries(&indices)?.zip(h5.entries(&data)?).map(Arc::new);
        Ok(Self {
            at,
            n_rows: header.rows,
            n_cols: header.cols,
            stored: Stored::Sparse {
                indptr,
                indices,
                data,
                direct,
            },
            h5,
        })
    }

    fn dense(h5: H5, dataset: Dataset) -> Result<Self> {
        let at = dataset.name();
        match h5.shape(&dataset)?[..] {
            [n_rows, n_cols] if h5.kind(&dataset, &at)?.is_number() => Ok(Self {
                h5,
                at,
                n_rows,
                n_cols,
                stored: Stored::Dense(dataset),
            }),
            ref other => Err(h5.wrong(
                &at,
                format!("an array of shape {other:?}"),
                "a matrix of numbers",
            )),
        }
    }

    /// Number of stored entries; for a dense matrix all.
    pub fn n_stored(&self) -> usize {
        match &self.stored {
            Stored::Sparse { indptr, .. } => indptr.last().copied().unwrap_or(0),
            Stored::Dense(_) => self.n_rows * self.n_cols,
        }
    }

    /// Distinct rows in ascending order.
    fn read_ascending(&self, rows: &[usize]) -> Result<Csr> {
        match &self.stored {
            Stored::Sparse {
                indptr,
                direct: Some(direct),
                ..
            } => self.read_direct(rows, indptr, direct),
            Stored::Sparse {
                indptr,
                indices,
                data,
                ..
            } => self.read_sparse(rows, indptr, indices, data),
            Stored::Dense(dataset) => self.read_dense(rows, dataset),
        }
    }

    fn read_direct(
        &self,
        rows: &[usize],
        indptr: &[usize],
        (indices, data): &(Entries, Entries),
    ) -> Result<Csr> {
        let spans = spans(rows, indptr);
        let mut out_ptr = Vec::with_capacity(rows.len() + 1);
        out_ptr.push(0);
        let mut end = 0;
        for span in &spans {
            end += span.len();
            out_ptr.push(end);
        }
        let (indices, data) = rayon::join(
            || indices.read::<u32>(&self.h5, &spans),
            || data.read::<f32>(&self.h5, &spans),
        );
        Csr::new(rows.len(), self.n_cols, out_ptr, indices?, data?).map_err(self.h5.data(&self.at))
    }

    fn read_sparse(
        &self,
        rows: &[usize],
        indptr: &[usize],
        indices: &Dataset,
        data: &Dataset,
    ) -> Result<Csr> {
        let total = rows.iter().map(|&r| indptr[r + 1] - indptr[r]).sum();
        let mut out_ptr = Vec::with_capacity(rows.len() + 1);
        let mut out_idx: Vec<u32> = Vec::with_capacity(total);
        let mut out_val: Vec<f32> = Vec::with_capacity(total);
        out_ptr.push(0);
        for run in runs(rows, |a, b| indptr[b] - indptr[a + 1] <= GAP) {
            let wanted = &rows[run];
            let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else {
                continue;
            };
            let span = indptr[first]..indptr[last + 1];
            let (idx, val) = if span.is_empty() {
                (Vec::new(), Vec::new())
            } else {
                (
                    self.slice::<i64>(indices, &span)?,
                    self.slice::<f32>(data, &span)?,
                )
            };
            for &r in wanted {
                let part = indptr[r] - span.start..indptr[r + 1] - span.start;
                // A negative or huge column becomes one that `Csr::new` refuses.
                out_idx.extend(
                    idx[part.clone()]
                        .iter()
                        .map(|&i| u32::try_from(i).unwrap_or(u32::MAX)),
                );
                out_val.extend_from_slice(&val[part]);
                out_ptr.push(out_idx.len());
            }
        }
        Csr::new(rows.len(), self.n_cols, out_ptr, out_idx, out_val).map_err(self.h5.data(&self.at))
    }

    fn slice<T: hdf5::types::H5Type>(&self, of: &Dataset, span: &Range<usize>) -> Result<Vec<T>> {
        of.read_slice_1d::<T, _>(span.clone())
            .map(|a| a.into_raw_vec_and_offset().0)
            .map_err(self.h5.at(&self.at))
    }

    fn read_dense(&self, rows: &[usize], dataset: &Dataset) -> Result<Csr> {
        let mut parts = Vec::new();
        for run in runs(rows, |a, b| b - a <= GAP_ROWS) {
            let wanted = &rows[run];
            let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else {
                continue;
            };
            let block: Array2<f32> = dataset
                .read_slice_2d(Hyperslab::from(vec![(first..last + 1).into(), (..).into()]))
                .map_err(self.h5.at(&self.at))?;
            let wanted: Vec<usize> = wanted.iter().map(|r| r - first).collect();
            parts.push(if wanted.len() == block.nrows() {
                Csr::from_dense(&block)
            } else {
                Csr::from_dense(&block.select(Axis(0), &wanted))
            });
        }
        if parts.is_empty() {
            return Ok(Csr::zeros(0, self.n_cols));
        }
        Csr::vstack(&parts.iter().collect::<Vec<_>>()).map_err(self.h5.data(&self.at))
    }
}

/// Where the entries of rows lie.
fn spans(rows: &[usize], indptr: &[usize]) -> Vec<Range<usize>> {
    rows.iter().map(|&r| indptr[r]..indptr[r + 1]).collect()
}

/// Cuts ascending rows into runs whose neighbours `a`, `b` are `near` enough to be read at once.
fn runs(rows: &[usize], near: impl Fn(usize, usize) -> bool) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for k in 1..=rows.len() {
        if k == rows.len() || !near(rows[k - 1], rows[k]) {
            runs.push(start..k);
            start = k;
        }
    }
    runs
}

impl RowSource for BackedMatrix {
    fn n_rows(&self) -> usize {
        self.n_rows
    }

    fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// A thread of its own fetches the bytes from the disk.
    fn read_ahead(&self, rows: &[usize]) {
        let Stored::Sparse {
            indptr,
            direct: Some(direct),
            ..
        } = &self.stored
        else {
            return;
        };
        let mut rows: Vec<usize> = rows.iter().copied().filter(|r| *r < self.n_rows).collect();
        rows.sort_unstable();
        rows.dedup();
        let (spans, direct) = (spans(&rows, indptr), Arc::clone(direct));
        // Without a thread the bytes come when they are needed.
        let _ = std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || {
                direct.0.fetch(&spans);
                direct.1.fetch(&spans);
            });
    }

    fn read_rows(&self, rows: &[usize]) -> sc_data::Result<Csr> {
        if let Some(&index) = rows.iter().find(|&&r| r >= self.n_rows) {
            return Err(sc_data::Error::OutOfRange {
                what: "row",
                index,
                len: self.n_rows,
            });
        }
        let source = |e: Error| sc_data::Error::Source(Box::new(e));
        if rows.windows(2).all(|w| w[0] < w[1]) {
            return self.read_ascending(rows).map_err(source);
        }
        let mut ascending = rows.to_vec();
        ascending.sort_unstable();
        ascending.dedup();
        let found = self.read_ascending(&ascending).map_err(source)?;
        let order: Vec<usize> = rows
            .iter()
            .map(|r| ascending.partition_point(|a| a < r))
            .collect();
        found.select_rows(&order)
    }
}
