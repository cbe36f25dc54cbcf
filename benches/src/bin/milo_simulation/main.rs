//! Differential abundance where the truth is known: power, false discoveries, and time.
//!
//! `milo_simulation [REPETITIONS]` prints tables of power and false discoveries for all ways to make samples comparable,
//! `milo_simulation speed [CELLS]` the time of each step.
#![allow(clippy::print_stdout, reason = "a program for people")]

mod score;
mod tables;
mod world;

use std::time::Instant;

use sc_latent::milo::{self, Counts, Design, NeighbourhoodOptions, Neighbourhoods, TestOptions};
use sc_neighbors::{connectivities, knn};

use world::Experiment;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// The rate of false discoveries aimed at.
const ALPHA: f64 = 0.1;
/// Dimensions of the embedding.
const DIMENSIONS: usize = 10;
/// Nearest other cells of a cell.
const NEAREST: usize = 50;
/// Cells of a sample on average.
const CELLS: usize = 500;

fn speed(cells: usize) -> Result<(), Failure> {
    let e = Experiment {
        replicates: 10,
        fold: 2.0,
        batch_fold: 1.5,
        cells,
        formula: "~ batch + condition",
        ..Experiment::base()
    };
    let w = e.world()?;
    let mut watch = Instant::now();
    let mut lap = |what: &str| {
        println!("{what:<24} {:8.3} s", watch.elapsed().as_secs_f64());
        watch = Instant::now();
    };
    let neighbors = knn(w.embedding.view(), NEAREST)?;
    lap("nearest neighbours");
    let graph = connectivities(&neighbors)?;
    let distances = milo::kth_distances(&neighbors);
    lap("connectivities");
    let mut options = NeighbourhoodOptions::default();
    options.proportion = 0.05;
    let n = Neighbourhoods::new(w.embedding.view(), &graph, &distances, &options)?;
    lap("neighbourhoods");
    let counts = Counts::new(&n, &w.sample, "sample")?;
    let design = Design::new(e.formula, &w.obs, &w.sample)?;
    lap("counts and design");
    let table = milo::differential_abundance(
        &n,
        w.embedding.view(),
        &counts,
        &design,
        &TestOptions::default(),
    )?;
    lap("tests");
    n.overlaps()?;
    lap("neighbourhood graph");
    let (falling, rising) = table.n_changed(ALPHA);
    println!(
        "{} cells, {} samples, {} neighbourhoods: {rising} rise, {falling} fall",
        w.embedding.nrows(),
        e.n_samples(),
        n.len()
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<usize>().ok());
    if args.first().is_some_and(|a| a == "speed") {
        speed(number(1).unwrap_or(100_000))
    } else {
        tables::print(number(0).unwrap_or(25) as u64)
    }
}
