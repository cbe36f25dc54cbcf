use ndarray::ArrayView2;
use serde::Serialize;

use super::statistics::{MeanTest, benjamini_hochberg, log2_fold_change, mean_test, quantile};
use super::{FateCounts, Perturbation};
use crate::Result;

/// What a perturbation does to one fate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FateEffect {
    /// The genes that were set.
    pub perturbation: String,
    /// The z-score they were set to.
    pub z: f64,
    /// The fate.
    pub fate: String,
    /// The share of the controls' paths that end there.
    pub control: f64,
    /// The share of the perturbed cells' paths.
    pub perturbed: f64,
    /// The difference of the two.
    pub difference: f64,
    /// Lower end of its interval.
    pub difference_low: f64,
    /// Upper end of its interval.
    pub difference_high: f64,
    /// `log2((perturbed + e) / (control + e))`, with half a path for `e`.
    pub log2_fold_change: f64,
    /// Its standard error, by the delta method over cells.
    pub log2_fold_change_error: f64,
    /// Lower end of its interval.
    pub log2_fold_change_low: f64,
    /// Upper end of its interval.
    pub log2_fold_change_high: f64,
    /// Two-sided p-value of the difference: Student's t over cells, each with its control.
    pub p: f64,
    /// The same, adjusted over all perturbations and fates with a change in some cell (Benjamini and Hochberg).
    pub q: f64,
}

/// What perturbations do.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    control: FateCounts,
    fates: Vec<Vec<FateEffect>>,
}

impl Effects {
    /// Adjusts the p-values. Where no cell's share differs from its control's nothing can be found, and so nothing counts as
    /// a test (Tarone 1990).
    pub(super) fn new(control: FateCounts, mut fates: Vec<Vec<FateEffect>>) -> Self {
        let differs = |e: &&FateEffect| e.difference_low < e.difference_high || e.p < 1.0;
        let p: Vec<f64> = fates
            .iter()
            .flatten()
            .filter(differs)
            .map(|e| e.p)
            .collect();
        let mut adjusted = benjamini_hochberg(&p).into_iter();
        for e in fates.iter_mut().flatten() {
            if differs(&&*e) {
                e.q = adjusted.next().unwrap_or(1.0);
            }
        }
        Self { control, fates }
    }

    /// Where the controls end.
    pub fn control(&self) -> &FateCounts {
        &self.control
    }

    /// One list for each perturbation, with one effect for each fate.
    pub fn by_perturbation(&self) -> &[Vec<FateEffect>] {
        &self.fates
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &FateEffect> {
        self.fates.iter().flatten()
    }

    /// Those on one fate, in the order of the perturbations.
    pub fn on<'a>(&'a self, fate: &'a str) -> impl Iterator<Item = &'a FateEffect> {
        self.all().filter(move |e| e.fate == fate)
    }
}

/// The effects of a perturbation on all fates, from the counts of the same cells without (`control`) and with it.
pub(super) fn effects(
    perturbation: &Perturbation,
    control: &FateCounts,
    perturbed: ArrayView2<'_, u64>,
    copies: f64,
    level: f64,
) -> Result<Vec<FateEffect>> {
    let mut all = Vec::with_capacity(control.names().len());
    for (j, fate) in control.names().iter().enumerate() {
        let share = |c: &u64| *c as f64 / copies;
        let without: Vec<f64> = control.counts().column(j).iter().map(share).collect();
        let with: Vec<f64> = perturbed.column(j).iter().map(share).collect();
        let pairs = with.iter().zip(&without);
        let differences: Vec<f64> = pairs.map(|(p, c)| p - c).collect();
        let test = mean_test(&differences, level)?;
        let n = without.len() as f64;
        let (c, p) = (mean(&without), mean(&with));
        let epsilon = 0.5 / (n * copies);
        let error = fold_change_error(&with, &without, epsilon)?.standard_error;
        let lfc = log2_fold_change(p, c, epsilon);
        let half = error * quantile(0.5 + level / 2.0, n - 1.0);
        all.push(FateEffect {
            perturbation: perturbation.name().to_owned(),
            z: perturbation.z(),
            fate: fate.clone(),
            control: c,
            perturbed: p,
            difference: test.mean,
            difference_low: test.interval.0,
            difference_high: test.interval.1,
            log2_fold_change: lfc,
            log2_fold_change_error: error,
            log2_fold_change_low: lfc - half,
            log2_fold_change_high: lfc + half,
            p: test.p,
            q: 1.0,
        });
    }
    Ok(all)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What each cell adds to the change of `log2(mean with / mean without)`: the delta method for pairs.
fn fold_change_error(with: &[f64], without: &[f64], epsilon: f64) -> Result<MeanTest> {
    let (p, c) = (mean(with) + epsilon, mean(without) + epsilon);
    let influence =
        |(w, o): (&f64, &f64)| ((w + epsilon) / p - (o + epsilon) / c) / std::f64::consts::LN_2;
    let all: Vec<f64> = with.iter().zip(without).map(influence).collect();
    mean_test(&all, 0.95)
}
