//! `sc sde`: neural stochastic differential equations, how cells move.

mod fate;
mod field;
mod genes;
mod interpolate;
mod perturb;
mod screen;
mod simulate;
mod snapshots;
mod table;
mod train;
mod train_model;
mod trained;

use clap::Subcommand;

use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  sc sde train cells.h5ad --out model --use-key X_pca --time-key day
  sc sde train cells.h5ad --out flow --use-key X_pca --time-key day --model flow
  sc sde simulate model cells.h5ad --out paths.csv --copies 10
  sc sde fate model cells.h5ad --labels state --out fates.csv --clones X_clone
  sc sde field model cells.h5ad --out field.h5ad
  sc sde interpolate model cells.h5ad --from 2 --at 4 --to 6
  sc sde perturb model cells.h5ad --genes Gfi1 --z=-10,10 --labels state --out effects.csv
  sc sde screen model cells.h5ad --labels state --out screen.csv

`sc sde COMMAND --help` explains the options of a command.";

/// How cells move: neural stochastic differential equations (scDiffEq, PRESCIENT) and flow matching
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<train::Args>),
    Simulate(simulate::Args),
    Fate(Box<fate::Args>),
    #[command(visible_alias = "fields")]
    Field(field::Args),
    Interpolate(interpolate::Args),
    Perturb(Box<perturb::Args>),
    Screen(Box<screen::Args>),
}

impl Args {
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.command {
            Command::Train(a) => a.run.threads,
            Command::Simulate(a) => a.input.threads,
            Command::Fate(a) => a.input.threads,
            Command::Field(a) => a.input.threads,
            Command::Interpolate(a) => a.input.threads,
            Command::Perturb(a) => a.input.threads,
            Command::Screen(a) => a.input.threads,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Train(a) => train::run(a),
        Command::Simulate(a) => simulate::run(a),
        Command::Fate(a) => fate::run(a),
        Command::Field(a) => field::run(a),
        Command::Interpolate(a) => interpolate::run(a),
        Command::Perturb(a) => perturb::run(a),
        Command::Screen(a) => screen::run(a),
    }
}
