use sc_data::{Column, Columns, Rows};
use sc_preprocess::{CellFilter, GeneFilter, qc_metrics};
use serde::Serialize;

use super::input::{Input, pair};
use super::qc::Sets;
use crate::common::{note, write};
use crate::error::{Error, Result};
use crate::options::not_negative;
use crate::progress::Spinner;

const EXAMPLES: &str = "\
Examples:
  sc preprocess filter counts.h5ad --out good.h5ad --min-genes 200 --min-cells 3
  sc preprocess filter counts.h5ad --out good.h5ad --min-counts 500 --max-genes 6000 --max-pct mt=20
  sc preprocess filter counts.h5ad --out good.h5ad --set ribo=RPS,RPL --max-pct ribo=50

Cells are filtered first, then genes by the cells that stay. Bounds are included.
obs gets n_counts and n_genes, var n_counts and n_cells.";

/// Leave out cells with few counts and genes of few cells
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    #[command(flatten)]
    sets: Sets,
    /// Keep cells with at least so many counts
    #[arg(long, value_name = "N", value_parser = not_negative)]
    min_counts: Option<f64>,
    /// Keep cells with at most so many counts
    #[arg(long, value_name = "N", value_parser = not_negative)]
    max_counts: Option<f64>,
    /// Keep cells with at least so many genes
    #[arg(long, value_name = "N")]
    min_genes: Option<u32>,
    /// Keep cells with at most so many genes
    #[arg(long, value_name = "N")]
    max_genes: Option<u32>,
    /// Keep cells with at most so many percent of their counts in a set of genes
    #[arg(long, value_name = "SET=PERCENT", value_parser = percent)]
    max_pct: Vec<(String, f64)>,
    /// Keep genes that at least so many cells have
    #[arg(long, value_name = "N")]
    min_cells: Option<u32>,
    /// Keep genes that at most so many cells have
    #[arg(long, value_name = "N")]
    max_cells: Option<u32>,
    /// Keep genes with at least so many counts
    #[arg(long, value_name = "N", value_parser = not_negative)]
    min_gene_counts: Option<f64>,
}

fn percent(text: &str) -> std::result::Result<(String, f64), String> {
    let (name, value) = pair(text)?;
    match not_negative(&value) {
        Ok(v) if v <= 100.0 => Ok((name, v)),
        _ => Err("not SET=PERCENT, with 0 to 100 percent".into()),
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    cells_before: usize,
    cells: usize,
    genes_before: usize,
    genes: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let cells = args.input.read()?;
    let sets = args.sets.of(&cells, &args.input)?;
    let wrong = |e: sc_preprocess::Error| args.input.wrong(e);
    let spinner = Spinner::new("filtering".into());
    let source = cells.source()?;
    let (qc, _) = qc_metrics(source, &sets, &[]).map_err(wrong)?;
    let filter = CellFilter {
        min_counts: args.min_counts,
        max_counts: args.max_counts,
        min_genes: args.min_genes,
        max_genes: args.max_genes,
        max_pct: args.max_pct.clone(),
    };
    let rows = filter.keep(&qc).map_err(wrong)?;
    let kept = Rows::new(source, rows.clone())?;
    let (_, genes) = qc_metrics(&kept, &[], &[]).map_err(wrong)?;
    let filter = GeneFilter {
        min_cells: args.min_cells,
        max_cells: args.max_cells,
        min_counts: args.min_gene_counts,
        max_counts: None,
    };
    let columns = filter.keep(&genes);
    if rows.is_empty() || columns.is_empty() {
        let what = if rows.is_empty() { "cell" } else { "gene" };
        return Err(Error::Message(format!(
            "{}: no {what} is within the bounds; look at `sc preprocess qc`",
            args.input.data.display()
        )));
    }
    // What is written is counted of the cells and genes that stay.
    let kept = Columns::new(kept, columns.iter().map(|&c| Some(c)).collect())?;
    let (of_cells, of_genes) = qc_metrics(&kept, &[], &[]).map_err(wrong)?;
    let had_graph = !cells.data.obsp.is_empty();
    let mut data = cells.data.select_obs(&rows)?.select_vars(&columns)?;
    drop(spinner);
    if had_graph {
        note("obsp is left out: it was made of all cells");
    }
    let ints = |v: &[u32]| Column::Int32(v.iter().map(|&n| n as i32).collect());
    data.obs
        .insert("n_genes", ints(&of_cells.n_genes_by_counts))?;
    data.obs
        .insert("n_counts", Column::Float(of_cells.total_counts))?;
    data.var
        .insert("n_cells", ints(&of_genes.n_cells_by_counts))?;
    data.var
        .insert("n_counts", Column::Float(of_genes.total_counts))?;
    write(&args.input.out, &data)?;
    let summary = Summary {
        cells_before: cells.data.n_obs(),
        cells: rows.len(),
        genes_before: cells.data.n_vars(),
        genes: columns.len(),
    };
    let words = format!(
        "{} of {} cells, {} of {} genes",
        summary.cells, summary.cells_before, summary.genes, summary.genes_before
    );
    args.input.say(&summary, &words)
}
