//! What a learned movement of cells knows of their fates and of a day that it didn't see, beside simpler methods:
//!
//! ```text
//! sde_experiments fate CELLS.h5ad --out DIR        fates against those of clone-mates
//! sde_experiments withheld CELLS.h5ad --out DIR    day 4, when only days 2 and 6 are trained on
//! sde_experiments validate CELLS.h5ad --out DIR    only how well cells are fitted that don't train: to choose settings
//! sde_experiments table DIR                        tables of all runs
//! ```
//!
//! `CELLS.h5ad` is a table of expression with `obsm["X_clone"]`, or what `benches/peers/larry_plane.py` writes. Each run is one
//! JSON file in DIR; runs that are there are not repeated. `docs/fate-experiments.md` has the results.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod baselines;
mod cells;
mod common;
mod fate;
mod methods;
mod moves;
#[path = "../transformer_experiments/runs.rs"]
mod runs;
mod tables;
mod withheld;

use clap::Parser;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Neural SDEs of lineage-traced cells, beside simpler methods")]
enum Command {
    /// Predicts fates
    Fate(common::Common),
    /// Simulates a day that wasn't trained on
    Withheld(common::Common),
    /// Trains as for fates, and looks only at cells that validate
    Validate(common::Common),
    /// Prints what was found
    Table(tables::Args),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Fate(args) => fate::run(&args),
        Command::Withheld(args) => withheld::run(&args),
        Command::Validate(args) => fate::validate(&args),
        Command::Table(args) => tables::run(&args),
    }
}
