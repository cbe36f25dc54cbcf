use sc_data::{Csr, RowSource};

use crate::Result;
use crate::columns::over_columns;
use crate::simd::ln_1p_into;
use crate::transform::{Transform, map_rows, same_genes};
use crate::values::Check;

/// Which term frequencies and weights [`TfIdf`] multiplies; `x` a count, `t` the cell's total, `f` the feature's total, `n`
/// the number of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TfIdfFlavor {
    /// `x / t * n / f`: what scglue (GLUE) takes. Weights are not logarithms.
    #[default]
    Glue,
    /// `ln(1 + 1e5 x / (t + 1e-5)) ln(1 + n / (f + 1e-5))`, as AllCools does.
    AllCools,
}

/// Term frequency times inverse document frequency: counts of open chromatin as shares of the cell, weighted by how rare the
/// peak is. Take counts, not their presence.
#[derive(Debug, Clone, PartialEq)]
pub struct TfIdf {
    flavor: TfIdfFlavor,
    /// The weight of each feature; 0 where no cell has it.
    pub idf: Vec<f64>,
}

impl TfIdf {
    /// Learns the weights of features, reading the source once.
    ///
    /// # Errors
    /// Those of the source; [`crate::Error::InvalidValue`] if a value is negative or not finite.
    pub fn fit(source: &dyn RowSource, flavor: TfIdfFlavor) -> Result<Self> {
        let parts = over_columns(
            source,
            |width| vec![0f64; width],
            |block| Check::NotNegative.block(block),
            |sums: &mut Vec<f64>, _, column, _, value| sums[column] += f64::from(value),
        )?;
        let n = source.n_rows() as f64;
        let weight = |total: f64| match flavor {
            _ if total <= 0.0 => 0.0,
            TfIdfFlavor::Glue => n / total,
            TfIdfFlavor::AllCools => (n / (total + 1e-5)).ln_1p(),
        };
        let totals = parts.into_iter().flat_map(|p| p.state);
        Ok(Self {
            flavor,
            idf: totals.map(weight).collect(),
        })
    }

    /// The weighted frequencies of one cell.
    fn row(&self, features: &[u32], counts: &[f32]) -> Vec<f64> {
        let total: f64 = counts.iter().map(|&v| f64::from(v)).sum();
        let weighted = features.iter().zip(counts).map(|(&f, &v)| {
            let v = f64::from(v);
            let frequency = match self.flavor {
                TfIdfFlavor::Glue => v / total,
                TfIdfFlavor::AllCools => (1e5 * v / (total + 1e-5)).ln_1p(),
            };
            frequency * self.idf[f as usize]
        });
        weighted.collect()
    }
}

impl Transform for TfIdf {
    /// Cells without counts stay empty.
    fn apply(&self, block: Csr) -> Result<Csr> {
        Check::NotNegative.matrix(&block)?;
        same_genes(block.n_cols(), self.idf.len())?;
        map_rows(block, |_, features, values| {
            if values.iter().any(|&v| v > 0.0) {
                let row = self.row(features, values);
                values.iter_mut().zip(row).for_each(|(v, w)| *v = w as f32);
            }
        })
    }
}

/// `ln(1 + 1e4 x / sum x)` of [`TfIdf`]: what scglue's LSI decomposes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogNormalized(pub(crate) TfIdf);

impl Transform for LogNormalized {
    fn apply(&self, block: Csr) -> Result<Csr> {
        Check::NotNegative.matrix(&block)?;
        same_genes(block.n_cols(), self.0.idf.len())?;
        map_rows(block, |_, features, values| {
            let mut row = self.0.row(features, values);
            let total: f64 = row.iter().sum();
            if total > 0.0 {
                row.iter_mut().for_each(|w| *w *= 1e4 / total);
                ln_1p_into(&row, values);
            }
        })
    }
}
