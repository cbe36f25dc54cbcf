//! Small dense linear algebra: matrices of samples x coefficients, row-major slices of `p x p`.

use ndarray::{Array2, ArrayView2};

/// A column whose part across the columns before it is smaller than this share of it depends on them.
const DEPENDENT: f64 = 1e-7;

/// Replaces the lower triangle of a symmetric matrix `[p, p]` by its Cholesky factor. False if it is not positive definite.
pub(super) fn cholesky(a: &mut [f64], p: usize) -> bool {
    for j in 0..p {
        for i in j..p {
            let mut sum = a[i * p + j];
            for k in 0..j {
                sum -= a[i * p + k] * a[j * p + k];
            }
            if i == j {
                if !(sum > 0.0 && sum.is_finite()) {
                    return false;
                }
                a[i * p + j] = sum.sqrt();
            } else {
                a[i * p + j] = sum / a[j * p + j];
            }
        }
    }
    true
}

/// Solves `L L^T x = b` in place of `b`.
pub(super) fn solve(l: &[f64], p: usize, b: &mut [f64]) {
    for i in 0..p {
        for k in 0..i {
            b[i] -= l[i * p + k] * b[k];
        }
        b[i] /= l[i * p + i];
    }
    for i in (0..p).rev() {
        for k in i + 1..p {
            b[i] -= l[k * p + i] * b[k];
        }
        b[i] /= l[i * p + i];
    }
}

/// `ln |A| / 2` from the Cholesky factor of `A`.
pub(super) fn half_log_determinant(l: &[f64], p: usize) -> f64 {
    (0..p).map(|i| l[i * p + i].ln()).sum()
}

/// Columns made orthonormal over the rows for which `counts` holds; the other rows are carried along.
pub(super) struct Orthonormal {
    /// Orthonormal columns, one for each independent column.
    pub(super) basis: Vec<Vec<f64>>,
    /// The columns that depend on those before them.
    pub(super) dependent: Vec<usize>,
}

/// Gram-Schmidt, each column twice so that rounding errors do not add up.
pub(super) fn orthonormal(x: ArrayView2<'_, f64>, counts: impl Fn(usize) -> bool) -> Orthonormal {
    let product = |a: &[f64], b: &[f64]| -> f64 {
        let both = a.iter().zip(b).enumerate();
        both.filter(|(i, _)| counts(*i))
            .map(|(_, (a, b))| a * b)
            .sum()
    };
    let (mut basis, mut dependent): (Vec<Vec<f64>>, _) = (Vec::new(), Vec::new());
    for (j, column) in x.columns().into_iter().enumerate() {
        let mut v = column.to_vec();
        let before = product(&v, &v).sqrt();
        for _ in 0..2 {
            for q in &basis {
                let share = product(q, &v);
                v.iter_mut().zip(q).for_each(|(v, q)| *v -= share * q);
            }
        }
        let after = product(&v, &v).sqrt();
        if after > DEPENDENT * before {
            v.iter_mut().for_each(|v| *v /= after);
            basis.push(v);
        } else {
            dependent.push(j);
        }
    }
    Orthonormal { basis, dependent }
}

/// The rank of the rows of `x` for which `counts` holds.
pub(super) fn rank(x: ArrayView2<'_, f64>, counts: impl Fn(usize) -> bool) -> usize {
    orthonormal(x, counts).basis.len()
}

/// A design of one coefficient less, in which `contrast . beta = 0`: `X N`, the columns of `N` being a basis of the vectors
/// across the contrast. For a contrast that picks one coefficient this drops its column.
pub(super) fn null_design(x: ArrayView2<'_, f64>, contrast: &[f64]) -> Array2<f64> {
    let p = x.ncols();
    let picked: Vec<usize> = (0..p).filter(|&j| contrast[j] != 0.0).collect();
    if let [only] = picked[..] {
        let kept: Vec<usize> = (0..p).filter(|&j| j != only).collect();
        return x.select(ndarray::Axis(1), &kept);
    }
    // The contrast first, then the axes: what Gram-Schmidt makes of the axes is the basis.
    let mut columns = Array2::zeros((p, p + 1));
    for j in 0..p {
        columns[[j, 0]] = contrast[j];
        columns[[j, j + 1]] = 1.0;
    }
    let basis = orthonormal(columns.view(), |_| true).basis;
    let mut null = Array2::zeros((p, p - 1));
    for (k, v) in basis.iter().skip(1).take(p - 1).enumerate() {
        for (i, &v) in v.iter().enumerate() {
            null[[i, k]] = v;
        }
    }
    x.dot(&null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn cholesky_solves() {
        let a = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let mut l = a;
        assert!(cholesky(&mut l, 3));
        let mut x = [1.0, -2.0, 0.5];
        solve(&l, 3, &mut x);
        for i in 0..3 {
            let b: f64 = (0..3).map(|j| a[i * 3 + j] * x[j]).sum();
            assert!((b - [1.0, -2.0, 0.5][i]).abs() < 1e-12);
        }
        // 4 (15 - 1) - 2 (6 - 0.6) + 0.6 (2 - 3) = 44.6
        assert!((2.0 * half_log_determinant(&l, 3) - 44.6f64.ln()).abs() < 1e-12);
        assert!(!cholesky(&mut [1.0, 2.0, 2.0, 4.0], 2));
    }

    #[test]
    fn dependent_columns_are_named() {
        let x = array![
            [1.0, 0.0, 1.0, 0.0],
            [1.0, 0.0, 1.0, 3.0],
            [1.0, 1.0, 0.0, 1.0],
            [1.0, 1.0, 0.0, 9.0]
        ];
        assert_eq!(orthonormal(x.view(), |_| true).dependent, vec![2]);
        assert_eq!(rank(x.view(), |_| true), 3);
        assert_eq!(rank(x.view(), |i| i < 2), 2);
    }

    #[test]
    fn the_null_design_is_across_the_contrast() {
        let x = Array2::eye(3);
        let n = null_design(x.view(), &[1.0, 0.0, -1.0]);
        assert_eq!(n.dim(), (3, 2));
        for column in n.columns() {
            assert!((column[0] - column[2]).abs() < 1e-12);
        }
        assert_eq!(
            null_design(x.view(), &[0.0, 2.0, 0.0]),
            array![[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
        );
    }
}
