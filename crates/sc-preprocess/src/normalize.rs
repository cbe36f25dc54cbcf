use rayon::prelude::*;
use sc_data::Csr;

use crate::moments::check;
use crate::{Error, Result};

/// Scales every cell to the same total: `x_ij * target / sum_j x_ij`.
///
/// `target` is usually `Some(1e4)`. `None` takes the median total of the cells that have any counts, which keeps the
/// typical cell as it is. Cells without counts stay empty.
///
/// # Errors
/// [`Error::InvalidValue`] if a stored value is negative or not finite, [`Error::InvalidParameter`] if the target is not
/// a positive finite number.
pub fn normalize_total(counts: &Csr, target: Option<f64>) -> Result<Csr> {
    check(counts, 0)?;
    let totals = counts.row_sums();
    let target = match target {
        Some(t) if t > 0.0 && t.is_finite() => t,
        Some(t) => {
            return Err(Error::InvalidParameter {
                name: "target",
                found: t.to_string(),
                expected: "a positive finite number, e.g. 1e4".into(),
            });
        }
        None => median_of_positive(&totals).unwrap_or(1.0),
    };
    let (n_rows, n_cols) = (counts.n_rows(), counts.n_cols());
    let (indptr, indices, mut data) = counts.clone().into_raw();
    let mut rest: &mut [f32] = &mut data;
    let mut rows = Vec::with_capacity(n_rows);
    for (w, &total) in indptr.windows(2).zip(&totals) {
        let (row, tail) = rest.split_at_mut(w[1] - w[0]);
        rows.push((row, total));
        rest = tail;
    }
    rows.into_par_iter().for_each(|(row, total)| {
        if total > 0.0 {
            let factor = target / total;
            for v in row {
                *v = (f64::from(*v) * factor) as f32;
            }
        }
    });
    Ok(Csr::new(n_rows, n_cols, indptr, indices, data)?)
}

/// `ln(1 + x)` of every entry; zeros stay zero and are not stored.
///
/// # Errors
/// [`Error::InvalidValue`] if a stored value is negative or not finite: such data are not counts (perhaps they are
/// centred or scaled already).
pub fn log1p(counts: &Csr) -> Result<Csr> {
    check(counts, 0)?;
    Ok(counts.map(f32::ln_1p))
}

/// The median of the positive numbers; the mean of the two middle ones if there is an even number of them.
fn median_of_positive(values: &[f64]) -> Option<f64> {
    let mut v: Vec<f64> = values.iter().copied().filter(|&t| t > 0.0).collect();
    v.sort_unstable_by(f64::total_cmp);
    let upper = *v.get(v.len() / 2)?;
    if v.len() % 2 == 1 {
        return Some(upper);
    }
    v.get(v.len() / 2 - 1).map(|lower| (lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn totals_become_the_target_and_empty_cells_stay() {
        let m = Csr::from_dense(&array![[1.0, 3.0], [0.0, 0.0], [5.0, 0.0]]);
        let n = normalize_total(&m, Some(100.0)).unwrap();
        assert_eq!(n.to_dense(), array![[25.0, 75.0], [0.0, 0.0], [100.0, 0.0]]);
    }

    #[test]
    fn the_default_target_is_the_median_of_non_empty_cells() {
        let m = Csr::from_dense(&array![[4.0], [0.0], [8.0], [100.0]]);
        let n = normalize_total(&m, None).unwrap();
        assert_eq!(n.row_sums(), vec![8.0, 0.0, 8.0, 8.0]);
        let m = Csr::from_dense(&array![[4.0], [8.0]]);
        assert_eq!(
            normalize_total(&m, None).unwrap().row_sums(),
            vec![6.0, 6.0]
        );
    }

    #[test]
    fn log1p_is_exact_for_small_values() {
        let m = Csr::from_dense(&array![[1e-8f32, 1.0]]);
        let l = log1p(&m).unwrap().to_dense();
        assert_eq!(l[[0, 0]], 1e-8);
        assert_eq!(l[[0, 1]], 2f32.ln());
    }

    #[test]
    fn what_is_no_count_is_named() {
        let m = Csr::new(3, 4, vec![0, 1, 1, 3], vec![2, 0, 3], vec![1.0, 2.0, -1.0]).unwrap();
        for result in [normalize_total(&m, Some(1.0)), log1p(&m)] {
            match result {
                Err(Error::InvalidValue { row, column, .. }) => assert_eq!((row, column), (2, 3)),
                other => panic!("{other:?}"),
            }
        }
        let nan = Csr::from_dense(&array![[f32::NAN]]);
        assert!(log1p(&nan).is_err());
        let ok = Csr::from_dense(&array![[1.0f32]]);
        assert!(normalize_total(&ok, Some(0.0)).is_err());
        assert!(normalize_total(&ok, Some(f64::NAN)).is_err());
    }
}
