use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::common::{check_output, note, print_json, read, write};
use crate::error::Result;
use crate::places::{Search, places};

const EXAMPLES: &str = "\
Examples:
  sc neighbors embedded.h5ad --out graph.h5ad
  sc neighbors embedded.h5ad --out graph.h5ad --rep X_pca --k 30
  sc neighbors million.h5ad --out graph.h5ad --approx --seed 1";

/// Write the graph of nearest neighbours to obsp distances and connectivities, as scanpy.pp.neighbors does
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells: an .h5ad file with an embedding
    data: PathBuf,
    /// The copy with the graph, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// The obsm with the places of the cells
    #[arg(long, value_name = "KEY", default_value = "X_scVI")]
    rep: String,
    #[command(flatten)]
    pub(crate) search: Search,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_neighbors: usize,
    exact: bool,
    /// Entries of the symmetric graph.
    n_connectivities: usize,
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let mut data = read(&args.data)?;
    let places = places(&data, &args.data, &args.rep)?;
    let start = Instant::now();
    let near = args.search.neighbors(&args.data, &args.rep, &places)?;
    sc_neighbors::insert_graph(&mut data, &near, &args.rep)?;
    let summary = Summary {
        n_cells: places.nrows(),
        n_neighbors: args.search.k,
        exact: args.search.is_exact(places.nrows()),
        n_connectivities: sc_neighbors::find_graph(&data)?.0.n_stored(),
        seconds: start.elapsed().as_secs_f64(),
    };
    write(&args.out, &data)?;
    if args.json {
        return print_json(&summary);
    }
    note(&format!(
        "{} neighbours of {} cells ({}) -> {}, obsp distances and connectivities",
        summary.n_neighbors,
        summary.n_cells,
        if summary.exact {
            "exact"
        } else {
            "approximate"
        },
        args.out.display()
    ));
    Ok(())
}
