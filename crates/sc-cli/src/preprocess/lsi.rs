use indexmap::IndexMap;
use ndarray::Array1;
use sc_data::Uns;
use sc_preprocess::Lsi;
use serde::Serialize;

use super::input::{FromDisk, Input};
use crate::error::Result;
use crate::options::at_least_one;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess lsi peaks.h5ad --out lsi.h5ad
  sc preprocess lsi peaks.h5ad --out lsi.h5ad --n-comps 100 --backed

Counts of open chromatin, better not made binary. obsm X_lsi, varm LSI, uns lsi (singular_values), as GLUE makes them.";

/// Write latent semantic indexing of peaks
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    /// How many dimensions
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    n_comps: usize,
    /// Start of the iteration; it hardly shows in the result
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_features: usize,
    n_components: usize,
    residual: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cells = args.input.open(&args.from)?;
    let spinner = Spinner::new("finding singular vectors".into());
    let found =
        Lsi::fit(cells.source()?, args.n_comps, args.seed).map_err(|e| args.input.wrong(e))?;
    drop(spinner);
    let values = Array1::from(found.singular_values).into_dyn();
    let about = IndexMap::from([("singular_values".to_owned(), Uns::Floats(values))]);
    let data = &mut cells.data;
    data.uns.insert("lsi".into(), Uns::Dict(about));
    let places = found.embedding.mapv(|v| v as f32);
    data.obsm.insert("X_lsi".into(), places.into());
    let loadings = found.components.t().mapv(|v| v as f32);
    let loadings = loadings.as_standard_layout().into_owned();
    data.varm.insert("LSI".into(), loadings.into());
    cells.write()?;
    let summary = Summary {
        n_cells: cells.data.n_obs(),
        n_features: cells.data.n_vars(),
        n_components: args.n_comps,
        residual: found.residual,
    };
    let words = format!(
        "{} cells in {} dimensions, obsm X_lsi",
        summary.n_cells, summary.n_components
    );
    args.input.say(&summary, &words)
}
