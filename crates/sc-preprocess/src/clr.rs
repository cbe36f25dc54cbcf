use ndarray::Array2;
use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use crate::columns::{Block, blocks};
use crate::simd::{ln_1p_into, ln_1p_wide};
use crate::transform::{Transform, map_rows, same_genes};
use crate::values::Check;
use crate::{Error, Result};

/// Rows whose logarithms one thread sums up at a time. Fixed, because the order of sums depends on it.
const ROWS: usize = 1024;

/// Over what [`Clr`] takes the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClrMargin {
    /// The features of a cell (Seurat's `margin = 2`, muon's `axis = 1`): corrects for how much was captured of a cell.
    Cells,
    /// The cells of a feature (Seurat's `margin = 1`, muon's `axis = 0`): corrects for how well an antibody binds.
    Features,
}

/// Centred log ratio of protein counts, as Seurat has it: `ln(1 + x / exp(m))`, where `m` is the mean of `ln(1 + x)` over a
/// [`ClrMargin`], zeros counted. Zeros stay zero, so that sparse data stay sparse.
///
/// ```
/// use sc_data::Csr;
/// use sc_preprocess::{Clr, ClrMargin, Transform};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let adt = Csr::from_dense(&ndarray::array![[0.0f32, 20.0, 3.0], [5.0, 100.0, 0.0]]);
/// let by_cell = Clr::fit(&adt, ClrMargin::Cells)?.apply(adt.clone())?;
/// assert_eq!(by_cell.n_stored(), adt.n_stored());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Clr {
    /// For [`ClrMargin::Features`] the mean of each; `None` for cells, which bring their own.
    means: Option<Vec<f64>>,
    n_features: usize,
}

impl Clr {
    /// Learns the mean of each feature; for [`ClrMargin::Cells`] there is nothing to learn and nothing is read.
    ///
    /// # Errors
    /// Those of the source; [`Error::InvalidValue`] if a value is negative or not finite, [`Error::TooSmall`] if there is nothing
    /// to take the mean over.
    pub fn fit(source: &dyn RowSource, margin: ClrMargin) -> Result<Self> {
        let n_features = source.n_cols();
        let (what, found) = match margin {
            ClrMargin::Cells => ("features", n_features),
            ClrMargin::Features => ("cells", source.n_rows()),
        };
        if found == 0 {
            return Err(Error::TooSmall {
                what,
                found,
                needed: 1,
            });
        }
        if margin == ClrMargin::Cells {
            return Ok(Self {
                means: None,
                n_features,
            });
        }
        let mut sums = vec![0.0; n_features];
        for block in blocks(source) {
            let block = block?;
            Check::NotNegative.block(&block)?;
            add_logs(&mut sums, &block);
        }
        let n = source.n_rows() as f64;
        Ok(Self {
            means: Some(sums.into_iter().map(|s| s / n).collect()),
            n_features,
        })
    }

    fn check(&self, block: &Csr) -> Result<()> {
        Check::NotNegative.matrix(block)?;
        same_genes(block.n_cols(), self.n_features)
    }

    /// The mean of a cell's logarithms.
    fn of_cell(&self, values: &[f32]) -> f64 {
        let mut logs = vec![0.0; values.len()];
        ln_1p_wide(values, &mut logs);
        logs.iter().sum::<f64>() / self.n_features as f64
    }

    /// The log ratio as Aitchison defined it, with a count of one added: `ln(1 + x) - m`. Zeros become `-m`: the result is
    /// dense.
    ///
    /// # Errors
    /// As [`Transform::apply`].
    pub fn centered(&self, x: &Csr) -> Result<Array2<f32>> {
        self.check(x)?;
        let mut out = x.to_dense();
        let mut logs = vec![0.0; x.n_cols()];
        for (i, mut row) in out.rows_mut().into_iter().enumerate() {
            let own = self.of_cell(x.row(i).1);
            if let Some(values) = row.as_slice() {
                ln_1p_wide(values, &mut logs);
            }
            for (j, (v, log)) in row.iter_mut().zip(&logs).enumerate() {
                let mean = self.means.as_ref().map_or(own, |m| m[j]);
                *v = (log - mean) as f32;
            }
        }
        Ok(out)
    }
}

/// Adds the sums of `ln(1 + x)` over the rows of a block.
fn add_logs(sums: &mut [f64], block: &Block<'_>) {
    let starts: Vec<usize> = (0..block.n_rows()).step_by(ROWS).collect();
    let parts: Vec<Vec<f64>> = starts
        .into_par_iter()
        .map(|start| {
            let mut part = vec![0.0; sums.len()];
            let mut logs = Vec::new();
            for i in start..(start + ROWS).min(block.n_rows()) {
                let (features, values) = block.row(i);
                logs.resize(values.len(), 0.0);
                ln_1p_wide(values, &mut logs);
                for (&j, log) in features.iter().zip(&logs) {
                    part[j as usize] += log;
                }
            }
            part
        })
        .collect();
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(s, p)| *s += p);
    }
}

impl Transform for Clr {
    fn apply(&self, block: Csr) -> Result<Csr> {
        self.check(&block)?;
        let Some(means) = &self.means else {
            return map_rows(block, |_, _, values| {
                let factor = (-self.of_cell(values)).exp();
                let ratios: Vec<f64> = values.iter().map(|&v| f64::from(v) * factor).collect();
                ln_1p_into(&ratios, values);
            });
        };
        let factors: Vec<f64> = means.iter().map(|m| (-m).exp()).collect();
        map_rows(block, |_, features, values| {
            let each = features.iter().zip(&*values);
            let ratios: Vec<f64> = each
                .map(|(&j, &v)| f64::from(v) * factors[j as usize])
                .collect();
            ln_1p_into(&ratios, values);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Axis, array};

    #[test]
    fn both_margins() {
        let dense = array![[0.0f32, 20.0, 3.0], [5.0, 100.0, 0.0]];
        let x = Csr::from_dense(&dense);
        let logs = dense.mapv(|v| f64::from(v).ln_1p());
        for (margin, axis) in [(ClrMargin::Cells, 1), (ClrMargin::Features, 0)] {
            let means = logs.mean_axis(Axis(axis)).unwrap().insert_axis(Axis(axis));
            let step = Clr::fit(&x, margin).unwrap();
            let ratio = dense.mapv(f64::from) / &means.mapv(f64::exp);
            let found = step.apply(x.clone()).unwrap().to_dense();
            let expected = ratio.mapv(f64::ln_1p);
            assert!(
                found
                    .iter()
                    .zip(&expected)
                    .all(|(f, e)| (f64::from(*f) - e).abs() < 1e-6)
            );
            let centred = step.centered(&x).unwrap().mapv(f64::from);
            let expected = &logs - &means;
            assert!(
                centred
                    .iter()
                    .zip(&expected)
                    .all(|(f, e)| (f - e).abs() < 1e-6)
            );
            // Ratios to the mean have the mean 0.
            assert!(centred.sum_axis(Axis(axis)).iter().all(|s| s.abs() < 1e-5));
        }
    }

    #[test]
    fn bad_input_is_named() {
        let x = array![[1.0f32, -1.0]];
        assert!(Clr::fit(&x, ClrMargin::Features).is_err());
        let cells = Clr::fit(&x, ClrMargin::Cells).unwrap();
        assert!(cells.apply(Csr::from_dense(&x)).is_err());
        assert!(cells.centered(&Csr::zeros(1, 3)).is_err());
        assert!(Clr::fit(&Csr::zeros(0, 3), ClrMargin::Features).is_err());
        // A cell without counts stays without.
        let empty = cells.apply(Csr::zeros(2, 2)).unwrap();
        assert_eq!(empty.n_stored(), 0);
    }
}
