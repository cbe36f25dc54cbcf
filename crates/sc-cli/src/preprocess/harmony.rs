use std::path::PathBuf;

use sc_data::Categorical;
use sc_preprocess::HarmonyOptions;
use serde::Serialize;

use super::input::wrong_in;
use crate::common::{check_output, note, print_json, read, write};
use crate::error::Result;
use crate::options::{at_least_one, not_negative};
use crate::places::{labels, places};
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess harmony pca.h5ad --out harmony.h5ad --batch-key donor
  sc preprocess harmony pca.h5ad --out harmony.h5ad --batch-key donor --batch-key technology --theta 1
  sc preprocess harmony lsi.h5ad --out harmony.h5ad --batch-key sample --rep X_lsi

Writes obsm X_pca_harmony, or the name of --rep with _harmony.";

/// Take the effects of batches out of an embedding (Harmony)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells: an .h5ad file with an embedding (of `sc preprocess pca` or scanpy)
    data: PathBuf,
    /// The copy with the result, an .h5ad file
    #[arg(long, value_name = "OUT.h5ad")]
    out: PathBuf,
    /// An obs column with each cell's batch; may be given several times
    #[arg(long, value_name = "COLUMN", required = true)]
    batch_key: Vec<String>,
    /// The obsm with the embedding
    #[arg(long, value_name = "KEY", default_value = "X_pca")]
    rep: String,
    /// The obsm of the result [default: that of --rep with _harmony]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// How strongly clusters of few batches are avoided
    #[arg(long, value_name = "V", default_value_t = 2.0, value_parser = not_negative)]
    theta: f64,
    /// Ridge penalty: larger values correct less
    #[arg(long, value_name = "V", default_value_t = 1.0, value_parser = not_negative)]
    lambda: f64,
    /// Width of the clusters
    #[arg(long, value_name = "V", default_value_t = 0.1, value_parser = not_negative)]
    sigma: f64,
    /// Number of clusters [default: one for 30 cells, 100 at most]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    clusters: Option<usize>,
    /// Rounds at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    max_iter: usize,
    /// Seed of the first clusters and of the order of cells
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    key: String,
    n_cells: usize,
    rounds: usize,
    converged: bool,
    objective: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    check_output(&args.out)?;
    let mut data = read(&args.data)?;
    let places = places(&data, &args.data, &args.rep)?;
    let batches: Vec<Categorical> = args
        .batch_key
        .iter()
        .map(|key| labels(&data, &args.data, key))
        .collect::<Result<_>>()?;
    let mut options = HarmonyOptions::default();
    options.theta = args.theta;
    options.lambda = args.lambda;
    options.sigma = args.sigma;
    options.n_clusters = args.clusters;
    options.max_iter = args.max_iter;
    options.seed = args.seed;
    let spinner = Spinner::new("correcting".into());
    let variables: Vec<&Categorical> = batches.iter().collect();
    let found = sc_preprocess::harmony(places.view(), &variables, &options)
        .map_err(|e| wrong_in(&args.data, format!("obsm {}: {e}", args.rep)))?;
    drop(spinner);
    let key = args.key.clone().unwrap_or(format!("{}_harmony", args.rep));
    data.obsm.insert(key.clone(), found.embedding.into());
    write(&args.out, &data)?;
    let summary = Summary {
        n_cells: data.n_obs(),
        rounds: found.objective.len(),
        converged: found.converged,
        objective: found.objective,
        key,
    };
    if args.json {
        return print_json(&summary);
    }
    note(&format!(
        "{} cells in {} rounds{} -> {}, obsm {}",
        summary.n_cells,
        summary.rounds,
        if summary.converged {
            ""
        } else {
            " (not settled yet: more with --max-iter)"
        },
        args.out.display(),
        summary.key
    ));
    Ok(())
}
