use sc_latent::{AnyModel, Parity};
use serde::Serialize;

use crate::common::{
    Query, cells_for, load_model, name_rows, print, print_json, read, read_annotations,
};
use crate::error::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  sc evaluate model cells.h5ad
  sc evaluate model cells.h5ad --posterior-mean --json
  sc evaluate model held_out.h5ad --marginal-ll 1000";

/// Say how well a model explains cells: ELBO, reconstruction error, KL, marginal likelihood
///
/// All are means over cells in nats, with the signs of scvi-tools: of the ELBO and the marginal log-likelihood higher
/// is better, of the reconstruction error lower; ELBO = -(reconstruction error + KL). Of a scANVI model the reconstruction
/// error holds the terms of its first latent variable too.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) query: Query,
    /// Take the posterior mean instead of a draw: nothing is random
    #[arg(long)]
    posterior_mean: bool,
    /// Seed of the draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also the marginal log-likelihood, by importance sampling with so many draws a cell
    #[arg(long, value_name = "DRAWS", value_parser = crate::options::at_least_one)]
    marginal_ll: Option<usize>,
    /// Read the counts from the .h5ad file, some cells at a time
    #[arg(long)]
    backed: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Scores {
    elbo: f64,
    reconstruction_error: f64,
    kl: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    marginal_ll: Option<f64>,
    n_cells: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let model = load_model(&args.query.model)?;
    let path = &args.query.data;
    let data = if args.backed {
        read_annotations(path)?
    } else {
        read(path)?
    };
    let scvi = model.scvi();
    let query = cells_for(scvi, &data, args.backed.then_some(path))?;
    let takes_sums =
        scvi.config().use_observed_lib_size && scvi.registry().setup.size_factor_key.is_none();
    if takes_sums && !query.empty.is_empty() {
        return Err(Error::Message(format!(
            "{} cells have no counts at all (rows {}), so they have no likelihood; drop them from {}",
            query.empty.len(),
            name_rows(&query.empty, data.obs.index()),
            path.display()
        )));
    }
    let seed = (!args.posterior_mean).then_some(args.seed);
    let each = match &model {
        AnyModel::Scvi(m) => m.elbo(&query.cells, seed)?,
        AnyModel::Scanvi(m) => m.elbo(&query.cells, seed)?,
    };
    let marginal_ll = match args.marginal_ll {
        Some(draws) => {
            query
                .watch
                .start("importance sampling", query.cells.n_cells());
            let each = match &model {
                AnyModel::Scvi(m) => m.marginal_ll(&query.cells, draws, args.seed)?,
                AnyModel::Scanvi(m) => {
                    m.marginal_ll(&query.cells, draws, args.seed, Parity::Correct)?
                }
            };
            Some(each.iter().sum::<f64>() / each.len().max(1) as f64)
        }
        None => None,
    };
    let scores = Scores {
        elbo: each.elbo(),
        reconstruction_error: each.reconstruction_error(),
        kl: each.kl_divergence(),
        marginal_ll,
        n_cells: query.cells.n_cells(),
    };
    if args.json {
        print_json(&scores)
    } else {
        print(&describe(&scores))
    }
}

fn describe(s: &Scores) -> String {
    let mut text = format!(
        "ELBO                  {:>12.4}  (higher is better)\nreconstruction error  {:>12.4}\nKL                    {:>12.4}",
        s.elbo, s.reconstruction_error, s.kl
    );
    if let Some(ll) = s.marginal_ll {
        text.push_str(&format!(
            "\nmarginal likelihood   {ll:>12.4}  (log, higher is better)"
        ));
    }
    text.push_str(&format!("\nmeans over {} cells, in nats", s.n_cells));
    text
}
