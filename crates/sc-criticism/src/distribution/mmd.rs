use ndarray::{ArrayView1, ArrayView2, Axis, concatenate};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use sc_neighbors::GroupedPoints;

use super::{comparable, together};
use crate::statistics::median;
use crate::{Error, Result};

/// Points whose distances [`median_gamma`] looks at.
const SAMPLED: usize = 1000;

/// Which pairs [`mmd`] averages over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Estimator {
    /// All, a point and itself included: never negative, too large for small clouds.
    #[default]
    Biased,
    /// Not those of a point and itself: right on average, may be negative.
    Unbiased,
}

/// The squared maximum mean discrepancy of two clouds (Gretton et al. 2012), `E k(X, X') + E k(Y, Y') - 2 E k(X, Y)`, with the
/// Gaussian kernel `k(a, b) = exp(-gamma |a - b|^2)`. 0 for the same cloud. [`median_gamma`] chooses a `gamma`.
///
/// All pairs are compared, in tiles; memory is linear in the number of cells.
///
/// # Errors
/// As [`energy_distance`](super::energy_distance); [`Error::InvalidParameter`] unless `gamma` is positive and finite;
/// [`Error::Undefined`] if the unbiased estimate is of a single point.
pub fn mmd(
    x: ArrayView2<'_, f32>,
    y: ArrayView2<'_, f32>,
    gamma: f64,
    estimator: Estimator,
) -> Result<f64> {
    comparable(x, y)?;
    if !(gamma > 0.0 && gamma.is_finite()) {
        return Err(Error::InvalidParameter {
            name: "gamma",
            found: gamma.to_string(),
            expected: "a positive number, e.g. that of median_gamma".into(),
        });
    }
    let unbiased = estimator == Estimator::Unbiased;
    if unbiased && x.nrows().min(y.nrows()) < 2 {
        return Err(Error::Undefined(
            "the unbiased estimate needs two cells on each side".into(),
        ));
    }
    let sum = |points: &GroupedPoints, query: ArrayView2<'_, f32>| -> Result<f64> {
        let sums = points.gaussian_sums(query, gamma, |_, sums| sums.iter().sum::<f64>())?;
        Ok(sums.iter().sum())
    };
    let within = |points: &GroupedPoints, query: ArrayView2<'_, f32>| -> Result<f64> {
        let n = query.nrows() as f64;
        let all = sum(points, query)?;
        Ok(if unbiased {
            (all - n) / (n * (n - 1.0))
        } else {
            all / (n * n)
        })
    };
    let (of_x, of_y) = (together(x)?, together(y)?);
    let between = sum(&of_y, x)? / (x.nrows() as f64 * y.nrows() as f64);
    Ok(within(&of_x, x)? + within(&of_y, y)? - 2.0 * between)
}

/// `1 / (2 m^2)`, where `m` is the median distance of two different points of both clouds together: of at most 1,000 of
/// them, drawn by the seed.
///
/// # Errors
/// As [`energy_distance`](super::energy_distance); [`Error::Undefined`] if the median is 0.
pub fn median_gamma(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, seed: u64) -> Result<f64> {
    comparable(x, y)?;
    let n = x.nrows() + y.nrows();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = sample(&mut rng, n, n.min(SAMPLED)).into_vec();
    rows.sort_unstable();
    let (in_x, in_y): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(|&r| r < x.nrows());
    let in_y: Vec<usize> = in_y.into_iter().map(|r| r - x.nrows()).collect();
    let (x, y) = (x.select(Axis(0), &in_x), y.select(Axis(0), &in_y));
    let both =
        concatenate(Axis(0), &[x.view(), y.view()]).map_err(|e| Error::Undefined(e.to_string()))?;
    let square = |a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>| -> f64 {
        let d = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b));
        d.map(|d| d * d).sum()
    };
    let squares: Vec<f64> = (0..both.nrows())
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .map(|(i, j)| square(both.row(i), both.row(j)))
        .collect();
    match median(&squares) {
        Some(m) if m > 0.0 && m.is_finite() => Ok(0.5 / m),
        _ => Err(Error::Undefined(
            "half of the points lie at one place, or a coordinate is not finite".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn by_hand() {
        let x = array![[0.0f32], [1.0]];
        let y = array![[2.0f32], [0.0], [0.0]];
        let k = |d: f64| (-0.5 * d * d).exp();
        let xx = (2.0 + 2.0 * k(1.0)) / 4.0;
        let yy = (5.0 + 4.0 * k(2.0)) / 9.0;
        let xy = (k(2.0) + 2.0 + k(1.0) + 2.0 * k(1.0)) / 6.0;
        let found = mmd(x.view(), y.view(), 0.5, Estimator::Biased).unwrap();
        assert!((found - (xx + yy - 2.0 * xy)).abs() < 1e-12);
        let (xx, yy) = (k(1.0), (2.0 + 4.0 * k(2.0)) / 6.0);
        let found = mmd(x.view(), y.view(), 0.5, Estimator::Unbiased).unwrap();
        assert!((found - (xx + yy - 2.0 * xy)).abs() < 1e-12);
        assert!(
            mmd(x.view(), x.view(), 1.0, Estimator::Biased)
                .unwrap()
                .abs()
                < 1e-12
        );
    }

    #[test]
    fn bad_input_is_named() {
        let x = array![[0.0f32], [1.0]];
        for gamma in [0.0, -1.0, f64::NAN] {
            assert!(mmd(x.view(), x.view(), gamma, Estimator::Biased).is_err());
        }
        let one = array![[0.0f32]];
        assert!(mmd(x.view(), one.view(), 1.0, Estimator::Unbiased).is_err());
        assert!(median_gamma(one.view(), one.view(), 0).is_err());
        // Distances 0, 1, 1, 1, 1, 0.
        assert_eq!(median_gamma(x.view(), x.view(), 0).unwrap(), 0.5);
    }
}
