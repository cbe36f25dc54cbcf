use sc_preprocess::{Clr, ClrMargin};
use serde::Serialize;

use super::input::{FromDisk, Input};
use crate::error::Result;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess clr proteins.h5ad --out clr.h5ad --keep-counts counts
  sc preprocess clr proteins.h5ad --out clr.h5ad --margin cells
  sc preprocess clr proteins.h5ad --out clr.h5ad --centered        # with zeros below 0: dense";

/// Take centred log ratios of protein counts
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    /// Over what the mean is taken: the cells of a feature, or the features of a cell
    #[arg(long, value_enum, default_value_t = Margin::Features)]
    margin: Margin,
    /// ln(1 + x) minus its mean, instead of Seurat's ln(1 + x / exp(mean)), whose zeros stay zeros
    #[arg(long, conflicts_with = "backed")]
    centered: bool,
    /// Keep the matrix as it was as this layer
    #[arg(long, value_name = "LAYER")]
    keep_counts: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Margin {
    Features,
    Cells,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_features: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cells = args.input.open(&args.from)?;
    let wrong = |e: sc_preprocess::Error| args.input.wrong(e);
    let margin = match args.margin {
        Margin::Features => ClrMargin::Features,
        Margin::Cells => ClrMargin::Cells,
    };
    let spinner = Spinner::new("taking log ratios".into());
    let step = Clr::fit(cells.source()?, margin).map_err(wrong)?;
    drop(spinner);
    let keep = args.keep_counts.as_deref();
    if args.centered {
        let x = cells.matrix()?.to_csr();
        let new = step.centered(&x).map_err(wrong)?;
        cells.replace(new.into(), keep)?;
        cells.write()?;
    } else {
        cells.write_changed(&step, keep)?;
    }
    let summary = Summary {
        n_cells: cells.data.n_obs(),
        n_features: cells.data.n_vars(),
    };
    let words = format!(
        "{} cells x {} features",
        summary.n_cells, summary.n_features
    );
    args.input.say(&summary, &words)
}
