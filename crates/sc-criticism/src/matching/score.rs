use sc_data::Csr;

use crate::codes::same_length;
use crate::statistics::mean;
use crate::{Error, Result};

/// For each row of a matching the share of its mass that lies on the true column, `P_it / sum_j P_ij`: the "match
/// probability" of the NeurIPS 2021 competition. Negative entries count as 0; a row without mass scores 0.
///
/// # Errors
/// [`Error::Length`] unless there is a true column for each row, [`Error::InvalidParameter`] if one does not exist,
/// [`Error::NotANumber`] if an entry is not finite.
pub fn match_scores(matching: &Csr, truth: &[u32]) -> Result<Vec<f64>> {
    same_length(
        "the true columns",
        truth.len(),
        "the matching",
        matching.n_rows(),
    )?;
    truth
        .iter()
        .enumerate()
        .map(|(row, &column)| {
            if column as usize >= matching.n_cols() {
                return Err(Error::InvalidParameter {
                    name: "a true column",
                    found: column.to_string(),
                    expected: format!("less than {}, the columns", matching.n_cols()),
                });
            }
            let (columns, values) = matching.row(row);
            let (mut own, mut all) = (0.0, 0.0);
            for (&c, &v) in columns.iter().zip(values) {
                if !v.is_finite() {
                    return Err(Error::NotANumber {
                        what: format!("column {c} of the matching"),
                        row,
                        value: v.into(),
                    });
                }
                let v = f64::from(v.max(0.0));
                all += v;
                own += if c == column { v } else { 0.0 };
            }
            Ok(if all > 0.0 { own / all } else { 0.0 })
        })
        .collect()
}

/// The mean of [`match_scores`], 0..=1. Tables of the competition multiply it with 1000.
///
/// # Errors
/// As there; [`Error::Undefined`] without rows.
pub fn mean_match_score(matching: &Csr, truth: &[u32]) -> Result<f64> {
    mean(&match_scores(matching, truth)?)
        .ok_or_else(|| Error::Undefined("a matching without rows".into()))
}

/// The true column of each row from the competition's `pairing_ix`: the columns, ordered by it, are those of the rows.
///
/// # Errors
/// [`Error::InvalidParameter`] unless the numbers are 0 to `n - 1`, each once.
pub fn true_columns(pairing_ix: &[u32]) -> Result<Vec<u32>> {
    let n = pairing_ix.len();
    let mut columns = vec![None; n];
    for (column, &at) in pairing_ix.iter().enumerate() {
        match columns.get_mut(at as usize) {
            Some(place @ None) => *place = Some(column as u32),
            _ => {
                return Err(Error::InvalidParameter {
                    name: "a pairing index",
                    found: at.to_string(),
                    expected: format!("the numbers 0 to {}, each once", n.saturating_sub(1)),
                });
            }
        }
    }
    Ok(columns.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn shares_by_hand() {
        let m = Csr::from_dense(&array![[1.0f32, 3.0], [-2.0, 5.0], [0.0, 0.0]]);
        assert_eq!(match_scores(&m, &[1, 0, 0]).unwrap(), [0.75, 0.0, 0.0]);
        assert_eq!(mean_match_score(&m, &[0, 1, 1]).unwrap(), 1.25 / 3.0);
        assert!(match_scores(&m, &[0, 0]).is_err());
        assert!(match_scores(&m, &[0, 0, 2]).is_err());
        let nan = Csr::from_dense(&array![[f32::NAN]]);
        assert!(match_scores(&nan, &[0]).is_err());
        assert!(mean_match_score(&Csr::zeros(0, 2), &[]).is_err());
    }

    #[test]
    fn pairings_are_inverted() {
        assert_eq!(true_columns(&[2, 0, 1]).unwrap(), [1, 2, 0]);
        assert!(true_columns(&[0, 0]).is_err());
        assert!(true_columns(&[5]).is_err());
    }
}
