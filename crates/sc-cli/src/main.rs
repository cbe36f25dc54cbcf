//! `sc`: look at, convert, train on and query single-cell data from the command line. `sc --help` has examples.

mod annotate;
mod beeswarm;
mod check;
mod check_report;
mod check_samples;
mod common;
mod convert;
mod de;
mod embed;
mod error;
mod evaluate;
mod expression;
mod fits;
mod hub;
mod hub_pack;
mod infuse;
mod inspect;
mod integrate;
mod leiden;
mod map;
mod metrics;
mod metrics_report;
mod milo;
mod minify;
mod modalities;
mod neighbors;
mod options;
mod places;
mod preprocess;
mod progress;
mod resume;
mod sde;
mod threads;
mod train;
mod train_run;
mod train_scanvi;
mod train_scvi;
mod transfer;
mod transformer;
mod umap;
mod volcano;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};

// Minibatches are many short-lived blocks of the same sizes, which this allocator hands out again without the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Deep generative models of single cells: look at files, convert them, train scVI and scANVI, and use the trained
/// model.
#[derive(Debug, Parser)]
#[command(name = "sc", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sc inspect cells.h5ad
  sc convert filtered_feature_bc_matrix.h5 cells.h5ad --gzip 4
  sc train scvi cells.h5ad --out model --batch-key donor
  sc train scanvi cells.h5ad --out labels --from model --labels-key cell_type --unlabeled-category Unknown
  sc embed model cells.h5ad --out embedded.h5ad
  sc annotate labels cells.h5ad --out annotated.h5ad
  sc expression model cells.h5ad --out expression.h5ad --genes CD3E,MS4A1
  sc evaluate model cells.h5ad --json
  sc check model cells.h5ad --out report.html --labels-key cell_type
  sc metrics embedded.h5ad --embedding X_scVI --embedding X_pca --batch-key donor --label-key cell_type
  sc map model query.h5ad --out mapped.h5ad
  sc de model cells.h5ad --groupby cell_type --out de.tsv
  sc minify model cells.h5ad --out atlas
  sc umap embedded.h5ad --rep X_scVI --plot umap.svg --color cell_type
  sc transfer atlas.h5ad mapped.h5ad --labels cell_type --out annotated.h5ad
  sc preprocess hvg cells.h5ad --out hvg.h5ad --flavor seurat_v3 --batch-key donor
  sc transformer embed scGPT_human cells.h5ad --out embedded.h5ad --gene-key gene_name
  sc sde train cells.h5ad --out model --use-key X_pca --time-key day
  sc integrate train rna=rna.h5ad adt=adt.h5ad --out model --layer counts
  sc milo embedded.h5ad --sample donor --design '~ batch + condition' --table da.tsv

`sc COMMAND --help` explains the options of a command. RUST_LOG=info shows more of what goes on.
Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Convert(convert::Args),
    Preprocess(preprocess::Args),
    Train(train::Args),
    Transformer(Box<transformer::Args>),
    Sde(sde::Args),
    Integrate(integrate::Args),
    Embed(embed::Args),
    Expression(expression::Args),
    Evaluate(evaluate::Args),
    Annotate(annotate::Args),
    Check(check::Args),
    Map(map::Args),
    Metrics(metrics::Args),
    Transfer(transfer::Args),
    Infuse(infuse::Args),
    De(de::Args),
    Milo(milo::Args),
    Neighbors(neighbors::Args),
    Leiden(leiden::Args),
    Umap(umap::Args),
    Minify(minify::Args),
    Hub(hub::Args),
}

impl Command {
    fn threads(&self) -> Option<usize> {
        match self {
            Self::Inspect(_) | Self::Convert(_) | Self::Hub(_) => None,
            Self::Preprocess(a) => a.threads(),
            Self::Train(a) => a.threads(),
            Self::Transformer(a) => a.threads(),
            Self::Sde(a) => a.threads(),
            Self::Integrate(a) => a.threads(),
            Self::Embed(a) => a.query.threads,
            Self::Annotate(a) => a.query.threads,
            Self::Check(a) => a.threads,
            Self::Expression(a) => a.query.threads,
            Self::Map(a) => a.threads,
            Self::Metrics(a) => a.threads,
            Self::Evaluate(a) => a.query.threads,
            Self::De(a) => a.query.threads,
            Self::Minify(a) => a.query.threads,
            Self::Infuse(a) => a.threads,
            Self::Leiden(a) => a.search.threads,
            Self::Neighbors(a) => a.search.threads,
            Self::Transfer(a) => a.threads,
            Self::Umap(a) => a.search.threads,
            Self::Milo(a) => a.threads,
        }
    }

    fn run(self) -> Result<()> {
        match self {
            Self::Inspect(a) => inspect::run(&a),
            Self::Convert(a) => convert::run(&a),
            Self::Preprocess(a) => preprocess::run(&a),
            Self::Train(a) => train::run(&a),
            Self::Transformer(a) => transformer::run(&a),
            Self::Sde(a) => sde::run(&a),
            Self::Integrate(a) => integrate::run(&a),
            Self::Embed(a) => embed::run(&a),
            Self::Expression(a) => expression::run(&a),
            Self::Evaluate(a) => evaluate::run(&a),
            Self::Annotate(a) => annotate::run(&a),
            Self::Check(a) => check::run(&a),
            Self::Map(a) => map::run(&a),
            Self::Metrics(a) => metrics::run(&a),
            Self::Transfer(a) => transfer::run(&a),
            Self::Infuse(a) => infuse::run(&a),
            Self::De(a) => de::run(&a),
            Self::Milo(a) => milo::run(&a),
            Self::Neighbors(a) => neighbors::run(&a),
            Self::Leiden(a) => leiden::run(&a),
            Self::Umap(a) => umap::run(&a),
            Self::Minify(a) => minify::run(&a),
            Self::Hub(a) => hub::run(&a),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let done =
        threads::set_up(cli.command.threads()).and_then(|()| threads::inside(|| cli.command.run()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            error::report(&e);
            ExitCode::from(if matches!(e, Error::Interrupted { .. }) {
                error::INTERRUPTED
            } else {
                1
            })
        }
    }
}

/// Warnings of the libraries, without times and modules.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .compact()
        .init();
}
