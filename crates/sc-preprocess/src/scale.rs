use ndarray::Array2;
use sc_data::{Csr, RowSource};

use crate::moments::moments;
use crate::transform::{Transform, map_rows, same_genes};
use crate::values::Check;
use crate::{Error, Result};

/// Options of [`Scaler::fit`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ScaleOptions {
    /// Subtract the mean of each gene. The result is dense; without it sparse data stay sparse.
    pub zero_center: bool,
    /// Values beyond this are cut off (10 is usual): above it, and with `zero_center` below its negative too.
    pub max_value: Option<f64>,
    /// Divide the sum of squares by `n` instead of `n - 1`.
    pub population: bool,
}

impl Default for ScaleOptions {
    fn default() -> Self {
        Self {
            zero_center: true,
            max_value: None,
            population: false,
        }
    }
}

/// Gives every gene the standard deviation 1, and if asked for the mean 0: `(x - mean) / deviation`. A gene that does not vary
/// is only centred.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaler {
    /// The mean of each gene.
    pub mean: Vec<f64>,
    /// The standard deviation of each gene; 1 if it does not vary.
    pub deviation: Vec<f64>,
    options: ScaleOptions,
}

impl Scaler {
    /// Learns means and deviations, reading the source once.
    ///
    /// # Errors
    /// Those of the source; [`Error::TooSmall`] with fewer than two cells, [`Error::InvalidValue`] if a value is not finite,
    /// [`Error::InvalidParameter`] if `max_value` is not positive.
    pub fn fit(source: &dyn RowSource, options: ScaleOptions) -> Result<Self> {
        let n = source.n_rows();
        if n < 2 {
            return Err(Error::TooSmall {
                what: "cells",
                found: n,
                needed: 2,
            });
        }
        if let Some(v) = options.max_value.filter(|v| v.is_nan() || *v <= 0.0) {
            return Err(Error::InvalidParameter {
                name: "max_value",
                found: v.to_string(),
                expected: "more than 0, usually 10".into(),
            });
        }
        let m = moments(source, Check::Finite, f64::from)?;
        let share = if options.population {
            (n as f64 - 1.0) / n as f64
        } else {
            1.0
        };
        let deviation = |&v: &f64| match (v * share).sqrt() {
            s if s > 0.0 => s,
            _ => 1.0,
        };
        Ok(Self {
            deviation: m.variance.iter().map(deviation).collect(),
            mean: m.mean,
            options,
        })
    }

    /// The scaled values as a dense array. Without centring, [`Transform::apply`] keeps them sparse.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if `x` has another number of genes.
    pub fn to_dense(&self, x: &Csr) -> Result<Array2<f32>> {
        same_genes(x.n_cols(), self.mean.len())?;
        let mut dense = x.to_dense();
        for mut row in dense.rows_mut() {
            for (g, v) in row.iter_mut().enumerate() {
                *v = self.value(g, *v);
            }
        }
        Ok(dense)
    }

    fn value(&self, gene: usize, v: f32) -> f32 {
        let shift = if self.options.zero_center {
            self.mean[gene]
        } else {
            0.0
        };
        let scaled = (f64::from(v) - shift) / self.deviation[gene];
        let scaled = match self.options.max_value {
            Some(max) if self.options.zero_center => scaled.clamp(-max, max),
            Some(max) => scaled.min(max),
            None => scaled,
        };
        scaled as f32
    }
}

impl Transform for Scaler {
    /// With centring every value is stored.
    fn apply(&self, block: Csr) -> Result<Csr> {
        same_genes(block.n_cols(), self.mean.len())?;
        if self.options.zero_center {
            return Ok(Csr::from_dense(&self.to_dense(&block)?));
        }
        map_rows(block, |_, genes, values| {
            for (&g, v) in genes.iter().zip(values) {
                *v = self.value(g as usize, *v);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn example() -> Csr {
        Csr::from_dense(&array![[1.0, 0.0, 2.0], [0.0, 0.0, 2.0], [5.0, 0.0, 2.0]])
    }

    #[test]
    fn unit_variance_and_zero_mean() {
        let x = example();
        let dense = Scaler::fit(&x, ScaleOptions::default()).unwrap();
        let d = dense.to_dense(&x).unwrap();
        let column = d.column(0);
        assert!(column.sum().abs() < 1e-6);
        assert!((column.dot(&column) / 2.0 - 1.0).abs() < 1e-6);
        // Constant genes are centred.
        assert!(d.column(1).iter().chain(&d.column(2)).all(|&v| v == 0.0));
        let mut options = ScaleOptions {
            max_value: Some(1.0),
            ..ScaleOptions::default()
        };
        let cut = Scaler::fit(&x, options).unwrap().to_dense(&x).unwrap();
        assert_eq!(cut[[2, 0]], 1.0);
        options.population = true;
        let d = Scaler::fit(&x, options).unwrap();
        assert!((d.deviation[0] - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn without_centring_sparse_stays_sparse() {
        let x = example();
        let options = ScaleOptions {
            zero_center: false,
            max_value: Some(1.5),
            population: false,
        };
        let step = Scaler::fit(&x, options).unwrap();
        let s = step.apply(x.clone()).unwrap();
        assert_eq!(s.n_stored(), x.n_stored());
        assert_eq!(s.to_dense()[[2, 0]], 1.5);
        assert_eq!(s.to_dense(), step.to_dense(&x).unwrap());
        assert!(step.apply(Csr::zeros(1, 2)).is_err());
        assert!(Scaler::fit(&x.select_rows(&[0]).unwrap(), options).is_err());
    }
}
