//! What CLUE's parts are worth on real cells, beside simpler methods:
//!
//! ```text
//! clue_experiments pairs RNA.h5ad OTHER.h5ad --out DIR      held-out cells: do the modalities find each other
//! clue_experiments proteins CELLS.h5ad --out DIR            proteins of held-out cells from their RNA
//! ```
//!
//! Each run is one JSON file in DIR; runs that are there are not repeated. `docs/clue.md` has the results.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod cca;
mod data;
mod methods;
mod pairs;
mod proteins;
#[path = "../transformer_experiments/runs.rs"]
mod runs;

use clap::Parser;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "CLUE and its parts on real cells, beside simpler methods")]
enum Command {
    /// Matches cells of two modalities that were held out
    Pairs(pairs::Args),
    /// Predicts proteins from RNA
    Proteins(proteins::Args),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Pairs(args) => pairs::run(&args),
        Command::Proteins(args) => proteins::run(&args),
    }
}
