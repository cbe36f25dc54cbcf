use std::path::Path;

use hdf5::Group;
use indexmap::IndexMap;
use sc_data::{AnnData, Annotation, Matrix, Raw, Table};

use crate::hdf::{H5, Kind, Node, child, is_named_h5mu};
use crate::{Error, Result};

/// Reads a whole `.h5ad` file. See the [module](crate::h5ad) for what is read and what is not.
///
/// # Errors
/// [`Error`] if the file is missing, damaged or of another kind; it names the place in the file.
pub fn read(path: impl AsRef<Path>) -> Result<AnnData> {
    read_parts(path.as_ref(), true)
}

/// Reads everything but the matrices of expression: `X`, `layers` and `raw` stay on the disk. Together with
/// [`read_backed`](crate::h5ad::read_backed) this is how a model is trained from a file larger than the memory.
///
/// # Errors
/// As [`read`].
pub fn read_annotations(path: impl AsRef<Path>) -> Result<AnnData> {
    read_parts(path.as_ref(), false)
}

fn read_parts(path: &Path, matrices: bool) -> Result<AnnData> {
    let h5 = H5::open(path)?;
    is_annotated(&h5)?;
    h5.anndata(&h5.root, matrices)
}

/// Whether the file is AnnData's; if not, the error says what it looks like.
pub(crate) fn is_annotated(h5: &H5) -> Result<()> {
    let has = |name: &str| h5.root.link_exists(name);
    if has("obs") && has("var") && !has("mod") {
        return Ok(());
    }
    if has("mod") {
        return Err(several(h5));
    }
    let (found, hint) = if has("matrix") && has("row_attrs") {
        ("a loom file", "read it with loom::read")
    } else if has("matrix") {
        ("a 10x Genomics matrix", "read it with tenx::read_h5")
    } else {
        (
            "an HDF5 file without \"obs\" and \"var\"",
            "an .h5ad file has both at its root",
        )
    };
    Err(Error::Unsupported {
        path: h5.path.clone(),
        found: found.into(),
        hint: hint.into(),
    })
}

/// What to do with a file of several modalities where one is needed.
fn several(h5: &H5) -> Error {
    let names = h5.modality_names().unwrap_or_default();
    let first = names.first().map_or("NAME", String::as_str);
    let path = h5.path.display();
    Error::Unsupported {
        path: h5.path.clone(),
        found: format!("a MuData file of several modalities ({})", names.join(", ")),
        hint: match is_named_h5mu(&h5.path) {
            true => format!("name one of them: {path}/{first}"),
            false => {
                format!("rename it to end in .h5mu, and name one of them: {path}.h5mu/{first}")
            }
        },
    }
}

impl H5 {
    /// AnnData at the root of a file or in a group.
    pub(crate) fn anndata(&self, root: &Group, matrices: bool) -> Result<AnnData> {
        let mut data = AnnData::default();
        data.obs = self.table(&self.require(root, "obs")?, None)?;
        data.var = self.table(&self.require(root, "var")?, None)?;
        let (n, g) = (data.n_obs(), data.n_vars());
        if let Some(Node::Group(uns)) = self.member(root, "uns")? {
            data.uns = self.dict(&uns, 0)?;
        }
        data.obsm = self.annotations(root, "obsm", n)?;
        data.varm = self.annotations(root, "varm", g)?;
        data.obsp = self.matrices(root, "obsp", (n, n))?;
        data.varp = self.matrices(root, "varp", (g, g))?;
        if matrices {
            data.layers = self.matrices(root, "layers", (n, g))?;
            if let Some(x) = self.member(root, "X")? {
                data.x = self.optional_matrix(&x, n, g)?;
            }
            data.raw = self.raw_part(root, n)?;
        }
        self.upgrade(root, &mut data)?;
        data.check().map_err(self.data(&root.name()))?;
        Ok(data)
    }

    /// `X`, which may be a null dataset.
    fn optional_matrix(&self, node: &Node, rows: usize, cols: usize) -> Result<Option<Matrix>> {
        if let Node::Dataset(d) = node
            && d.space().map_err(self.at(&d.name()))?.is_null()
        {
            return Ok(None);
        }
        self.matrix(node, Some(rows), Some(cols)).map(Some)
    }

    pub(crate) fn matrices(
        &self,
        root: &Group,
        name: &str,
        (rows, cols): (usize, usize),
    ) -> Result<IndexMap<String, Matrix>> {
        let Some(Node::Group(group)) = self.member(root, name)? else {
            return Ok(IndexMap::new());
        };
        let mut all = IndexMap::new();
        for key in self.names(&group)? {
            let node = self.require(&group, &key)?;
            all.insert(key, self.matrix(&node, Some(rows), Some(cols))?);
        }
        Ok(all)
    }

    pub(crate) fn annotations(
        &self,
        parent: &Group,
        name: &str,
        rows: usize,
    ) -> Result<IndexMap<String, Annotation>> {
        let group = match self.member(parent, name)? {
            Some(Node::Group(group)) => group,
            Some(Node::Dataset(records)) => return self.records_as_matrices(&records),
            None => return Ok(IndexMap::new()),
        };
        let mut all = IndexMap::new();
        for key in self.names(&group)? {
            let node = self.require(&group, &key)?;
            if let Some(annotation) = self.annotation(&child(&group.name(), &key), &node, rows)? {
                all.insert(key, annotation);
            }
        }
        Ok(all)
    }

    /// A member of `obsm` or `varm`; `None`, with a warning, if it is of a kind that cannot be represented.
    fn annotation(&self, at: &str, node: &Node, rows: usize) -> Result<Option<Annotation>> {
        let known = match node {
            Node::Group(group) => match self.encoding(group).as_deref() {
                Some("dataframe") => {
                    return Ok(Some(Annotation::Table(self.table(node, Some(rows))?)));
                }
                _ => self.sparse_header(group)?.is_some(),
            },
            Node::Dataset(d) => match self.kind(d, at)? {
                Kind::Compound(_) => {
                    return Ok(Some(Annotation::Table(self.table(node, Some(rows))?)));
                }
                kind => kind.is_number() && matches!(d.ndim(), 1 | 2),
            },
        };
        if known {
            return Ok(Some(Annotation::Matrix(self.matrix(
                node,
                Some(rows),
                None,
            )?)));
        }
        tracing::warn!(file = %self.path.display(), "{at} is neither a matrix nor a table and is left out");
        Ok(None)
    }

    /// `raw`, or `raw.X`, `raw.var` and `raw.varm` at the root as anndata < 0.7 wrote them.
    fn raw_part(&self, root: &Group, rows: usize) -> Result<Option<Raw>> {
        let (parent, x, var, varm) = match self.member(root, "raw")? {
            Some(Node::Group(raw)) => (raw, "X", "var", "varm"),
            Some(Node::Dataset(d)) => {
                return if d.space().map_err(self.at("/raw"))?.is_null() {
                    Ok(None)
                } else {
                    Err(self.wrong("/raw", "a dataset", "a group"))
                };
            }
            None if root.link_exists("raw.X") => (root.clone(), "raw.X", "raw.var", "raw.varm"),
            None => return Ok(None),
        };
        let var: Table = self.table(&self.require(&parent, var)?, None)?;
        let x = self.matrix(&self.require(&parent, x)?, Some(rows), Some(var.n_rows()))?;
        let varm = self.annotations(&parent, varm, var.n_rows())?;
        Ok(Some(Raw { x, var, varm }))
    }
}
