//! `sc sde simulate`.

use std::io::{self, Write};
use std::path::PathBuf;

use ndarray::{Array2, Axis};
use sc_model::files::write_atomic;
use sc_sde::downstream::{Batch, GeneSpace, Simulation};
use serde_json::json;

use super::genes::Expression;
use super::table::{check_file, line};
use super::trained::{Input, Opened, Paths, Start};
use crate::common::{human_bytes, note, peak_rss_bytes, print_json};
use crate::error::Result;
use crate::progress::Counter;

const EXAMPLES: &str = "\
Examples:
  sc sde simulate model cells.h5ad --out paths.csv --copies 10
  sc sde simulate model cells.h5ad --out paths.csv --from 2 --times 4,6 --cells 500 --seed 1
  sc sde simulate model cells.h5ad --out genes.csv --times 3,4,5,6 --genes Gfi1,Irf8

The table has a row for each path and time: cell (its name), copy, t, and a column for each dimension,
or gene: expression as the components that cells move in have it, negative numbers set to 0.
It is written while paths are simulated: any number of cells takes the same memory. Same seed, same
file, on any number of threads.";

/// Simulate where cells go
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    /// The table, a .csv file
    #[arg(long, value_name = "OUT.csv")]
    out: PathBuf,
    #[command(flatten)]
    paths: Paths,
    /// Times at which states are written, besides that of the start [default: the last]
    #[arg(long, value_name = "T,T", value_delimiter = ',', conflicts_with = "to")]
    times: Vec<f64>,
    /// Expression of these genes instead of places
    #[arg(long, value_name = "GENE,GENE", value_delimiter = ',')]
    genes: Vec<String>,
    #[command(flatten)]
    expression: Expression,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_file(&args.out, "csv")?;
    let cells = args.input.open()?;
    let start = cells.start(&args.paths)?;
    let mut times = vec![start.from];
    match args.times.is_empty() {
        true => times.push(start.to),
        false => times.extend(args.times.iter().copied().filter(|t| *t != start.from)),
    }
    let equation = cells.model.equation()?;
    let simulation = args.paths.simulation(&*equation, &times, &start, 1)?;
    let since = std::time::Instant::now();
    let shown = Shown::of(args, &cells)?;
    write(args, &cells, &simulation, (&start, &shown))?;
    let (n, seconds) = (
        start.rows.len() * simulation.n_copies(),
        since.elapsed().as_secs_f64(),
    );
    if args.json {
        return print_json(&json!({
            "n_cells": start.rows.len(),
            "n_copies": simulation.n_copies(),
            "times": times,
            "seconds": seconds,
            "peak_rss_bytes": peak_rss_bytes(),
            "out": args.out,
        }));
    }
    let memory = match peak_rss_bytes() {
        0 => String::new(),
        peak => format!(", peak memory {}", human_bytes(peak)),
    };
    note(&format!(
        "{n} paths of {} cells in {seconds:.1} s{memory} -> {}",
        start.rows.len(),
        args.out.display()
    ));
    Ok(())
}

/// What is written of a state.
enum Shown {
    Dimensions(usize),
    Genes(GeneSpace, Vec<usize>),
}

impl Shown {
    fn of(args: &Args, cells: &Opened) -> Result<Self> {
        if args.genes.is_empty() {
            return Ok(Self::Dimensions(cells.places.ncols()));
        }
        let (space, _) = args.expression.space(cells)?;
        let numbers = args.genes.iter().map(|g| space.gene(g));
        let numbers = numbers.collect::<sc_sde::Result<_>>()?;
        Ok(Self::Genes(space, numbers))
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Dimensions(n) => (1..=*n).map(|d| format!("dim_{d}")).collect(),
            Self::Genes(space, numbers) => {
                let genes = numbers.iter().filter_map(|&g| space.genes().get(g));
                genes.cloned().collect()
            }
        }
    }

    fn of_states(&self, states: Array2<f32>) -> sc_sde::Result<Array2<f32>> {
        match self {
            Self::Dimensions(_) => Ok(states),
            Self::Genes(space, numbers) => {
                Ok(space.to_genes(states.view())?.select(Axis(1), numbers))
            }
        }
    }
}

fn write(
    args: &Args,
    cells: &Opened,
    simulation: &Simulation<'_>,
    (start, shown): (&Start, &Shown),
) -> Result<()> {
    let n = start.rows.len() * simulation.n_copies();
    let mut bar = Counter::new("simulating");
    let mut failed: Option<sc_sde::Error> = None;
    let written = write_atomic(&args.out, |f| {
        let names = ["cell", "copy", "t"].map(str::to_owned);
        f.write_all(line(names.into_iter().chain(shown.names())).as_bytes())?;
        let done = simulation.run(&start.states, |batch| {
            rows(f, batch, cells, (start, shown)).map_err(|source| sc_sde::Error::File {
                path: args.out.clone(),
                source,
            })?;
            bar.set(batch.paths().end, n);
            Ok(())
        });
        done.map_err(|e| {
            failed = Some(e);
            io::Error::other("simulation failed")
        })
    });
    match (failed, written) {
        (Some(e), _) => Err(cells.named(e, start)),
        (None, written) => Ok(written?),
    }
}

/// The paths of a batch, all times of one after the other.
fn rows(
    out: &mut impl Write,
    batch: &Batch,
    cells: &Opened,
    (start, shown): (&Start, &Shown),
) -> io::Result<()> {
    let states: Vec<_> = (0..batch.times().len())
        .map(|k| shown.of_states(batch.array(k)?))
        .collect::<sc_sde::Result<_>>()
        .map_err(io::Error::other)?;
    for i in 0..batch.paths().len() {
        let (cell, copy) = batch.path(i);
        let name = start.rows.get(cell).map_or("", |&row| cells.name(row));
        for (t, states) in batch.times().iter().zip(&states) {
            let state = states.row(i).to_vec();
            let head = [name.to_owned(), copy.to_string(), t.to_string()];
            let numbers = state.iter().map(f32::to_string);
            out.write_all(line(head.into_iter().chain(numbers)).as_bytes())?;
        }
    }
    Ok(())
}
