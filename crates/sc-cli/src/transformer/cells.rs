//! Cells as the models read them.

use std::path::{Path, PathBuf};

use sc_data::{AnnData, Categorical, RowSource};
use sc_io::h5ad::BackedMatrix;
use sc_transformer::scbert::{CellsConfig, Scbert, ScbertCells};
use sc_transformer::scgpt::{CellSource, InputNorm, ScGpt};
use sc_transformer::tokens::{
    BatchLimits, Binning, Generator, Overflow, Ties, Tokenizer, TokenizerOptions,
};
use sc_transformer::vocab::{GeneCase, GeneMatch, GeneVocab};
use serde::Serialize;

use super::model::{Foreign, Notes};
use crate::common::{read, read_annotations, refuse_minified};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::progress::Watched;

/// Options of the commands that use a trained model.
#[derive(Debug, clap::Args)]
pub(super) struct Query {
    /// Folder with scGPT (a released checkpoint, or of `sc transformer finetune`) or scBERT
    pub(super) model: PathBuf,
    /// Cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    pub(super) data: PathBuf,
    #[command(flatten)]
    pub(super) foreign: Foreign,
    #[command(flatten)]
    pub(super) matrix: MatrixOptions,
    #[command(flatten)]
    pub(super) scgpt: ScgptOptions,
    #[command(flatten)]
    pub(super) scbert: ScbertOptions,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
}

/// Which matrix, and what its columns are called.
#[derive(Debug, clap::Args)]
pub(super) struct MatrixOptions {
    /// Take this layer instead of X
    #[arg(long, value_name = "NAME")]
    pub(super) layer: Option<String>,
    /// Column of var with the names of the genes that the model knows them by [default: the index of var]
    #[arg(long, value_name = "COLUMN")]
    pub(super) gene_key: Option<String>,
    /// Leave the matrix in the .h5ad file and read it some cells at a time; a copy then has no X, layers and raw
    #[arg(long)]
    pub(super) backed: bool,
}

/// What only scGPT has.
#[derive(Debug, clap::Args)]
pub(super) struct ScgptOptions {
    /// scGPT: look genes that are not in the vocabulary up again without regard to upper and lower case
    #[arg(long)]
    pub(super) ignore_case: bool,
    /// scGPT: the most tokens of a cell, `<cls>` included; of a cell with more, a random sample is read [default: as it was
    /// trained, and 1200 for released models]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_length: Option<usize>,
    /// scGPT: tokens of a minibatch, on which memory depends and the result does not [default: at most 16384, within 1 GB]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    batch_tokens: Option<usize>,
    /// scGPT: column of obs with the batch, for models that are told it [default: as it was trained]
    #[arg(long, value_name = "COLUMN")]
    batch_key: Option<String>,
    /// scGPT: seed of the samples of genes and of the bins of equal values
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What only scBERT has.
#[derive(Debug, clap::Args)]
pub(super) struct ScbertOptions {
    /// scBERT: leave out cells in which fewer genes of the model are detected
    #[arg(long, value_name = "N", default_value_t = CellsConfig::default().min_genes)]
    min_genes: usize,
}

impl ScbertOptions {
    pub(super) fn config(&self) -> CellsConfig {
        let mut config = CellsConfig::default();
        config.min_genes = self.min_genes;
        config
    }
}

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

    /// The matrix, which shows progress if it is read from start to end.
    pub(super) fn source(&self, message: &str) -> Result<Watched<'_>> {
        let inner: Box<dyn RowSource + '_> = match &self.backed {
            Some(matrix) => Box::new(matrix),
            None => Box::new(self.all.matrix(self.layer.as_deref())?),
        };
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

fn wrong_in(path: &Path, error: impl std::fmt::Display) -> Error {
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
    fn new(n_genes: usize, n_used: usize, missing: &[String], whose: &'static str) -> Self {
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

/// What scGPT reads of a file.
pub(super) struct ScgptCells<'a> {
    source: Watched<'a>,
    tokenizer: Tokenizer,
    batches: Option<Vec<u32>>,
    limits: BatchLimits,
    pub(super) genes: GeneSummary,
}

/// Cells between two steps of a progress bar.
const WINDOW: usize = 256;
/// Memory of a minibatch, in bytes.
const MEMORY: usize = 1 << 30;

impl<'a> ScgptCells<'a> {
    pub(super) fn new(
        model: &ScGpt,
        data: &'a Data,
        options: &ScgptOptions,
        notes: &Notes,
        message: &str,
    ) -> Result<Self> {
        let found = data.known(model.vocab(), options.ignore_case, notes)?;
        let tokens = tokens(model, options, notes);
        let mut limits = model.limits_within(MEMORY);
        limits.max_tokens = limits.max_tokens.min(BatchLimits::default().max_tokens);
        limits.max_tokens = options.batch_tokens.unwrap_or(limits.max_tokens);
        limits.window = WINDOW;
        Ok(Self {
            batches: batches(model, data, options, notes)?,
            tokenizer: Tokenizer::new(model.vocab(), &found, tokens)?,
            source: data.source(message)?,
            limits,
            genes: GeneSummary::of_match(&found),
        })
    }

    pub(super) fn cells(&self) -> CellSource<'_> {
        let mut cells = CellSource::new(&self.source, &self.tokenizer);
        cells.batches = self.batches.as_deref();
        cells.limits = self.limits;
        cells
    }
}

/// How cells become tokens: as in training, or as for released models.
fn tokens(model: &ScGpt, options: &ScgptOptions, notes: &Notes) -> TokenizerOptions {
    let config = model.config();
    let mut tokens = notes.tokens.clone().unwrap_or_else(|| TokenizerOptions {
        binning: Some(Binning {
            n_bins: config.n_bins,
            ..Binning::default()
        }),
        cls: Some(config.pad_value),
        ..TokenizerOptions::default()
    });
    if options.max_length.is_some() {
        tokens.max_len = options.max_length;
    }
    let seed = options.seed;
    if let Some(binning) = &mut tokens.binning {
        binning.ties = Ties::Random { seed };
    }
    if matches!(tokens.overflow, Overflow::Sample(_)) {
        tokens.overflow = Overflow::Sample(Generator::Seeded(seed));
    }
    tokens
}

/// The batch of each cell, as the model numbers them, if it is told.
fn batches(
    model: &ScGpt,
    data: &Data,
    options: &ScgptOptions,
    notes: &Notes,
) -> Result<Option<Vec<u32>>> {
    let config = model.config();
    if !config.use_batch_labels && config.input_norm != InputNorm::DomainSpecific {
        return Ok(None);
    }
    let key = options.batch_key.as_deref().or(notes.batch_key.as_deref());
    let Some(key) = key else {
        return Err(data.wrong(format!(
            "this model is told the batch of each cell ({}): name their column of obs with --batch-key",
            config.batches.join(", ")
        )));
    };
    let labels = data.labels(key)?;
    let labels = labels
        .recode(key, &config.batches)
        .map_err(|e| data.wrong(e))?;
    Ok(Some(labels.complete_codes(key).map_err(|e| data.wrong(e))?))
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
