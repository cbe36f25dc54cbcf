use clap::Subcommand;

use crate::error::Result;
use crate::{train_scanvi, train_scvi};

/// Train a model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sc train scvi cells.h5ad --out model --batch-key donor\n\n`sc train scvi --help` and `sc train scanvi --help` have more."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    model: Model,
}

#[derive(Debug, Subcommand)]
enum Model {
    Scvi(Box<train_scvi::Args>),
    Scanvi(Box<train_scanvi::Args>),
}

impl Args {
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.model {
            Model::Scvi(a) => a.run.threads,
            Model::Scanvi(a) => a.run.threads,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.model {
        Model::Scvi(a) => train_scvi::run(a),
        Model::Scanvi(a) => train_scanvi::run(a),
    }
}
