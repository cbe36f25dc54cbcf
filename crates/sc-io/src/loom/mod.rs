//! Loom files of versions 1 to 3: what loompy, velocyto and SCope write.
//!
//! A loom file is turned: its `matrix` has features in rows and cells in columns. What becomes of its parts:
//!
//! | loom | `AnnData` |
//! |---|---|
//! | `matrix` | `X`, sparse |
//! | `layers` (`spliced`, `unspliced`, ...) | `layers`, sparse |
//! | the attribute of `col_attrs` that names cells: `CellID`, or `obs_names`, `cell_id`, `Cell`, `barcode` | names of `obs` |
//! | the attribute of `row_attrs` that names features: `Gene`, or `var_names`, `gene`, `Accession` | names of `var` |
//! | other attributes with a value a cell or feature | columns of `obs`, `var` |
//! | attributes with several values each, such as `Spatial_coordinates` | `obsm`, `varm` |
//! | `col_graphs`, `row_graphs` | `obsp`, `varp`; entries of the same place are added up |
//! | `attrs` (version 3), attributes of the file (versions 1, 2) | `uns` |
//!
//! Without a naming attribute cells and features are called by their numbers, as anndata does. Names are text: numbers
//! are printed. What has neither shape is left out with a warning that names it.

mod attributes;
#[cfg(test)]
mod tests;

use std::path::Path;

use hdf5::{Dataset, Group, Hyperslab};
use indexmap::IndexMap;
use ndarray::Array2;
use sc_data::{AnnData, Csr, Matrix};

use crate::Result;
use crate::hdf::{H5, Node, child};
use crate::names::warn_of_duplicates;

/// The name cells go by, the first that is there.
const CELL_NAMES: &[&str] = &["CellID", "obs_names", "cell_id", "Cell", "barcode"];
/// The name features go by.
const FEATURE_NAMES: &[&str] = &["Gene", "var_names", "gene", "Accession"];
/// Dense values that are in memory at a time.
const BLOCK: usize = 8 << 20;

/// Reads a loom file. See the [module](crate::loom) for what becomes of its parts.
///
/// # Errors
/// [`crate::Error`] if the file is missing, damaged or of another kind; it names the place in the file.
pub fn read(path: impl AsRef<Path>) -> Result<AnnData> {
    let h5 = H5::open(path.as_ref())?;
    let mut data = annotations(&h5)?;
    let root: &Group = &h5.file;
    let matrix = h5.dataset(root, "matrix")?;
    let shape = (data.n_vars(), data.n_obs());
    data.x = Some(Matrix::Sparse(h5.turned(&matrix, shape)?));
    data.layers = h5.turned_layers(root, shape)?;
    warn_of_duplicates(&h5.path, "cells", data.obs.index());
    warn_of_duplicates(&h5.path, "features", data.var.index());
    data.check().map_err(h5.data("/"))?;
    Ok(data)
}

/// Everything but matrices of features x cells.
pub(crate) fn annotations(h5: &H5) -> Result<AnnData> {
    let root: &Group = &h5.file;
    if !looks_like(h5) {
        return Err(crate::Error::Unsupported {
            path: h5.path.clone(),
            found: "an HDF5 file without \"matrix\", \"row_attrs\" and \"col_attrs\"".into(),
            hint: "a loom file has them at its root".into(),
        });
    }
    let (features, cells) = h5.two_dimensions(&h5.dataset(root, "matrix")?)?;
    let mut data = AnnData::default();
    (data.obs, data.obsm) = h5.attributes(root, "col_attrs", cells, CELL_NAMES)?;
    (data.var, data.varm) = h5.attributes(root, "row_attrs", features, FEATURE_NAMES)?;
    data.obsp = h5.graphs(root, "col_graphs", cells)?;
    data.varp = h5.graphs(root, "row_graphs", features)?;
    data.uns = h5.global_attributes(root)?;
    Ok(data)
}

/// Whether the file has the layout of a loom file.
pub(crate) fn looks_like(h5: &H5) -> bool {
    ["matrix", "row_attrs", "col_attrs"]
        .iter()
        .all(|name| h5.file.link_exists(name))
}

impl H5 {
    fn two_dimensions(&self, of: &Dataset) -> Result<(usize, usize)> {
        let at = of.name();
        let kind = self.kind(of, &at)?;
        // Nothing takes no space in the file, however long it is.
        const LONGEST_EMPTY: usize = 1 << 24;
        match self.shape(of)?[..] {
            [rows, cols]
                if kind.is_number() && (rows * cols > 0 || rows.max(cols) <= LONGEST_EMPTY) =>
            {
                Ok((rows, cols))
            }
            ref other => Err(self.wrong(
                &at,
                format!("{} of shape {other:?}", kind.name()),
                "a matrix of numbers, features x cells",
            )),
        }
    }

    /// Cells x features of a dense matrix of features x cells, a block of features at a time.
    fn turned(&self, from: &Dataset, (features, cells): (usize, usize)) -> Result<Csr> {
        let at = from.name();
        let chunk = from.chunk().and_then(|c| c.first().copied()).unwrap_or(1);
        let wanted = BLOCK / cells.max(1);
        // Whole chunks, or each would be unpacked more than once.
        let block = (wanted / chunk.max(1)).max(1).saturating_mul(chunk.max(1));
        let mut parts = Vec::new();
        for start in (0..features).step_by(block) {
            let end = start.saturating_add(block).min(features);
            let rows: Array2<f32> = from
                .read_slice_2d(Hyperslab::from(vec![(start..end).into(), (..).into()]))
                .map_err(self.at(&at))?;
            parts.push(Csr::from_dense(&rows));
        }
        if parts.is_empty() {
            return Ok(Csr::zeros(cells, features));
        }
        Csr::vstack(&parts.iter().collect::<Vec<_>>())
            .map(|m| m.transpose())
            .map_err(self.data(&at))
    }

    fn turned_layers(
        &self,
        root: &Group,
        shape: (usize, usize),
    ) -> Result<IndexMap<String, Matrix>> {
        let mut layers = IndexMap::new();
        let Some(Node::Group(group)) = self.member(root, "layers")? else {
            return Ok(layers);
        };
        for name in self.names(&group)? {
            // Old writers keep the matrix here once more, without a name.
            if name.is_empty() {
                continue;
            }
            let layer = self.dataset(&group, &name)?;
            let found = self.two_dimensions(&layer)?;
            if found != shape {
                return Err(self.wrong(
                    &child(&group.name(), &name),
                    format!("{} x {}", found.0, found.1),
                    format!("{} x {}, as the matrix has", shape.0, shape.1),
                ));
            }
            layers.insert(name, Matrix::Sparse(self.turned(&layer, shape)?));
        }
        Ok(layers)
    }
}
