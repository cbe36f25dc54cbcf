use std::collections::HashSet;

use sc_data::{Categorical, Columns, RowSource};
use sc_model::Parity;
use sc_transformer::scgpt::{CellSource, InputNorm, LabelledCells, MvcStyle, Recipe, ScGptConfig};
use sc_transformer::tokens::Tokenizer;
use sc_transformer::tokens::preprocess::{PreprocessOptions, check_logged, preprocess};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS};
use serde_json::json;

use super::Common;
use super::run::{Job, More};
use super::scgpt::{Sizes, Start, train};
use crate::common::note;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::train_run::{Interrupt, prepare_folder};
use crate::transformer::cells::{Data, GeneSummary};
use crate::transformer::modalities::{Files, ModalityOptions, Part, token};
use crate::transformer::model::{ModalityNotes, Notes};

const EXAMPLES: &str = "\
Examples:
  sc transformer finetune multiomic rna.h5ad --modality protein=adt.h5ad --out model \\
      --from scGPT_human --batch-key donor --layer counts
  sc transformer finetune multiomic rna.h5ad --modality ATAC=peaks.h5ad --out model --d-model 64 \\
      --n-heads 4 --d-hid 64
  sc transformer embed model rna.h5ad --modality protein=adt.h5ad --layer counts --out embedded.h5ad

Cells are joined by name. A cell that is in all files is paired; others have the modalities of the
files they are in (mosaic), and then a --batch-key is of use, such as the experiment.
DIR then holds the model of the best epoch and the metrics of each (history.csv). Ctrl-C writes a
checkpoint; the same command with --resume goes on, and looks for the best epoch among those
that follow.";

/// Teach scGPT to embed cells of several modalities (RNA, proteins, peaks), of the same cells or of different ones
///
/// A small transformer learns hidden values of all modalities; the model is told the modality of each feature and, with
/// --batch-key, the batch of each cell, and learns against an adversary that guesses the batch. Of --from, the vectors of genes
/// are taken over.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten, next_help_heading = "Data")]
    modalities: ModalityOptions,
    /// Column of obs with the batch of each cell, in each file
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    batch_key: Option<String>,
    /// Variable genes of DATA that are used
    #[arg(long, value_name = "N", default_value_t = 1200, value_parser = at_least_one, help_heading = "Data")]
    n_hvg: usize,
    /// Of each other modality so many features, those found in most cells
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = at_least_one, help_heading = "Data")]
    max_features: usize,
    /// The most tokens of a cell, `<cls>` included
    #[arg(long, value_name = "N", default_value_t = 4001, value_parser = at_least_one, help_heading = "Model")]
    max_length: usize,
    #[command(flatten, next_help_heading = "Model")]
    sizes: Sizes,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let seed = common.training.seed;
    if !args.modalities.several(&common.data) {
        return Err(Error::Message(
            "one modality alone: name a file with another one with --modality NAME=FILE, or give an .h5mu file; for RNA alone there is \
             `sc transformer finetune integrate`"
                .into(),
        ));
    }
    if common.ignore_case {
        return Err(Error::Message(
            "--ignore-case: features of several modalities keep the names they have in the data; leave it out".into(),
        ));
    }
    let interrupt = Interrupt::listen()?;
    prepare_folder(&common.out, &common.run)?;
    let files = Files::read(
        &common.data,
        &args.modalities,
        &common.matrix,
        &Notes::default(),
    )?;
    say_cells(&files);
    let batches = match &args.batch_key {
        None => None,
        Some(key) => Some(batches(&files, key)?),
    };
    let chosen = Chosen::new(args, &files)?;
    let (start, vocab) = (&chosen.start, chosen.vocab()?);

    let mut recipe = Recipe::multiomic(seed, Parity::Correct);
    recipe.tokens.max_len = Some(args.max_length);
    recipe.train = common.training.apply(recipe.train);
    let told = batches.is_some();
    recipe.objectives.dab = recipe.objectives.dab.filter(|_| told);
    let matched = vocab.match_genes(&chosen.tokens, GeneCase::Exact)?;
    let tokenizer = Tokenizer::new(&vocab, &matched, recipe.tokens.clone())?
        .with_modalities(&chosen.modalities)?;
    let names = tokenizer.modalities().map(|m| m.tokens().to_vec());
    let (model, taken) = start.with_vocab(vocab, &args.sizes, seed, |c| {
        c.classes.clear();
        c.modalities = names.unwrap_or_default();
        c.batches = batches
            .as_ref()
            .map(|b| b.0.categories().to_vec())
            .unwrap_or_default();
        (c.use_batch_labels, c.adversary) = (told, told);
        c.input_norm = InputNorm::None;
        c.mvc = Some(MvcStyle::InnerProduct);
        (c.nonzero_prob, c.generative) = (false, false);
        // Values are read anew, as the recipe bins and hides them.
        let usual = ScGptConfig::default();
        (c.value_input, c.n_bins) = (usual.value_input, usual.n_bins);
        (c.pad_value, c.mask_value) = (usual.pad_value, usual.mask_value);
    })?;
    if let Some(from) = &common.from {
        note(&format!(
            "{taken} of {} tokens begin with their vectors in {}",
            model.vocab().len(),
            from.display()
        ));
    }
    let source = files.source(chosen.columns.clone(), "reading")?;
    let mut cells = CellSource::new(&source, &tokenizer);
    cells.batches = batches.as_ref().map(|b| b.1.as_slice());
    let cells = LabelledCells::new(cells, None, &recipe)?;
    let job = Job {
        common,
        interrupt: &interrupt,
        settings: json!({"scgpt": model.config(), "tokens": recipe.tokens, "genes": chosen.tokens}),
        config: &recipe.train,
        cells: &files.cells,
        notes: &Notes {
            tokens: Some(recipe.tokens.clone()),
            genes: Some(chosen.tokens.clone()),
            batch_key: args.batch_key.clone(),
            gene_key: common.matrix.gene_key.clone(),
            modalities: Some(ModalityNotes {
                first: first(&files).to_owned(),
                of_genes: chosen.modalities.clone(),
            }),
            ..Notes::default()
        },
        genes: GeneSummary::new(
            chosen.n_features,
            chosen.tokens.len(),
            &chosen.unknown,
            "not in the vocabulary",
        ),
        shown: "validation_loss",
    };
    job.run_then(
        |state, o| train(&model, recipe.objectives, &cells, &recipe.train, state, o),
        |dir| Ok(model.save(dir)?),
        || {
            let mut more = More::default();
            let counts = chosen.counts(&files).into_iter();
            let counts = counts.map(|(name, n)| (name.to_owned(), json!(n)));
            let counts: serde_json::Map<_, _> = counts.collect();
            more.json.insert("features".into(), counts.into());
            more.json.insert("n_paired".into(), files.n_paired().into());
            Ok(more)
        },
    )
}

fn first(files: &Files) -> &str {
    files.parts.first().map_or("", |p| p.modality.as_str())
}

fn say_cells(files: &Files) {
    let of = |p: &Part| format!("{} of {}", p.data.all.n_obs(), p.modality);
    let parts: Vec<String> = files.parts.iter().map(of).collect();
    note(&format!(
        "{} cells: {}; {} in all files",
        files.cells.len(),
        parts.join(", "),
        files.n_paired()
    ));
}

fn batches(files: &Files, key: &str) -> Result<(Categorical, Vec<u32>)> {
    let labels = files.labels(key)?;
    let codes = labels.complete_codes(key)?;
    Ok((labels, codes))
}

/// The features that are used.
struct Chosen {
    start: Start,
    /// Their tokens, the modality of each, and in each file the column of each.
    tokens: Vec<String>,
    modalities: Vec<String>,
    columns: Vec<Vec<Option<usize>>>,
    n_features: usize,
    /// Genes that the model of `--from` doesn't know.
    unknown: Vec<String>,
}

impl Chosen {
    fn new(args: &Args, files: &Files) -> Result<Self> {
        let first = first(files);
        let genes = files.parts.first().map(|p| p.data.genes.as_slice());
        let start = Start::open_any(args.common.from.as_deref(), genes.unwrap_or_default())?;
        let (mut tokens, mut modalities, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let (mut seen, mut unknown) = (HashSet::new(), Vec::new());
        for (at, part) in files.parts.iter().enumerate() {
            let columns = match part.modality == first {
                true => variable(args, part, &start, &mut unknown)?,
                false => frequent(part, args.max_features)?,
            };
            for column in columns {
                let Some(feature) = part.data.genes.get(column) else {
                    continue;
                };
                let token = token(first, &part.modality, feature);
                // Of columns of one name the first is taken: `embed` finds them by name, too.
                if seen.insert(token.clone()) {
                    tokens.push(token);
                    modalities.push(part.modality.clone());
                    places.push((at, column));
                }
            }
        }
        let column_in = |part: usize| {
            let of = |&(at, column): &(usize, usize)| (at == part).then_some(column);
            places.iter().map(of).collect()
        };
        Ok(Self {
            columns: (0..files.parts.len()).map(column_in).collect(),
            n_features: files.parts.iter().map(|p| p.data.genes.len()).sum(),
            start,
            tokens,
            modalities,
            unknown,
        })
    }

    fn vocab(&self) -> Result<GeneVocab> {
        Ok(GeneVocab::new(self.tokens.iter().cloned())?.with_specials(&SPECIALS)?)
    }

    /// Features of each modality.
    fn counts<'a>(&self, files: &'a Files) -> Vec<(&'a str, usize)> {
        let of = |p: &'a Part| {
            let n = self.modalities.iter().filter(|m| **m == p.modality).count();
            (p.modality.as_str(), n)
        };
        files.parts.iter().map(of).collect()
    }
}

/// The most variable genes, of those that the model to begin with knows.
fn variable(
    args: &Args,
    part: &Part,
    start: &Start,
    unknown: &mut Vec<String>,
) -> Result<Vec<usize>> {
    let data: &Data = &part.data;
    let found = data.known(start.vocab(), args.common.ignore_case, &Notes::default())?;
    unknown.clone_from(&found.report().missing);
    let columns = found.columns();
    let source = data.source("choosing variable genes")?;
    let known = Columns::new(&source, columns.iter().map(|&c| Some(c)).collect())?;
    let logged = check_logged(&known)?.logged;
    let steps = PreprocessOptions::integration(args.n_hvg.min(columns.len()), !logged);
    let batches = match &args.batch_key {
        Some(key) => Some(data.labels(key)?),
        None => None,
    };
    let prepared = preprocess(&known, &steps, batches.as_ref()).map_err(|e| data.wrong(e))?;
    let genes = prepared.genes.iter();
    Ok(genes.filter_map(|&g| columns.get(g).copied()).collect())
}

/// The features that are found in most cells, and in one at least; ascending.
fn frequent(part: &Part, most: usize) -> Result<Vec<usize>> {
    const ROWS_AT_ONCE: usize = 4096;
    let source = part.data.source("counting features")?;
    let mut cells = vec![0usize; source.n_cols()];
    for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
        let block = source.read_range(start..(start + ROWS_AT_ONCE).min(source.n_rows()))?;
        for (&column, &value) in block.indices().iter().zip(block.data()) {
            if !(value.is_finite() && value >= 0.0) {
                let feature = part.data.genes.get(column as usize);
                return Err(part.data.wrong(format!(
                    "feature {} has the value {value}; give counts (--layer) or what is not negative, such as their logarithms",
                    feature.map_or("", String::as_str)
                )));
            }
            if let Some(n) = cells.get_mut(column as usize) {
                *n += usize::from(value > 0.0);
            }
        }
    }
    let mut order: Vec<(usize, usize)> = cells.into_iter().enumerate().collect();
    order.retain(|c| c.1 > 0);
    // The sort is stable: of equally frequent ones the first comes first.
    order.sort_by_key(|c| std::cmp::Reverse(c.1));
    order.truncate(most);
    let mut columns: Vec<usize> = order.into_iter().map(|c| c.0).collect();
    columns.sort_unstable();
    match columns.is_empty() {
        false => Ok(columns),
        true => Err(part.data.wrong(format!(
            "no cell has a value of a feature of {}",
            part.modality
        ))),
    }
}
