//! `sc sde interpolate`.

use ndarray::Array2;
use sc_sde::downstream::{Interpolation, InterpolationScores};
use serde_json::json;

use super::trained::{Input, Paths};
use crate::common::{note, print, print_json};
use crate::error::{Error, Result};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc sde train d2_and_d6.h5ad --out model --time-key day
  sc sde interpolate model cells.h5ad --from 2 --at 4 --to 6

Cells of the time between must not have been trained on. The Sinkhorn divergence of the simulated cells
from the real ones stands beside that of cells halfway along an optimal transport plan between the times
before and after, of the cells of those times, and of one half of the real cells from the other.";

/// Judge how well simulated cells match those of a time that was withheld from training
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    /// The withheld time
    #[arg(long, value_name = "TIME")]
    at: f64,
    #[command(flatten)]
    paths: Paths,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let cells = args.input.open()?;
    let times = cells.times()?;
    let start = cells.start(&args.paths)?;
    if !(start.from < args.at && args.at < start.to) {
        return Err(Error::Message(format!(
            "--at {} must lie between {} and {}; set these with --from and --to",
            args.at, start.from, start.to
        )));
    }
    let of = |t: f64| -> Result<Array2<f32>> { Ok(cells.at(&cells.rows_at(&times, t)?)) };
    let (early, between, late) = (of(start.from)?, of(args.at)?, of(start.to)?);
    let spinner = Spinner::new("simulating and comparing".into());
    let equation = cells.model.equation()?;
    let simulation = args
        .paths
        .simulation(&*equation, &[start.from, args.at], &start, 1)?;
    let simulated = simulation
        .ends(&start.states)
        .map_err(|e| cells.named(e, &start))?;
    let days = Interpolation::new(
        (start.from, early.view()),
        (args.at, between.view()),
        (start.to, late.view()),
    )?;
    let scores = days.seed(args.paths.seed).scores(simulated.view())?;
    drop(spinner);
    tell(args, (simulated.nrows(), between.nrows()), &scores)
}

fn tell(args: &Args, (n, m): (usize, usize), scores: &InterpolationScores) -> Result<()> {
    if args.json {
        return print_json(&json!({
            "at": args.at, "n_simulated": n, "n_real": m, "sinkhorn": scores,
        }));
    }
    note(&format!(
        "{n} simulated cells and {m} real ones at time {}; Sinkhorn divergence from the real ones:",
        args.at
    ));
    for (name, value) in [
        ("model", scores.model),
        ("linear transport", scores.linear_transport),
        ("cells of the time before", scores.early),
        ("cells of the time after", scores.late),
        ("one half of the real from the other", scores.halves),
    ] {
        print(&format!("{name:36} {value:.4}"))?;
    }
    Ok(())
}
