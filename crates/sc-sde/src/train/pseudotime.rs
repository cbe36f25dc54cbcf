use crate::{Error, Result};

/// Cuts a pseudotime into `bins` bins of equal length and gives each cell the number of its bin, from 0: the times of a
/// snapshot that has none, to train on as usual.
///
/// A cell on the border of two bins is of the first. scDiffEq's `n_bins = 10` makes 11 bins.
///
/// ```
/// use sc_sde::train::bin_pseudotime;
/// assert_eq!(bin_pseudotime(&[0.0, 0.5, 0.51, 1.0], 2)?, [0.0, 0.0, 1.0, 1.0]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
///
/// # Errors
/// [`Error::Times`] if a pseudotime isn't finite, all are the same, or there are fewer than two bins.
pub fn bin_pseudotime(pseudotime: &[f64], bins: usize) -> Result<Vec<f64>> {
    let refuse = |reason: String| Err(Error::Times { reason });
    if bins < 2 {
        return refuse(format!("{bins} bins of pseudotime; at least 2 are needed"));
    }
    if let Some((cell, t)) = pseudotime.iter().enumerate().find(|(_, t)| !t.is_finite()) {
        return refuse(format!("cell {cell} has the pseudotime {t}; leave it out"));
    }
    let low = pseudotime.iter().copied().fold(f64::INFINITY, f64::min);
    let high = pseudotime.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if low >= high {
        return refuse(match pseudotime.first() {
            Some(t) => format!("all {} cells have the pseudotime {t}", pseudotime.len()),
            None => "there are no cells".into(),
        });
    }
    let step = (high - low) / bins as f64;
    // The upper borders of all bins but the last, to which all that is above belongs.
    let borders: Vec<f64> = (1..bins).map(|i| low + i as f64 * step).collect();
    let bin = |t: &f64| borders.partition_point(|border| border < t) as f64;
    Ok(pseudotime.iter().map(bin).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_belong_to_the_first_bin() {
        let edges: Vec<f64> = (0..=11).map(|i| f64::from(i) / 11.0).collect();
        let found = bin_pseudotime(&edges, 11).unwrap();
        let expected = [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_pseudotime_is_refused() {
        let why = |t: &[f64], bins| bin_pseudotime(t, bins).unwrap_err().to_string();
        assert!(why(&[0.0, f64::NAN], 2).contains("cell 1"));
        assert!(why(&[0.5, 0.5], 2).contains("0.5"));
        assert!(why(&[0.0, 1.0], 1).contains("at least 2"));
        assert!(why(&[], 2).contains("no cells"));
    }
}
