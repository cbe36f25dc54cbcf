//! `sc sde fate`.

use std::path::PathBuf;

use ndarray::Array2;
use sc_data::Annotation;
use sc_plot::Figure;
use sc_sde::downstream::{
    ClonalFates, FateCounts, FateMatrix, FateScores, HAS_FATE, StateLabels, fate_scores,
};
use serde_json::json;

use super::table::{check_file, line, number, write};
use super::trained::{Input, Opened, Paths, Start};
use crate::common::{note, print_json};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places;
use crate::progress::Counter;

const EXAMPLES: &str = "\
Examples:
  sc sde fate model cells.h5ad --labels state --undifferentiated undiff --out fates.csv
  sc sde fate model cells.h5ad --labels state --undifferentiated undiff --out fates.csv \\
      --clones X_clone --bias Neutrophil,Monocyte --plot fates.svg --basis X_umap

The table has a row for each start cell: the share of its paths that end at each fate, and the entropy
of the fates. With --clones, barcodes of lineages in obsm say what became of the relatives of cells; the
cells that have any are compared with that.";

/// Predict the fates of cells, and compare them with those of their clones
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
    /// Column of obs with the kind of each cell; paths end in the kind of most cells near
    #[arg(long, value_name = "COLUMN")]
    labels: String,
    /// Kinds that are no fates
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    undifferentiated: Vec<String>,
    /// Neighbours that say what kind a simulated cell is of
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    k: usize,
    /// Also the share of the first of two fates among both
    #[arg(long, value_name = "FATE,FATE", value_delimiter = ',', num_args = 1)]
    bias: Vec<String>,
    /// obsm with the lineage barcodes of cells, cells x clones
    #[arg(long, value_name = "KEY")]
    clones: Option<String>,
    /// A picture of the start cells in the colours of their bias, or of the entropy of their fates
    #[arg(long, value_name = "FILE.svg", requires = "basis")]
    plot: Option<PathBuf>,
    /// obsm with the places of cells in the picture
    #[arg(long, value_name = "KEY", requires = "plot")]
    basis: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check(args)?;
    let cells = args.input.open()?;
    let labels = cells.labels(&args.labels)?;
    let basis = args.basis.as_ref();
    let basis = basis.map(|key| places::places(&cells.data, &cells.path, key));
    let basis = basis.transpose()?;
    let states = StateLabels::new(cells.finite_places()?, &labels)?.k(args.k);
    for name in args.undifferentiated.iter().chain(&args.bias) {
        states.number(name).map_err(|e| {
            Error::Message(format!(
                "{}: obs {}: {e}",
                cells.path.display(),
                args.labels
            ))
        })?;
    }
    let start = cells.start(&args.paths)?;
    let clones = match &args.clones {
        Some(key) => Some(observed(args, &cells, &start, key)?),
        None => None,
    };
    let equation = cells.model.equation()?;
    let times = [start.from, start.to];
    let simulation = args.paths.simulation(&*equation, &times, &start, 200)?;
    let mut bar = Counter::new("simulating");
    let watch = |done, all| bar.set(done, all);
    let counts = FateCounts::predict_with(&simulation, &start.states, &states, watch)
        .map_err(|e| cells.named(e, &start))?;
    let ignored: Vec<&str> = args.undifferentiated.iter().map(String::as_str).collect();
    let fates = counts.without(&ignored).fractions();
    write(&args.out, &table(args, &cells, &start, &fates)?)?;
    let scores = match &clones {
        Some(clones) => Some(compare(clones, &start, &fates)?),
        None => None,
    };
    if let (Some(plot), Some(basis)) = (&args.plot, basis) {
        let (name, values) = shown(args, &fates)?;
        let places = basis.select(ndarray::Axis(0), &start.rows);
        write(plot, &draw(&places, name, &values)?)?;
    }
    tell(args, &start, &fates, scores.as_ref())
}

fn check(args: &Args) -> Result<()> {
    check_file(&args.out, "csv")?;
    if let Some(plot) = &args.plot {
        check_file(plot, "svg")?;
    }
    match args.bias.len() {
        0 | 2 => Ok(()),
        _ => Err(Error::Message(
            "--bias takes two fates with a comma between".into(),
        )),
    }
}

/// What became of the clones of the start cells.
fn observed(args: &Args, cells: &Opened, start: &Start, key: &str) -> Result<ClonalFates> {
    let clones = match cells.data.obsm.get(key) {
        Some(Annotation::Matrix(m)) => m.to_csr(),
        _ => {
            return Err(Error::Message(format!(
                "{}: obsm has no matrix \"{key}\" of cells x clones; it has: {}",
                cells.path.display(),
                places::list(cells.data.obsm.keys())
            )));
        }
    };
    let times = cells.times()?;
    let mut later: Vec<f64> = times.iter().copied().filter(|t| *t > start.from).collect();
    later.sort_unstable_by(f64::total_cmp);
    later.dedup();
    let labels = cells.labels(&args.labels)?;
    let ignored: Vec<&str> = args.undifferentiated.iter().map(String::as_str).collect();
    let found = ClonalFates::observe(&clones, &times, &labels, start.from, &later, &ignored)?;
    Ok(found)
}

fn compare(clones: &ClonalFates, start: &Start, fates: &FateMatrix) -> Result<FateScores> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (i, row) in clones.cells().iter().enumerate() {
        if let Ok(there) = start.rows.binary_search(row) {
            ours.push(there);
            theirs.push(i);
        }
    }
    if ours.is_empty() {
        return Err(Error::Message(
            "none of the start cells has a relative of a later time that is differentiated".into(),
        ));
    }
    let truth = clones.matrix().select(&theirs)?;
    Ok(fate_scores(&truth, &fates.select(&ours)?, HAS_FATE)?)
}

fn table(args: &Args, cells: &Opened, start: &Start, fates: &FateMatrix) -> Result<String> {
    let bias = match args.bias.as_slice() {
        [a, b] => Some(fates.bias(a, b)?),
        _ => None,
    };
    let mut head = vec!["cell".to_owned()];
    head.extend(fates.fates().iter().cloned());
    head.push("entropy".into());
    if bias.is_some() {
        head.push(format!("bias_{}", args.bias.join("_")));
    }
    let mut text = line(&head);
    let rows = start.rows.iter().zip(fates.fractions().rows());
    for (i, ((&row, fractions), entropy)) in rows.zip(fates.entropy()).enumerate() {
        let mut fields = vec![cells.name(row).to_owned()];
        fields.extend(fractions.iter().map(|v| number(*v)));
        fields.push(number(entropy));
        fields.extend(bias.as_ref().and_then(|b| b.get(i)).map(|v| number(*v)));
        text.push_str(&line(&fields));
    }
    Ok(text)
}

/// What the picture shows.
fn shown(args: &Args, fates: &FateMatrix) -> Result<(&'static str, Vec<f64>)> {
    Ok(match args.bias.as_slice() {
        [a, b] => ("bias", fates.bias(a, b)?),
        _ => ("entropy of fates", fates.entropy()),
    })
}

fn draw(places: &Array2<f32>, name: &str, values: &[f64]) -> Result<String> {
    let figure = Figure::new("", name).panel("", places);
    let svg = figure.svg_by_value(name, values);
    svg.map_err(|e| Error::Message(format!("cannot draw: {e}")))
}

fn tell(args: &Args, start: &Start, fates: &FateMatrix, scores: Option<&FateScores>) -> Result<()> {
    let mean = fates.fractions().mean_axis(ndarray::Axis(0));
    let mean = mean.map(|m| m.to_vec()).unwrap_or_default();
    if args.json {
        let shares: indexmap::IndexMap<&String, &f64> = fates.fates().iter().zip(&mean).collect();
        return print_json(&json!({
            "n_cells": start.rows.len(),
            "from": start.from,
            "to": start.to,
            "mean_fates": shares,
            "scores": scores,
            "out": args.out,
        }));
    }
    let mut shares: Vec<(&String, &f64)> = fates.fates().iter().zip(&mean).collect();
    shares.sort_by(|a, b| b.1.total_cmp(a.1));
    let words: Vec<String> = shares
        .iter()
        .take(5)
        .map(|(name, share)| format!("{name} {:.1} %", 100.0 * **share))
        .collect();
    note(&format!(
        "{} cells of time {} to time {}: {} -> {}",
        start.rows.len(),
        start.from,
        start.to,
        words.join(", "),
        args.out.display()
    ));
    if let Some(s) = scores {
        note(&format!(
            "{} cells with known relatives: accuracy {:.3}, cross-entropy {:.3}, AUROC {}, average precision {}",
            s.n_cells,
            s.accuracy,
            s.cross_entropy,
            s.auroc_macro.map_or("n/a".into(), |v| format!("{v:.3}")),
            s.average_precision_macro
                .map_or("n/a".into(), |v| format!("{v:.3}")),
        ));
    }
    Ok(())
}
