use std::path::Path;

use sc_data::AnnData;

use crate::hdf::H5;
use crate::{Error, Result, h5ad, mtx, tenx};

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub enum Format {
    /// AnnData in HDF5.
    #[serde(rename = "h5ad")]
    H5ad,
    /// A Cell Ranger matrix in HDF5.
    #[serde(rename = "10x h5")]
    TenxH5,
    /// A folder with a MatrixMarket file.
    #[serde(rename = "MatrixMarket folder")]
    MtxDir,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H5ad => "h5ad",
            Self::TenxH5 => "10x h5",
            Self::MtxDir => "MatrixMarket folder",
        })
    }
}

/// Says what a path holds, by its contents.
///
/// # Errors
/// [`Error::Io`] if it does not exist, [`Error::Unsupported`] if it is of no known kind.
pub fn format_of(path: impl AsRef<Path>) -> Result<Format> {
    let path = path.as_ref();
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_dir() {
        if !mtx::prefixes(path)?.is_empty() {
            return Ok(Format::MtxDir);
        }
        let zarr = [".zgroup", "zarr.json", ".zattrs"]
            .iter()
            .any(|n| path.join(n).exists());
        return Err(Error::Unsupported {
            path: path.to_owned(),
            found: if zarr { "a Zarr store" } else { "a folder without matrix.mtx" }.into(),
            hint: "give an .h5ad or .h5 file, or a folder with matrix.mtx, barcodes.tsv and features.tsv".into(),
        });
    }
    let h5 = H5::open(path)?;
    if tenx::looks_like(&h5)? {
        return Ok(Format::TenxH5);
    }
    h5ad::is_annotated(&h5)?;
    Ok(Format::H5ad)
}

/// Reads an `.h5ad` file, a Cell Ranger `.h5` file (genes only) or a folder with a MatrixMarket file, whichever it is.
///
/// # Errors
/// Those of [`h5ad::read`], [`tenx::read_h5`] and [`mtx::read_dir`], and of [`format_of`].
pub fn read(path: impl AsRef<Path>) -> Result<AnnData> {
    let path = path.as_ref();
    match format_of(path)? {
        Format::H5ad => h5ad::read(path),
        Format::TenxH5 => tenx::read_h5(path),
        Format::MtxDir => mtx::read_dir(path),
    }
}

/// Writes an `.h5ad` file if the name ends so, a folder with a MatrixMarket file if the name has no extension or the
/// folder exists.
///
/// # Errors
/// [`Error::Unsupported`] for other extensions; those of [`h5ad::write`](crate::h5ad::write()) and
/// [`mtx::write_dir`].
pub fn write(path: impl AsRef<Path>, data: &AnnData, options: &h5ad::WriteOptions) -> Result<()> {
    let path = path.as_ref();
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("h5ad") => h5ad::write(path, data, options),
        _ if path.is_dir() => mtx::write_dir(path, data, &mtx::WriteOptions::default()),
        None => mtx::write_dir(path, data, &mtx::WriteOptions::default()),
        Some(other) => Err(Error::Unsupported {
            path: path.to_owned(),
            found: format!("the extension .{other}"),
            hint: "name the file .h5ad, or give a name without extension for a MatrixMarket folder"
                .into(),
        }),
    }
}
