//! `sc sde field`.

use std::path::{Path, PathBuf};

use sc_data::Column;
use sc_model::Parity;
use sc_neighbors::knn;
use sc_plot::Figure;
use sc_sde::downstream::{VelocityGraph, field, landscape, potential, smooth, velocity_grid};
use sc_sde::model::DriftKind;

use super::table::{check_file, write as write_text};
use super::trained::{Input, Model, Opened};
use crate::common::{check_output, note, refuse_same, write};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc sde field model cells.h5ad --out field.h5ad
  sc sde field model cells.h5ad --out field.h5ad --smooth 3 --plot diffusion.svg --basis X_umap
  sc sde field model cells.h5ad --out field.h5ad --arrows drift.svg --basis X_umap

Writes obsm X_drift and X_diffusion, and obs drift and diffusion, their lengths. A model whose drift is
the gradient of a potential also has obs potential (psi, which cells climb) and obs landscape: -psi cut
off, smoothed and brought to 0 (where cells go) to 1 (where they come from).";

/// Arrows along an axis, of 50.
const DENSITY: f64 = 0.6;

/// Write drift, diffusion and potential of each cell to a copy of the data
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    /// The copy, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Time, for models that depend on it
    #[arg(
        long,
        value_name = "TIME",
        default_value_t = 0.0,
        allow_hyphen_values = true
    )]
    at: f64,
    /// Smooth the lengths over neighbours so many times
    #[arg(long, value_name = "ROUNDS", default_value_t = 0)]
    smooth: usize,
    /// Neighbours of a cell
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    k: usize,
    /// A picture of the cells in the colours of what --color says
    #[arg(long, value_name = "FILE.svg", requires = "basis")]
    plot: Option<PathBuf>,
    /// obsm with the places of cells in the picture
    #[arg(long, value_name = "KEY")]
    basis: Option<String>,
    /// A picture with arrows along the drift, as far as a plane can show it
    #[arg(long, value_name = "FILE.svg", requires = "basis")]
    arrows: Option<PathBuf>,
    /// drift, diffusion, potential or landscape
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "diffusion",
        requires = "plot"
    )]
    color: String,
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    refuse_same(&args.out, &[&args.input.data])?;
    for picture in [&args.plot, &args.arrows].into_iter().flatten() {
        check_file(picture, "svg")?;
    }
    let mut cells = args.input.open()?;
    let spinner = Spinner::new("computing drift and diffusion".into());
    let columns = compute(args, &mut cells)?;
    drop(spinner);
    if let (Some(plot), Some(basis)) = (&args.plot, &args.basis) {
        draw(plot, &cells, basis, &args.color, &columns)?;
        note(&format!("picture -> {}", plot.display()));
    }
    if let (Some(path), Some(basis)) = (&args.arrows, &args.basis) {
        draw_arrows(args, path, &cells, basis)?;
        note(&format!("arrows -> {}", path.display()));
    }
    let names: Vec<&str> = columns.iter().map(|c| c.0).collect();
    let words = format!("obsm X_drift, X_diffusion; obs {}", names.join(", "));
    for (name, values) in columns {
        cells.data.obs.insert(name, Column::Float(values))?;
    }
    write(&args.out, &cells.data)?;
    note(&format!(
        "{} cells -> {}, {words}",
        cells.places.nrows(),
        args.out.display()
    ));
    Ok(())
}

/// The columns for obs. The vectors go into obsm.
fn compute(args: &Args, cells: &mut Opened) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let states = cells.states(cells.finite_places()?)?;
    let equation = cells.model.equation()?;
    let found = field(&*equation, &states, args.at)?;
    cells.data.obsm.insert("X_drift".into(), found.drift.into());
    cells
        .data
        .obsm
        .insert("X_diffusion".into(), found.diffusion.into());
    let mut columns = vec![
        ("drift", found.drift_norm),
        ("diffusion", found.diffusion_norm),
    ];
    let psi = match &cells.model {
        Model::ScDiffEq(m) if m.config().drift == DriftKind::Potential => {
            Some(potential(m, &states)?)
        }
        _ => None,
    };
    if args.smooth == 0 && psi.is_none() {
        return Ok(columns);
    }
    let near = knn(cells.places.view(), args.k)
        .map_err(|e| places::in_places(&cells.path, &cells.use_key, &e))?;
    for (_, values) in &mut columns {
        *values = smooth(values, &near, args.smooth)?;
    }
    if let Some(psi) = psi {
        columns.push(("landscape", landscape(&psi, &near, Parity::Correct)?));
        columns.push(("potential", psi));
    }
    Ok(columns)
}

fn draw(
    plot: &Path,
    cells: &Opened,
    basis: &str,
    what: &str,
    columns: &[(&'static str, Vec<f64>)],
) -> Result<()> {
    let Some((name, values)) = columns.iter().find(|c| c.0 == what) else {
        let names: Vec<&str> = columns.iter().map(|c| c.0).collect();
        return Err(Error::Message(format!(
            "--color {what}: this model has {}",
            names.join(", ")
        )));
    };
    let places = places::places(&cells.data, &cells.path, basis)?;
    let svg = Figure::new("", name)
        .panel("", &places)
        .svg_by_value(name, values)
        .map_err(|e| Error::Message(format!("{}: cannot draw: {e}", plot.display())))?;
    write_text(plot, &svg)
}

/// The drift among the neighbours of cells, on a grid in the plane.
fn draw_arrows(args: &Args, path: &Path, cells: &Opened, basis: &str) -> Result<()> {
    let plane = places::places(&cells.data, &cells.path, basis)?;
    let drift = places::places(&cells.data, &cells.path, "X_drift")?;
    let near = knn(cells.places.view(), args.k)
        .map_err(|e| places::in_places(&cells.path, &cells.use_key, &e))?;
    let graph = VelocityGraph::new(cells.places.view(), drift.view(), &near)?;
    let grid = velocity_grid(plane.view(), graph.embed(plane.view())?.view(), DENSITY)?;
    let svg = sc_plot::arrows(
        "drift",
        plane.view(),
        grid.points.view(),
        grid.velocities.view(),
    )
    .map_err(|e| Error::Message(format!("{}: cannot draw: {e}", path.display())))?;
    write_text(path, &svg)
}
