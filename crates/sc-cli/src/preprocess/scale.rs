use sc_data::Column;
use sc_preprocess::{ScaleOptions, Scaler};
use serde::Serialize;

use super::input::{FromDisk, Input};
use crate::error::Result;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess scale logs.h5ad --out scaled.h5ad --max-value 10
  sc preprocess scale logs.h5ad --out scaled.h5ad --no-zero-center       # sparse data stay sparse

Centred data are dense: 4 bytes for every cell and gene. `sc preprocess pca --scale` does without.
var gets mean and std.";

/// Give every gene unit variance, and the mean 0
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    /// Cut values off at this
    #[arg(long, value_name = "V")]
    max_value: Option<f64>,
    /// Don't subtract the mean
    #[arg(long)]
    no_zero_center: bool,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_genes: usize,
    dense: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.from.backed && !args.no_zero_center {
        let hint = "centred data are dense: --backed needs --no-zero-center (`sc preprocess pca --scale` centres by itself)";
        return Err(args.input.wrong(hint));
    }
    let mut cells = args.input.open(&args.from)?;
    let wrong = |e: sc_preprocess::Error| args.input.wrong(e);
    let mut options = ScaleOptions::default();
    options.zero_center = !args.no_zero_center;
    options.max_value = args.max_value;
    let spinner = Spinner::new("scaling".into());
    let step = Scaler::fit(cells.source()?, options).map_err(wrong)?;
    drop(spinner);
    let var = &mut cells.data.var;
    var.insert("mean", Column::Float(step.mean.clone()))?;
    var.insert("std", Column::Float(step.deviation.clone()))?;
    if options.zero_center {
        let x = cells.matrix()?.to_csr();
        let new = step.to_dense(&x).map_err(wrong)?;
        cells.replace(new.into(), None)?;
        cells.write()?;
    } else {
        cells.write_changed(&step, None)?;
    }
    let summary = Summary {
        n_cells: cells.data.n_obs(),
        n_genes: cells.data.n_vars(),
        dense: options.zero_center,
    };
    let words = format!("{} cells x {} genes", summary.n_cells, summary.n_genes);
    args.input.say(&summary, &words)
}
