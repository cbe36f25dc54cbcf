use sc_data::Columns;
use sc_model::Parity;
use sc_transformer::scgpt::{CellSource, InputNorm, LabelledCells, MvcStyle, Recipe};
use sc_transformer::tokens::Tokenizer;
use sc_transformer::tokens::preprocess::{PreprocessOptions, check_logged, preprocess};
use sc_transformer::vocab::GeneCase;
use serde_json::json;

use super::Common;
use super::run::Job;
use super::scgpt::{Sizes, Start, train};
use crate::error::Result;
use crate::options::at_least_one;
use crate::train_run::{Interrupt, prepare_folder};
use crate::transformer::cells::{Data, GeneSummary};
use crate::transformer::model::Notes;

const EXAMPLES: &str = "\
Examples:
  sc transformer finetune integrate cells.h5ad --out integrated --from scGPT_human --batch-key donor
  sc transformer embed integrated cells.h5ad --out embedded.h5ad
  sc metrics embedded.h5ad --embedding X_scGPT --batch-key donor --label-key cell_type

DIR then holds the model of the best epoch and the metrics of each (history.csv). Ctrl-C writes a
checkpoint; the same command with --resume goes on, and looks for the best epoch among those
that follow.";

/// Teach scGPT to embed cells so that batches mix
///
/// The most variable genes are read, zeros included; the model is told the batch of each cell, normalises batches apart,
/// and learns against an adversary that guesses the batch.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Column of obs with the batch of each cell
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    batch_key: String,
    /// Variable genes that are used
    #[arg(long, value_name = "N", default_value_t = 1200, value_parser = at_least_one, help_heading = "Data")]
    n_hvg: usize,
    #[command(flatten, next_help_heading = "From scratch")]
    sizes: Sizes,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let seed = common.training.seed;
    let interrupt = Interrupt::listen()?;
    prepare_folder(&common.out, &common.run)?;
    let data = Data::read(&common.data, &common.matrix, &Notes::default())?;
    let batches = data.labels(&args.batch_key)?;
    batches
        .complete_codes(&args.batch_key)
        .map_err(|e| data.wrong(e))?;
    let start = Start::open(common.from.as_deref(), &data.genes, &args.sizes)?;

    // Genes of the vocabulary first, then the variable ones among them.
    let found = data.known(start.vocab(), common.ignore_case, &Notes::default())?;
    let summary = GeneSummary::of_match(&found);
    let columns = found.columns();
    let source = data.source("choosing variable genes")?;
    let known = Columns::new(&source, columns.iter().map(|&c| Some(c)).collect())?;
    let logged = check_logged(&known)?.logged;
    let steps = PreprocessOptions::integration(args.n_hvg, !logged);
    let prepared = preprocess(&known, &steps, Some(&batches)).map_err(|e| data.wrong(e))?;
    let source = prepared.source(&known)?;
    let tokens = found.ids();
    let genes: Vec<String> = prepared
        .genes
        .iter()
        .filter_map(|&g| {
            columns
                .get(g)
                .and_then(|&c| tokens.get(c).copied().flatten())
        })
        .filter_map(|id| start.vocab().token(id).map(str::to_owned))
        .collect();

    let mut recipe = Recipe::integration(seed, Parity::Correct);
    recipe.tokens.max_len = Some(genes.len() + 1);
    recipe.train = common.training.apply(recipe.train);
    let used = batches.select(&prepared.cells);
    let codes = used
        .complete_codes(&args.batch_key)
        .map_err(|e| data.wrong(e))?;
    let model = start.model(&args.sizes, seed, |c| {
        c.modalities.clear();
        c.classes.clear();
        c.batches = used.categories().to_vec();
        c.use_batch_labels = true;
        c.input_norm = InputNorm::DomainSpecific;
        c.adversary = true;
        c.nonzero_prob = true;
        c.mvc = Some(MvcStyle::InnerProduct);
    })?;
    if let Some(binning) = &mut recipe.tokens.binning {
        binning.n_bins = model.config().n_bins;
    }
    let matched = model.vocab().match_genes(&genes, GeneCase::Exact)?;
    let tokenizer = Tokenizer::new(model.vocab(), &matched, recipe.tokens.clone())?;
    let mut cells = CellSource::new(&source, &tokenizer);
    cells.batches = Some(&codes);
    let cells = LabelledCells::new(cells, None, &recipe)?;
    let obs = data.all.obs.index();
    let names: Vec<String> = prepared
        .cells
        .iter()
        .filter_map(|&r| obs.get(r).cloned())
        .collect();
    let job = Job {
        common,
        interrupt: &interrupt,
        settings: json!({"scgpt": model.config(), "tokens": recipe.tokens, "genes": genes}),
        config: &recipe.train,
        cells: &names,
        notes: &Notes {
            tokens: Some(recipe.tokens.clone()),
            genes: Some(genes.clone()),
            batch_key: Some(args.batch_key.clone()),
            gene_key: common.matrix.gene_key.clone(),
            ..Notes::default()
        },
        genes: summary,
        shown: "validation_loss",
    };
    job.run(
        |state, o| {
            let done = train(&model, recipe.objectives, &cells, &recipe.train, state, o);
            done.map_err(|e| data.wrong(e))
        },
        |dir| Ok(model.save(dir)?),
    )
}
