//! What the commands share: which matrix of which file is read, in memory or from disk, and how the result is written.

use std::path::{Path, PathBuf};

use sc_data::{AnnData, Matrix, RowSource};
use sc_io::h5ad::{BackedMatrix, NewMatrix, WriteOptions};
use sc_preprocess::{Log1p, NormalizeTotal, Streamed, Transform};

use crate::common::{check_output, note, print_json, read, read_annotations, refuse_same, write};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::progress::Spinner;

/// Options of all commands that read cells x genes.
#[derive(Debug, clap::Args)]
pub(super) struct Input {
    /// Cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    pub(super) data: PathBuf,
    /// The copy with the result, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    pub(super) out: PathBuf,
    /// Take this layer instead of X
    #[arg(long, value_name = "NAME")]
    pub(super) layer: Option<String>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of the commands that can do without the matrix in memory.
#[derive(Debug, clap::Args)]
pub(super) struct FromDisk {
    /// Read the matrix from the .h5ad file block by block, instead of holding it in memory
    #[arg(long)]
    pub(super) backed: bool,
}

/// The data, whose matrix lies in memory or on disk.
pub(super) struct Cells<'a> {
    pub(super) data: AnnData,
    backed: Option<BackedMatrix>,
    input: &'a Input,
}

impl Input {
    /// Reads everything into memory.
    pub(super) fn read(&self) -> Result<Cells<'_>> {
        self.open(&FromDisk { backed: false })
    }

    /// Reads everything, or all but the matrices.
    pub(super) fn open(&self, from: &FromDisk) -> Result<Cells<'_>> {
        check_output(&self.out)?;
        if !from.backed {
            let data = read(&self.data)?;
            data.matrix(self.layer.as_deref())
                .map_err(|e| self.wrong(e))?;
            return Ok(Cells {
                data,
                backed: None,
                input: self,
            });
        }
        refuse_same(&self.out, &[&self.data])?;
        let data = read_annotations(&self.data)?;
        let matrix = sc_io::h5ad::read_backed(&self.data, self.layer.as_deref())?;
        Ok(Cells {
            data,
            backed: Some(matrix),
            input: self,
        })
    }

    /// Says in which file something is wrong.
    pub(super) fn wrong(&self, error: impl std::fmt::Display) -> Error {
        wrong_in(&self.data, error)
    }

    /// Prints what was done: as JSON if asked for, else in words.
    pub(super) fn say(&self, summary: &impl serde::Serialize, words: &str) -> Result<()> {
        if self.json {
            return print_json(summary);
        }
        note(&format!("{words} -> {}", self.out.display()));
        Ok(())
    }
}

/// Says in which file something is wrong.
pub(super) fn wrong_in(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Message(format!("{}: {error}", path.display()))
}

impl Cells<'_> {
    /// The matrix, block by block.
    pub(super) fn source(&self) -> Result<&dyn RowSource> {
        match &self.backed {
            Some(matrix) => Ok(matrix),
            None => Ok(self.matrix()?),
        }
    }

    /// The matrix in memory.
    pub(super) fn matrix(&self) -> Result<&Matrix> {
        let layer = self.input.layer.as_deref();
        self.data.matrix(layer).map_err(|e| self.input.wrong(e))
    }

    /// Puts a new matrix where the old one was, and keeps that as layer `keep`.
    pub(super) fn replace(&mut self, matrix: Matrix, keep: Option<&str>) -> Result<()> {
        let old = match self.input.layer.as_deref() {
            None => self.data.x.replace(matrix),
            Some(name) => self.data.layers.insert(name.to_owned(), matrix),
        };
        let (Some(keep), Some(old)) = (keep, old) else {
            return Ok(());
        };
        if self.data.layers.contains_key(keep) {
            return Err(self.input.wrong(format!(
                "there is a layer \"{keep}\" already; choose another name with --keep-counts"
            )));
        }
        self.data.layers.insert(keep.to_owned(), old);
        Ok(())
    }

    /// Writes the copy with the matrix changed by a step, and the old one as layer `keep`.
    pub(super) fn write_changed(&mut self, step: &dyn Transform, keep: Option<&str>) -> Result<()> {
        let Some(matrix) = &self.backed else {
            let new = step.apply(self.matrix()?.to_csr());
            let new = new.map_err(|e| self.input.wrong(e))?;
            self.replace(new.into(), keep)?;
            return self.write();
        };
        let out = &self.input.out;
        let _spinner = Spinner::new(format!("writing {}", out.display()));
        let new = NewMatrix {
            layer: self.input.layer.as_deref(),
            rows: &Streamed::new(matrix, step),
            keep,
        };
        let (from, options) = (&self.input.data, WriteOptions::default());
        Ok(sc_io::h5ad::write_changed(
            from, out, &self.data, new, &options,
        )?)
    }

    /// Writes the copy with what was added.
    pub(super) fn write(&self) -> Result<()> {
        let out = &self.input.out;
        if self.backed.is_none() {
            return write(out, &self.data);
        }
        let _spinner = Spinner::new(format!("writing {}", out.display()));
        let from = &self.input.data;
        let options = WriteOptions::default();
        Ok(sc_io::h5ad::write_annotations(
            from, out, &self.data, &options,
        )?)
    }
}

/// Counts as logarithms while they are read.
#[derive(Debug, clap::Args)]
pub(super) struct LogNorm {
    /// The matrix holds counts: scale each cell to this total and take ln(1 + x) while reading; the counts stay as they are
    #[arg(long, value_name = "TOTAL")]
    pub(super) lognorm: Option<f64>,
}

impl LogNorm {
    /// The source as it is, or as logarithms.
    pub(super) fn of<'a>(
        &self,
        source: &'a dyn RowSource,
    ) -> sc_preprocess::Result<Box<dyn RowSource + 'a>> {
        Ok(match self.lognorm {
            None => Box::new(source),
            Some(total) => streamed(source, (NormalizeTotal::to(total)?, Log1p)),
        })
    }
}

/// A source changed while it is read.
pub(super) fn streamed<'a>(
    source: impl RowSource + 'a,
    step: impl Transform + 'a,
) -> Box<dyn RowSource + 'a> {
    Box::new(Streamed::new(source, step))
}

/// `NAME=VALUE`.
pub(super) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("not NAME=VALUE".into()),
    }
}
