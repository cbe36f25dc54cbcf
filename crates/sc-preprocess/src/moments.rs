use sc_data::RowSource;

use crate::Result;
use crate::columns::{Columns, over_columns};
use crate::groups::Groups;
use crate::values::Check;

/// The mean and the variance of every column.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub(crate) mean: Vec<f64>,
    /// With `n - 1` in the denominator.
    pub(crate) variance: Vec<f64>,
}

/// Reads the source once and returns the moments of `f(x)`, where `f(0)` must be 0.
pub(crate) fn moments(
    source: &dyn RowSource,
    check: Check,
    f: impl Fn(f32) -> f64 + Sync,
) -> Result<Moments> {
    let all = Groups::one(source.n_rows());
    let mut found = grouped_moments(source, &all, check, f)?;
    Ok(found.pop().unwrap_or(Moments {
        mean: Vec::new(),
        variance: Vec::new(),
    }))
}

/// The same for each group of rows, in one reading.
pub(crate) fn grouped_moments(
    source: &dyn RowSource,
    groups: &Groups,
    check: Check,
    f: impl Fn(f32) -> f64 + Sync,
) -> Result<Vec<Moments>> {
    let n_groups = groups.len();
    let parts = over_columns(
        source,
        |width| Sums::new(width * n_groups),
        |block| check.block(block),
        |sums: &mut Sums, row, column, width, value| {
            let v = f(value);
            let at = groups.of(row) * width + column;
            sums.first[at] += v;
            sums.second[at] += v * v;
        },
    )?;
    let sizes = groups.sizes();
    let moments = sizes.iter().enumerate().map(|(k, &size)| {
        let first = gathered(&parts, k, |s| &s.first);
        let second = gathered(&parts, k, |s| &s.second);
        Moments::from_sums(&first, &second, size)
    });
    Ok(moments.collect())
}

/// Sums of values and of squares.
pub(crate) struct Sums {
    pub(crate) first: Vec<f64>,
    pub(crate) second: Vec<f64>,
}

impl Sums {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }
}

/// What belongs to group `k` in all parts, as one vector of all columns.
pub(crate) fn gathered<A>(
    parts: &[Columns<A>],
    k: usize,
    field: impl Fn(&A) -> &Vec<f64>,
) -> Vec<f64> {
    let mut all = Vec::new();
    for part in parts {
        let width = part.range.len();
        let values = field(&part.state).iter().skip(k * width).take(width);
        all.extend(values);
    }
    all
}

impl Moments {
    /// Of `n` rows with these sums of values and squares.
    pub(crate) fn from_sums(sum: &[f64], sum_sq: &[f64], n: usize) -> Self {
        let n = n as f64;
        let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
        let variance = mean
            .iter()
            .zip(sum_sq)
            .map(|(m, sq)| ((sq / n - m * m) * n / (n - 1.0)).max(0.0))
            .collect();
        Self { mean, variance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::BLOCK;
    use sc_data::Categorical;

    #[test]
    fn moments_over_several_blocks_and_groups() {
        let n = BLOCK + 3;
        let dense = ndarray::Array2::from_shape_fn((n, 2), |(i, j)| ((i * (j + 1)) % 5) as f32);
        let labels: Vec<&str> = (0..n).map(|i| ["a", "b", "c"][i % 3]).collect();
        let groups = Groups::new(&Categorical::from_labels(&labels), n).unwrap();
        let by_group = grouped_moments(&dense, &groups, Check::Finite, f64::from).unwrap();
        let all = moments(&dense, Check::Finite, f64::from).unwrap();
        for k in 0..4 {
            let found = by_group.get(k).unwrap_or(&all);
            for j in 0..2 {
                let rows = dense.column(j).into_iter().enumerate();
                let column: Vec<f64> = rows
                    .filter(|(i, _)| k == 3 || i % 3 == k)
                    .map(|(_, &v)| f64::from(v))
                    .collect();
                let size = column.len() as f64;
                let mean = column.iter().sum::<f64>() / size;
                let squares: f64 = column.iter().map(|v| (v - mean).powi(2)).sum();
                assert!((found.mean[j] - mean).abs() < 1e-12);
                assert!((found.variance[j] - squares / (size - 1.0)).abs() < 1e-12);
            }
        }
    }
}
