use pulp::WithSimd;
use rayon::prelude::*;

use super::band::{Band, Problem, Sums};
use super::exp2::{Exp2, LOWEST};
use super::points::{Cloud, Packed, ROWS};
use super::{Cost, Points, check, check_terms, mixed};
use crate::Result;

/// Bands of a problem, at most: a fixed number, so that the order of additions is fixed too. Each keeps two numbers per
/// column.
const BANDS: usize = 16;

/// `ln sum_j exp(terms_j - cost(x_i, y_j) / epsilon)` for each point `i` of `x`.
///
/// # Errors
/// If the clouds don't fit together, `terms` has another length than `y` or a NaN, or `epsilon` isn't positive.
pub fn log_sums(
    x: &Points,
    y: &Points,
    cost: Cost,
    epsilon: f64,
    terms: &[f64],
) -> Result<Vec<f64>> {
    const OP: &str = "log_sums";
    check(OP, x, y, epsilon)?;
    check_terms(OP, "the terms", terms, y)?;
    match (&x.0, &y.0) {
        (Packed::Single(x), Packed::Single(y)) => Ok(rows(x, y, cost, epsilon, terms)),
        (Packed::Double(x), Packed::Double(y)) => Ok(rows(x, y, cost, epsilon, terms)),
        _ => Err(mixed(OP)),
    }
}

/// [`log_sums`] of `x` with the terms `of_y`, and of `y` with the terms `of_x`, in one pass over the pairs.
///
/// # Errors
/// As [`log_sums`].
pub fn log_sums_both(
    x: &Points,
    y: &Points,
    cost: Cost,
    epsilon: f64,
    of_x: &[f64],
    of_y: &[f64],
) -> Result<(Vec<f64>, Vec<f64>)> {
    const OP: &str = "log_sums_both";
    check(OP, x, y, epsilon)?;
    check_terms(OP, "the terms of the first cloud", of_x, x)?;
    check_terms(OP, "the terms of the second cloud", of_y, y)?;
    match (&x.0, &y.0) {
        (Packed::Single(x), Packed::Single(y)) => Ok(both(x, y, cost, epsilon, of_x, of_y)),
        (Packed::Double(x), Packed::Double(y)) => Ok(both(x, y, cost, epsilon, of_x, of_y)),
        _ => Err(mixed(OP)),
    }
}

/// [`log_sums`] of a cloud with itself, at half of the cost.
///
/// # Errors
/// As [`log_sums`].
pub fn log_sums_within(x: &Points, cost: Cost, epsilon: f64, terms: &[f64]) -> Result<Vec<f64>> {
    const OP: &str = "log_sums_within";
    check(OP, x, x, epsilon)?;
    check_terms(OP, "the terms", terms, x)?;
    Ok(match &x.0 {
        Packed::Single(x) => within(x, cost, epsilon, terms),
        Packed::Double(x) => within(x, cost, epsilon, terms),
    })
}

fn rows<T: Exp2>(x: &Cloud<T>, y: &Cloud<T>, cost: Cost, epsilon: f64, terms: &[f64]) -> Vec<f64> {
    let of_y = exponents(y, cost, epsilon, terms);
    let problem = Problem {
        x,
        y,
        cost,
        scale: T::of(std::f64::consts::LOG2_E / epsilon),
        of_y: &of_y,
        of_x: None,
        within: false,
        bands: BANDS,
    };
    natural(x, cost, epsilon, along_rows(&problem, &problem.sums()))
}

fn both<T: Exp2>(
    x: &Cloud<T>,
    y: &Cloud<T>,
    cost: Cost,
    epsilon: f64,
    of_x: &[f64],
    of_y: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let of_x = exponents(x, cost, epsilon, of_x);
    let of_y = exponents(y, cost, epsilon, of_y);
    let problem = Problem {
        x,
        y,
        cost,
        scale: T::of(std::f64::consts::LOG2_E / epsilon),
        of_y: &of_y,
        of_x: Some(&of_x),
        within: false,
        bands: BANDS,
    };
    let sums = problem.sums();
    (
        natural(x, cost, epsilon, along_rows(&problem, &sums)),
        natural(y, cost, epsilon, down_columns(y.len, sums)),
    )
}

fn within<T: Exp2>(x: &Cloud<T>, cost: Cost, epsilon: f64, terms: &[f64]) -> Vec<f64> {
    let terms = exponents(x, cost, epsilon, terms);
    let problem = Problem {
        x,
        y: x,
        cost,
        scale: T::of(std::f64::consts::LOG2_E / epsilon),
        of_y: &terms,
        of_x: Some(&terms),
        within: true,
        bands: BANDS,
    };
    let sums = problem.sums();
    let mut right = along_rows(&problem, &sums);
    for (right, left) in right.iter_mut().zip(down_columns(x.len, sums)) {
        // The diagonal is in `right`, which is finite therefore.
        let (low, high) = (right.min(left), right.max(left));
        *right = high + ((low - high).exp2() + 1.0).log2();
    }
    natural(x, cost, epsilon, right)
}

/// What is added to the scaled entries of a tile for each column (or row), in powers of two: its term and, where the
/// tile has scalar products, its share of the squared distance. Nothing is there past the last point.
fn exponents<T: Exp2>(points: &Cloud<T>, cost: Cost, epsilon: f64, terms: &[f64]) -> Vec<T> {
    let mut out = vec![T::of(LOWEST); points.padded];
    for ((out, term), square) in out.iter_mut().zip(terms).zip(&points.squares) {
        let e = match cost {
            Cost::HalfSquared => term - square / (2.0 * epsilon),
            Cost::Distance => *term,
        };
        *out = T::of((e * std::f64::consts::LOG2_E).max(LOWEST));
    }
    out
}

/// Powers of two become natural logarithms, and the own share of the squared distance is put in.
fn natural<T>(points: &Cloud<T>, cost: Cost, epsilon: f64, mut sums: Vec<f64>) -> Vec<f64> {
    for (sum, square) in sums.iter_mut().zip(&points.squares) {
        *sum *= std::f64::consts::LN_2;
        if cost == Cost::HalfSquared {
            *sum -= square / (2.0 * epsilon);
        }
    }
    sums
}

impl<T: Exp2> Problem<'_, T> {
    fn sums(&self) -> Vec<Sums<T>> {
        let bands = self.bands.min(self.x.padded / ROWS).max(1);
        let problem = Problem { bands, ..*self };
        (0..bands)
            .into_par_iter()
            .map(|band| pulp::Arch::new().dispatch(Band(&problem, band)))
            .collect()
    }
}

/// The sums along rows, in the order of the rows.
fn along_rows<T>(problem: &Problem<'_, T>, bands: &[Sums<T>]) -> Vec<f64> {
    let mut out = vec![0.0; problem.x.padded];
    for (band, sums) in bands.iter().enumerate() {
        let strips = (band..).step_by(bands.len());
        for (strip, rows) in strips.zip(sums.rows.chunks_exact(ROWS)) {
            out[strip * ROWS..][..ROWS].copy_from_slice(rows);
        }
    }
    out.truncate(problem.x.len);
    out
}

/// The sums along columns, the bands brought together in their order.
fn down_columns<T: Exp2>(len: usize, bands: Vec<Sums<T>>) -> Vec<f64> {
    let mut bands = bands.into_iter();
    let Some(mut all) = bands.next() else {
        return Vec::new();
    };
    for band in bands {
        pulp::Arch::new().dispatch(Merge(&mut all, &band));
    }
    let logs = all.largest.iter().zip(&all.total);
    logs.take(len)
        .map(|(m, s)| m.wide() + s.wide().log2())
        .collect()
}

/// Adds the sums of the second band to those of the first.
struct Merge<'a, T>(&'a mut Sums<T>, &'a Sums<T>);

impl<T: Exp2> WithSimd for Merge<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR {
            self.run::<false>();
        } else {
            self.run::<true>();
        }
    }
}

impl<T: Exp2> Merge<'_, T> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self(all, band) = self;
        let n = all.total.len().min(band.total.len());
        let (m, s) = (&mut all.largest[..n], &mut all.total[..n]);
        let (m2, s2) = (&band.largest[..n], &band.total[..n]);
        for j in 0..n {
            let top = m[j].above(m2[j]);
            let kept = s[j] * (m[j] - top).exp2::<FMA>();
            s[j] = s2[j].fma::<FMA>((m2[j] - top).exp2::<FMA>(), kept);
            m[j] = top;
        }
    }
}
