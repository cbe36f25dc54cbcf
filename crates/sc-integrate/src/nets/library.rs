//! Library sizes: what a cell's counts would sum to in another modality.

use candle_core::{DType, Tensor};
use sc_model::{Param, ParamBuilder};

use crate::Result;

/// The logarithm of the library size of a cell in a target modality, as a straight line in `ln(1 + sum)` of its values in a
/// source modality, by least squares over the cells that have both.
#[derive(Debug, Clone)]
pub(crate) struct LibraryLine {
    line: Param,
}

/// What the line says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Line {
    pub(crate) intercept: f64,
    pub(crate) slope: f64,
    /// The standard deviation around the line.
    pub(crate) spread: f64,
}

impl Line {
    /// Fitted to the logarithms `y` at `x`. Without spread in `x` it is flat.
    pub(crate) fn fit(x: &[f64], y: &[f64]) -> Self {
        let n = x.len().max(1) as f64;
        let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
        let (mx, my) = (mean(x), mean(y));
        let mut sxx = 0.0;
        let mut sxy = 0.0;
        for (a, b) in x.iter().zip(y) {
            sxx += (a - mx).powi(2);
            sxy += (a - mx) * (b - my);
        }
        let slope = if sxx > 1e-12 * n { sxy / sxx } else { 0.0 };
        let intercept = my - slope * mx;
        let rest = |(a, b): (&f64, &f64)| (b - intercept - slope * a).powi(2);
        let squares: f64 = x.iter().zip(y).map(rest).sum();
        Self {
            intercept,
            slope,
            spread: (squares / n).sqrt(),
        }
    }

    /// The logarithm of the library size for a sum of the source's values.
    pub(crate) fn at(&self, sum: f64) -> f64 {
        self.intercept + self.slope * sum.max(0.0).ln_1p()
    }
}

impl LibraryLine {
    pub(super) fn new(p: &ParamBuilder<'_>, target: usize) -> Result<Self> {
        let line = p.buffer(&target.to_string(), 3, 0.0, DType::F64)?;
        Ok(Self { line })
    }

    pub(crate) fn set(&self, line: Line) -> Result<()> {
        let values = [line.intercept, line.slope, line.spread];
        let t = Tensor::new(&values, self.line.value().device())?;
        Ok(self.line.var().set(&t)?)
    }

    pub(crate) fn get(&self) -> Result<Line> {
        let v: Vec<f64> = self.line.value().to_vec1()?;
        let at = |i: usize| v.get(i).copied().unwrap_or(0.0);
        Ok(Line {
            intercept: at(0),
            slope: at(1),
            spread: at(2),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let x = [1.0, 2.0, 3.0, 5.0];
        let y = x.map(|x| 0.5 + 2.0 * x);
        let line = Line::fit(&x, &y);
        assert!((line.slope - 2.0).abs() < 1e-12 && (line.intercept - 0.5).abs() < 1e-12);
        assert!(line.spread < 1e-12);
        assert!((line.at(0.0) - 0.5).abs() < 1e-12);
        let flat = Line::fit(&[1.0, 1.0], &[2.0, 4.0]);
        assert_eq!((flat.slope, flat.intercept, flat.spread), (0.0, 3.0, 1.0));
    }
}
