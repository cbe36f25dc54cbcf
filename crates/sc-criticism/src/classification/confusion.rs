use std::collections::BTreeMap;

use ndarray::Array2;
use sc_data::Categorical;
use serde::Serialize;

use crate::codes::same_length;
use crate::{Error, Result};

/// How many cells of each true class were given each class.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    classes: Vec<String>,
    counts: Array2<u64>,
    without_truth: usize,
}

/// How well one class was predicted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScores {
    /// The class.
    pub class: String,
    /// The share of the cells predicted as it that are of it; none if no cell was.
    pub precision: Option<f64>,
    /// The share of its cells that were predicted as it; none if it has no cells.
    pub recall: Option<f64>,
    /// `2 tp / (2 tp + fp + fn)`.
    pub f1: f64,
    /// Cells of the class.
    pub support: u64,
    /// Cells predicted as it.
    pub predicted: u64,
}

impl Confusion {
    /// Classes are compared by name. Cells without a true label do not count.
    ///
    /// # Errors
    /// [`Error::Length`] unless both are of the same cells, [`Error::Undefined`] if no cell has a true label or one that has
    /// lacks a prediction.
    pub fn new(truth: &Categorical, predicted: &Categorical) -> Result<Self> {
        same_length(
            "the predicted labels",
            predicted.len(),
            "the true labels",
            truth.len(),
        )?;
        let mut pairs: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut without_truth = 0;
        for (row, (truth, predicted)) in truth.iter().zip(predicted.iter()).enumerate() {
            match (truth, predicted) {
                (Some(t), Some(p)) => *pairs.entry((t, p)).or_default() += 1,
                (None, _) => without_truth += 1,
                (Some(_), None) => {
                    return Err(Error::Undefined(format!(
                        "the cell in row {row} has a true label and no predicted one"
                    )));
                }
            }
        }
        let mut classes: Vec<&str> = pairs.keys().flat_map(|k| [k.0, k.1]).collect();
        classes.sort_unstable();
        classes.dedup();
        if classes.is_empty() {
            return Err(Error::Undefined("no cell has a true label".into()));
        }
        let number: BTreeMap<&str, usize> = classes.iter().copied().zip(0..).collect();
        let mut counts = Array2::zeros((classes.len(), classes.len()));
        for ((t, p), n) in &pairs {
            counts[[number[t], number[p]]] = *n;
        }
        Ok(Self {
            classes: classes.into_iter().map(str::to_owned).collect(),
            counts,
            without_truth,
        })
    }

    /// The classes that occur, true or predicted, in alphabetical order.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Cells by true class (rows) and predicted class (columns).
    pub fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// Cells that had no true label.
    pub fn without_truth(&self) -> usize {
        self.without_truth
    }

    fn hits(&self) -> u64 {
        self.counts.diag().sum()
    }

    /// The share of cells whose class was predicted.
    pub fn accuracy(&self) -> f64 {
        self.hits() as f64 / self.counts.sum() as f64
    }

    /// The scores of each class.
    pub fn per_class(&self) -> Vec<ClassScores> {
        let share = |part: u64, all: u64| (all > 0).then(|| part as f64 / all as f64);
        let each = self.classes.iter().enumerate();
        each.map(|(c, class)| {
            let hits = self.counts[[c, c]];
            let (support, predicted) = (self.counts.row(c).sum(), self.counts.column(c).sum());
            ClassScores {
                class: class.clone(),
                precision: share(hits, predicted),
                recall: share(hits, support),
                // A class occurs on one side at least.
                f1: 2.0 * hits as f64 / (support + predicted) as f64,
                support,
                predicted,
            }
        })
        .collect()
    }

    /// The mean F1 score over classes, each counting the same.
    pub fn macro_f1(&self) -> f64 {
        self.per_class().iter().map(|c| c.f1).sum::<f64>() / self.classes.len() as f64
    }

    /// The mean F1 score over classes, each counting by its cells.
    pub fn weighted_f1(&self) -> f64 {
        let cells = self.counts.sum() as f64;
        let each = self.per_class();
        each.iter().map(|c| c.f1 * c.support as f64).sum::<f64>() / cells
    }

    /// The mean recall over the classes that have cells.
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = self.per_class().iter().filter_map(|c| c.recall).collect();
        recalls.iter().sum::<f64>() / recalls.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference: scikit-learn 1.9.1.
    #[test]
    fn agrees_with_scikit_learn() {
        let truth = Categorical::from_labels(&["a", "a", "b", "b", "b", "c", "c", "d"]);
        let found = Categorical::from_labels(&["a", "b", "b", "b", "c", "c", "e", "a"]);
        let c = Confusion::new(&truth, &found).unwrap();
        assert_eq!(c.classes(), ["a", "b", "c", "d", "e"]);
        assert_eq!(c.counts().row(1).to_vec(), [0, 2, 1, 0, 0]);
        assert_eq!(c.accuracy(), 0.5);
        assert!((c.macro_f1() - 0.333_333_333_333_333_3).abs() < 1e-12);
        assert!((c.weighted_f1() - 0.5).abs() < 1e-12);
        assert!((c.balanced_accuracy() - 0.416_666_666_666_666_63).abs() < 1e-12);
        let each = c.per_class();
        assert_eq!((each[3].precision, each[3].recall), (None, Some(0.0)));
        assert_eq!((each[4].precision, each[4].recall), (Some(0.0), None));
    }

    #[test]
    fn missing_labels() {
        let truth = Categorical::from_options([Some("a"), None].into_iter());
        let both = Categorical::from_labels(&["a", "b"]);
        let c = Confusion::new(&truth, &both).unwrap();
        assert_eq!((c.accuracy(), c.without_truth()), (1.0, 1));
        let e = Confusion::new(&both, &truth).unwrap_err().to_string();
        assert!(e.contains("row 1"), "{e}");
        let none = Categorical::from_options([None::<&str>, None].into_iter());
        assert!(Confusion::new(&none, &both).is_err());
        assert!(Confusion::new(&Categorical::from_labels(&["a"]), &both).is_err());
    }
}
