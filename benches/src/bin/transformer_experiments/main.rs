//! What small transformers, trained from nothing on small real data, are worth beside methods that are simpler:
//!
//! ```text
//! transformer_experiments perturb SCREEN.h5ad --out DIR      perturbed cells, beside baselines without a model
//! transformer_experiments integrate CELLS.h5ad --out DIR     batches integrated, beside scVI and principal components
//! transformer_experiments generate CELLS.h5ad --out DIR      cells generated, beside scVI
//! ```
//!
//! Each run is one JSON file in DIR; runs that are there are not repeated, and a table of all is printed at the end.
//! `docs/transformer-experiments.md` has the results.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod bins;
mod common;
mod effects;
mod generation;
mod integration;
mod perturbation;
mod runs;
mod samples;
mod screen;

use clap::Parser;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Small transformers on real data, beside simpler methods")]
enum Command {
    /// Predicts perturbed cells
    Perturb(perturbation::Args),
    /// Integrates batches
    Integrate(integration::Args),
    /// Generates cells
    Generate(generation::Args),
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Perturb(args) => perturbation::run(&args),
        Command::Integrate(args) => integration::run(&args),
        Command::Generate(args) => generation::run(&args),
    }
}
