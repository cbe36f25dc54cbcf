use std::collections::BTreeSet;

use sc_data::{RowSource, Rows};
use sc_preprocess::{HvgFlavor, highly_variable_genes};

use crate::codes::{Codes, same_length};
use crate::statistics::mean;
use crate::{Error, Result};

/// Batches with fewer cells are left out.
const FEWEST_CELLS: usize = 3;

/// How many of the highly variable genes of a batch are so after integration, 0..=1: within each batch the genes chosen
/// both before and after, as a share of the smaller choice, averaged over batches. For integrations that give back
/// expression, not an embedding alone. scIB chooses 500 genes.
///
/// # Errors
/// [`Error::Length`] unless both have the same cells and genes and there is a batch for each cell; [`Error::Undefined`] if no
/// batch has cells enough; else as [`sc_preprocess::highly_variable_genes`].
pub fn hvg_overlap(
    before: &dyn RowSource,
    after: &dyn RowSource,
    batches: &[u32],
    n_top: usize,
    flavor: HvgFlavor,
) -> Result<f64> {
    let n = batches.len();
    same_length(
        "the cells before integration",
        before.n_rows(),
        "the batches",
        n,
    )?;
    same_length(
        "the cells after integration",
        after.n_rows(),
        "the batches",
        n,
    )?;
    same_length(
        "the genes after integration",
        after.n_cols(),
        "those before",
        before.n_cols(),
    )?;
    let mut each = Vec::new();
    for rows in Codes::new(batches).rows() {
        if rows.len() < FEWEST_CELLS {
            continue;
        }
        let chosen = |source: &dyn RowSource| -> Result<BTreeSet<usize>> {
            let part = Rows::new(source, rows.clone())?;
            let genes = highly_variable_genes(&part, n_top, flavor)?.genes;
            Ok(genes.into_iter().collect())
        };
        let (a, b) = (chosen(before)?, chosen(after)?);
        let fewer = a.len().min(b.len());
        if fewer > 0 {
            each.push(a.intersection(&b).count() as f64 / fewer as f64);
        }
    }
    mean(&each).ok_or_else(|| {
        Error::Undefined(format!(
            "no batch has {FEWEST_CELLS} cells and genes that vary"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use sc_data::Csr;

    #[test]
    fn the_same_genes_overlap_and_others_do_not() {
        let x = Array2::from_shape_fn((60, 40), |(i, j)| {
            let wild = j < 8 && (i + j) % 5 == 0;
            if wild {
                4.0
            } else {
                ((i * 7 + j * 3) % 4) as f32 / 4.0
            }
        });
        let mut other = x.clone();
        other.invert_axis(ndarray::Axis(1));
        let (x, other) = (Csr::from_dense(&x), Csr::from_dense(&other));
        let batches: Vec<u32> = (0..60).map(|i| i % 2).collect();
        let overlap = |a: &Csr, b: &Csr| hvg_overlap(a, b, &batches, 8, HvgFlavor::Seurat).unwrap();
        assert_eq!(overlap(&x, &x), 1.0);
        assert!(overlap(&x, &other) < 0.5);
        assert!(hvg_overlap(&x, &x, &[0], 8, HvgFlavor::Seurat).is_err());
        let alone: Vec<u32> = (0..60).collect();
        assert!(hvg_overlap(&x, &x, &alone, 8, HvgFlavor::Seurat).is_err());
    }
}
