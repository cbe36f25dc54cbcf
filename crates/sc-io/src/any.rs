use std::path::Path;

use sc_data::AnnData;

use crate::hdf::{H5, Place};
use crate::{Error, Result, csv, h5ad, loom, mtx, tenx};

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub enum Format {
    /// AnnData in HDF5.
    #[serde(rename = "h5ad")]
    H5ad,
    /// MuData in HDF5: several modalities.
    #[serde(rename = "h5mu")]
    H5mu,
    /// A Cell Ranger matrix in HDF5.
    #[serde(rename = "10x h5")]
    TenxH5,
    /// A folder with a MatrixMarket file.
    #[serde(rename = "MatrixMarket folder")]
    MtxDir,
    /// A loom file.
    #[serde(rename = "loom")]
    Loom,
    /// A table of text: `.csv`, `.tsv`, `.txt`, gzipped or not.
    #[serde(rename = "table of text")]
    Csv,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H5ad => "h5ad",
            Self::H5mu => "h5mu",
            Self::TenxH5 => "10x h5",
            Self::MtxDir => "MatrixMarket folder",
            Self::Loom => "loom",
            Self::Csv => "table of text",
        })
    }
}

/// Says what a path holds, by its contents. A modality of an `.h5mu` file, named as `cells.h5mu/rna`, is an `.h5ad`.
///
/// # Errors
/// [`Error::Io`] if it does not exist, [`Error::Unsupported`] if it is of no known kind.
pub fn format_of(path: impl AsRef<Path>) -> Result<Format> {
    let path = path.as_ref();
    if Place::of(path).modality.is_some() {
        h5ad::is_annotated(&H5::open(path)?)?;
        return Ok(Format::H5ad);
    }
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
            hint: "give an .h5ad, .h5, .loom or .csv file, or a folder with matrix.mtx, barcodes.tsv and features.tsv".into(),
        });
    }
    if csv::is_named_so(path) {
        return Ok(Format::Csv);
    }
    let h5 = H5::open(path)?;
    if loom::looks_like(&h5) {
        return Ok(Format::Loom);
    }
    if tenx::looks_like(&h5)? {
        return Ok(Format::TenxH5);
    }
    if h5.root.link_exists("mod") {
        return Ok(Format::H5mu);
    }
    h5ad::is_annotated(&h5)?;
    Ok(Format::H5ad)
}

/// Reads an `.h5ad` file, a modality of an `.h5mu` file (`cells.h5mu/rna`), a Cell Ranger `.h5` file (genes only), a loom file, a table of text (cells in rows) or a folder with a
/// MatrixMarket file, whichever it is.
///
/// # Errors
/// Those of [`h5ad::read`], [`tenx::read_h5`], [`loom::read`], [`csv::read`] and [`mtx::read_dir`], and of [`format_of`].
pub fn read(path: impl AsRef<Path>) -> Result<AnnData> {
    let path = path.as_ref();
    match format_of(path)? {
        // Which modality, says the error.
        Format::H5ad | Format::H5mu => h5ad::read(path),
        Format::TenxH5 => tenx::read_h5(path),
        Format::MtxDir => mtx::read_dir(path),
        Format::Loom => loom::read(path),
        Format::Csv => csv::read(path),
    }
}

/// Writes an `.h5ad` file or a table of text if the name ends so (`.csv`, `.tsv`, with or without `.gz`), a folder with a MatrixMarket file if the name has no extension or the
/// folder exists.
///
/// # Errors
/// [`Error::Unsupported`] for other extensions; those of [`h5ad::write`](crate::h5ad::write()), [`csv::write`](crate::csv::write())
/// and [`mtx::write_dir`].
pub fn write(path: impl AsRef<Path>, data: &AnnData, options: &h5ad::WriteOptions) -> Result<()> {
    let path = path.as_ref();
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("h5ad") => h5ad::write(path, data, options),
        _ if csv::is_named_so(path) && !path.is_dir() => csv::write(path, data),
        _ if path.is_dir() => mtx::write_dir(path, data, &mtx::WriteOptions::default()),
        None => mtx::write_dir(path, data, &mtx::WriteOptions::default()),
        Some(other) => Err(Error::Unsupported {
            path: path.to_owned(),
            found: format!("the extension .{other}"),
            hint: "name the file .h5ad, .csv or .tsv, or give a name without extension for a MatrixMarket folder"
                .into(),
        }),
    }
}
