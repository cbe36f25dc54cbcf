use indexmap::IndexMap;
use ndarray::Array1;
use sc_data::{AnnData, Column, RowSource, Uns};
use sc_preprocess::{Pca, PcaOptions, PcaSolver, ScaleOptions, Scaler, pca_with};
use serde::Serialize;

use super::input::{FromDisk, Input, LogNorm, streamed};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess pca logs.h5ad --out pca.h5ad
  sc preprocess pca counts.h5ad --out pca.h5ad --lognorm 1e4 --scale --backed
  sc preprocess pca logs.h5ad --out pca.h5ad --n-comps 100 --all-genes --solver randomized

Takes the genes that var highly_variable marks, if there is that column.
obsm X_pca, varm PCs, uns pca (variance, variance_ratio), as scanpy writes them.";

/// Write principal components of the cells
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    #[command(flatten)]
    logs: LogNorm,
    /// How many components
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    n_comps: usize,
    /// Only the genes that this var column marks [default: highly_variable, if it is there]
    #[arg(long, value_name = "COLUMN", conflicts_with = "all_genes")]
    mask: Option<String>,
    /// All genes, whether highly variable or not
    #[arg(long)]
    all_genes: bool,
    /// Give every gene unit variance first
    #[arg(long)]
    scale: bool,
    /// Don't subtract the mean of genes
    #[arg(long)]
    no_zero_center: bool,
    /// How components are found: exactly, or in fewer readings of the data
    #[arg(long, value_enum, default_value_t = Solver::Auto)]
    solver: Solver,
    /// Start of the iteration; it hardly shows in the result
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Solver {
    /// covariance up to 4000 genes, lanczos above
    Auto,
    /// Exact, from the genes x genes matrix: two readings
    Covariance,
    /// Exact, about a dozen readings
    Lanczos,
    /// Approximate (Halko et al. 2011), nine readings
    Randomized,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    /// Genes looked at.
    n_genes: usize,
    n_components: usize,
    variance_ratio: f64,
    residual: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cells = args.input.open(&args.from)?;
    let wrong = |e: sc_preprocess::Error| args.input.wrong(e);
    let (key, mask) = mask(args, &cells.data)?;
    let mut options = PcaOptions::new(args.n_comps);
    options.center = !args.no_zero_center;
    options.seed = args.seed;
    options.mask = mask;
    options.solver = match args.solver {
        Solver::Auto => PcaSolver::Auto,
        Solver::Covariance => PcaSolver::Covariance,
        Solver::Lanczos => PcaSolver::Lanczos,
        Solver::Randomized => PcaSolver::Randomized {
            oversample: 10,
            power: 7,
        },
    };
    let spinner = Spinner::new("finding components".into());
    let logs = args.logs.of(cells.source()?).map_err(wrong)?;
    let source: Box<dyn RowSource + '_> = if args.scale {
        let mut scale = ScaleOptions::default();
        // The components are those of centred data either way.
        scale.zero_center = false;
        let step = Scaler::fit(&logs, scale).map_err(wrong)?;
        streamed(logs, step)
    } else {
        logs
    };
    let found = pca_with(&source, &options).map_err(wrong)?;
    drop(source);
    drop(spinner);
    insert(&mut cells.data, &found, key.as_deref(), options.center);
    cells.write()?;
    let all = cells.data.n_vars();
    let summary = Summary {
        n_cells: cells.data.n_obs(),
        n_genes: options
            .mask
            .map_or(all, |m| m.iter().filter(|&&m| m).count()),
        n_components: args.n_comps,
        variance_ratio: found.explained_variance_ratio.iter().sum(),
        residual: found.residual,
    };
    let words = format!(
        "{} components of {} genes with {:.1} % of the variance, obsm X_pca",
        summary.n_components,
        summary.n_genes,
        100.0 * summary.variance_ratio
    );
    args.input.say(&summary, &words)
}

/// The column that marks genes, and its marks.
fn mask(args: &Args, data: &AnnData) -> Result<(Option<String>, Option<Vec<bool>>)> {
    const USUAL: &str = "highly_variable";
    let key = match &args.mask {
        Some(key) => key.as_str(),
        None if !args.all_genes && data.var.get(USUAL).is_some() => USUAL,
        None => return Ok((None, None)),
    };
    let container = format!("{}: var", args.input.data.display());
    match data.var.column(&container, key)? {
        Column::Bool(mask) => Ok((Some(key.to_owned()), Some(mask.clone()))),
        other => Err(Error::Message(format!(
            "{container}: column \"{key}\" holds {}, expected true and false",
            other.type_name()
        ))),
    }
}

fn insert(data: &mut AnnData, found: &Pca, mask: Option<&str>, center: bool) {
    let floats = |v: &[f64]| Uns::Floats(Array1::from(v.to_vec()).into_dyn());
    let params = IndexMap::from([
        ("zero_center".to_owned(), Uns::Bool(center)),
        ("use_highly_variable".to_owned(), Uns::Bool(mask.is_some())),
        (
            "mask_var".to_owned(),
            mask.map_or(Uns::Null, |m| Uns::Str(m.to_owned())),
        ),
    ]);
    let about = IndexMap::from([
        ("params".to_owned(), Uns::Dict(params)),
        ("variance".to_owned(), floats(&found.explained_variance)),
        (
            "variance_ratio".to_owned(),
            floats(&found.explained_variance_ratio),
        ),
    ]);
    data.uns.insert("pca".into(), Uns::Dict(about));
    data.obsm
        .insert("X_pca".into(), found.scores.clone().into());
    let loadings = found.components.t().as_standard_layout().into_owned();
    data.varm.insert("PCs".into(), loadings.into());
}
