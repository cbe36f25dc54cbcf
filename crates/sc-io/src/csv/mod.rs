//! Tables of text: `.csv`, `.tsv`, `.txt`, gzipped or not.
//!
//! Three kinds are told apart by what is in them:
//!
//! | contents | read as |
//! |---|---|
//! | numbers, with or without names of rows and columns | cells x features, or with [`ReadOptions::genes_in_rows`] features x cells |
//! | three columns called `gene`, `cell`, `count` (umi_tools) | cells x genes, both in alphabetical order; counts of the same place are added up |
//!
//! The first line holds names if its last field is not a number. The first column holds row names if its first field is no
//! number, or if the line of names leaves it unnamed, as pandas and R write it. Lines that start with `#` are passed over; if
//! there is no other line of names, the last of them before the numbers is taken, as anndata does. Separators are
//! commas in `.csv`, tabulators in `.tsv`; in other files the first of tabulator, comma, semicolon and space that occurs.
//! Rows and columns without names are called by their numbers. Zeros are not stored. `NA` and an empty field are NaN.

mod grid;
#[cfg(test)]
mod tests;
mod triplets;
mod write;

use std::path::Path;

use sc_data::AnnData;

use crate::lines::Source;
use crate::names::warn_of_duplicates;
use crate::{Error, Result};
pub use write::write;

/// Options of [`read_with`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Rows are genes and columns are cells, as in most tables of GEO.
    pub genes_in_rows: bool,
    /// What separates fields; found out if not given.
    pub delimiter: Option<u8>,
}

impl ReadOptions {
    /// Rows are genes and columns are cells.
    #[must_use]
    pub fn genes_in_rows(mut self) -> Self {
        self.genes_in_rows = true;
        self
    }

    /// What separates fields.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = Some(delimiter);
        self
    }
}

/// Whether a name ends in one of the extensions of such tables, gzipped or not.
pub fn is_named_so(path: impl AsRef<Path>) -> bool {
    extension(path.as_ref()).is_some_and(|e| ["csv", "tsv", "txt", "tab"].contains(&e.as_str()))
}

/// Reads a table of cells x features. See the [module](crate::csv) for what is understood.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Content`], which names the line, if rows differ in
/// length or something is no number.
pub fn read(path: impl AsRef<Path>) -> Result<AnnData> {
    read_with(path, &ReadOptions::default())
}

/// As [`read`], with options.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<AnnData> {
    let path = path.as_ref();
    let source = Source::open(path)?;
    let delimiter = match options.delimiter {
        Some(d) => d,
        None => delimiter(path, source.peek()),
    };
    let mut records = source.records(delimiter);
    let Some(first) = records.next()?.cloned() else {
        let expected = "a line for each cell or gene";
        return Err(Error::content(
            path,
            "the file",
            "no row of numbers",
            expected,
        ));
    };
    let data = if first.iter().eq(triplets::HEADER) {
        triplets::read(records)?
    } else {
        grid::read(first, records, options.genes_in_rows)?
    };
    warn_of_duplicates(path, "cells", data.obs.index());
    warn_of_duplicates(path, "features", data.var.index());
    Ok(data)
}

/// The extension below `.gz`, in lower case.
fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Some(Path::new(name).extension()?.to_string_lossy().into_owned())
}

fn delimiter(path: &Path, line: &[u8]) -> u8 {
    match extension(path).as_deref() {
        Some("csv") => b',',
        Some("tsv" | "tab") => b'\t',
        _ => *[b'\t', b',', b';', b' ']
            .iter()
            .find(|d| line.contains(d))
            .unwrap_or(&b','),
    }
}
