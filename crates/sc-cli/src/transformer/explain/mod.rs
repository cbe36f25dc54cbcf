mod pairs;
mod scbert;
mod scgpt;

use std::path::PathBuf;

use super::model::{self, Foreign, Transformer};
use super::query::{Given, MatrixOptions, ScbertOptions, ScgptOptions, Which, refuse};
use super::tables::{Sets, check_table};
use crate::error::Result;
use crate::options::at_least_one;

const EXAMPLES: &str = "\
Examples:
  sc transformer explain scbert_annotator cells.h5ad --out importance.tsv
  sc transformer explain scbert_annotator cells.h5ad --out importance.tsv \\
      --labels-key cell_type --gmt markers.gmt --enrichment enrichment.tsv --top 100
  sc transformer explain scgpt screen.h5ad --out attention.tsv --labels-key condition \\
      --baseline ctrl --source BHLHE40 --top 20
  sc transformer explain scgpt cells.h5ad --out attention.tsv --labels-key cell_type --n-hvg 300 \\
      --max-cells 50 --gmt reactome.gmt --enrichment enrichment.tsv";

/// Write which genes a model attends to in the cells of each type or condition
///
/// scBERT: a gene's importance is the share of the attention that it gets, averaged over all positions, heads and blocks, and over
/// the cells of the type. scGPT: attention of one layer is turned into ranks in each cell, by which pairs of a source, the gene
/// that informs, and a target, the gene that is informed, are compared between conditions. Attention is not cause: genes that
/// many cells express rank high everywhere, and "against_others" takes the mean of the other types, or the baseline, away.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Folder with scGPT or scBERT, or with --panel a checkpoint of the original scBERT
    model: PathBuf,
    /// Cells: .h5ad, Cell Ranger .h5, or a folder with matrix.mtx; for scBERT with counts
    data: PathBuf,
    /// scBERT: types, genes and their importance; scGPT: types, sources, targets and their ranks; tab-separated, the first of
    /// each type first
    #[arg(long, value_name = "OUT.tsv")]
    out: PathBuf,
    /// Column of obs with the types [default: of scBERT those that the model gives to the cells]
    #[arg(long, value_name = "COLUMN")]
    labels_key: Option<String>,
    /// Compare so many genes of each type, those ahead of the other types, with the gene sets [default: 100]; of scGPT so many
    /// pairs of each type and source are written and compared [default: 20 with --source, else 100]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    top: Option<usize>,
    #[command(flatten)]
    attention: Attention,
    #[command(flatten)]
    sets: Sets,
    #[command(flatten)]
    foreign: Foreign,
    #[command(flatten)]
    matrix: MatrixOptions,
    #[command(flatten)]
    scgpt: ScgptOptions,
    #[command(flatten)]
    scbert: ScbertOptions,
    /// Threads; the result does not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What only scGPT has here.
#[derive(Debug, clap::Args)]
struct Attention {
    /// scGPT: only what this gene informs, such as a transcription factor; repeat it for more [default: all genes]
    #[arg(long, value_name = "GENE")]
    source: Vec<String>,
    /// scGPT: the type that others are compared with [default: the mean of the other types]
    #[arg(long, value_name = "LABEL")]
    baseline: Option<String>,
    /// scGPT: variable genes that are read, and the sources; memory and time grow with their square [default: 1200]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_hvg: Option<usize>,
    /// scGPT: cells of each type, evenly from among all [default: all]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_cells: Option<usize>,
    /// scGPT: the layer, from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    attention_layer: Option<usize>,
}

impl Attention {
    fn given(&self) -> Vec<Given> {
        vec![
            ("--source", !self.source.is_empty()),
            ("--baseline", self.baseline.is_some()),
            ("--n-hvg", self.n_hvg.is_some()),
            ("--max-cells", self.max_cells.is_some()),
            ("--attention-layer", self.attention_layer.is_some()),
        ]
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    check_table(&args.out)?;
    let sets = args.sets.read()?;
    match model::open(&args.model, &args.foreign)? {
        Transformer::Scbert(model) => {
            let mut given = args.scgpt.given();
            given.extend(args.attention.given());
            refuse(Which::Scbert, &given)?;
            scbert::run(args, &model, sets)
        }
        Transformer::Scgpt(model) => {
            refuse(Which::Scgpt, &args.scbert.given())?;
            scgpt::run(args, &model, sets)
        }
    }
}
