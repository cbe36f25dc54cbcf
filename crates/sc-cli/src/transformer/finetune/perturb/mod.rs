mod evaluate;
mod split;

use std::collections::HashSet;

use sc_data::{Categorical, Rows};
use sc_transformer::perturb_metrics::SplitOptions;
use sc_transformer::scgpt::{PerturbTask, Recipe};
use sc_transformer::tokens::preprocess::{VariableGenes, check_logged, preprocess};
use sc_transformer::tokens::{Perturbation, PerturbationOptions, PerturbationTokens};
use serde_json::json;

use super::Common;
use super::run::{Job, More, select};
use super::scgpt::{Sizes, Start, train_best};
use crate::common::note;
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::train_run::{Interrupt, prepare_folder};
use crate::transformer::cells::{Data, GeneSummary};
use crate::transformer::model::{Notes, PerturbationNotes};
use crate::transformer::screen::{self, Conditions, list};
use crate::transformer::tables::write_table;
use evaluate::Test;
use split::{Split, share};

const EXAMPLES: &str = "\
Examples:
  sc transformer finetune perturb screen.h5ad --out perturbed --from scGPT_human
  sc transformer finetune perturb screen.h5ad --out perturbed --condition-key guide \\
      --control non-targeting --only cell_line=K562 --n-hvg 5000
  sc transformer finetune perturb screen.h5ad --out perturbed --gene-share 1 --combination-share 1
  sc transformer perturb perturbed screen.h5ad --genes KLF1,SET --out predicted.h5ad

Perturbations are named by their genes: A, A+ctrl, A+B. Some genes are never perturbed in training,
and some combinations of the others are held out; how well they are predicted is written to
DIR/evaluation.tsv, beside baselines: the sum of single effects (additive), the mean effect, no change.
Shares of 1 hold nothing out, for a model that is to be used. Ctrl-C writes a checkpoint; the same
command with --resume goes on, and looks for the best epoch among those that follow.";

/// Teach scGPT what perturbations of genes do to expression
///
/// Control cells are read, with marks on the perturbed genes, and cells after the perturbation are predicted. Counts are
/// scaled to 10,000 and log-transformed, unless they look like logarithms. Perturbed genes that are no column of the data are
/// read without expression.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten, next_help_heading = "Data")]
    conditions: Conditions,
    /// Variable genes that are used, and the perturbed ones [default: all genes]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Data")]
    n_hvg: Option<usize>,
    /// The most genes of a cell in a step of training, drawn anew each time; perturbed ones are always among them
    #[arg(long, value_name = "N", default_value_t = 1536, value_parser = at_least_one, help_heading = "Training")]
    max_genes: usize,
    /// Share of the perturbed genes that training may see
    #[arg(long, value_name = "SHARE", default_value_t = 0.75, value_parser = share, help_heading = "Evaluation")]
    gene_share: f64,
    /// Share of the combinations of such genes that training sees
    #[arg(long, value_name = "SHARE", default_value_t = 0.75, value_parser = share, help_heading = "Evaluation")]
    combination_share: f64,
    /// Control cells from which each held-out perturbation is predicted
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one, help_heading = "Evaluation")]
    eval_cells: usize,
    #[command(flatten, next_help_heading = "From scratch")]
    sizes: Sizes,
}

/// Totals to which counts are scaled.
const TOTAL: f64 = 1e4;

pub(super) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let seed = common.training.seed;
    let interrupt = Interrupt::listen()?;
    prepare_folder(&common.out, &common.run)?;
    let data = Data::read(&common.data, &common.matrix, &Notes::default())?;
    let (rows, of_cells) = conditions(args, &data)?;
    let names = select(data.all.obs.index(), &rows);

    let whole = data.source("looking at the values")?;
    let raw = Rows::new(&whole, rows)?;
    let logged = check_logged(&raw)?.logged;
    let normalize = (!logged).then_some(TOTAL);
    let wanted = perturbed_genes(&of_cells);
    let mut steps = screen::steps(normalize);
    steps.variable = args.n_hvg.map(|n| VariableGenes::new(n, !logged));
    steps.always = columns(&data.genes, &wanted);
    if args.n_hvg.is_some() {
        whole.handle().start("choosing genes", names.len());
    }
    let prepared = preprocess(&raw, &steps, None).map_err(|e| data.wrong(e))?;
    let measured = prepared.source(&raw)?;
    let genes = select(&data.genes, &prepared.genes);
    let unmeasured = missing(&wanted, &genes);
    let source = screen::widened(measured, unmeasured.len())?;

    let all: Vec<String> = genes.iter().chain(&unmeasured).cloned().collect();
    let start = Start::open(common.from.as_deref(), &all, &args.sizes)?;
    let found = start.vocab().match_genes(&all, common.case());
    let found = found.map_err(|e| data.no_genes(e))?;
    let options = PerturbationOptions {
        max_genes: Some(args.max_genes),
        seed,
        ..PerturbationOptions::default()
    };
    let tokens = PerturbationTokens::new(&source, &found, start.vocab(), &of_cells, options)
        .map_err(|e| data.wrong(e))?;
    say(&unmeasured, &tokens, normalize);
    let split = SplitOptions {
        gene_share: args.gene_share,
        combination_share: args.combination_share,
        seed,
    };
    let by_cells = common.training.train_size.is_some();
    let split = Split::new(&tokens, &split, by_cells).map_err(split::explained)?;
    let mut config = common.training.apply(Recipe::perturbation(seed));
    let size = (common.training.train_size, config.batch_size, seed);
    config.split.given = Some(split.cells(&tokens, size)?);
    let model = start.perturbations(&args.sizes, seed)?;
    let job = Job {
        common,
        interrupt: &interrupt,
        settings: json!({
            "scgpt_perturb": model.config(), "tokens": options, "genes": all, "normalize": normalize, "split": split
        }),
        config: &config,
        cells: &names,
        notes: &Notes {
            genes: Some(genes.clone()),
            gene_key: common.matrix.gene_key.clone(),
            perturbations: Some(PerturbationNotes {
                condition_key: args.conditions.key(None).to_owned(),
                control: args.conditions.control(None).to_owned(),
                normalize,
                unmeasured: unmeasured.clone(),
                ignore_case: common.ignore_case,
                trained: split.known().map(screen::name).collect(),
            }),
            ..Notes::default()
        },
        genes: GeneSummary::of_match(&found),
        shown: "validation_loss",
    };
    job.run_then(
        |state, o| {
            let done = train_best(&PerturbTask::new(&model), &tokens, &config, state, o);
            done.map_err(|e| data.wrong(e))
        },
        |dir| Ok(model.save(dir)?),
        || {
            let test = Test {
                model: &model,
                names: &all,
                ids: found.ids(),
                source: &source,
                of_cells: &of_cells,
                split: &split,
                n_genes: genes.len(),
                n_controls: args.eval_cells,
                batch_size: config.batch_size.min(16),
            };
            judge(args, &test)
        },
    )
}

fn judge(args: &Args, test: &Test<'_>) -> Result<More> {
    let found = test.run()?;
    let path = args.common.out.join("evaluation.tsv");
    write_table(&path, &found.table())?;
    let mut more = More {
        text: format!("{}evaluation -> {}\n", found.words(), path.display()),
        ..More::default()
    };
    let value = serde_json::to_value(&found)
        .map_err(|e| Error::Message(format!("the evaluation cannot be written: {e}")))?;
    more.json.insert("evaluation".into(), value);
    Ok(more)
}

/// The rows that are used, and what was done to the cell of each.
fn conditions(args: &Args, data: &Data) -> Result<(Vec<usize>, Vec<Perturbation>)> {
    let c = &args.conditions;
    let (key, control) = (c.key(None), c.control(None));
    let labels: Categorical = data.labels(key)?;
    let rows = c.rows(data)?;
    let n = rows.len();
    let (rows, of_cells) = screen::perturbed(&labels, rows, control);
    if rows.len() < n {
        note(&format!(
            "left out {} cells without a value in obs {key}",
            n - rows.len()
        ));
    }
    match of_cells.iter().any(Perturbation::is_control) {
        true => Ok((rows, of_cells)),
        false => Err(screen::no_control(data, key, control, &labels)),
    }
}

/// All genes that were perturbed, in alphabetical order.
fn perturbed_genes(of_cells: &[Perturbation]) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> =
        of_cells.iter().flat_map(Perturbation::genes).collect();
    all.into_iter().cloned().collect()
}

/// The first column of each of some genes.
fn columns(genes: &[String], wanted: &[String]) -> Vec<usize> {
    let place = |w: &String| genes.iter().position(|g| g == w);
    wanted.iter().filter_map(place).collect()
}

fn missing(wanted: &[String], genes: &[String]) -> Vec<String> {
    let there: HashSet<&String> = genes.iter().collect();
    let missing = wanted.iter().filter(|w| !there.contains(w));
    missing.cloned().collect()
}

fn say(unmeasured: &[String], tokens: &PerturbationTokens<'_>, normalize: Option<f64>) {
    match normalize {
        Some(total) => note(&format!("counts are scaled to {total} and log-transformed")),
        None => note("values look log-transformed and are read as they are"),
    }
    if !unmeasured.is_empty() {
        note(&format!(
            "{} perturbed genes are no column of the data and are read without expression: {}",
            unmeasured.len(),
            list(unmeasured)
        ));
    }
    if !tokens.unmeasured().is_empty() {
        note(&format!(
            "{} perturbed genes are not in the vocabulary, so that cells in which they were perturbed are left out: {}",
            tokens.unmeasured().len(),
            list(tokens.unmeasured())
        ));
    }
}
