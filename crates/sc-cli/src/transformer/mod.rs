//! `sc transformer`: scGPT and scBERT.

mod annotate;
mod cells;
mod embed;
mod finetune;
mod model;

use clap::Subcommand;

use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc transformer embed scGPT_human cells.h5ad --out embedded.h5ad --gene-key gene_name
  sc transformer finetune annotate atlas.h5ad --out annotator --from scGPT_human --labels-key cell_type
  sc transformer annotate annotator new_cells.h5ad --out annotated.h5ad --novel-below 0.5

`sc transformer COMMAND --help` explains the options of a command.";

/// scGPT and scBERT, transformers that read the genes of a cell as tokens
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Embed(embed::Args),
    Annotate(annotate::Args),
    Finetune(finetune::Args),
}

impl Args {
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.command {
            Command::Embed(a) => a.query.threads,
            Command::Annotate(a) => a.query.threads,
            Command::Finetune(a) => a.threads(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Embed(a) => embed::run(a),
        Command::Annotate(a) => annotate::run(a),
        Command::Finetune(a) => finetune::run(a),
    }
}
