//! `sc transformer finetune` and `sc transformer pretrain`.

mod annotate;
mod integrate;
mod multiomic;
mod perturb;
pub(super) mod pretrain;
mod run;
mod scbert;
mod scgpt;

use std::path::PathBuf;

use clap::Subcommand;
use sc_model::train::TrainConfig;
use sc_transformer::vocab::GeneCase;

use super::query::MatrixOptions;
use crate::error::Result;
use crate::options::{at_least_one, share};
use crate::train_scvi;

const EXAMPLES: &str = "\
Examples:
  sc transformer finetune annotate atlas.h5ad --out annotator --from scGPT_human \\
      --labels-key cell_type
  sc transformer finetune integrate cells.h5ad --out integrated --from scGPT_human --batch-key donor
  sc transformer finetune multiomic rna.h5ad --modality protein=adt.h5ad --out model \\
      --from scGPT_human
  sc transformer finetune perturb screen.h5ad --out perturbed --from scGPT_human --control ctrl
  sc transformer finetune annotate atlas.h5ad --out annotator --model scbert \\
      --labels-key cell_type --from panglao_pretrain.pth --panel genes.txt";

/// Fine-tune scGPT or scBERT for a task, or train it for that from scratch
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Annotate(Box<annotate::Args>),
    Integrate(Box<integrate::Args>),
    Multiomic(Box<multiomic::Args>),
    Perturb(Box<perturb::Args>),
}

impl Args {
    pub(super) fn threads(&self) -> Option<usize> {
        match &self.task {
            Task::Annotate(a) => a.common.run.threads,
            Task::Integrate(a) => a.common.run.threads,
            Task::Multiomic(a) => a.common.run.threads,
            Task::Perturb(a) => a.common.run.threads,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    match &args.task {
        Task::Annotate(a) => annotate::run(a),
        Task::Integrate(a) => integrate::run(a),
        Task::Multiomic(a) => multiomic::run(a),
        Task::Perturb(a) => perturb::run(a),
    }
}

/// Options of all tasks.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx
    data: PathBuf,
    /// Folder for the model; made if it isn't there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Begin with this trained model: a folder, or a checkpoint file of scBERT [default: random weights]
    #[arg(long, value_name = "MODEL")]
    from: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Data")]
    matrix: MatrixOptions,
    /// scGPT: look genes that are not in the vocabulary up again without regard to upper and lower case
    #[arg(long, help_heading = "Data")]
    ignore_case: bool,
    #[command(flatten, next_help_heading = "Training")]
    training: Training,
    #[command(flatten, next_help_heading = "Run")]
    pub(super) run: train_scvi::Run,
}

impl Common {
    /// How genes are looked up.
    fn case(&self) -> GeneCase {
        match self.ignore_case {
            true => GeneCase::Ignore,
            false => GeneCase::Exact,
        }
    }
}

/// What may differ from the recipe of the original.
#[derive(Debug, clap::Args)]
struct Training {
    /// Passes over the training cells [default: as the original]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_epochs: Option<usize>,
    /// Cells of a minibatch [default: as the original]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    batch_size: Option<usize>,
    /// Learning rate at the start [default: as the original, 1e-4]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Share of the cells that train; the others choose the best epoch [default: as the original]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    train_size: Option<f64>,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Training {
    fn apply(&self, mut config: TrainConfig) -> TrainConfig {
        config.max_epochs = self.max_epochs.or(config.max_epochs);
        config.batch_size = self.batch_size.unwrap_or(config.batch_size);
        config.lr = self.lr.unwrap_or(config.lr);
        config.split.train_size = self.train_size.or(config.split.train_size);
        config.seed = self.seed;
        config
    }
}
