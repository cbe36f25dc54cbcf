//! Cubic splines: one that interpolates, to find the maximum of a curve known at a few points, and one that smooths.

use ndarray::Array2;

use super::linear::orthonormal;
use super::ranks::quantile;

/// Where the cubic spline through `values` at 0, 1, 2, ... is largest.
///
/// The end conditions are those of Forsythe, Malcolm and Moler (1977): the third derivative in the first and last
/// interval is that of the cubic through the outermost four points. At least four values.
pub(super) fn maximum(values: &[f64]) -> f64 {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    let sigma = sixths_of_curvature(values);
    let (mut at, mut height) = (best as f64, values[best]);
    let neighbours = best.saturating_sub(1)..(best + 1).min(values.len() - 1);
    for i in neighbours {
        // value + b t + c t^2 + d t^3 for t in 0..=1
        let b = values[i + 1] - values[i] - 2.0 * sigma[i] - sigma[i + 1];
        let (c, d) = (3.0 * sigma[i], sigma[i + 1] - sigma[i]);
        for t in roots(3.0 * d, 2.0 * c, b) {
            let value = values[i] + t * (b + t * (c + t * d));
            if (0.0..=1.0).contains(&t) && value > height {
                (at, height) = (i as f64 + t, value);
            }
        }
    }
    at
}

/// The real roots of `a t^2 + b t + c`.
fn roots(a: f64, b: f64, c: f64) -> Vec<f64> {
    let discriminant = b * b - 4.0 * a * c;
    if discriminant < 0.0 {
        return Vec::new();
    }
    // The form that does not subtract nearly equal numbers; it also covers a = 0.
    let q = -0.5 * (b + discriminant.sqrt().copysign(b));
    [q / a, c / q]
        .into_iter()
        .filter(|t| t.is_finite())
        .collect()
}

/// `S'' / 6` of the interpolating spline at each point: `s_{i-1} + 4 s_i + s_{i+1} = y_{i+1} - 2 y_i + y_{i-1}` inside,
/// `s_1 - s_0` and `s_{n-1} - s_{n-2}` the third divided differences at the ends.
fn sixths_of_curvature(y: &[f64]) -> Vec<f64> {
    let n = y.len();
    if n < 4 {
        return vec![0.0; n];
    }
    let third = |i: usize| (y[i + 3] - 3.0 * y[i + 2] + 3.0 * y[i + 1] - y[i]) / 6.0;
    // Elimination from the left: s_i = right_i - ratio_i s_{i+1}. The first row is -s_0 + s_1 = third(0).
    let (mut ratio, mut right) = (vec![-1.0; n], vec![-third(0); n]);
    for i in 1..n - 1 {
        let pivot = 4.0 - ratio[i - 1];
        ratio[i] = 1.0 / pivot;
        right[i] = (y[i + 1] - 2.0 * y[i] + y[i - 1] - right[i - 1]) / pivot;
    }
    let mut s = vec![0.0; n];
    // -s_{n-2} + s_{n-1} = third(n - 4)
    s[n - 1] = (third(n - 4) + right[n - 2]) / (1.0 + ratio[n - 2]);
    for i in (0..n - 1).rev() {
        s[i] = right[i] - ratio[i] * s[i + 1];
    }
    s
}

/// Regression on a natural cubic spline.
pub(super) struct Smooth {
    /// The fitted value at every `x`.
    pub(super) fitted: Vec<f64>,
    /// Coefficients used.
    pub(super) rank: usize,
}

/// Regression of `y` on a natural cubic spline of `x` with `df` coefficients: knots at the ends of `x` and at equally spaced
/// quantiles between, linear beyond. Rows for which `counts` does not hold are predicted, but not fitted to.
pub(super) fn natural_regression(
    x: &[f64],
    y: &[f64],
    df: usize,
    counts: impl Fn(usize) -> bool + Copy,
) -> Smooth {
    let fitted_x: Vec<f64> = (0..x.len()).filter(|&i| counts(i)).map(|i| x[i]).collect();
    let knots = knots(&fitted_x, df);
    let basis = natural_basis(x, &knots);
    let basis = orthonormal(basis.view(), counts).basis;
    let mut fitted = vec![0.0; x.len()];
    for q in &basis {
        let share: f64 = (0..x.len())
            .filter(|&i| counts(i))
            .map(|i| q[i] * y[i])
            .sum();
        fitted.iter_mut().zip(q).for_each(|(f, q)| *f += share * q);
    }
    Smooth {
        fitted,
        rank: basis.len(),
    }
}

/// `df` knots, those at the ends included, from 0 to 1 as shares of the range of `x`. Equal ones become one.
fn knots(x: &[f64], df: usize) -> Knots {
    let last = df.max(2) - 1;
    let mut at: Vec<f64> = (0..=last)
        .map(|k| quantile(x, k as f64 / last as f64))
        .collect();
    at.dedup();
    Knots { at }
}

struct Knots {
    at: Vec<f64>,
}

/// The truncated power basis of natural splines (Hastie, Tibshirani and Friedman, 5.2.1): 1, `x`, and for all but the last
/// two knots `d_k(x) - d_{K-1}(x)`, `d_k(x) = ((x - k)_+^3 - (x - K)_+^3) / (K - k)`. `df` knots make `df` functions.
fn natural_basis(x: &[f64], knots: &Knots) -> Array2<f64> {
    let (first, last) = match (knots.at.first(), knots.at.last()) {
        (Some(&a), Some(&b)) if b > a => (a, b),
        _ => return Array2::ones((x.len(), 1)),
    };
    let scaled = |v: f64| (v - first) / (last - first);
    let t: Vec<f64> = knots.at.iter().map(|&k| scaled(k)).collect();
    let cube = |v: f64| v.max(0.0).powi(3);
    let d = |k: usize, v: f64| (cube(v - t[k]) - cube(v - 1.0)) / (1.0 - t[k]);
    Array2::from_shape_fn((x.len(), t.len()), |(i, j)| {
        let v = scaled(x[i]);
        match j {
            0 => 1.0,
            1 => v,
            _ => d(j - 2, v) - d(t.len() - 2, v),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_of_a_cubic_is_found() {
        // Such a spline reproduces cubics: -(t - 3.3)^2 (t + 20) has its maximum at 3.3.
        let y: Vec<f64> = (0..9)
            .map(f64::from)
            .map(|t| -(t - 3.3).powi(2) * (t + 20.0))
            .collect();
        assert!((maximum(&y) - 3.3).abs() < 1e-9);
        assert_eq!(maximum(&[5.0, 4.0, 3.0, 2.0, 1.0]), 0.0);
        assert_eq!(maximum(&[1.0, 2.0, 3.0, 4.0, 5.0]), 4.0);
        assert_eq!(maximum(&[2.0; 6]), 0.0);
    }

    /// Reference: `maximizeInterpolant` of inmoose 0.9.1 at -10, -9, ..., 10.
    #[test]
    fn the_maximum_agrees_with_inmoose() {
        for (centre, expected) in [(1.3, 1.388_301_207_480_318_2), (4.6, 4.489_439_100_651_701)] {
            let y: Vec<f64> = (-10..=10)
                .map(f64::from)
                .map(|t| -(t - centre).powi(2) + t.sin())
                .collect();
            assert!(
                (maximum(&y) - 10.0 - expected).abs() < 1e-9,
                "{}",
                maximum(&y)
            );
        }
    }

    #[test]
    fn regression_with_few_coefficients() {
        let x: Vec<f64> = (0..30).map(|i| f64::from(i * i)).collect();
        let line: Vec<f64> = x.iter().map(|x| 3.0 - 0.5 * x).collect();
        for df in [2, 3, 4] {
            // Row 7 is left out, and predicted.
            let mut y = line.clone();
            y[7] = 1e6;
            let s = natural_regression(&x, &y, df, |i| i != 7);
            assert_eq!(s.rank, df);
            for (a, b) in s.fitted.iter().zip(&line) {
                assert!((a - b).abs() < 1e-8, "{a} {b}");
            }
        }
        // One coefficient: the mean.
        let s = natural_regression(&[1.0; 4], &[1.0, 2.0, 3.0, 6.0], 3, |_| true);
        assert_eq!(s.rank, 1);
        assert!(s.fitted.iter().all(|f| (f - 3.0).abs() < 1e-12));
    }
}
