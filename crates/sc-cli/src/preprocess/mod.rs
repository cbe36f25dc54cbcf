//! `sc preprocess`: from counts to a few informative numbers per cell, under the names that scanpy gives them.

mod clr;
mod filter;
mod harmony;
mod hvg;
mod input;
mod lsi;
mod normalize;
mod pca;
mod qc;
mod scale;

use clap::Subcommand;

use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc preprocess qc counts.h5ad --out qc.h5ad
  sc preprocess filter counts.h5ad --out good.h5ad --min-genes 200 --min-cells 3 --max-pct mt=20
  sc preprocess hvg good.h5ad --out hvg.h5ad --flavor seurat_v3 --n-top 2000 --batch-key donor
  sc preprocess normalize hvg.h5ad --out logs.h5ad --target-sum 1e4 --keep-counts counts
  sc preprocess pca logs.h5ad --out pca.h5ad --n-comps 50
  sc preprocess harmony pca.h5ad --out harmony.h5ad --batch-key donor
  sc neighbors harmony.h5ad --out graph.h5ad --rep X_pca_harmony

Without touching the counts, from a file larger than the memory:
  sc preprocess pca counts.h5ad --out pca.h5ad --lognorm 1e4 --backed

`sc preprocess COMMAND --help` explains the options of a command.";

/// Quality control, filters, normalisation, variable genes, PCA, LSI, CLR and Harmony
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Qc(qc::Args),
    Filter(filter::Args),
    Normalize(normalize::Args),
    Hvg(hvg::Args),
    Scale(scale::Args),
    Pca(pca::Args),
    Lsi(lsi::Args),
    Clr(clr::Args),
    Harmony(harmony::Args),
}

impl Args {
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.command {
            Command::Qc(a) => a.input.threads,
            Command::Filter(a) => a.input.threads,
            Command::Normalize(a) => a.input.threads,
            Command::Hvg(a) => a.input.threads,
            Command::Scale(a) => a.input.threads,
            Command::Pca(a) => a.input.threads,
            Command::Lsi(a) => a.input.threads,
            Command::Clr(a) => a.input.threads,
            Command::Harmony(a) => a.threads,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Qc(a) => qc::run(a),
        Command::Filter(a) => filter::run(a),
        Command::Normalize(a) => normalize::run(a),
        Command::Hvg(a) => hvg::run(a),
        Command::Scale(a) => scale::run(a),
        Command::Pca(a) => pca::run(a),
        Command::Lsi(a) => lsi::run(a),
        Command::Clr(a) => clr::run(a),
        Command::Harmony(a) => harmony::run(a),
    }
}
