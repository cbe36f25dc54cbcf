use sc_data::{AnnData, Column};
use sc_preprocess::{CellQc, GeneQc, GeneSet, qc_metrics};
use serde::Serialize;

use super::input::{Cells, FromDisk, Input, pair};
use crate::error::Result;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess qc counts.h5ad --out qc.h5ad
  sc preprocess qc counts.h5ad --out qc.h5ad --set ribo=RPS,RPL --set hb=HBA,HBB
  sc preprocess qc mouse.h5ad --out qc.h5ad --gene-names gene_symbols --backed

obs: total_counts, n_genes_by_counts, pct_counts_in_top_N_genes, and for each set total_counts_NAME, pct_counts_NAME
var: total_counts, mean_counts, n_cells_by_counts, pct_dropout_by_counts, and for each set a column NAME
The logarithms log1p_* too, as scanpy's calculate_qc_metrics writes them.";

/// Write how many counts and genes cells have, and shares of mitochondrial genes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    from: FromDisk,
    #[command(flatten)]
    sets: Sets,
    /// Shares of the so many highest genes [default: 50, 100, 200, 500, where there are so many genes]
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    percent_top: Option<Vec<usize>>,
}

/// Which sets of genes are counted.
#[derive(Debug, clap::Args)]
pub(super) struct Sets {
    /// A set of genes: those whose names start so, whatever the case [default: mt=MT-]
    #[arg(long = "set", value_name = "NAME=PREFIX,PREFIX", value_parser = pair)]
    sets: Vec<(String, String)>,
    /// The var column with the names of genes [default: the index]
    #[arg(long, value_name = "COLUMN")]
    gene_names: Option<String>,
}

#[derive(Debug, Serialize)]
struct Summary {
    n_cells: usize,
    n_genes: usize,
    median_counts: Option<f64>,
    median_genes: Option<f64>,
    empty_cells: usize,
    empty_genes: usize,
    /// Genes of each set.
    sets: Vec<(String, usize)>,
}

impl Sets {
    pub(super) fn of(&self, cells: &Cells<'_>, input: &Input) -> Result<Vec<GeneSet>> {
        let names = self.names(&cells.data, input)?;
        if self.sets.is_empty() {
            return Ok(vec![GeneSet::by_prefix("mt", &names, &["MT-"])]);
        }
        let each = self.sets.iter().map(|(name, prefixes)| {
            let prefixes: Vec<&str> = prefixes.split(',').filter(|p| !p.is_empty()).collect();
            GeneSet::by_prefix(name, &names, &prefixes)
        });
        Ok(each.collect())
    }

    fn names(&self, data: &AnnData, input: &Input) -> Result<Vec<String>> {
        let Some(column) = &self.gene_names else {
            return Ok(data.var.index().to_vec());
        };
        let container = format!("{}: var", input.data.display());
        let names = data
            .var
            .column(&container, column)?
            .to_categorical(column)?;
        Ok(names
            .iter()
            .map(|n| n.unwrap_or_default().to_owned())
            .collect())
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut cells = args.input.open(&args.from)?;
    let sets = args.sets.of(&cells, &args.input)?;
    let n_genes = cells.data.n_vars();
    let top = args.percent_top.clone().unwrap_or_else(|| {
        let usual = [50, 100, 200, 500];
        usual.into_iter().filter(|&n| n <= n_genes).collect()
    });
    let spinner = Spinner::new("counting".into());
    let (of_cells, of_genes) =
        qc_metrics(cells.source()?, &sets, &top).map_err(|e| args.input.wrong(e))?;
    drop(spinner);
    insert_cells(&mut cells.data, &of_cells)?;
    insert_genes(&mut cells.data, &of_genes)?;
    for set in &sets {
        let mask = Column::Bool(set.mask.clone());
        cells.data.var.insert(&set.name, mask)?;
    }
    cells.write()?;
    let summary = Summary {
        n_cells: of_cells.total_counts.len(),
        n_genes,
        median_counts: median(&of_cells.total_counts),
        median_genes: median(&as_floats(&of_cells.n_genes_by_counts)),
        empty_cells: of_cells.total_counts.iter().filter(|&&t| t == 0.0).count(),
        empty_genes: of_genes.total_counts.iter().filter(|&&t| t == 0.0).count(),
        sets: sets.iter().map(|s| (s.name.clone(), s.len())).collect(),
    };
    let words = format!(
        "{} cells with a median of {} counts and {} genes; {} cells and {} genes are empty",
        summary.n_cells,
        summary.median_counts.unwrap_or(0.0),
        summary.median_genes.unwrap_or(0.0),
        summary.empty_cells,
        summary.empty_genes,
    );
    args.input.say(&summary, &words)
}

pub(super) fn as_floats(values: &[u32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn ints(values: &[u32]) -> Column {
    Column::Int32(values.iter().map(|&v| v as i32).collect())
}

fn log1p(values: &[f64]) -> Column {
    Column::Float(values.iter().map(|v| v.ln_1p()).collect())
}

fn insert_cells(data: &mut AnnData, qc: &CellQc) -> Result<()> {
    let genes = as_floats(&qc.n_genes_by_counts);
    let obs = &mut data.obs;
    obs.insert("n_genes_by_counts", ints(&qc.n_genes_by_counts))?;
    obs.insert("log1p_n_genes_by_counts", log1p(&genes))?;
    obs.insert("total_counts", Column::Float(qc.total_counts.clone()))?;
    obs.insert("log1p_total_counts", log1p(&qc.total_counts))?;
    for (n, share) in &qc.pct_counts_in_top {
        let name = format!("pct_counts_in_top_{n}_genes");
        obs.insert(name, Column::Float(share.clone()))?;
    }
    for set in &qc.sets {
        let name = &set.name;
        let total = Column::Float(set.total_counts.clone());
        obs.insert(format!("total_counts_{name}"), total)?;
        obs.insert(
            format!("log1p_total_counts_{name}"),
            log1p(&set.total_counts),
        )?;
        let share = Column::Float(set.pct_counts.clone());
        obs.insert(format!("pct_counts_{name}"), share)?;
    }
    Ok(())
}

fn insert_genes(data: &mut AnnData, qc: &GeneQc) -> Result<()> {
    let var = &mut data.var;
    var.insert("n_cells_by_counts", ints(&qc.n_cells_by_counts))?;
    var.insert("mean_counts", Column::Float(qc.mean_counts.clone()))?;
    var.insert("log1p_mean_counts", log1p(&qc.mean_counts))?;
    let dropout = Column::Float(qc.pct_dropout_by_counts.clone());
    var.insert("pct_dropout_by_counts", dropout)?;
    var.insert("total_counts", Column::Float(qc.total_counts.clone()))?;
    var.insert("log1p_total_counts", log1p(&qc.total_counts))?;
    Ok(())
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}
