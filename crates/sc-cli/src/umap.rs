use std::path::{Path, PathBuf};

use ndarray::Array2;
use sc_data::{AnnData, Column};
use sc_neighbors::{UmapParams, principal_axes};
use sc_plot::Figure;

use crate::common::{check_output, check_writable, note, read, write};
use crate::error::{Error, Result};
use crate::options::{at_least_one, not_negative};
use crate::places::{Search, in_places, labels};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc umap embedded.h5ad --rep X_scVI --out umap.h5ad
  sc umap embedded.h5ad --rep X_scVI --plot umap.svg --color cell_type
  sc umap graph.h5ad --out umap.h5ad --min-dist 0.3 --seed 1   # the graph of `sc neighbors`";

/// Lay cells out in a plane by UMAP: obsm X_umap, and a picture
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells: an .h5ad file with a graph (of `sc neighbors` or scanpy) or an embedding
    data: PathBuf,
    /// A copy with obsm X_umap, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad", required_unless_present = "plot")]
    out: Option<PathBuf>,
    /// Make a new graph from this obsm, instead of taking the file's
    #[arg(long, value_name = "KEY")]
    rep: Option<String>,
    /// A picture of it
    #[arg(long, value_name = "FILE.svg", requires = "color")]
    plot: Option<PathBuf>,
    /// The obs column that gives the cells of the picture their colours: labels or numbers
    #[arg(long, value_name = "KEY", requires = "plot")]
    color: Option<String>,
    /// How close together cells may lie
    #[arg(long, value_name = "D", default_value_t = UmapParams::default().min_dist, value_parser = not_negative)]
    min_dist: f64,
    /// The scale of the layout
    #[arg(long, value_name = "S", default_value_t = UmapParams::default().spread, value_parser = not_negative)]
    spread: f64,
    /// Rounds over the graph [default: 500 for up to 10,000 cells, else 200]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    epochs: Option<usize>,
    #[command(flatten)]
    pub(crate) search: Search,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(out) = &args.out {
        check_output(out)?;
    }
    if let Some(plot) = &args.plot {
        check_plot(plot)?;
    }
    let mut data = read(&args.data)?;
    if let Some(key) = &args.color {
        // Before anything long is computed.
        data.obs
            .column(&format!("{}: obs", args.data.display()), key)?;
    }
    let (graph, places) = args
        .search
        .graph(&mut data, &args.data, args.rep.as_deref())?;
    let params = UmapParams {
        n_epochs: args.epochs,
        min_dist: args.min_dist,
        spread: args.spread,
        seed: args.search.seed,
        ..UmapParams::default()
    };
    let spinner = Spinner::new(format!("laying out {} cells", places.nrows()));
    let key = args.rep.as_deref().unwrap_or("of the graph");
    let start = principal_axes(places.view(), 2).map_err(|e| in_places(&args.data, key, &e))?;
    let layout = sc_neighbors::umap(&graph, start.view(), &params)?;
    drop(spinner);
    if let (Some(plot), Some(color)) = (&args.plot, &args.color) {
        draw(plot, &data, &args.data, color, &layout)?;
        note(&format!("picture -> {}", plot.display()));
    }
    if let Some(out) = &args.out {
        let n = layout.nrows();
        data.obsm.insert("X_umap".into(), layout.into());
        write(out, &data)?;
        note(&format!("{n} cells -> {}, obsm X_umap", out.display()));
    }
    Ok(())
}

fn check_plot(path: &Path) -> Result<()> {
    if path
        .extension()
        .is_none_or(|e| !e.eq_ignore_ascii_case("svg"))
    {
        return Err(Error::Message(format!(
            "{}: --plot must end in .svg",
            path.display()
        )));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    check_writable(folder.unwrap_or(Path::new(".")))
}

/// Draws the cells in the colours of an obs column.
fn draw(plot: &Path, data: &AnnData, path: &Path, key: &str, layout: &Array2<f32>) -> Result<()> {
    // Written beside the target, so that no half of a picture is left.
    let folder = plot.parent().filter(|p| !p.as_os_str().is_empty());
    let file = tempfile::Builder::new()
        .prefix(".sc-")
        .suffix(".svg")
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(Error::file(plot, "write"))?
        .into_temp_path();
    let figure = Figure::new(&*file, key).panel("", layout);
    let column = data.obs.column("obs", key)?;
    let drawn = match column {
        Column::Float32(_) | Column::Float(_) => figure.by_value(key, &column.to_f64(key)?),
        _ => figure.by_label(&labels(data, path, key)?),
    };
    drawn.map_err(|e| Error::Message(format!("{}: cannot draw: {e}", plot.display())))?;
    file.persist(plot)
        .map_err(|e| Error::file(plot, "write")(e.error))
}
