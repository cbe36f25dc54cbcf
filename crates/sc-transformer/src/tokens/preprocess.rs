//! Which cells and genes are used, and what their values are, before they become tokens: the steps of scGPT's recipes.
//!
//! Order: genes with few counts go, then cells with few counts; the rest is scaled to the same total and log-transformed;
//! then the most variable genes are chosen. Bins come last, in the [`Tokenizer`](super::Tokenizer): they depend on the order of
//! a cell's values alone, so that scaling and logarithms matter for the choice of genes and for models that take values
//! as they are.

use sc_data::{Categorical, Columns, Csr, RowSource, Rows};
use sc_preprocess::{
    CellFilter, GeneFilter, HvgFlavor, HvgOptions, Log1p, NormalizeTotal, Streamed, Transform,
    highly_variable_genes_with, qc_metrics,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The total that each cell is scaled to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// This number, usually 1e4.
    Total(f64),
    /// The median of the totals of all cells that stay. scGPT does this if its `normalize_total` is given as an integer.
    Median,
}

/// Which values variable genes are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HvgInput {
    /// Those that the score is made for: the data as they are for scores of counts, otherwise scaled and
    /// log-transformed ones.
    Fitting,
    /// The data as they are. scGPT does so unless told otherwise, whatever the score.
    AsGiven,
}

/// How variable genes are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VariableGenes {
    /// How many.
    pub n_top: usize,
    /// How genes are scored: [`HvgFlavor::SeuratV3`] for counts, [`HvgFlavor::CellRanger`] for logarithms.
    pub flavor: HvgFlavor,
    /// By which values.
    pub input: HvgInput,
}

impl VariableGenes {
    /// As scGPT's recipes choose them: [`HvgFlavor::SeuratV3`] if the data are raw counts, else [`HvgFlavor::CellRanger`].
    pub fn new(n_top: usize, raw_counts: bool) -> Self {
        Self {
            n_top,
            flavor: if raw_counts {
                HvgFlavor::SeuratV3
            } else {
                HvgFlavor::CellRanger
            },
            input: HvgInput::Fitting,
        }
    }
}

/// The steps before tokens are made. What is `None` or `false` is left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreprocessOptions {
    /// Genes have at least so many counts in all cells together.
    pub min_gene_counts: Option<f64>,
    /// Cells have at least so many counts of the genes that stay.
    pub min_cell_counts: Option<f64>,
    /// The total that cells are scaled to.
    pub target: Option<Target>,
    /// Whether values become `ln(1 + x)`.
    pub log1p: bool,
    /// Only the most variable genes stay.
    pub variable: Option<VariableGenes>,
    /// Columns that stay in any case, e.g. a transcription factor of interest.
    pub always: Vec<usize>,
}

impl PreprocessOptions {
    /// scGPT's recipe for batch integration: genes with at least 3 counts, totals of 10,000, logarithms if the data are
    /// raw counts, and `n_top` variable genes (1,200 there).
    pub fn integration(n_top: usize, raw_counts: bool) -> Self {
        Self {
            min_gene_counts: Some(3.0),
            target: Some(Target::Total(1e4)),
            log1p: raw_counts,
            variable: Some(VariableGenes::new(n_top, raw_counts)),
            ..Self::default()
        }
    }
}

/// What [`preprocess`] found out.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The rows that stay, ascending.
    pub cells: Vec<usize>,
    /// The columns that are used, ascending.
    pub genes: Vec<usize>,
    /// The columns whose counts make up the total of a cell: all that are not rare, variable or not.
    pub counted: Vec<usize>,
    steps: Steps,
}

/// Goes through the data, block by block, and decides which cells and genes stay.
///
/// # Errors
/// Those of the source; [`Error::Preprocess`] if values are negative or not finite or an option is out of range;
/// [`Error::InvalidSetting`] if no cell or no gene is left, or a gene of `always` does not exist.
pub fn preprocess(
    source: &dyn RowSource,
    options: &PreprocessOptions,
    batch: Option<&Categorical>,
) -> Result<Prepared> {
    let counted = kept_genes(source, options)?;
    let columns = Columns::new(source, some(&counted))?;
    let cells = kept_cells(&columns, options)?;
    let rows = Rows::new(&columns, cells.clone())?;
    let steps = Steps {
        total: match options.target {
            None => None,
            Some(Target::Total(t)) => Some(NormalizeTotal::to(t)?),
            Some(Target::Median) => Some(NormalizeTotal::to_median(&rows)?),
        },
        log1p: options.log1p,
    };
    let genes = match options.variable {
        None => counted.clone(),
        Some(variable) => {
            let batch = batch.map(|b| b.select(&cells));
            let found = chosen(&rows, &steps, variable, batch.as_ref())?;
            let mut genes: Vec<usize> = found
                .into_iter()
                .filter_map(|g| counted.get(g).copied())
                .collect();
            genes.extend(&options.always);
            genes.sort_unstable();
            genes.dedup();
            genes
        }
    };
    Ok(Prepared {
        cells,
        genes,
        counted,
        steps,
    })
}

impl Prepared {
    /// The cells that stay, with the genes that are used, scaled and transformed as they are read.
    ///
    /// # Errors
    /// [`Error::Data`] if the source has fewer rows or columns than the one that was prepared.
    pub fn source<'a>(&'a self, source: &'a dyn RowSource) -> Result<impl RowSource + 'a> {
        if let Some(&index) = self.cells.iter().find(|&&r| r >= source.n_rows()) {
            let (what, len) = ("row", source.n_rows());
            return Err(sc_data::Error::OutOfRange { what, index, len }.into());
        }
        let kept = Kept {
            source: Columns::new(source, some(&self.counted))?,
            rows: &self.cells,
        };
        // Totals are those of all counted genes: they come before the choice of variable ones.
        let used = self
            .genes
            .iter()
            .map(|g| self.counted.binary_search(g).ok());
        let used = used.collect();
        Ok(Columns::new(Streamed::new(kept, &self.steps), used)?)
    }
}

fn some(columns: &[usize]) -> Vec<Option<usize>> {
    columns.iter().map(|&c| Some(c)).collect()
}

/// Scaling and logarithms, if wanted.
#[derive(Debug, Clone)]
struct Steps {
    total: Option<NormalizeTotal>,
    log1p: bool,
}

impl Transform for Steps {
    fn apply(&self, block: Csr) -> sc_preprocess::Result<Csr> {
        let block = match &self.total {
            Some(total) => total.apply(block)?,
            None => block,
        };
        match self.log1p {
            true => Log1p.apply(block),
            false => Ok(block),
        }
    }
}

/// The rows that stay of a source that it owns.
struct Kept<'a, S> {
    source: S,
    rows: &'a [usize],
}

impl<S: RowSource> RowSource for Kept<'_, S> {
    fn n_rows(&self) -> usize {
        self.rows.len()
    }
    fn n_cols(&self) -> usize {
        self.source.n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> sc_data::Result<Csr> {
        let of = |&index: &usize| {
            let (what, len) = ("row", self.rows.len());
            let row = self.rows.get(index).copied();
            row.ok_or(sc_data::Error::OutOfRange { what, index, len })
        };
        let rows = rows.iter().map(of).collect::<sc_data::Result<Vec<_>>>()?;
        match rows.first() {
            // Files read a run of rows faster than a list of them.
            Some(&first) if rows.iter().zip(first..).all(|(&r, expected)| r == expected) => {
                self.source.read_range(first..first + rows.len())
            }
            _ => self.source.read_rows(&rows),
        }
    }
}

fn kept_genes(source: &dyn RowSource, options: &PreprocessOptions) -> Result<Vec<usize>> {
    if let Some(&index) = options.always.iter().find(|&&g| g >= source.n_cols()) {
        let (what, len) = ("gene", source.n_cols());
        return Err(sc_data::Error::OutOfRange { what, index, len }.into());
    }
    let mut genes: Vec<usize> = match options.min_gene_counts {
        None => (0..source.n_cols()).collect(),
        Some(min_counts) => GeneFilter {
            min_counts: Some(min_counts),
            ..GeneFilter::default()
        }
        .keep(&qc_metrics(source, &[], &[])?.1),
    };
    genes.extend(&options.always);
    genes.sort_unstable();
    genes.dedup();
    left("min_gene_counts", options.min_gene_counts, genes)
}

fn kept_cells(source: &dyn RowSource, options: &PreprocessOptions) -> Result<Vec<usize>> {
    let cells = match options.min_cell_counts {
        None => (0..source.n_rows()).collect(),
        Some(min_counts) => CellFilter {
            min_counts: Some(min_counts),
            ..CellFilter::default()
        }
        .keep(&qc_metrics(source, &[], &[])?.0)?,
    };
    left("min_cell_counts", options.min_cell_counts, cells)
}

/// Refuses a filter that leaves nothing.
fn left(name: &'static str, limit: Option<f64>, kept: Vec<usize>) -> Result<Vec<usize>> {
    if !kept.is_empty() {
        return Ok(kept);
    }
    Err(Error::InvalidSetting {
        name,
        value: limit.map_or_else(|| "None".into(), |l| l.to_string()),
        reason: "nothing is left; lower it, or look whether the data hold counts".into(),
    })
}

fn chosen(
    rows: &dyn RowSource,
    steps: &Steps,
    variable: VariableGenes,
    batch: Option<&Categorical>,
) -> Result<Vec<usize>> {
    let options = HvgOptions::new(variable.flavor, variable.n_top);
    let as_given = variable.flavor.wants_counts() || variable.input == HvgInput::AsGiven;
    let found = if as_given {
        highly_variable_genes_with(rows, &options, batch)?
    } else {
        highly_variable_genes_with(&Streamed::new(rows, steps), &options, batch)?
    };
    Ok(found.genes)
}

/// What [`check_logged`] found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogCheck {
    /// The smallest value; zeros count.
    pub min: f32,
    /// The largest value.
    pub max: f32,
    /// The smallest value above zero, if there is one.
    pub smallest_positive: Option<f32>,
    /// Whether the data look as if they were log-transformed.
    pub logged: bool,
}

/// Whether data look as if they were log-transformed: none above 30, none below 0, and some positive value below 1. A guess,
/// the one that scGPT makes. Reads the source once.
///
/// # Errors
/// Those of the source.
pub fn check_logged(source: &dyn RowSource) -> Result<LogCheck> {
    const ROWS_AT_ONCE: usize = 4096;
    let (mut min, mut max, mut positive) = (f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY);
    for start in (0..source.n_rows()).step_by(ROWS_AT_ONCE) {
        let block = source.read_range(start..(start + ROWS_AT_ONCE).min(source.n_rows()))?;
        let has_zeros = block.n_stored() < block.n_rows() * block.n_cols();
        let zero = has_zeros.then_some(0.0);
        for v in block.data().iter().copied().chain(zero) {
            min = min.min(v);
            max = max.max(v);
            if v > 0.0 {
                positive = positive.min(v);
            }
        }
    }
    Ok(LogCheck {
        min,
        max,
        smallest_positive: positive.is_finite().then_some(positive),
        logged: max <= 30.0 && min >= 0.0 && positive < 1.0,
    })
}
