//! `sc transformer`: scGPT and scBERT.

mod annotate;
mod cells;
mod embed;
mod explain;
mod finetune;
mod generate;
mod genes;
mod modalities;
mod model;
mod perturb;
mod query;
mod scgpt_cells;
mod screen;
mod tables;

use clap::Subcommand;

use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc transformer embed scGPT_human cells.h5ad --out embedded.h5ad --gene-key gene_name
  sc transformer finetune annotate atlas.h5ad --out annotator --from scGPT_human \\
      --labels-key cell_type
  sc transformer annotate annotator new_cells.h5ad --out annotated.h5ad --novel-below 0.5
  sc transformer pretrain atlas.h5ad --out scgpt --d-model 128 --n-heads 4 --n-layers 4
  sc transformer genes scGPT_human cells.h5ad --out network.tsv --programs programs.tsv
  sc transformer explain scbert_annotator cells.h5ad --out importance.tsv
  sc transformer perturb perturbed screen.h5ad --genes KLF1,SET --out predicted.h5ad
  sc transformer generate scGPT_human cells.h5ad --out generated.h5ad --label 'B cell' \\
      --labels-key cell_type

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
    Pretrain(Box<finetune::pretrain::Args>),
    Genes(genes::Args),
    Explain(Box<explain::Args>),
    Perturb(perturb::Args),
    Generate(Box<generate::Args>),
}

impl Args {
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.command {
            Command::Embed(a) => a.query.threads,
            Command::Annotate(a) => a.query.threads,
            Command::Finetune(a) => a.threads(),
            Command::Pretrain(a) => a.common.run.threads,
            Command::Genes(a) => a.threads,
            Command::Explain(a) => a.threads,
            Command::Perturb(a) => a.threads,
            Command::Generate(a) => a.threads,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Embed(a) => embed::run(a),
        Command::Annotate(a) => annotate::run(a),
        Command::Finetune(a) => finetune::run(a),
        Command::Pretrain(a) => finetune::pretrain::run(a),
        Command::Genes(a) => genes::run(a),
        Command::Explain(a) => explain::run(a),
        Command::Perturb(a) => perturb::run(a),
        Command::Generate(a) => generate::run(a),
    }
}
