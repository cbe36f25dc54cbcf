//! `sc integrate`: cells of several modalities in one embedding.

mod embed;
mod graph;
mod input;
mod matching;
mod predict;
mod train;
mod transfer;

use clap::Subcommand;

use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc integrate train rna=rna.h5ad adt=adt.h5ad --out model --layer counts --batch-key batch
  sc integrate embed model rna=rna.h5ad adt=adt.h5ad --layer counts --batch-key batch --out joint.h5ad
  sc integrate predict model rna=rna.h5ad --to adt --layer counts --batch-key batch --out proteins.h5ad
  sc integrate train cells.h5mu --out model --layer counts --batch-key batch
  sc integrate embed model cells.h5mu --layer counts --batch-key batch --out cells.h5mu   # obsm X_CLUE
  sc integrate match model rna=rna.h5ad adt=adt.h5ad --layer counts --batch-key batch --out matches.tsv
  sc integrate transfer model rna=rna.h5ad adt=adt.h5ad --layer counts --batch-key batch \\
      --from rna --to adt --labels cell_type --out labels.tsv
  sc integrate graph rna=rna.h5ad atac=atac.h5ad --gtf genes.gtf.gz --out graph.tsv

`sc integrate COMMAND --help` explains the options of a command.";

/// RNA, proteins, open chromatin of the same and of different cells in one embedding (CLUE)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Args>),
    Embed(embed::Args),
    Predict(predict::Args),
    Match(matching::Args),
    Transfer(transfer::Args),
    Graph(graph::Args),
}

impl Args {
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.command {
            Command::Train(a) => a.run.threads,
            Command::Embed(a) => a.trained.threads,
            Command::Predict(a) => a.trained.threads,
            Command::Match(a) => a.trained.threads,
            Command::Transfer(a) => a.trained.threads,
            Command::Graph(_) => None,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Train(a) => train::run(a),
        Command::Embed(a) => embed::run(a),
        Command::Predict(a) => predict::run(a),
        Command::Match(a) => matching::run(a),
        Command::Transfer(a) => transfer::run(a),
        Command::Graph(a) => graph::run(a),
    }
}
