use indexmap::IndexMap;
use sc_data::{AnnData, Column, Uns};
use sc_preprocess::{
    HighlyVariable, HvgFlavor, HvgOptions, HvgSelection, highly_variable_genes_with,
};
use serde::Serialize;

use super::input::{FromDisk, Input, LogNorm};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places::labels;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess hvg counts.h5ad --out hvg.h5ad --flavor seurat_v3 --n-top 2000 --batch-key donor
  sc preprocess hvg counts.h5ad --out hvg.h5ad --flavor pearson_residuals --backed
  sc preprocess hvg logs.h5ad --out hvg.h5ad                      # seurat, on normalised logarithms
  sc preprocess hvg logs.h5ad --out hvg.h5ad --bounds             # by bounds of mean and score
  sc preprocess hvg counts.h5ad --out hvg.h5ad --flavor cell_ranger --lognorm 1e4 --subset

seurat and cell_ranger take normalised logarithms, the others raw counts. var gets highly_variable and scanpy's columns of
the flavour (means, dispersions, dispersions_norm; variances_norm, highly_variable_rank; residual_variances), and with a
batch key highly_variable_nbatches and highly_variable_intersection.";

/// Mark the genes that vary more than genes of their mean usually do
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    #[command(flatten)]
    logs: LogNorm,
    /// How genes are scored
    #[arg(long, value_enum, default_value_t = Flavor::Seurat)]
    flavor: Flavor,
    /// How many genes
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = at_least_one)]
    n_top: usize,
    /// By bounds instead, of the mean and of the normalised dispersion (seurat, cell_ranger)
    #[arg(long, conflicts_with = "n_top")]
    bounds: bool,
    /// With --bounds: means above this
    #[arg(long, value_name = "V", default_value_t = 0.0125, requires = "bounds")]
    min_mean: f64,
    /// With --bounds: means below this
    #[arg(long, value_name = "V", default_value_t = 3.0, requires = "bounds")]
    max_mean: f64,
    /// With --bounds: normalised dispersions above this
    #[arg(long, value_name = "V", default_value_t = 0.5, requires = "bounds")]
    min_disp: f64,
    /// Choose within batches: the obs column with each cell's batch
    #[arg(long, value_name = "COLUMN")]
    batch_key: Option<String>,
    /// Inverse overdispersion of pearson_residuals
    #[arg(long, value_name = "THETA", default_value_t = 100.0)]
    theta: f64,
    /// Write only the chosen genes
    #[arg(long, conflicts_with = "backed")]
    subset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Flavor {
    Seurat,
    CellRanger,
    SeuratV3,
    SeuratV3Paper,
    PearsonResiduals,
}

impl Flavor {
    fn name(self) -> &'static str {
        match self {
            Self::Seurat => "seurat",
            Self::CellRanger => "cell_ranger",
            Self::SeuratV3 => "seurat_v3",
            Self::SeuratV3Paper => "seurat_v3_paper",
            Self::PearsonResiduals => "pearson_residuals",
        }
    }
}

impl From<Flavor> for HvgFlavor {
    fn from(flavor: Flavor) -> Self {
        match flavor {
            Flavor::Seurat => Self::Seurat,
            Flavor::CellRanger => Self::CellRanger,
            Flavor::SeuratV3 => Self::SeuratV3,
            Flavor::SeuratV3Paper => Self::SeuratV3Paper,
            Flavor::PearsonResiduals => Self::PearsonResiduals,
        }
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    flavor: &'static str,
    n_genes: usize,
    n_highly_variable: usize,
    n_batches: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cells = args.input.open(&args.from)?;
    let mut options = HvgOptions::new(args.flavor.into(), args.n_top);
    options.theta = args.theta;
    if args.bounds {
        options.select = HvgSelection::Between {
            mean: (args.min_mean, args.max_mean),
            score: (args.min_disp, f64::INFINITY),
        };
    }
    if args.logs.lognorm.is_some() && options.flavor.wants_counts() {
        return Err(Error::Message(format!(
            "--flavor {} takes counts as they are; leave --lognorm out",
            args.flavor.name()
        )));
    }
    let batch = args.batch_key.as_ref();
    let batch = batch.map(|key| labels(&cells.data, &args.input.data, key));
    let batch = batch.transpose()?;
    let spinner = Spinner::new("scoring genes".into());
    let wrong = |e: sc_preprocess::Error| args.input.wrong(e);
    let source = args.logs.of(cells.source()?).map_err(wrong)?;
    let found = highly_variable_genes_with(&source, &options, batch.as_ref()).map_err(wrong)?;
    drop(source);
    drop(spinner);
    insert(&mut cells.data, &found, args.flavor)?;
    if args.subset {
        cells.data = cells.data.select_vars(&found.genes)?;
    }
    cells.write()?;
    let summary = Summary {
        flavor: args.flavor.name(),
        n_genes: found.scores.len(),
        n_highly_variable: found.genes.len(),
        n_batches: found.batches,
    };
    let words = format!(
        "{} of {} genes, by {} in {} batch{}",
        summary.n_highly_variable,
        summary.n_genes,
        summary.flavor,
        summary.n_batches,
        if summary.n_batches == 1 { "" } else { "es" },
    );
    args.input.say(&summary, &words)
}

fn insert(data: &mut AnnData, found: &HighlyVariable, flavor: Flavor) -> Result<()> {
    let var = &mut data.var;
    let floats = |v: &[f64]| Column::Float(v.to_vec());
    var.insert("highly_variable", Column::Bool(found.mask()))?;
    var.insert("means", floats(&found.means))?;
    let (spread, score) = match flavor {
        Flavor::Seurat | Flavor::CellRanger => ("dispersions", "dispersions_norm"),
        Flavor::SeuratV3 | Flavor::SeuratV3Paper => ("variances", "variances_norm"),
        Flavor::PearsonResiduals => ("variances", "residual_variances"),
    };
    var.insert(spread, floats(&found.dispersions))?;
    var.insert(score, floats(&found.scores))?;
    if let Some(ranks) = &found.ranks {
        var.insert("highly_variable_rank", floats(ranks))?;
    }
    if let Some(counts) = &found.n_batches {
        let n = counts.iter().map(|&c| c as i64).collect();
        var.insert("highly_variable_nbatches", Column::Int(n))?;
        let all = counts.iter().map(|&c| c == found.batches).collect();
        var.insert("highly_variable_intersection", Column::Bool(all))?;
    }
    let about = IndexMap::from([("flavor".to_owned(), Uns::Str(flavor.name().to_owned()))]);
    data.uns.insert("hvg".into(), Uns::Dict(about));
    Ok(())
}
