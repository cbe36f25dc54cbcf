use crate::codes::same_length;
use crate::{Error, Result, ppc};

/// The area under the receiver operating characteristic: the probability that a positive cell has a higher score than a
/// negative one, ties counting half. 0.5 is chance, whatever the share of positives.
///
/// With the uncertainty of an annotation for score, and cells of kinds that the model has not seen for positives, it says
/// how well unknown cells are detected.
///
/// # Errors
/// [`Error::Length`] unless there is a score for each cell, [`Error::NotANumber`] if one is NaN, [`Error::Undefined`] without
/// positives or without negatives.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Result<f64> {
    check(scores, positive)?;
    if positive.iter().all(|&p| p) {
        return Err(Error::Undefined("there are no negative cells".into()));
    }
    Ok(ppc::roc_auc(positive, scores))
}

/// Average precision, the area under the precision-recall curve as a sum of steps (scikit-learn's): `sum_n (R_n - R_(n-1))
/// P_n` over thresholds from the highest score down. The share of positives is chance.
///
/// # Errors
/// As [`auroc`], but there may be no negatives.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Result<f64> {
    check(scores, positive)?;
    Ok(ppc::average_precision(positive, scores))
}

/// Refuses scores without an order, and cells none of which is positive.
fn check(scores: &[f64], positive: &[bool]) -> Result<()> {
    same_length("the positives", positive.len(), "the scores", scores.len())?;
    if let Some((row, &value)) = scores.iter().enumerate().find(|(_, s)| s.is_nan()) {
        return Err(Error::NotANumber {
            what: "the score".into(),
            row,
            value,
        });
    }
    if positive.iter().any(|&p| p) {
        return Ok(());
    }
    Err(Error::Undefined("there are no positive cells".into()))
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
