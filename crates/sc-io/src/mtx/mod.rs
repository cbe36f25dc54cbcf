//! Folders of a MatrixMarket file with the names of its rows and columns, as Cell Ranger and GEO archives have them:
//! `matrix.mtx`, `barcodes.tsv` and `features.tsv` (or `genes.tsv`), each of them gzipped or not, and all of them with
//! a common prefix or without.

mod parse;
mod write;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use sc_data::{AnnData, Categorical, Column, Table};

use crate::names::warn_of_duplicates;
use crate::{Error, Result};

pub use write::{WriteOptions, write_dir};

/// Reads a folder: cells x features, `obs` named by barcode, `var` by symbol with the columns `gene_ids` and, if the
/// file says so, `feature_types`. All features are kept.
///
/// # Errors
/// [`Error::Content`] if the folder holds no such files or several sets of them, or if the header, the entries and
/// the names contradict each other.
pub fn read_dir(path: impl AsRef<Path>) -> Result<AnnData> {
    let path = path.as_ref();
    let mut prefixes = prefixes(path)?;
    match (prefixes.len(), prefixes.pop()) {
        (1, Some(prefix)) => read_dir_with_prefix(path, &prefix),
        (0, _) => Err(Error::content(
            path,
            "this folder",
            "no matrix.mtx and no matrix.mtx.gz",
            "one of them, with barcodes.tsv and features.tsv or genes.tsv",
        )),
        (_, last) => {
            prefixes.extend(last);
            Err(Error::content(
                path,
                "this folder",
                format!(
                    "several matrices, with the prefixes {}",
                    prefixes.join(", ")
                ),
                "one, or the choice of a prefix (read_dir_with_prefix)",
            ))
        }
    }
}

/// As [`read_dir`] for the files whose names start with `prefix`, e.g. `"GSM123_"` for `GSM123_matrix.mtx.gz`.
///
/// # Errors
/// As [`read_dir`].
pub fn read_dir_with_prefix(path: impl AsRef<Path>, prefix: &str) -> Result<AnnData> {
    let folder = path.as_ref();
    let matrix = find(folder, prefix, &["matrix.mtx"])?;
    let (obs, var) = names(folder, prefix)?;
    let x = parse::read(&matrix, var.n_rows(), obs.n_rows())?;
    warn_of_duplicates(folder, "features", var.index());
    AnnData::new(x, obs, var).map_err(Error::data(folder, "this folder"))
}

fn find(folder: &Path, prefix: &str, names: &[&str]) -> Result<PathBuf> {
    names
        .iter()
        .flat_map(|n| [format!("{prefix}{n}"), format!("{prefix}{n}.gz")])
        .map(|n| folder.join(n))
        .find(|p| p.is_file())
        .ok_or_else(|| {
            Error::content(
                folder,
                "this folder",
                format!("no {prefix}{}", names.join(" and no ")),
                "it beside the matrix, gzipped or not",
            )
        })
}

/// The names of cells and features.
pub(crate) fn names(folder: &Path, prefix: &str) -> Result<(Table, Table)> {
    let barcodes = find(folder, prefix, &["barcodes.tsv"])?;
    let features = find(folder, prefix, &["features.tsv", "genes.tsv"])?;
    Ok((
        Table::new(first_column(&barcodes)?),
        read_features(&features)?,
    ))
}

/// What precedes `matrix.mtx` in the names of the folder's files, sorted.
pub(crate) fn prefixes(folder: &Path) -> Result<Vec<String>> {
    let mut prefixes = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let name = entry.map_err(Error::io(folder))?.file_name();
        let name = name.to_string_lossy();
        let prefix = name
            .strip_suffix("matrix.mtx")
            .or_else(|| name.strip_suffix("matrix.mtx.gz"));
        prefixes.extend(prefix.map(str::to_owned));
    }
    prefixes.sort();
    prefixes.dedup();
    Ok(prefixes)
}

/// The declared shape and number of entries of a folder's matrix: features, cells, entries, type of number.
#[cfg(feature = "hdf5")]
pub(crate) fn header(folder: &Path, prefix: &str) -> Result<(usize, usize, usize, String)> {
    parse::header_of(&find(folder, prefix, &["matrix.mtx"])?)
}

/// Opens a text file, decompressing it if it starts as gzip does.
pub(crate) fn open_text(path: &Path) -> Result<Box<dyn BufRead>> {
    const BUFFER: usize = 1 << 18;
    let file = File::open(path).map_err(Error::io(path))?;
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let gzipped = reader
        .fill_buf()
        .map_err(Error::io(path))?
        .starts_with(&[0x1f, 0x8b]);
    Ok(if gzipped {
        let plain = flate2::bufread::MultiGzDecoder::new(reader);
        Box::new(BufReader::with_capacity(BUFFER, plain))
    } else {
        Box::new(reader)
    })
}

/// The fields of each line; empty lines at the end are passed over.
fn rows(path: &Path) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for line in open_text(path)?.lines() {
        let line = line.map_err(Error::io(path))?;
        rows.push(
            line.trim_end_matches('\r')
                .split('\t')
                .map(str::to_owned)
                .collect(),
        );
    }
    while rows
        .last()
        .is_some_and(|r: &Vec<String>| r.iter().all(String::is_empty))
    {
        rows.pop();
    }
    Ok(rows)
}

fn first_column(path: &Path) -> Result<Vec<String>> {
    Ok(rows(path)?
        .into_iter()
        .filter_map(|r| r.into_iter().next())
        .collect())
}

/// id, symbol, type; a file with a single column names features by it.
fn read_features(path: &Path) -> Result<Table> {
    let rows = rows(path)?;
    let width = rows.iter().map(Vec::len).min().unwrap_or(2);
    let column =
        |k: usize| -> Vec<String> { rows.iter().filter_map(|r| r.get(k)).cloned().collect() };
    let mut var = Table::new(column(usize::from(width > 1)));
    var.insert("gene_ids", Column::Str(column(0)))
        .map_err(Error::data(path, "column 1"))?;
    if width > 2 {
        let types = Categorical::from_labels(&column(2));
        var.insert("feature_types", Column::Categorical(types))
            .map_err(Error::data(path, "column 3"))?;
    }
    Ok(var)
}
