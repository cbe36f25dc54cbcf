use serde::Serialize;

use crate::codes::same_length;
use crate::{Error, Result};

/// Predictions of about the same confidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Confidences are above this (or equal to it, if it is 0).
    pub above: f64,
    /// Confidences are up to this.
    pub up_to: f64,
    /// How many there are.
    pub cells: usize,
    /// Their mean confidence; none without any.
    pub confidence: Option<f64>,
    /// The share of them that is right; none without any.
    pub accuracy: Option<f64>,
}

/// How far confidences say how often predictions are right; see [`calibration`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Ascending.
    pub bins: Vec<Bin>,
    /// Expected calibration error: `sum_b n_b / n |accuracy_b - confidence_b|`.
    pub expected_error: f64,
    /// The largest `|accuracy_b - confidence_b|`.
    pub largest_error: f64,
}

/// Confidences in bins of equal width beside the share of right predictions in each (Guo et al., ICML 2017).
///
/// # Errors
/// [`Error::Length`] unless there is a confidence for each prediction; [`Error::InvalidParameter`] without bins or with a
/// confidence outside 0..=1; [`Error::Undefined`] without predictions.
pub fn calibration(confidence: &[f64], correct: &[bool], bins: usize) -> Result<Calibration> {
    same_length(
        "the confidences",
        confidence.len(),
        "the predictions",
        correct.len(),
    )?;
    if let Some(v) = confidence.iter().find(|v| !(0.0..=1.0).contains(*v)) {
        return Err(Error::InvalidParameter {
            name: "a confidence",
            found: v.to_string(),
            expected: "a probability, 0 to 1".into(),
        });
    }
    if bins == 0 || correct.is_empty() {
        return Err(Error::Undefined(
            "calibration needs a bin and a prediction".into(),
        ));
    }
    let edge = |b: usize| b as f64 / bins as f64;
    let mut sums = vec![(0usize, 0.0, 0usize); bins];
    for (&c, &right) in confidence.iter().zip(correct) {
        let mut b = ((c * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        // The product is rounded; the edges decide.
        while b > 0 && c <= edge(b) {
            b -= 1;
        }
        while b + 1 < bins && c > edge(b + 1) {
            b += 1;
        }
        let sum = &mut sums[b];
        *sum = (sum.0 + 1, sum.1 + c, sum.2 + usize::from(right));
    }
    let n = correct.len() as f64;
    let (mut expected, mut largest) = (0.0, 0.0f64);
    let bins = sums
        .into_iter()
        .enumerate()
        .map(|(b, (cells, confidence, right))| {
            let mean = |sum: f64| (cells > 0).then(|| sum / cells as f64);
            let (confidence, accuracy) = (mean(confidence), mean(right as f64));
            if let (Some(c), Some(a)) = (confidence, accuracy) {
                expected += cells as f64 / n * (a - c).abs();
                largest = largest.max((a - c).abs());
            }
            Bin {
                above: edge(b),
                up_to: edge(b + 1),
                cells,
                confidence,
                accuracy,
            }
        })
        .collect();
    Ok(Calibration {
        bins,
        expected_error: expected,
        largest_error: largest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        let c = calibration(
            &[0.2, 0.1, 0.6, 0.9, 1.0],
            &[false, true, true, false, true],
            5,
        );
        let c = c.unwrap();
        assert_eq!(c.bins[0].cells, 2);
        assert_eq!((c.bins[1].confidence, c.bins[1].accuracy), (None, None));
        assert_eq!(c.bins[2].cells, 1);
        assert_eq!(c.bins[4].cells, 2);
        // 2/5 |0.5 - 0.15| + 1/5 |1 - 0.6| + 2/5 |0.5 - 0.95|
        assert!((c.expected_error - 0.4).abs() < 1e-12);
        assert!((c.largest_error - 0.45).abs() < 1e-12);
        assert!(calibration(&[0.2], &[true, false], 5).is_err());
        assert!(calibration(&[1.2], &[true], 5).is_err());
        assert!(calibration(&[f64::NAN], &[true], 5).is_err());
        assert!(calibration(&[0.5], &[true], 0).is_err());
        assert!(calibration(&[], &[], 5).is_err());
    }
}
