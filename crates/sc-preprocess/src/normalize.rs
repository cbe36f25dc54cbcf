use sc_data::{Csr, RowSource};

use crate::columns::{blocks, over_columns};
use crate::simd::ln_1p_all;
use crate::stats::median;
use crate::transform::{Transform, map_rows, same_genes};
use crate::values::Check;
use crate::{Error, Result};

/// Scales every cell to the same total: `x_ij * target / sum_j x_ij`. Cells without counts stay empty.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalizeTotal {
    target: f64,
    /// For each gene whether it is left out of the totals; `None` if none is.
    excluded: Option<Vec<bool>>,
}

impl NormalizeTotal {
    /// To a total of `target`, usually `1e4`. Nothing is learned from the cells.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if the target is not a positive finite number.
    pub fn to(target: f64) -> Result<Self> {
        if target > 0.0 && target.is_finite() {
            return Ok(Self {
                target,
                excluded: None,
            });
        }
        Err(Error::InvalidParameter {
            name: "target",
            found: target.to_string(),
            expected: "a positive finite number, e.g. 1e4".into(),
        })
    }

    /// To the median total of the cells that have any counts, which keeps the typical cell as it is.
    ///
    /// # Errors
    /// Those of the source; [`Error::InvalidValue`] if a stored value is negative or not finite.
    pub fn to_median(source: &dyn RowSource) -> Result<Self> {
        let target = median_total(source, None)?;
        Ok(Self {
            target,
            excluded: None,
        })
    }

    /// Leaves genes out of the totals that have more than `max_fraction` (usually 0.05) of the counts of some cell: a few
    /// genes that take most of the counts in some cells would make all others of these cells look low. They are scaled with
    /// the rest. `target` as in [`NormalizeTotal::to`]; `None` is the median of the totals without these genes.
    ///
    /// # Errors
    /// As [`NormalizeTotal::to`] and [`NormalizeTotal::to_median`]; [`Error::InvalidParameter`] unless `max_fraction` lies
    /// between 0 and 1.
    pub fn excluding_highly_expressed(
        source: &dyn RowSource,
        target: Option<f64>,
        max_fraction: f64,
    ) -> Result<Self> {
        if !(max_fraction > 0.0 && max_fraction < 1.0) {
            return Err(Error::InvalidParameter {
                name: "max_fraction",
                found: max_fraction.to_string(),
                expected: "more than 0 and less than 1, usually 0.05".into(),
            });
        }
        let given = target.map(Self::to).transpose()?;
        let excluded = highly_expressed(source, max_fraction)?;
        let target = match given {
            Some(t) => t.target,
            None => median_total(source, Some(&excluded))?,
        };
        Ok(Self {
            target,
            excluded: Some(excluded),
        })
    }

    /// The total of each cell afterwards.
    pub fn target(&self) -> f64 {
        self.target
    }

    /// The genes that are left out of the totals.
    pub fn excluded(&self) -> Vec<usize> {
        let mask = self.excluded.as_deref().unwrap_or_default();
        (0..mask.len()).filter(|&g| mask[g]).collect()
    }
}

impl Transform for NormalizeTotal {
    fn apply(&self, block: Csr) -> Result<Csr> {
        Check::NotNegative.matrix(&block)?;
        let excluded = self.excluded.as_deref();
        if let Some(mask) = excluded {
            same_genes(block.n_cols(), mask.len())?;
        }
        map_rows(block, |_, genes, values| {
            let total = total(genes, values, excluded);
            if total > 0.0 {
                let factor = self.target / total;
                for v in values {
                    *v = (f64::from(*v) * factor) as f32;
                }
            }
        })
    }
}

/// `ln(1 + x)` of every entry; zeros stay zero and are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log1p;

impl Transform for Log1p {
    fn apply(&self, block: Csr) -> Result<Csr> {
        Check::NotNegative.matrix(&block)?;
        map_rows(block, |_, _, values| ln_1p_all(values))
    }
}

/// Scales every cell to the same total: [`NormalizeTotal::to`] a `target`, usually `Some(1e4)`, or with `None`
/// [`NormalizeTotal::to_median`].
///
/// # Errors
/// [`Error::InvalidValue`] if a stored value is negative or not finite, [`Error::InvalidParameter`] if the target is not
/// a positive finite number.
pub fn normalize_total(counts: &Csr, target: Option<f64>) -> Result<Csr> {
    let step = match target {
        Some(t) => NormalizeTotal::to(t)?,
        None => NormalizeTotal::to_median(counts)?,
    };
    step.apply(counts.clone())
}

/// `ln(1 + x)` of every entry; zeros stay zero and are not stored.
///
/// # Errors
/// [`Error::InvalidValue`] if a stored value is negative or not finite: such data are not counts (perhaps they are
/// centred or scaled already).
pub fn log1p(counts: &Csr) -> Result<Csr> {
    Log1p.apply(counts.clone())
}

fn total(genes: &[u32], values: &[f32], excluded: Option<&[bool]>) -> f64 {
    match excluded {
        None => values.iter().map(|&v| f64::from(v)).sum(),
        Some(mask) => genes
            .iter()
            .zip(values)
            .filter(|(g, _)| mask.get(**g as usize) != Some(&true))
            .map(|(_, &v)| f64::from(v))
            .sum(),
    }
}

/// The median of the positive totals; 1 if there is none.
fn median_total(source: &dyn RowSource, excluded: Option<&[bool]>) -> Result<f64> {
    let mut totals = Vec::new();
    for block in blocks(source) {
        let block = block?;
        Check::NotNegative.block(&block)?;
        let of_rows = (0..block.n_rows()).map(|i| {
            let (genes, values) = block.row(i);
            total(genes, values, excluded)
        });
        totals.extend(of_rows.filter(|&t| t > 0.0));
    }
    let found = median(&mut totals);
    Ok(if found.is_nan() { 1.0 } else { found })
}

/// For each gene whether it has more than a share of the counts of some cell.
fn highly_expressed(source: &dyn RowSource, max_fraction: f64) -> Result<Vec<bool>> {
    let mut limits = Vec::with_capacity(source.n_rows());
    for block in blocks(source) {
        let block = block?;
        Check::NotNegative.block(&block)?;
        limits.extend(block.row_sums().map(|t| t * max_fraction));
    }
    let parts = over_columns(
        source,
        |width| vec![false; width],
        |_| Ok(()),
        |mask: &mut Vec<bool>, row, column, _, value| {
            mask[column] |= f64::from(value) > limits[row];
        },
    )?;
    Ok(parts.into_iter().flat_map(|p| p.state).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn totals_become_the_target_and_empty_cells_stay() {
        let m = Csr::from_dense(&array![[1.0, 3.0], [0.0, 0.0], [5.0, 0.0]]);
        let n = normalize_total(&m, Some(100.0)).unwrap();
        assert_eq!(n.to_dense(), array![[25.0, 75.0], [0.0, 0.0], [100.0, 0.0]]);
    }

    #[test]
    fn the_default_target_is_the_median_of_non_empty_cells() {
        let m = Csr::from_dense(&array![[4.0], [0.0], [8.0], [100.0]]);
        let n = normalize_total(&m, None).unwrap();
        assert_eq!(n.row_sums(), vec![8.0, 0.0, 8.0, 8.0]);
        let m = Csr::from_dense(&array![[4.0], [8.0]]);
        assert_eq!(
            normalize_total(&m, None).unwrap().row_sums(),
            vec![6.0, 6.0]
        );
    }

    #[test]
    fn log1p_is_exact_for_small_values() {
        let m = Csr::from_dense(&array![[1e-8f32, 1.0]]);
        let l = log1p(&m).unwrap().to_dense();
        assert_eq!(l[[0, 0]], 1e-8);
        assert_eq!(l[[0, 1]], 2f32.ln());
    }

    #[test]
    fn what_is_no_count_is_named() {
        let m = Csr::new(3, 4, vec![0, 1, 1, 3], vec![2, 0, 3], vec![1.0, 2.0, -1.0]).unwrap();
        for result in [normalize_total(&m, Some(1.0)), log1p(&m)] {
            match result {
                Err(Error::InvalidValue { row, column, .. }) => assert_eq!((row, column), (2, 3)),
                other => panic!("{other:?}"),
            }
        }
        let nan = Csr::from_dense(&array![[f32::NAN]]);
        assert!(log1p(&nan).is_err());
        let ok = Csr::from_dense(&array![[1.0f32]]);
        assert!(normalize_total(&ok, Some(0.0)).is_err());
        assert!(normalize_total(&ok, Some(f64::NAN)).is_err());
    }

    #[test]
    fn genes_that_dominate_a_cell_are_left_out_of_totals() {
        let m = Csr::from_dense(&array![
            [90.0, 6.0, 4.0],
            [1.0, 50.0, 49.0],
            [0.0, 2.0, 3.0]
        ]);
        let step = NormalizeTotal::excluding_highly_expressed(&m, None, 0.7).unwrap();
        assert_eq!(step.excluded(), vec![0]);
        // Totals without gene 0 are 10, 99 and 5.
        assert_eq!(step.target(), 10.0);
        let n = step.apply(m.clone()).unwrap().to_dense();
        assert_eq!(n.row(0).to_vec(), vec![90.0, 6.0, 4.0]);
        assert!((n[[1, 0]] - 10.0 / 99.0).abs() < 1e-6);
        assert!(NormalizeTotal::excluding_highly_expressed(&m, None, 1.0).is_err());
        assert!(step.apply(Csr::zeros(1, 2)).is_err());
    }

    #[test]
    fn streamed_is_the_same_and_names_rows_of_the_source() {
        use crate::Streamed;
        let m = Csr::from_dense(&array![[1.0, 3.0], [0.0, 0.0], [5.0, 0.0], [1.0, f32::NAN]]);
        let steps = (NormalizeTotal::to(10.0).unwrap(), Log1p);
        let streamed = Streamed::new(&m, &steps);
        let good = m.select_rows(&[2, 0]).unwrap();
        assert_eq!(
            streamed.read_rows(&[2, 0]).unwrap(),
            steps.apply(good).unwrap()
        );
        let message = streamed.read_range(2..4).unwrap_err().to_string();
        assert!(message.contains("row 3, column 1"), "{message}");
        let message = streamed.read_rows(&[0, 3]).unwrap_err().to_string();
        assert!(message.contains("row 3, column 1"), "{message}");
    }
}
