use sc_model::Parity;
use sc_model::train::{TrainConfig, fit, resume};
use sc_transformer::scbert::PretrainConfig;
use sc_transformer::scgpt::{CellSource, PretrainCells, Pretraining, Recipe};
use sc_transformer::tokens::{GenerativeOptions, Generator, Tokenizer, TokenizerOptions};
use serde_json::json;

use super::Common;
use super::run::Job;
use super::scbert::{Bert, BertRun, check};
use super::scgpt::{Sizes, Start, untold};
use crate::error::Result;
use crate::options::at_least_one;
use crate::train_run::{Interrupt, prepare_folder};
use crate::transformer::cells::{Data, GeneSummary, scbert_cells};
use crate::transformer::model::Notes;
use crate::transformer::query::Which;

const EXAMPLES: &str = "\
Examples:
  sc transformer pretrain atlas.h5ad --out scgpt --d-model 128 --n-heads 4 --n-layers 4 --backed
  sc transformer pretrain more.h5ad --out scgpt2 --from scGPT_human --max-epochs 1
  sc transformer pretrain counts.h5ad --out scbert --model scbert --dim 64 --depth 4
  sc transformer finetune annotate labelled.h5ad --out annotator --from scgpt --labels-key cell_type

DIR then holds the model and the metrics of each epoch (history.csv). Ctrl-C writes a checkpoint; the
same command with --resume goes on, and ends with bit for bit the weights of an undisturbed run.";

/// Train a model on cells without labels: scGPT to generate genes from others, scBERT to guess hidden ones
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::transformer) struct Args {
    #[command(flatten)]
    pub(in crate::transformer) common: Common,
    /// The model
    #[arg(long, value_enum, default_value_t = Which::Scgpt, help_heading = "Model")]
    model: Which,
    /// scGPT: the most tokens of a cell, `<cls>` included [default: 1200]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Model")]
    max_length: Option<usize>,
    /// scGPT: minibatches before the vectors of cells are prompts, too [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Training")]
    prompt_after: Option<u64>,
    #[command(flatten, next_help_heading = "scGPT from scratch")]
    sizes: Sizes,
    #[command(flatten, next_help_heading = "scBERT")]
    bert: Bert,
}

pub(in crate::transformer) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let of_scgpt = [
        ("--max-length", args.max_length.is_some()),
        ("--prompt-after", args.prompt_after.is_some()),
    ];
    check(args.model, (common, &args.sizes, &args.bert), &of_scgpt)?;
    let interrupt = Interrupt::listen()?;
    prepare_folder(&common.out, &common.run)?;
    let data = Data::read(&common.data, &common.matrix, &Notes::default())?;
    match args.model {
        Which::Scgpt => scgpt(args, &data, &interrupt),
        Which::Scbert => scbert(args, &data, &interrupt),
    }
}

fn notes(common: &Common) -> Notes {
    Notes {
        gene_key: common.matrix.gene_key.clone(),
        ..Notes::default()
    }
}

/// The recipe, whose learning rate falls to 0 at the end of all minibatches.
fn recipe(common: &Common, n_cells: usize) -> TrainConfig {
    let seed = common.training.seed;
    let plan = common.training.apply(Recipe::pretraining(1, seed));
    let share = plan.split.train_size.unwrap_or(0.9);
    let train = (share * n_cells as f64).ceil() as usize;
    let steps = train.div_ceil(plan.batch_size) * plan.epochs(n_cells);
    common
        .training
        .apply(Recipe::pretraining(steps as u64, seed))
}

fn scgpt(args: &Args, data: &Data, interrupt: &Interrupt) -> Result<()> {
    let common = &args.common;
    let seed = common.training.seed;
    let start = Start::open(common.from.as_deref(), &data.genes, &args.sizes)?;
    let model = start.model(&args.sizes, seed, |c| {
        untold(c);
        c.generative = true;
    })?;
    let found = data.known(model.vocab(), common.ignore_case, &Notes::default())?;
    let mut tokens = TokenizerOptions::finetune(None, Parity::Correct);
    if let Some(binning) = &mut tokens.binning {
        binning.n_bins = model.config().n_bins;
    }
    let tokenizer = Tokenizer::new(model.vocab(), &found, tokens)?;
    let source = data.source("reading")?;
    let split = GenerativeOptions {
        max_len: Some(args.max_length.unwrap_or(1200)),
        generator: Generator::Seeded(seed),
        ..GenerativeOptions::default()
    };
    let cells = PretrainCells::new(CellSource::new(&source, &tokenizer), split.clone())?;
    let names = data.all.obs.index();
    let config = recipe(common, names.len());
    let mut task = Pretraining::new(&model);
    task.prompt_after = args.prompt_after.unwrap_or(task.prompt_after);
    let job = Job {
        common,
        interrupt,
        settings: json!({"scgpt": model.config(), "split": split, "prompt_after": task.prompt_after}),
        config: &config,
        cells: names,
        notes: &notes(common),
        genes: GeneSummary::of_match(&found),
        shown: "validation_loss",
    };
    job.run(
        |state, mut o| {
            let done = match state {
                Some(state) => resume(&task, &cells, &config, state, &mut o),
                None => fit(&task, &cells, &config, &mut o),
            };
            done.map_err(|e| data.wrong(e))
        },
        |dir| Ok(model.save(dir)?),
    )
}

fn scbert(args: &Args, data: &Data, interrupt: &Interrupt) -> Result<()> {
    let common = &args.common;
    let model = args.bert.start(common, data)?;
    let source = data.source("checking the counts")?;
    let cells = scbert_cells(&model, &source, data, &args.bert.cells.config())?;
    let mut config = PretrainConfig::default();
    config.train = common.training.apply(config.train);
    let run = BertRun {
        common,
        interrupt,
        model: &model,
        cells: &cells,
        data,
        settings: json!({"scbert": model.config()}),
        config: &config.train,
        notes: notes(common),
        shown: "validation_loss",
    };
    run.run(|state, o| match state {
        Some(state) => model.resume_pretraining(&cells, &config, state, o),
        None => model.pretrain(&cells, &config, o),
    })
}
