//! `sc sde perturb`.

use sc_plot::{Point, lines};
use sc_sde::downstream::{Effects, Experiment, Perturbation, StateLabels};
use serde_json::json;

use super::genes::{Options, table};
use super::table::{check_file, write};
use super::trained::{Input, Opened, Paths};
use crate::common::{note, print_json};
use crate::error::{Error, Result};
use crate::progress::Counter;

const EXAMPLES: &str = "\
Examples:
  sc sde perturb model cells.h5ad --genes Cebpe,Dach1,Lmo4,Mxd1 --labels state --out effects.csv
  sc sde perturb model cells.h5ad --genes Gfi1 --z=-10,-5,0,5,10 --labels state --out dose.csv \\
      --cells 500 --plot dose.svg

Genes are set to a z-score in the scaled expression behind the principal components that the model moves
cells in (varm PCs; X must be what they were found on). Each perturbed cell is compared with itself,
unperturbed, moved by the same random numbers. The table has the share of paths at each fate without and
with, their difference and log2 fold change with intervals, p and q (Benjamini and Hochberg).";

/// Over-express or knock down genes, and see where cells go
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    /// Genes to set, all at once
    #[arg(long, value_name = "GENE,GENE", value_delimiter = ',', required = true)]
    genes: Vec<String>,
    /// z-scores to set them to, each an experiment of its own
    #[arg(
        long,
        value_name = "Z,Z",
        value_delimiter = ',',
        default_value = "10",
        allow_hyphen_values = true
    )]
    z: Vec<f64>,
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_file(&args.options.out, "csv")?;
    if let Some(plot) = &args.options.plot {
        check_file(plot, "svg")?;
    }
    let cells = args.input.open()?;
    let (effects, n) = experiment(&cells, &args.paths, &args.options, |space| {
        Ok(Perturbation::doses(space, &args.genes, &args.z)?)
    })?;
    write(&args.options.out, &table(&effects))?;
    if let Some(plot) = &args.options.plot {
        write(plot, &draw(&args.genes.join("+"), &effects)?)?;
    }
    tell(args, &effects, n)
}

/// Perturbs the start cells, in each of the ways that `of` gives.
pub(super) fn experiment(
    cells: &Opened,
    paths: &Paths,
    options: &Options,
    of: impl FnOnce(&sc_sde::downstream::GeneSpace) -> Result<Vec<Perturbation>>,
) -> Result<(Effects, usize)> {
    let labels = cells.labels(&options.labels)?;
    let states = StateLabels::new(cells.finite_places()?, &labels)?.k(options.k);
    let (space, expression) = options.expression.space(cells)?;
    let perturbations = of(&space)?;
    let start = cells.start(paths)?;
    let equation = cells.model.equation()?;
    let simulation = paths.simulation(&*equation, &[start.from, start.to], &start, 10)?;
    let experiment = Experiment::new(simulation, &states, &space)?
        .level(options.level)
        .dtype(cells.model.dtype());
    let mut bar = Counter::new("simulating");
    let watch = |done, all| bar.set(done, all);
    let effects = experiment.run(&expression, &start.rows, &perturbations, watch)?;
    Ok((effects, start.rows.len()))
}

/// The change of each fate by dose.
fn draw(title: &str, effects: &Effects) -> Result<String> {
    let names = effects.control().names();
    let moves = |fate: &&String| {
        effects
            .on(fate)
            .any(|e| e.difference.abs() > 0.005 && e.control.max(e.perturbed) > 0.0)
    };
    let series: Vec<(&str, Vec<Point>)> = names
        .iter()
        .filter(moves)
        .map(|fate| {
            let mut points: Vec<Point> = effects
                .on(fate)
                .map(|e| Point {
                    x: e.z,
                    y: e.difference,
                    interval: Some((e.difference_low, e.difference_high)),
                })
                .collect();
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            (fate.as_str(), points)
        })
        .collect();
    lines(title, ("z-score", "change of the share of paths"), &series)
        .map_err(|e| Error::Message(format!("cannot draw: {e}")))
}

fn tell(args: &Args, effects: &Effects, n: usize) -> Result<()> {
    let options = &args.options;
    if options.json {
        let all: Vec<_> = effects.all().collect();
        return print_json(&json!({"n_cells": n, "effects": all, "out": options.out}));
    }
    for list in effects.by_perturbation() {
        let mut strongest: Vec<_> = list.iter().collect();
        strongest.sort_by(|a, b| b.difference.abs().total_cmp(&a.difference.abs()));
        let words: Vec<String> = strongest
            .iter()
            .take(3)
            .map(|e| {
                format!(
                    "{} {:+.1} points ({:+.1} to {:+.1}, q {:.2e})",
                    e.fate,
                    100.0 * e.difference,
                    100.0 * e.difference_low,
                    100.0 * e.difference_high,
                    e.q
                )
            })
            .collect();
        let z = list.first().map_or(0.0, |e| e.z);
        note(&format!(
            "{} z = {z}: {}",
            args.genes.join("+"),
            words.join("; ")
        ));
    }
    note(&format!("{n} cells -> {}", options.out.display()));
    Ok(())
}
