use rayon::prelude::*;
use sc_data::RowSource;

use crate::columns::{Block, over_columns};
use crate::values::Check;
use crate::{Error, Result};

/// A named set of genes, such as `mt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneSet {
    /// The name, which becomes part of the columns' names: `pct_counts_mt`.
    pub name: String,
    /// For each gene whether it belongs.
    pub mask: Vec<bool>,
}

impl GeneSet {
    /// The genes whose names start with one of the prefixes, whatever the case: `MT-` finds `mt-Co1` too.
    pub fn by_prefix(name: impl Into<String>, genes: &[String], prefixes: &[&str]) -> Self {
        let starts = |gene: &String, prefix: &str| {
            gene.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        Self {
            name: name.into(),
            mask: genes
                .iter()
                .map(|gene| prefixes.iter().any(|p| starts(gene, p)))
                .collect(),
        }
    }

    /// How many genes belong.
    pub fn len(&self) -> usize {
        self.mask.iter().filter(|&&m| m).count()
    }

    /// Whether no gene belongs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What [`qc_metrics`] says of a set of genes, by cell.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneSetCounts {
    /// The set's name.
    pub name: String,
    /// Counts of the set's genes in each cell.
    pub total_counts: Vec<f64>,
    /// Their share of the cell's counts in percent; NaN if the cell has none.
    pub pct_counts: Vec<f64>,
}

/// Quality of each cell. The fields are scanpy's columns of `obs`.
#[derive(Debug, Clone, PartialEq)]
pub struct CellQc {
    /// Genes with at least one count.
    pub n_genes_by_counts: Vec<u32>,
    /// Counts.
    pub total_counts: Vec<f64>,
    /// For each size asked for: the share of the counts that the so many highest genes have, in percent; NaN if there are
    /// no counts.
    pub pct_counts_in_top: Vec<(usize, Vec<f64>)>,
    /// For each set of genes.
    pub sets: Vec<GeneSetCounts>,
}

/// Quality of each gene. The fields are scanpy's columns of `var`.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneQc {
    /// Cells with at least one count.
    pub n_cells_by_counts: Vec<u32>,
    /// Counts.
    pub total_counts: Vec<f64>,
    /// Counts per cell.
    pub mean_counts: Vec<f64>,
    /// Share of cells without a count, in percent.
    pub pct_dropout_by_counts: Vec<f64>,
}

/// How many counts and genes each cell has, and how many cells each gene; the source is read once.
///
/// `top` asks for the share of the highest genes ([`CellQc::pct_counts_in_top`]); scanpy's usual sizes are 50, 100, 200, 500.
///
/// ```
/// use sc_data::Csr;
/// use sc_preprocess::{GeneSet, qc_metrics};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let counts = Csr::from_dense(&ndarray::array![[1.0f32, 3.0, 0.0], [0.0, 2.0, 2.0]]);
/// let names = ["MT-CO1", "ACTB", "CD3E"].map(String::from);
/// let mt = GeneSet::by_prefix("mt", &names, &["MT-"]);
/// let (cells, genes) = qc_metrics(&counts, &[mt], &[1])?;
/// assert_eq!(cells.sets[0].pct_counts, [25.0, 0.0]);
/// assert_eq!(cells.pct_counts_in_top[0].1, [75.0, 50.0]);
/// assert_eq!(genes.n_cells_by_counts, [1, 2, 1]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of the source; [`Error::InvalidValue`] if a value is negative or not finite, [`Error::InvalidParameter`] if a mask has
/// another length than there are genes or a size in `top` is 0 or larger than their number.
pub fn qc_metrics(
    source: &dyn RowSource,
    sets: &[GeneSet],
    top: &[usize],
) -> Result<(CellQc, GeneQc)> {
    let genes = source.n_cols();
    for set in sets {
        if set.mask.len() != genes {
            return Err(Error::InvalidParameter {
                name: "the length of a gene set's mask",
                found: format!("{} (\"{}\")", set.mask.len(), set.name),
                expected: format!("the {genes} genes of the data"),
            });
        }
    }
    if let Some(wrong) = top.iter().find(|&&n| n == 0 || n > genes) {
        return Err(Error::InvalidParameter {
            name: "the number of highest genes",
            found: wrong.to_string(),
            expected: format!("1 to {genes}, the number of genes"),
        });
    }
    let mut of_cells: Vec<Cell> = Vec::with_capacity(source.n_rows());
    let parts = over_columns(
        source,
        |width| (vec![0u32; width], vec![0f64; width]),
        |block| {
            Check::NotNegative.block(block)?;
            let rows = (0..block.n_rows()).into_par_iter().with_min_len(64);
            let found: Vec<Cell> = rows.map(|i| Cell::new(block, i, sets, top)).collect();
            of_cells.extend(found);
            Ok(())
        },
        |(cells, sums): &mut (Vec<u32>, Vec<f64>), _, column, _, value| {
            cells[column] += u32::from(value > 0.0);
            sums[column] += f64::from(value);
        },
    )?;
    let (mut n_cells, mut totals) = (Vec::with_capacity(genes), Vec::with_capacity(genes));
    for part in parts {
        n_cells.extend(part.state.0);
        totals.extend(part.state.1);
    }
    let n = source.n_rows() as f64;
    Ok((
        cell_table(&of_cells, sets, top),
        GeneQc {
            mean_counts: totals.iter().map(|t| t / n).collect(),
            pct_dropout_by_counts: n_cells
                .iter()
                .map(|&c| 100.0 * (1.0 - f64::from(c) / n))
                .collect(),
            n_cells_by_counts: n_cells,
            total_counts: totals,
        },
    ))
}

/// What is known of one cell.
struct Cell {
    genes: u32,
    total: f64,
    top: Vec<f64>,
    sets: Vec<f64>,
}

impl Cell {
    fn new(block: &Block<'_>, i: usize, sets: &[GeneSet], top: &[usize]) -> Self {
        let (genes, values) = block.row(i);
        let total = values.iter().map(|&v| f64::from(v)).sum();
        let in_set = |set: &GeneSet| {
            let own = genes.iter().zip(values);
            own.filter(|(g, _)| set.mask.get(**g as usize) == Some(&true))
                .map(|(_, &v)| f64::from(v))
                .sum()
        };
        Self {
            genes: values.iter().filter(|&&v| v > 0.0).count() as u32,
            total,
            top: highest(values, top),
            sets: sets.iter().map(in_set).collect(),
        }
    }
}

/// The sums of the so many highest values.
fn highest(values: &[f32], sizes: &[usize]) -> Vec<f64> {
    let Some(&largest) = sizes.iter().max() else {
        return Vec::new();
    };
    let mut sorted = values.to_vec();
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    if largest < sorted.len() {
        sorted.select_nth_unstable_by(largest, descending);
        sorted.truncate(largest);
    }
    sorted.sort_unstable_by(descending);
    let sum = |&n: &usize| sorted.iter().take(n).map(|&v| f64::from(v)).sum();
    sizes.iter().map(sum).collect()
}

fn cell_table(cells: &[Cell], sets: &[GeneSet], top: &[usize]) -> CellQc {
    let percent = |part: f64, cell: &Cell| 100.0 * part / cell.total;
    CellQc {
        n_genes_by_counts: cells.iter().map(|c| c.genes).collect(),
        total_counts: cells.iter().map(|c| c.total).collect(),
        pct_counts_in_top: top
            .iter()
            .enumerate()
            .map(|(k, &n)| (n, cells.iter().map(|c| percent(c.top[k], c)).collect()))
            .collect(),
        sets: sets
            .iter()
            .enumerate()
            .map(|(k, set)| GeneSetCounts {
                name: set.name.clone(),
                total_counts: cells.iter().map(|c| c.sets[k]).collect(),
                pct_counts: cells.iter().map(|c| percent(c.sets[k], c)).collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use sc_data::Csr;

    #[test]
    fn counts_of_cells_and_genes() {
        let m = array![[0.0f32, 4.0, 1.0, 5.0], [0.0; 4], [0.0, 0.0, 3.0, 0.0]];
        let set = GeneSet {
            name: "s".into(),
            mask: vec![true, true, false, false],
        };
        let (cells, genes) = qc_metrics(&m, &[set], &[1, 3]).unwrap();
        assert_eq!(cells.n_genes_by_counts, [3, 0, 1]);
        assert_eq!(cells.total_counts, [10.0, 0.0, 3.0]);
        assert_eq!(cells.sets[0].total_counts, [4.0, 0.0, 0.0]);
        assert_eq!(cells.sets[0].pct_counts[0], 40.0);
        // Of nothing there is no share.
        assert!(cells.sets[0].pct_counts[1].is_nan());
        assert_eq!(cells.pct_counts_in_top[0].1[0], 50.0);
        assert_eq!(cells.pct_counts_in_top[1].1[0], 100.0);
        assert_eq!(genes.n_cells_by_counts, [0, 1, 2, 1]);
        assert_eq!(genes.total_counts, [0.0, 4.0, 4.0, 5.0]);
        assert_eq!(genes.pct_dropout_by_counts[0], 100.0);
        assert!((genes.mean_counts[2] - 4.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn prefixes_whatever_the_case() {
        let names = ["mt-Co1", "MT-ND1", "MTOR", "é", "m"].map(String::from);
        let set = GeneSet::by_prefix("mt", &names, &["MT-"]);
        assert_eq!(set.mask, [true, true, false, false, false]);
        assert_eq!((set.len(), set.is_empty()), (2, false));
    }

    #[test]
    fn bad_input_is_named() {
        let m = array![[1.0f32, 2.0]];
        let set = GeneSet {
            name: "mt".into(),
            mask: vec![true],
        };
        let message = qc_metrics(&m, &[set], &[]).unwrap_err().to_string();
        assert!(message.contains("mt"), "{message}");
        assert!(qc_metrics(&m, &[], &[3]).is_err());
        let message = qc_metrics(&array![[-1.0f32]], &[], &[]).unwrap_err();
        assert!(message.to_string().contains("row 0, column 0 is -1"));
        // No cells: nothing, and no panic.
        let (cells, genes) = qc_metrics(&Csr::zeros(0, 2), &[], &[]).unwrap();
        assert!(cells.total_counts.is_empty() && genes.total_counts == [0.0, 0.0]);
    }
}
