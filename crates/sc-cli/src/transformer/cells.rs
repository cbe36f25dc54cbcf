//! Cells as the models read them.

use std::path::{Path, PathBuf};

use sc_data::{AnnData, Categorical, RowSource};
use sc_io::h5ad::BackedMatrix;
use sc_transformer::scbert::{CellsConfig, Scbert, ScbertCells};
use sc_transformer::vocab::{GeneCase, GeneMatch, GeneVocab};
use serde::Serialize;

use super::model::Notes;
use super::query::MatrixOptions;
use crate::common::{read, read_annotations, refuse_minified};
use crate::error::{Error, Result};
use crate::progress::Watched;

/// A file with cells, whose matrix lies in memory or on disk.
pub(super) struct Data {
    pub(super) path: PathBuf,
    pub(super) all: AnnData,
    layer: Option<String>,
    backed: Option<BackedMatrix>,
    /// What the columns are called.
    pub(super) genes: Vec<String>,
}

impl Data {
    pub(super) fn read(path: &Path, options: &MatrixOptions, notes: &Notes) -> Result<Self> {
        let (all, backed) = if options.backed {
            let all = read_annotations(path)?;
            let layer = options.layer.as_deref();
            (all, Some(sc_io::h5ad::read_backed(path, layer)?))
        } else {
            (read(path)?, None)
        };
        refuse_minified(&all, "a transformer")?;
        if backed.is_none() {
            all.matrix(options.layer.as_deref())
                .map_err(|e| wrong_in(path, e))?;
        }
        let named = options.gene_key.as_deref();
        // The column of the training data, where these have it too.
        let noted = notes
            .gene_key
            .as_deref()
            .filter(|k| all.var.get(k).is_some());
        let genes = match named.or(noted) {
            Some(key) => column(&all.var, path, "var", key)?
                .iter()
                .map(|name| name.unwrap_or_default().to_owned())
                .collect(),
            None => all.var.index().to_vec(),
        };
        Ok(Self {
            path: path.to_owned(),
            all,
            layer: options.layer.clone(),
            backed,
            genes,
        })
    }

    /// The matrix.
    pub(super) fn matrix(&self) -> Result<Box<dyn RowSource + '_>> {
        Ok(match &self.backed {
            Some(matrix) => Box::new(matrix),
            None => Box::new(self.all.matrix(self.layer.as_deref())?),
        })
    }

    /// The matrix, which shows progress if it is read from start to end.
    pub(super) fn source(&self, message: &str) -> Result<Watched<'_>> {
        let inner = self.matrix()?;
        let n = inner.n_rows();
        let watched = Watched::new(inner);
        watched.handle().start(message, n);
        Ok(watched)
    }

    /// A column of obs.
    pub(super) fn labels(&self, key: &str) -> Result<Categorical> {
        column(&self.all.obs, &self.path, "obs", key)
    }

    /// A column of var with yes or no.
    pub(super) fn flags(&self, key: &str) -> Result<Vec<bool>> {
        let container = format!("{}: var", self.path.display());
        let values = self.all.var.column(&container, key)?.to_f64(key)?;
        Ok(values.into_iter().map(|v| v > 0.0).collect())
    }

    /// Says in which file something is wrong.
    pub(super) fn wrong(&self, error: impl std::fmt::Display) -> Error {
        wrong_in(&self.path, error)
    }

    /// The genes that a vocabulary knows, of those that a model was trained on.
    pub(super) fn known(
        &self,
        vocab: &GeneVocab,
        ignore_case: bool,
        notes: &Notes,
    ) -> Result<GeneMatch> {
        let case = match ignore_case {
            true => GeneCase::Ignore,
            false => GeneCase::Exact,
        };
        let found = vocab
            .match_genes(&self.genes, case)
            .map_err(|e| self.no_genes(e))?;
        let Some(used) = &notes.genes else {
            return Ok(found);
        };
        let used: std::collections::HashSet<&str> = used.iter().map(String::as_str).collect();
        let is_used = |id: &Option<u32>| id.and_then(|id| vocab.token(id));
        let columns = found.ids().iter().enumerate();
        let columns: Vec<usize> = columns
            .filter(|(_, id)| is_used(id).is_some_and(|t| used.contains(t)))
            .map(|(c, _)| c)
            .collect();
        if columns.is_empty() {
            return Err(self.wrong(format!(
                "has none of the {} genes that the model was trained on",
                used.len()
            )));
        }
        Ok(found.only(&columns)?)
    }

    /// Says what to do about genes of other names.
    pub(super) fn no_genes(&self, error: sc_transformer::Error) -> Error {
        use sc_transformer::Error as E;
        let is_name = matches!(error, E::NoSharedGenes { .. } | E::NoGenesInCommon { .. });
        let columns: Vec<&str> = self.all.var.columns().map(|c| c.0).collect();
        let error = self.wrong(error);
        match is_name {
            true if columns.is_empty() => error.with_hint("scGPT can `--ignore-case`"),
            true => error.with_hint(format!(
                "--gene-key takes names from a column of var: {}; scGPT can --ignore-case",
                columns.join(", ")
            )),
            false => error,
        }
    }
}

pub(super) fn wrong_in(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Message(format!("{}: {error}", path.display()))
}

/// A column with names.
fn column(table: &sc_data::Table, path: &Path, what: &str, key: &str) -> Result<Categorical> {
    let container = format!("{}: {what}", path.display());
    Ok(table.column(&container, key)?.to_categorical(key)?)
}

/// How genes met a model.
#[derive(Debug, Serialize)]
pub(super) struct GeneSummary {
    /// Columns of the data.
    n_genes: usize,
    /// Those that the model reads.
    n_used: usize,
    /// What is missing: of scGPT genes of the data, of scBERT genes of the model.
    n_missing: usize,
    /// The first of those.
    missing: Vec<String>,
    #[serde(skip)]
    whose: &'static str,
}

/// Names that are shown.
const SHOWN: usize = 5;

impl GeneSummary {
    pub(super) fn new(
        n_genes: usize,
        n_used: usize,
        missing: &[String],
        whose: &'static str,
    ) -> Self {
        Self {
            n_genes,
            n_used,
            n_missing: missing.len(),
            missing: missing.iter().take(SHOWN).cloned().collect(),
            whose,
        }
    }

    pub(super) fn of_match(found: &GeneMatch) -> Self {
        let report = found.report();
        let used = found.columns().len();
        Self::new(
            report.n_genes,
            used,
            &report.missing,
            "not in the vocabulary",
        )
    }

    pub(super) fn of_panel(cells: &ScbertCells<'_>) -> Self {
        let found = cells.alignment();
        let n = found.n_found();
        Self::new(
            n + found.n_extra() + found.duplicated().len(),
            n,
            found.missing(),
            "of the model are not in the data",
        )
    }

    pub(super) fn words(&self) -> String {
        let mut text = format!("{} of {} genes are read", self.n_used, self.n_genes);
        if self.n_missing > 0 {
            let more = match self.n_missing.saturating_sub(self.missing.len()) {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            text.push_str(&format!(
                "; {} {}: {}{more}",
                self.n_missing,
                self.whose,
                self.missing.join(", ")
            ));
        }
        text
    }
}

/// What scBERT reads of a source, and how its genes met the model.
pub(super) fn scbert_cells<'a>(
    model: &Scbert,
    source: &'a Watched<'_>,
    data: &Data,
    config: &CellsConfig,
) -> Result<ScbertCells<'a>> {
    model
        .cells(source, &data.genes, config)
        .map_err(|e| data.no_genes(e))
}
