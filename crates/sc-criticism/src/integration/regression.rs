use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par};
use ndarray::{Array2, ArrayView2, Axis};

use crate::codes::{Codes, at_least_two, same_length};
use crate::statistics::mean;
use crate::{Error, Result};

/// What cells differ in, for [`pc_regression`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Covariate<'a> {
    /// A batch, or another kind of label, for each cell.
    Labels(&'a [u32]),
    /// Numbers for each cell, `[n_cells, n_covariates]`.
    Numbers(ArrayView2<'a, f64>),
}

/// Principal component regression, 0..=1: the share of an embedding's variance that a covariate explains,
/// `sum_k R^2_k v_k / sum_k v_k`, where `v_k` is the variance of the `k`-th principal component and `R^2_k` the share of it that a
/// linear regression on the covariate explains. `n_components` takes the first ones; with `None`, all.
///
/// With all components the share does not depend on them: it is that of the total variance, and no component is computed.
///
/// # Errors
/// [`Error::Length`] unless the covariate is of the same cells, [`Error::NotANumber`] if a number is not finite,
/// [`Error::Undefined`] if the embedding does not vary, [`Error::InvalidParameter`] with fewer than two labels, or unless `1 <=
/// n_components <= n_columns`.
pub fn pc_regression(
    points: ArrayView2<'_, f32>,
    covariate: Covariate<'_>,
    n_components: Option<usize>,
) -> Result<f64> {
    let x = centred(points)?;
    let x = match n_components {
        None => x,
        Some(k) => components(&x, k)?,
    };
    let total = x.iter().map(|v| v * v).sum::<f64>();
    if total == 0.0 {
        return Err(Error::Undefined("the embedding does not vary".into()));
    }
    let explained = match covariate {
        Covariate::Labels(labels) => between_labels(&x, labels)?,
        Covariate::Numbers(numbers) => along_numbers(&x, numbers)?,
    };
    Ok((explained / total).clamp(0.0, 1.0))
}

/// How much less of the variance a covariate explains after integration than before, as a share of that before, 0..=1:
/// `max(0, (before - after) / before)` of [`pc_regression`] over all components. `pcr_comparison` of scib-metrics.
///
/// # Errors
/// As [`pc_regression`]; [`Error::Undefined`] if it explains nothing before.
pub fn pcr_comparison(
    before: ArrayView2<'_, f32>,
    after: ArrayView2<'_, f32>,
    covariate: Covariate<'_>,
) -> Result<f64> {
    let before = pc_regression(before, covariate, None)?;
    let after = pc_regression(after, covariate, None)?;
    if before == 0.0 {
        return Err(Error::Undefined(
            "the covariate explains nothing of the embedding before integration".into(),
        ));
    }
    Ok(((before - after) / before).max(0.0))
}

/// How far the cell cycle explains as much of the variance after integration as before, 0..=1: within each batch
/// `1 - |after - before| / before`, at least 0, of [`pc_regression`] on the scores of the cell cycle (one column each for S
/// and G2M), averaged over batches. Batches in which the scores explain nothing before are left out.
///
/// # Errors
/// As [`pc_regression`]; [`Error::Undefined`] if every batch is left out.
pub fn cell_cycle_conservation(
    before: ArrayView2<'_, f32>,
    after: ArrayView2<'_, f32>,
    scores: ArrayView2<'_, f64>,
    batches: &[u32],
) -> Result<f64> {
    let n = batches.len();
    for (what, rows) in [
        ("the embedding before integration", before.nrows()),
        ("the embedding", after.nrows()),
        ("the cell cycle scores", scores.nrows()),
    ] {
        same_length(what, rows, "the batches", n)?;
    }
    let mut each = Vec::new();
    for rows in Codes::new(batches).rows() {
        let scores = scores.select(Axis(0), &rows);
        let share = |points: ArrayView2<'_, f32>| {
            let part = points.select(Axis(0), &rows);
            pc_regression(part.view(), Covariate::Numbers(scores.view()), None)
        };
        if rows.len() < 3 {
            continue;
        }
        let (before, after) = (share(before)?, share(after)?);
        if before > 0.0 {
            each.push((1.0 - (after - before).abs() / before).max(0.0));
        }
    }
    mean(&each).ok_or_else(|| {
        Error::Undefined("the cell cycle explains nothing before integration".into())
    })
}

/// Points less their mean.
fn centred(points: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
    if let Some(((row, column), &v)) = points.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotANumber {
            what: format!("column {column} of the embedding"),
            row,
            value: f64::from(v),
        });
    }
    Ok(less_mean(points.mapv(f64::from)))
}

fn less_mean(x: Array2<f64>) -> Array2<f64> {
    match x.mean_axis(Axis(0)) {
        Some(mean) => x - mean,
        None => x,
    }
}

/// The coordinates of centred points along the `k` directions in which they vary most.
fn components(x: &Array2<f64>, k: usize) -> Result<Array2<f64>> {
    let d = x.ncols();
    if k == 0 || k > d {
        return Err(Error::InvalidParameter {
            name: "n_components",
            found: k.to_string(),
            expected: format!("1 to {d}, the columns of the embedding"),
        });
    }
    let products = x.t().dot(x);
    let (_, vectors) = eigen(products.view())?;
    // The largest come last.
    let directions = Array2::from_shape_fn((d, k), |(i, j)| vectors[(i, d - 1 - j)]);
    Ok(x.dot(&directions))
}

/// Eigenvalues, ascending, and eigenvectors of a symmetric matrix. On one thread: the bits would depend on their number.
fn eigen(matrix: ArrayView2<'_, f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    let matrix = Mat::from_fn(n, n, |i, j| matrix[[i, j]]);
    let (mut values, mut vectors) = (Diag::<f64>::zeros(n), Mat::<f64>::zeros(n, n));
    let params = Default::default();
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, params);
    self_adjoint_evd(
        matrix.as_ref(),
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        params,
    )
    .map_err(|_| Error::Undefined("the principal components did not converge".into()))?;
    Ok((values.column_vector().iter().copied().collect(), vectors))
}

/// The sum of squares between the means of labels.
fn between_labels(x: &Array2<f64>, labels: &[u32]) -> Result<f64> {
    same_length("the labels", labels.len(), "the embedding", x.nrows())?;
    let codes = Codes::new(labels);
    at_least_two("the number of batches", codes.n())?;
    let mut sums = Array2::<f64>::zeros((codes.n(), x.ncols()));
    for (row, &code) in x.outer_iter().zip(&codes.of) {
        let mut sum = sums.row_mut(code as usize);
        sum += &row;
    }
    let squares = sums.outer_iter().zip(&codes.sizes);
    Ok(squares
        .map(|(sum, &size)| sum.dot(&sum) / size as f64)
        .sum())
}

/// The sum of squares of the projection on the span of the covariates.
fn along_numbers(x: &Array2<f64>, numbers: ArrayView2<'_, f64>) -> Result<f64> {
    same_length(
        "the covariates",
        numbers.nrows(),
        "the embedding",
        x.nrows(),
    )?;
    if let Some(((row, column), &value)) = numbers.indexed_iter().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotANumber {
            what: format!("covariate {column}"),
            row,
            value,
        });
    }
    let mut z = less_mean(numbers.to_owned());
    // Covariates of one scale, so that those that don't vary can be told from those that vary little.
    for mut column in z.columns_mut() {
        let norm = column.dot(&column).sqrt();
        if norm > 0.0 {
            column /= norm;
        }
    }
    let (values, vectors) = eigen(z.t().dot(&z).view())?;
    let products = z.t().dot(x);
    let mut explained = 0.0;
    for (k, &value) in values.iter().enumerate() {
        // Covariates that others determine add nothing.
        if value < 1e-10 {
            continue;
        }
        for column in products.columns() {
            let along: f64 = (0..values.len()).map(|i| vectors[(i, k)] * column[i]).sum();
            explained += along * along / value;
        }
    }
    Ok(explained)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(n: u32) -> Vec<u32> {
        (0..n).map(|i| i % 2).collect()
    }

    fn points(n: usize) -> Array2<f32> {
        Array2::from_shape_fn((n, 4), |(i, j)| {
            ((i * 7919 + j * 104_729 + i * i * (j + 3)) % 1009) as f32 / 100.0
        })
    }

    /// One covariate that is a coordinate explains just the variance of that.
    #[test]
    fn a_coordinate_explains_itself() {
        let mut x = Array2::<f32>::zeros((40, 2));
        for i in 0..40 {
            let turn = std::f64::consts::TAU * i as f64 / 40.0;
            x[[i, 0]] = (3.0 * turn.cos()) as f32;
            x[[i, 1]] = (1.0 * turn.sin()) as f32;
        }
        let z = x.column(0).mapv(f64::from).insert_axis(Axis(1));
        let share = pc_regression(x.view(), Covariate::Numbers(z.view()), None).unwrap();
        assert!((share - 0.9).abs() < 1e-6, "{share}");
        // The same column twice changes nothing.
        let twice = ndarray::concatenate(Axis(1), &[z.view(), z.view()]).unwrap();
        let again = pc_regression(x.view(), Covariate::Numbers(twice.view()), None).unwrap();
        assert!((share - again).abs() < 1e-9);
        let first = pc_regression(x.view(), Covariate::Numbers(z.view()), Some(1)).unwrap();
        assert!((first - 1.0).abs() < 1e-6);
    }

    #[test]
    fn all_components_are_the_whole_space() {
        let x = points(60);
        let labels = halves(60);
        let all = pc_regression(x.view(), Covariate::Labels(&labels), None).unwrap();
        let four = pc_regression(x.view(), Covariate::Labels(&labels), Some(4)).unwrap();
        assert!((all - four).abs() < 1e-12);
        assert_eq!(
            pcr_comparison(x.view(), x.view(), Covariate::Labels(&labels)).unwrap(),
            0.0
        );
    }

    #[test]
    fn the_same_embedding_conserves_the_cell_cycle() {
        let x = points(60);
        let scores = x.mapv(f64::from).select(Axis(1), &[0, 2]);
        let same = cell_cycle_conservation(x.view(), x.view(), scores.view(), &halves(60));
        assert!((same.unwrap() - 1.0).abs() < 1e-12);
        let flat = Array2::zeros((60, 2));
        let e = cell_cycle_conservation(x.view(), x.view(), flat.view(), &halves(60));
        assert!(e.unwrap_err().to_string().contains("explains nothing"));
    }

    #[test]
    fn bad_input_is_named() {
        let mut x = points(6);
        let labels = [0, 1, 0, 1, 0, 1];
        let pcr = |x: &Array2<f32>, l: &[u32], k| {
            pc_regression(x.view(), Covariate::Labels(l), k).map_err(|e| e.to_string())
        };
        assert!(pcr(&x, &[0; 6], None).unwrap_err().contains("batches is 1"));
        assert!(pcr(&x, &labels, Some(5)).is_err());
        assert!(pcr(&x, &labels[1..], None).is_err());
        assert!(
            pcr(&Array2::ones((6, 2)), &labels, None)
                .unwrap_err()
                .contains("not vary")
        );
        x[[2, 3]] = f32::INFINITY;
        assert!(pcr(&x, &labels, None).unwrap_err().contains("row 2"));
    }
}
