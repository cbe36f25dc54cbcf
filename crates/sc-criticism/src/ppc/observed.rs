use sc_data::RowSource;
use sc_model::Parity;

use super::block::{DePass, Size, blocks, de_passes, read_raw};
use super::check::PpcOptions;
use super::de::{Groups, Truth};
use super::moments::{GeneMoments, of_cell};
use crate::Result;

/// Statistics of the raw counts, with which those of models are compared.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Observed {
    /// The counts of each cell.
    pub library_size: Vec<f64>,
    /// Coefficient of variation of each cell over its genes: standard deviation over mean. NaN for a cell without counts.
    pub cv_cell: Vec<f64>,
    /// Coefficient of variation of each gene over the cells. NaN for a gene without counts.
    pub cv_gene: Vec<f64>,
    /// Mean of each gene.
    pub mean: Vec<f64>,
    /// Variance of each gene, divided by the number of cells.
    pub variance: Vec<f64>,
    /// The share of cells without the gene; under [`Parity::Upstream`] the share of cells with it, which is what scvi-tools
    /// calls so.
    pub zero_fraction: Vec<f64>,
}

/// Goes through the raw counts. `watch` hears of each block.
pub(super) fn observe(
    raw: &dyn RowSource,
    size: Size,
    groups: Option<&Groups>,
    options: &PpcOptions,
    watch: &mut dyn FnMut(usize),
) -> Result<(Observed, Vec<Truth>)> {
    let mut genes = GeneMoments::new(size.n_genes);
    let (mut library_size, mut cv_cell) = (Vec::new(), Vec::new());
    let passes = groups.map_or(1, |_| de_passes(&options.de, size, 1).len());
    let mut de = groups.map(|g| DePass::new(g, &options.de, size, 1));
    for pass in 0..passes {
        if let Some(de) = &mut de {
            de.begin(pass);
        }
        for rows in blocks(size, 1) {
            let part = read_raw(raw, &rows, size)?;
            if pass == 0 {
                genes.add(&part);
                let cells = (0..part.n_rows()).map(|i| of_cell(part.row(i).1, size.n_genes));
                let (sums, cvs): (Vec<f64>, Vec<f64>) = cells.unzip();
                library_size.extend(sums);
                cv_cell.extend(cvs);
            }
            if let Some(de) = &mut de {
                let name = |_| "the raw counts".to_owned();
                de.add(pass, std::slice::from_ref(&part), &rows, name)?;
            }
            watch(rows.len());
        }
        if let Some(de) = &mut de {
            de.end();
        }
    }
    let truths = match &de {
        Some(de) => {
            let ranked = de.ranked().flatten();
            ranked.map(|r| Truth::new(r, &options.de)).collect()
        }
        None => Vec::new(),
    };
    let defined = |values: Vec<f64>| -> Vec<f64> {
        let or_zero = |v: f64| if v.is_nan() { 0.0 } else { v };
        match options.parity {
            Parity::Correct => values,
            Parity::Upstream => values.into_iter().map(or_zero).collect(),
        }
    };
    let observed = Observed {
        library_size,
        cv_cell: defined(cv_cell),
        cv_gene: defined(genes.cv()),
        mean: genes.means().to_vec(),
        variance: genes.variances(),
        zero_fraction: zeros(genes.zero_fractions(), options.parity),
    };
    Ok((observed, truths))
}

/// The share of zeros, or under parity of all else.
pub(super) fn zeros(fractions: Vec<f64>, parity: Parity) -> Vec<f64> {
    match parity {
        Parity::Correct => fractions,
        Parity::Upstream => fractions.into_iter().map(|z| 1.0 - z).collect(),
    }
}
