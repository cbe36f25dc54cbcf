use std::path::PathBuf;

use sc_data::{Categorical, Column};
use serde::Serialize;

use crate::common::{check_output, note, print_json, read, write};
use crate::error::Result;
use crate::options::not_negative;
use crate::places::Search;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc leiden graph.h5ad --out clustered.h5ad
  sc leiden embedded.h5ad --out clustered.h5ad --rep X_scVI --resolution 0.5
  sc leiden graph.h5ad --out clustered.h5ad --resolution 2 --key fine";

/// Write Leiden clusters of the graph of neighbours to an obs column
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells: an .h5ad file with a graph (of `sc neighbors` or scanpy) or an embedding
    data: PathBuf,
    /// The copy with the clusters, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// Make a new graph from this obsm, instead of taking the file's
    #[arg(long, value_name = "KEY")]
    rep: Option<String>,
    /// Higher gives more clusters
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = not_negative)]
    resolution: f64,
    /// The obs column
    #[arg(long, value_name = "NAME", default_value = "leiden")]
    key: String,
    #[command(flatten)]
    pub(crate) search: Search,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_clusters: usize,
    /// Cells of each cluster, the largest first.
    sizes: Vec<usize>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let mut data = read(&args.data)?;
    let (graph, _) = args
        .search
        .graph(&mut data, &args.data, args.rep.as_deref())?;
    let spinner = Spinner::new("finding clusters".into());
    let clusters = sc_neighbors::leiden(&graph, args.resolution, args.search.seed)?;
    drop(spinner);
    let n_clusters = clusters.iter().max().map_or(0, |&m| m as usize + 1);
    let names = (0..n_clusters).map(|c| c.to_string()).collect();
    let labels = Categorical::new(clusters.iter().map(|&c| Some(c)).collect(), names, false)?;
    let summary = Summary {
        n_cells: clusters.len(),
        n_clusters,
        sizes: labels.counts(),
    };
    data.obs.insert(&args.key, Column::Categorical(labels))?;
    write(&args.out, &data)?;
    if args.json {
        return print_json(&summary);
    }
    note(&format!(
        "{} clusters of {} cells -> {}, obs {}",
        summary.n_clusters,
        summary.n_cells,
        args.out.display(),
        args.key
    ));
    Ok(())
}
