use std::path::Path;

use hdf5::Group;
use sc_data::{AnnData, RowSource};

use super::WriteOptions;
use super::write_parts::Out;
use crate::hdf::{H5, Node, Place};
use crate::{Error, Result, atomic};

/// The parts that are written anew.
const ANNOTATIONS: [&str; 7] = ["obs", "var", "uns", "obsm", "varm", "obsp", "varp"];

/// Writes a copy of an `.h5ad` file with the annotations of `data`: `obs`, `var`, `uns`, `obsm`, `varm`, `obsp`, `varp`. `X`,
/// the layers and `raw` are those of `from`, as they are stored there; they are never read, so that the file may be larger
/// than the memory. The matrices of `data` are not looked at.
///
/// # Errors
/// [`Error::Data`] if `data` has other numbers of cells or features than `from`; [`Error::Unsupported`] if `from` was
/// written before anndata 0.8, whose matrices newer releases read only beside annotations of the same age; otherwise as
/// [`write()`](super::write()).
pub fn write_annotations(
    from: impl AsRef<Path>,
    path: impl AsRef<Path>,
    data: &AnnData,
    options: &WriteOptions,
) -> Result<()> {
    rewrite(from.as_ref(), path.as_ref(), data, None, options)
}

/// A matrix that takes the place of another in [`write_changed`].
#[derive(Clone, Copy)]
pub struct NewMatrix<'a> {
    /// The layer that is replaced, or `X`.
    pub layer: Option<&'a str>,
    /// The cells, read some thousands at a time while they are written.
    pub rows: &'a dyn RowSource,
    /// The layer as which the old matrix stays; without one it is dropped.
    pub keep: Option<&'a str>,
}

/// As [`write_annotations`], with one of the matrices replaced: cells changed while they are read, without holding them all.
/// It is written as CSR.
///
/// # Errors
/// As [`write_annotations`]; those of the new matrix, [`Error::Data`] if it has another shape, [`Error::Content`] if there
/// is a layer `keep` already.
pub fn write_changed(
    from: impl AsRef<Path>,
    path: impl AsRef<Path>,
    data: &AnnData,
    matrix: NewMatrix<'_>,
    options: &WriteOptions,
) -> Result<()> {
    let path = path.as_ref();
    for (what, found, expected) in [
        ("rows", matrix.rows.n_rows(), data.n_obs()),
        ("columns", matrix.rows.n_cols(), data.n_vars()),
    ] {
        if found != expected {
            let what = format!("the {what} of the new matrix");
            return Err(Error::data(path, "/")(sc_data::Error::LengthMismatch {
                what,
                found,
                expected,
            }));
        }
    }
    rewrite(from.as_ref(), path, data, Some(matrix), options)
}

fn rewrite(
    from: &Path,
    path: &Path,
    data: &AnnData,
    matrix: Option<NewMatrix<'_>>,
    options: &WriteOptions,
) -> Result<()> {
    data.check().map_err(Error::data(path, "/"))?;
    same_shape(from, data)?;
    atomic::write_by_name(path, |temporary| {
        copy_file(from, temporary)?;
        let file = H5::open_rw(temporary).map_err(Error::hdf5(path, "/"))?;
        let root: &Group = &file;
        let out = Out::new(path, options.compression);
        let written = ANNOTATIONS
            .iter()
            .filter(|name| root.link_exists(name))
            .try_for_each(|name| root.unlink(name).map_err(Error::hdf5(path, *name)))
            .and_then(|()| match &matrix {
                Some(matrix) => replace(&out, root, matrix),
                None => Ok(()),
            })
            .and_then(|()| out.annotated(root, data));
        let flushed = file.flush().map_err(Error::hdf5(path, "/"));
        let closed = file.close().map_err(Error::hdf5(path, "/"));
        written.and(flushed).and(closed)
    })
}

/// Puts the new matrix in the place of the old one, whose space in the file it takes unless that is kept.
fn replace(out: &Out<'_>, root: &Group, matrix: &NewMatrix<'_>) -> Result<()> {
    let refuse = |at: &str| Error::hdf5(out.path, at.to_owned());
    let old = match matrix.layer {
        None => "X".to_owned(),
        Some(layer) => format!("layers/{layer}"),
    };
    if let Some(keep) = matrix.keep {
        out.check_name(root, keep)?;
        if !root.link_exists("layers") {
            out.group(root, "layers", "dict", "0.1.0")?;
        }
        let to = format!("layers/{keep}");
        if root.link_exists(&to) {
            let found = format!("a layer {keep:?}");
            let hint = "another name for the old matrix";
            return Err(Error::content(out.path, to, found, hint));
        }
        root.relink(&old, &to).map_err(refuse(&old))?;
    } else {
        root.unlink(&old).map_err(refuse(&old))?;
    }
    match matrix.layer {
        None => out.rows(root, "X", matrix.rows),
        Some(layer) => {
            let layers = root.group("layers").map_err(refuse("layers"))?;
            out.rows(&layers, layer, matrix.rows)
        }
    }
}

/// The contents only: the copy must be writable even if the original is not.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut source = std::fs::File::open(from).map_err(Error::io(from))?;
    let mut target = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(to)
        .map_err(Error::io(to))?;
    std::io::copy(&mut source, &mut target).map_err(Error::io(to))?;
    Ok(())
}

fn same_shape(from: &Path, data: &AnnData) -> Result<()> {
    let h5 = H5::open(from)?;
    super::is_annotated(&h5)?;
    let root: &Group = &h5.root;
    if Place::of(from).modality.is_some() {
        return Err(Error::Unsupported {
            path: from.to_owned(),
            found: "a modality of an .h5mu file".into(),
            hint: "write it to an .h5ad file of its own first (sc convert), then annotate that"
                .into(),
        });
    }
    if h5.encoding(root).as_deref() != Some("anndata") {
        return Err(Error::Unsupported {
            path: from.to_owned(),
            found: "an .h5ad file of anndata before 0.8".into(),
            hint: "read it and write it again (sc convert), then annotate that".into(),
        });
    }
    for (name, expected) in [("obs", data.n_obs()), ("var", data.n_vars())] {
        let found = n_rows(&h5, root, name)?;
        if found != expected {
            let what = format!("{name} of the matrices that stay");
            return Err(Error::data(from, name)(sc_data::Error::LengthMismatch {
                what,
                found,
                expected,
            }));
        }
    }
    Ok(())
}

/// The length of `obs` or `var`.
pub(crate) fn n_rows(h5: &H5, root: &Group, name: &str) -> Result<usize> {
    let node = h5.require(root, name)?;
    if let Node::Group(table) = &node
        && let Node::Dataset(index) = h5.require(table, &h5.index_member(table)?)?
    {
        return h5.length_1d(&index);
    }
    Ok(h5.table(&node, None)?.n_rows())
}
