//! `sc`: look at, convert, train on and query single-cell data from the command line. `sc --help` has examples.

mod beeswarm;
mod common;
mod convert;
mod embed;
mod error;
mod evaluate;
mod expression;
mod inspect;
mod milo;
mod options;
mod progress;
mod resume;
mod threads;
mod train;
mod train_run;
mod train_scvi;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};

// Minibatches are many short-lived blocks of the same sizes, which this allocator hands out again without the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Deep generative models of single cells: look at files, convert them, train scVI, and use the trained model.
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
  sc embed model cells.h5ad --out embedded.h5ad
  sc expression model cells.h5ad --out expression.h5ad --genes CD3E,MS4A1
  sc evaluate model cells.h5ad --json
  sc milo embedded.h5ad --sample donor --design '~ batch + condition' --table da.tsv

`sc COMMAND --help` explains the options of a command. RUST_LOG=info shows more of what goes on.
Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Convert(convert::Args),
    Train(train::Args),
    Embed(embed::Args),
    Expression(expression::Args),
    Evaluate(evaluate::Args),
    Milo(milo::Args),
}

impl Command {
    fn threads(&self) -> Option<usize> {
        match self {
            Self::Inspect(_) | Self::Convert(_) => None,
            Self::Train(a) => a.threads(),
            Self::Embed(a) => a.query.threads,
            Self::Expression(a) => a.query.threads,
            Self::Evaluate(a) => a.query.threads,
            Self::Milo(a) => a.threads,
        }
    }

    fn run(self) -> Result<()> {
        match self {
            Self::Inspect(a) => inspect::run(&a),
            Self::Convert(a) => convert::run(&a),
            Self::Train(a) => train::run(&a),
            Self::Embed(a) => embed::run(&a),
            Self::Expression(a) => expression::run(&a),
            Self::Evaluate(a) => evaluate::run(&a),
            Self::Milo(a) => milo::run(&a),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let done = threads::set_up(cli.command.threads()).and_then(|()| cli.command.run());
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
