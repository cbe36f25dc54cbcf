use sc_data::{Categorical, Rows};
use sc_model::Parity;
use sc_transformer::scbert::FinetuneConfig;
use sc_transformer::scgpt::{CellSource, LabelledCells, Recipe};
use sc_transformer::tokens::Tokenizer;
use serde_json::json;

use super::Common;
use super::run::{Job, select};
use super::scbert::{Bert, BertRun, check};
use super::scgpt::{Sizes, Start, train, untold};
use crate::error::Result;
use crate::options::at_least_one;
use crate::train_run::{Interrupt, prepare_folder};
use crate::transformer::cells::{Data, GeneSummary, scbert_cells};
use crate::transformer::model::Notes;
use crate::transformer::query::Which;

const EXAMPLES: &str = "\
Examples:
  sc transformer finetune annotate atlas.h5ad --out annotator --from scGPT_human \\
      --labels-key cell_type
  sc transformer finetune annotate atlas.h5ad --out annotator --labels-key cell_type \\
      --d-model 64 --n-heads 4 --d-hid 64 --n-layers 3 --lr 1e-3
  sc transformer finetune annotate counts.h5ad --out annotator --model scbert \\
      --labels-key cell_type --from panglao_pretrain.pth --panel genes.txt
  sc transformer annotate annotator new_cells.h5ad --out annotated.h5ad --novel-below 0.5

DIR then holds the model of the best epoch and the metrics of each (history.csv). Ctrl-C writes a
checkpoint; the same command with --resume goes on, and looks for the best epoch among those
that follow.";

/// Teach a model the types of cells
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Column of obs with the type of each cell; cells without one are left out
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    labels_key: String,
    /// A type that stands for "not known": these cells are left out, too
    #[arg(long, value_name = "LABEL", help_heading = "Data")]
    unlabeled_category: Option<String>,
    /// The model
    #[arg(long, value_enum, default_value_t = Which::Scgpt, help_heading = "Model")]
    model: Which,
    /// scGPT: the most tokens of a cell, `<cls>` included [default: 3001]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Model")]
    max_length: Option<usize>,
    /// scGPT: keep what reads genes and values as it is; only the transformer and the classifier learn
    #[arg(long, help_heading = "Model")]
    freeze: bool,
    #[command(flatten, next_help_heading = "scGPT from scratch")]
    sizes: Sizes,
    #[command(flatten, next_help_heading = "scBERT")]
    bert: Bert,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let of_scgpt = [
        ("--max-length", args.max_length.is_some()),
        ("--freeze", args.freeze),
    ];
    check(args.model, (common, &args.sizes, &args.bert), &of_scgpt)?;
    let interrupt = Interrupt::listen()?;
    prepare_folder(&common.out, &common.run)?;
    let data = Data::read(&common.data, &common.matrix, &Notes::default())?;
    let labels = known(args, &data)?;
    match args.model {
        Which::Scgpt => scgpt(args, &data, &labels, &interrupt),
        Which::Scbert => scbert(args, &data, &labels, &interrupt),
    }
}

/// The types of the cells, without that which stands for none.
fn known(args: &Args, data: &Data) -> Result<Categorical> {
    let all = data.labels(&args.labels_key)?;
    let unknown = args.unlabeled_category.as_deref();
    let labels = Categorical::from_options(all.iter().map(|l| l.filter(|l| Some(*l) != unknown)));
    let found = labels.categories().len();
    if found < 2 {
        return Err(data.wrong(format!(
            "obs {} has {found} types ({}); at least 2 are needed",
            args.labels_key,
            labels.categories().join(", ")
        )));
    }
    Ok(labels)
}

fn scgpt(args: &Args, data: &Data, labels: &Categorical, interrupt: &Interrupt) -> Result<()> {
    let common = &args.common;
    let seed = common.training.seed;
    let start = Start::open(common.from.as_deref(), &data.genes, &args.sizes)?;
    let mut recipe = Recipe::annotation(seed, Parity::Correct);
    recipe.tokens.max_len = args.max_length.or(recipe.tokens.max_len);
    recipe.train = common.training.apply(recipe.train);
    let classes = labels.categories().to_vec();
    let model = start.model(&args.sizes, seed, |c| {
        untold(c);
        c.classes = classes;
    })?;
    if args.freeze {
        model.freeze_encoders(true);
    }
    if let Some(binning) = &mut recipe.tokens.binning {
        binning.n_bins = model.config().n_bins;
    }
    let found = data.known(model.vocab(), common.ignore_case, &Notes::default())?;
    let tokenizer = Tokenizer::new(model.vocab(), &found, recipe.tokens.clone())?;

    let codes = labels.codes().iter().enumerate();
    let (rows, codes): (Vec<usize>, Vec<u32>) =
        codes.filter_map(|(i, c)| c.map(|c| (i, c))).unzip();
    let names = select(data.all.obs.index(), &rows);
    let source = data.source("reading")?;
    let source = Rows::new(&source, rows)?;
    let source = CellSource::new(&source, &tokenizer);
    let cells = LabelledCells::new(source, Some(&codes), &recipe)?;
    let job = Job {
        common,
        interrupt,
        settings: json!({"scgpt": model.config(), "tokens": recipe.tokens, "freeze": args.freeze}),
        config: &recipe.train,
        cells: &names,
        notes: &Notes {
            tokens: Some(recipe.tokens.clone()),
            labels_key: Some(args.labels_key.clone()),
            gene_key: common.matrix.gene_key.clone(),
            ..Notes::default()
        },
        genes: GeneSummary::of_match(&found),
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

fn scbert(args: &Args, data: &Data, labels: &Categorical, interrupt: &Interrupt) -> Result<()> {
    let common = &args.common;
    let start = args.bert.start(common, data)?;
    let model = start.with_classes(labels.categories(), common.training.seed)?;
    let source = data.source("checking the counts")?;
    let cells = scbert_cells(&model, &source, data, &args.bert.cells.config())?;
    let labelled = model.labelled(&cells, labels)?;
    let mut config = FinetuneConfig::default();
    config.train = common.training.apply(config.train);
    let run = BertRun {
        common,
        interrupt,
        model: &model,
        cells: &cells,
        data,
        settings: json!({"scbert": model.config(), "labels": model.labels()}),
        config: &config.train,
        notes: Notes {
            labels_key: Some(args.labels_key.clone()),
            gene_key: common.matrix.gene_key.clone(),
            ..Notes::default()
        },
        shown: "accuracy_validation",
    };
    run.run(|state, o| match state {
        Some(state) => model.resume_finetuning(&labelled, &config, state, o),
        None => model.finetune(&labelled, &config, o),
    })
}
