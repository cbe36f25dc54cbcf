use crate::codes::same_length;
use crate::{Error, Result};

/// The area under the receiver operating characteristic: the probability that a positive cell has a higher score than a
/// negative one, ties counting half. 0.5 is chance, whatever the share of positives.
///
/// With the uncertainty of an annotation for score, and cells of kinds that the model has not seen for positives, it says
/// how well unknown cells are detected.
///
/// # Errors
/// [`Error::Length`] unless there is a score for each cell, [`Error::NotFinite`] if one is NaN, [`Error::Undefined`] without
/// positives or without negatives.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Result<f64> {
    let (order, positives) = ranked(scores, positive)?;
    let negatives = scores.len() - positives;
    if negatives == 0 {
        return Err(Error::Undefined("there are no negative cells".into()));
    }
    // Twice the pairs that are in order, from the highest score down.
    let (mut above, mut twice) = (0u64, 0u64);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let hits = tied.iter().filter(|&&i| positive[i]).count() as u64;
        let misses = tied.len() as u64 - hits;
        twice += misses * (2 * above + hits);
        above += hits;
    }
    Ok(twice as f64 / 2.0 / positives as f64 / negatives as f64)
}

/// Average precision, the area under the precision-recall curve as a sum of steps (scikit-learn's): `sum_n (R_n - R_(n-1))
/// P_n` over thresholds from the highest score down. The share of positives is chance.
///
/// # Errors
/// As [`auroc`], but there may be no negatives.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Result<f64> {
    let (order, positives) = ranked(scores, positive)?;
    let (mut hits, mut seen, mut area) = (0usize, 0usize, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let new = tied.iter().filter(|&&i| positive[i]).count();
        hits += new;
        seen += tied.len();
        area += new as f64 / positives as f64 * (hits as f64 / seen as f64);
    }
    Ok(area)
}

/// Rows by score, the highest first, and how many are positive.
fn ranked(scores: &[f64], positive: &[bool]) -> Result<(Vec<usize>, usize)> {
    same_length("the positives", positive.len(), "the scores", scores.len())?;
    if let Some((row, &value)) = scores.iter().enumerate().find(|(_, s)| s.is_nan()) {
        return Err(Error::NotFinite {
            what: "the score".into(),
            row,
            value,
        });
    }
    let positives = positive.iter().filter(|&&p| p).count();
    if positives == 0 {
        return Err(Error::Undefined("there are no positive cells".into()));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    Ok((order, positives))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: scikit-learn 1.9.1.
    #[test]
    fn agrees_with_scikit_learn() {
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.9];
        let positive = [false, false, true, true, true, false, false];
        assert!((auroc(&scores, &positive).unwrap() - 0.5).abs() < 1e-12);
        let ap = average_precision(&scores, &positive).unwrap();
        assert!((ap - 0.466_666_666_666_666_6).abs() < 1e-12, "{ap}");
    }

    #[test]
    fn bad_input_is_named() {
        assert!(auroc(&[0.1, 0.2], &[true, true]).is_err());
        assert!(auroc(&[0.1, 0.2], &[false, false]).is_err());
        assert!(auroc(&[0.1], &[true, false]).is_err());
        assert_eq!(average_precision(&[0.1, 0.2], &[true, true]).unwrap(), 1.0);
        let e = auroc(&[0.1, f64::NAN], &[true, false]).unwrap_err();
        assert!(e.to_string().contains("row 1"), "{e}");
        // Infinite scores have an order.
        assert_eq!(auroc(&[f64::INFINITY, 0.0], &[true, false]).unwrap(), 1.0);
    }
}
