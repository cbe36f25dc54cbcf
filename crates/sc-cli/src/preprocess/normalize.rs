use indexmap::IndexMap;
use sc_data::Uns;
use sc_preprocess::{Log1p, NormalizeTotal, Transform};
use serde::Serialize;

use super::input::{FromDisk, Input};
use crate::error::Result;
use crate::options::share;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess normalize counts.h5ad --out logs.h5ad --target-sum 1e4 --keep-counts counts
  sc preprocess normalize counts.h5ad --out logs.h5ad                  # to the median total
  sc preprocess normalize counts.h5ad --out scaled.h5ad --no-log
  sc preprocess normalize counts.h5ad --out logs.h5ad --exclude-highly-expressed 0.05
  sc preprocess normalize huge.h5ad --out logs.h5ad --target-sum 1e4 --backed";

/// Scale every cell to the same total, and take ln(1 + x)
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    /// The total of each cell [default: the median over cells with counts]
    #[arg(long, value_name = "TOTAL")]
    target_sum: Option<f64>,
    /// Leave out of the totals genes with more than this share of some cell's counts
    #[arg(long, value_name = "SHARE", value_parser = share)]
    exclude_highly_expressed: Option<f64>,
    /// Don't take logarithms
    #[arg(long)]
    no_log: bool,
    /// Keep the matrix as it was as this layer
    #[arg(long, value_name = "LAYER")]
    keep_counts: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    target_sum: f64,
    log1p: bool,
    /// Genes left out of the totals.
    excluded: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cells = args.input.open(&args.from)?;
    let wrong = |e: sc_preprocess::Error| args.input.wrong(e);
    let spinner = Spinner::new("normalising".into());
    let source = cells.source()?;
    let step = match (args.exclude_highly_expressed, args.target_sum) {
        (Some(max), target) => NormalizeTotal::excluding_highly_expressed(source, target, max),
        (None, Some(target)) => NormalizeTotal::to(target),
        (None, None) => NormalizeTotal::to_median(source),
    }
    .map_err(wrong)?;
    drop(spinner);
    if !args.no_log {
        let natural = IndexMap::from([("base".to_owned(), Uns::Null)]);
        cells.data.uns.insert("log1p".into(), Uns::Dict(natural));
    }
    let steps: Box<dyn Transform + '_> = match args.no_log {
        true => Box::new(&step),
        false => Box::new((&step, Log1p)),
    };
    cells.write_changed(&steps, args.keep_counts.as_deref())?;
    let names = cells.data.var.index();
    let summary = Summary {
        n_cells: cells.data.n_obs(),
        target_sum: step.target(),
        log1p: !args.no_log,
        excluded: step
            .excluded()
            .into_iter()
            .filter_map(|g| names.get(g).cloned())
            .collect(),
    };
    let words = format!(
        "{} cells to a total of {}",
        summary.n_cells, summary.target_sum
    );
    args.input.say(&summary, &words)
}
