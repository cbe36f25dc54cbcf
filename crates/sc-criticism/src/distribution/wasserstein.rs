use ndarray::{Array1, ArrayView1, ArrayView2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::comparable;
use crate::{Error, Result};

/// The most points on a side that [`wasserstein_exact`] takes.
pub const EXACT_UP_TO: usize = 2000;

/// The `p`-Wasserstein distance of two samples of numbers, `(integral_0^1 |F^-1(u) - G^-1(u)|^p du)^(1/p)` with their quantile
/// functions. The samples may differ in size. `p = 1` is SciPy's `wasserstein_distance`.
///
/// # Errors
/// [`Error::Undefined`] if a sample is empty, [`Error::NotANumber`] if a number is not finite, [`Error::InvalidParameter`]
/// unless `p >= 1`.
pub fn wasserstein_1d(a: &[f64], b: &[f64], p: f64) -> Result<f64> {
    check_power(p)?;
    let sorted = |values: &[f64], what: &str| -> Result<Vec<f64>> {
        if let Some((row, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NotANumber {
                what: what.into(),
                row,
                value,
            });
        }
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        Ok(values)
    };
    let (a, b) = (
        sorted(a, "the first sample")?,
        sorted(b, "the second sample")?,
    );
    if a.is_empty() || b.is_empty() {
        return Err(Error::Undefined("a sample has no numbers".into()));
    }
    Ok(between_sorted(&a, &b, p).powf(1.0 / p))
}

fn check_power(p: f64) -> Result<()> {
    if p >= 1.0 && p.is_finite() {
        return Ok(());
    }
    Err(Error::InvalidParameter {
        name: "p",
        found: p.to_string(),
        expected: "1 or more, usually 1 or 2".into(),
    })
}

/// The `p`-th power of the distance of sorted samples: the shares that both cut the unit interval into are passed in
/// order, in whole numbers of `1 / (n m)`.
fn between_sorted(a: &[f64], b: &[f64], p: f64) -> f64 {
    let cost = |x: f64, y: f64| {
        let d = (x - y).abs();
        if p == 1.0 {
            d
        } else if p == 2.0 {
            d * d
        } else {
            d.powf(p)
        }
    };
    if a.len() == b.len() {
        let costs = a.iter().zip(b).map(|(&x, &y)| cost(x, y));
        return costs.sum::<f64>() / a.len() as f64;
    }
    let (n, m) = (a.len() as u128, b.len() as u128);
    let (mut i, mut j, mut at, mut sum) = (0, 0, 0u128, 0.0);
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        let (end_a, end_b) = ((i as u128 + 1) * m, (j as u128 + 1) * n);
        let end = end_a.min(end_b);
        sum += cost(x, y) * (end - at) as f64;
        at = end;
        i += usize::from(end == end_a);
        j += usize::from(end == end_b);
    }
    sum / (n * m) as f64
}

/// The sliced `p`-Wasserstein distance of two clouds of points (Bonneel et al. 2015): `(mean_theta W_p^p)^(1/p)` of their
/// projections on `n_projections` random directions `theta`. Takes any number of points.
///
/// # Errors
/// As [`energy_distance`](super::energy_distance), [`Error::NotANumber`] if a coordinate is not finite,
/// [`Error::InvalidParameter`] unless `p >= 1` and there is a projection.
pub fn sliced_wasserstein(
    x: ArrayView2<'_, f32>,
    y: ArrayView2<'_, f32>,
    n_projections: usize,
    p: f64,
    seed: u64,
) -> Result<f64> {
    comparable(x, y)?;
    check_power(p)?;
    check_finite(x)?;
    check_finite(y)?;
    if n_projections == 0 || x.ncols() == 0 {
        return Err(Error::InvalidParameter {
            name: "the number of projections or of dimensions",
            found: "0".into(),
            expected: "at least 1; usually 100 projections".into(),
        });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let directions: Vec<Array1<f64>> = (0..n_projections)
        .map(|_| {
            let mut v: Array1<f64> =
                Array1::from_shape_fn(x.ncols(), |_| StandardNormal.sample(&mut rng));
            v /= v.dot(&v).sqrt().max(f64::MIN_POSITIVE);
            v
        })
        .collect();
    let powers: Vec<f64> = directions
        .par_iter()
        .map(|direction| {
            let along = |points: ArrayView2<'_, f32>| {
                let mut values: Vec<f64> = points
                    .outer_iter()
                    .map(|row| {
                        row.iter()
                            .zip(direction)
                            .map(|(&v, d)| f64::from(v) * d)
                            .sum()
                    })
                    .collect();
                values.sort_unstable_by(f64::total_cmp);
                values
            };
            between_sorted(&along(x), &along(y), p)
        })
        .collect();
    Ok((powers.iter().sum::<f64>() / n_projections as f64).powf(1.0 / p))
}

fn check_finite(points: ArrayView2<'_, f32>) -> Result<()> {
    match points.indexed_iter().find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some(((row, column), &v)) => Err(Error::NotANumber {
            what: format!("column {column} of the points"),
            row,
            value: v.into(),
        }),
    }
}

/// The `p`-Wasserstein distance of two clouds with as many points each: `(min_pi mean_i |x_i - y_pi(i)|^p)^(1/p)` over
/// all pairings `pi`, with Euclidean distances. Time grows with the third power of the number of points, which is at most
/// [`EXACT_UP_TO`]; the costs of all pairs are held.
///
/// # Errors
/// As [`sliced_wasserstein`]; [`Error::InvalidParameter`] if the sides differ in size or have too many points.
pub fn wasserstein_exact(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, p: f64) -> Result<f64> {
    comparable(x, y)?;
    check_power(p)?;
    check_finite(x)?;
    check_finite(y)?;
    let n = x.nrows();
    if y.nrows() != n || n > EXACT_UP_TO {
        return Err(Error::InvalidParameter {
            name: "the number of points",
            found: format!("{n} and {}", y.nrows()),
            expected: format!(
                "the same on both sides, at most {EXACT_UP_TO}; sliced_wasserstein takes others"
            ),
        });
    }
    let cost = |a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>| -> f64 {
        let d = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b));
        let square: f64 = d.map(|d| d * d).sum();
        square.powf(p / 2.0)
    };
    let costs: Vec<Vec<f64>> = (0..n)
        .into_par_iter()
        .map(|i| (0..n).map(|j| cost(x.row(i), y.row(j))).collect())
        .collect();
    let pairs = assignment(&costs);
    let sum: f64 = pairs.iter().enumerate().map(|(i, &j)| costs[i][j]).sum();
    Ok((sum / n as f64).powf(1.0 / p))
}

/// The pairing of rows and columns with the smallest sum of costs, by shortest augmenting paths on reduced costs (Jonker
/// and Volgenant 1987): the column of each row.
fn assignment(costs: &[Vec<f64>]) -> Vec<usize> {
    let n = costs.len();
    let (mut of_row, mut of_column) = (vec![0.0; n], vec![0.0; n]);
    // The row of each column.
    let mut row: Vec<Option<usize>> = vec![None; n];
    for start in 0..n {
        let mut shortest = vec![f64::INFINITY; n];
        let mut from: Vec<Option<usize>> = vec![None; n];
        let mut done = vec![false; n];
        let (mut i, mut last, mut length) = (start, None, 0.0);
        let end = loop {
            let mut next = (f64::INFINITY, 0);
            for j in 0..n {
                if done[j] {
                    continue;
                }
                let through = length + costs[i][j] - of_row[i] - of_column[j];
                if through < shortest[j] {
                    shortest[j] = through;
                    from[j] = last;
                }
                if shortest[j] < next.0 {
                    next = (shortest[j], j);
                }
            }
            let j = next.1;
            length = next.0;
            done[j] = true;
            match row[j] {
                Some(r) => (i, last) = (r, Some(j)),
                None => break j,
            }
        };
        of_row[start] += length;
        for j in 0..n {
            if let (true, Some(r)) = (done[j], row[j]) {
                of_row[r] += length - shortest[j];
                of_column[j] -= length - shortest[j];
            }
        }
        // Rows move along the path.
        let mut j = end;
        while let Some(before) = from[j] {
            row[j] = row[before];
            j = before;
        }
        row[j] = Some(start);
    }
    let mut columns = vec![0; n];
    for (j, r) in row.iter().enumerate() {
        if let Some(r) = r {
            columns[*r] = j;
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    /// Reference: SciPy 1.17.1.
    #[test]
    fn of_numbers_it_is_scipys() {
        let (a, b) = ([0.0, 1.0, 3.0], [5.0, 6.0, 8.0, 2.0]);
        let w = wasserstein_1d(&a, &b, 1.0).unwrap();
        assert!((w - 3.916_666_666_666_666_5).abs() < 1e-12, "{w}");
        assert_eq!(wasserstein_1d(&[0.0, 4.0], &[1.0, 5.0], 2.0).unwrap(), 1.0);
        assert_eq!(wasserstein_1d(&a, &a, 3.0).unwrap(), 0.0);
        assert!(wasserstein_1d(&a, &[], 1.0).is_err());
        assert!(wasserstein_1d(&a, &[f64::NAN], 1.0).is_err());
        assert!(wasserstein_1d(&a, &b, 0.5).is_err());
    }

    fn clouds() -> (Array2<f32>, Array2<f32>) {
        let at = |i: usize, j: usize, s: usize| ((i * 37 + j * 17 + i * i * s) % 101) as f32 / 10.0;
        (
            Array2::from_shape_fn((7, 2), |(i, j)| at(i, j, 3)),
            Array2::from_shape_fn((7, 2), |(i, j)| at(i, j, 5) + 1.0),
        )
    }

    /// Every pairing of seven points.
    #[test]
    fn the_best_pairing_is_found() {
        let (x, y) = clouds();
        let cost = |i: usize, j: usize| -> f64 {
            let d = (0..2).map(|k| f64::from(x[[i, k]]) - f64::from(y[[j, k]]));
            d.map(|d| d * d).sum()
        };
        fn best(cost: &dyn Fn(usize, usize) -> f64, i: usize, free: &mut Vec<usize>) -> f64 {
            if i == 7 {
                return 0.0;
            }
            let mut least = f64::INFINITY;
            for k in 0..free.len() {
                let j = free.remove(k);
                least = least.min(cost(i, j) + best(cost, i + 1, free));
                free.insert(k, j);
            }
            least
        }
        let expected = (best(&cost, 0, &mut (0..7).collect()) / 7.0).sqrt();
        let found = wasserstein_exact(x.view(), y.view(), 2.0).unwrap();
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        assert!(
            wasserstein_exact(x.view(), y.view().split_at(ndarray::Axis(0), 3).0, 2.0).is_err()
        );
        // In one dimension all of them agree.
        let (a, b) = (
            x.column(0).insert_axis(ndarray::Axis(1)),
            y.column(0).insert_axis(ndarray::Axis(1)),
        );
        let exact = wasserstein_exact(a, b, 1.0).unwrap();
        let sliced = sliced_wasserstein(a, b, 3, 1.0, 0).unwrap();
        assert!((exact - sliced).abs() < 1e-9);
    }

    #[test]
    fn slices() {
        let (x, y) = clouds();
        let d = |seed| sliced_wasserstein(x.view(), y.view(), 50, 2.0, seed).unwrap();
        assert_eq!(d(1), d(1));
        assert!(d(1) <= wasserstein_exact(x.view(), y.view(), 2.0).unwrap());
        // A shift by s has a mean squared projection of s^2 / dimensions.
        let moved = &x + &array![3.0f32, 0.0];
        let many = sliced_wasserstein(x.view(), moved.view(), 4000, 2.0, 0).unwrap();
        assert!((many - 3.0 / 2f64.sqrt()).abs() < 0.1, "{many}");
        assert!(sliced_wasserstein(x.view(), y.view(), 0, 2.0, 0).is_err());
    }
}
