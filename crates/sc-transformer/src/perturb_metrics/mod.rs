//! How good predictions of perturbed cells are, beside baselines that need no model.
//!
//! Means over the cells of a condition are compared by Pearson's correlation, over all genes or those that change most; and
//! so are their differences from the mean of control cells. A model that predicts the same for every perturbation has a
//! high correlation with the truth, because most genes don't change: differences tell more, and baselines tell what a
//! correlation is worth (Ahlmann-Eltze, Huber and Anders, "Deep-learning-based gene perturbation effect prediction does not
//! yet outperform simple linear baselines", Nat Methods 2025).

mod baselines;
mod reverse;
mod split;
#[cfg(test)]
mod tests;

use indexmap::IndexMap;
use ndarray::{Array1, ArrayView1, ArrayView2};
use serde::Serialize;

use crate::{Error, Result};

pub use baselines::{Baselines, Effects};
pub use reverse::{HitRates, ranks_of_truth};
pub use split::{ConditionSplit, HeldOut, SplitOptions, split_by_genes};

/// Genes whose change after a perturbation is compared on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedGenes(IndexMap<String, Vec<usize>>);

impl ChangedGenes {
    /// For each condition some columns, usually the 20 that change most; in published data sets those ranked by a t-test.
    pub fn new(of_conditions: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        Self(of_conditions.into_iter().collect())
    }

    /// The `n` genes of each condition whose mean differs most from that of control cells.
    pub fn by_effect(effects: &Effects, n: usize) -> Self {
        let of = |condition: &String| {
            let effect = effects.effect(condition).unwrap_or_default();
            let mut order: Vec<(usize, f64)> =
                effect.into_iter().map(f64::abs).enumerate().collect();
            order.sort_by(|a, b| b.1.total_cmp(&a.1));
            order.truncate(n);
            (
                condition.clone(),
                order.into_iter().map(|(g, _)| g).collect(),
            )
        };
        Self(effects.conditions().map(of).collect())
    }

    /// The genes of a condition.
    pub fn get(&self, condition: &str) -> Option<&[usize]> {
        self.0.get(condition).map(Vec::as_slice)
    }
}

/// Correlations of a condition, or their means. NaN where one is not defined: a side is constant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Correlations {
    /// Of the means over all genes.
    pub pearson: f64,
    /// Of the means over the changed genes.
    pub pearson_de: f64,
    /// Of the differences from control over all genes.
    pub pearson_delta: f64,
    /// Of the differences from control over the changed genes.
    pub pearson_de_delta: f64,
}

/// What [`compare`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// For each condition, in alphabetical order.
    pub conditions: Vec<(String, Correlations)>,
    /// The mean over conditions; those without a value of a kind don't count for it.
    pub mean: Correlations,
}

/// Which genes [`compare`] takes when it takes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GenesCompared {
    /// All of them.
    #[default]
    All,
    /// Those whose true mean in the condition is not zero.
    NonZero,
}

/// Compares predicted with true perturbed cells, condition by condition; rows of `truth` and `predicted`, `[cells, genes]`, are
/// cells of `conditions`, rows of `control` are control cells.
///
/// Conditions whose true cells are all zero are left out.
///
/// # Errors
/// [`Error::Length`] if shapes don't fit; [`Error::InvalidSetting`] if there is no control cell, or a condition has no changed
/// genes.
pub fn compare<S: AsRef<str>>(
    truth: ArrayView2<'_, f32>,
    predicted: ArrayView2<'_, f32>,
    conditions: &[S],
    control: ArrayView2<'_, f32>,
    changed: &ChangedGenes,
    genes: GenesCompared,
) -> Result<Comparison> {
    let truth = Effects::new(truth, conditions, control)?;
    let predicted = Effects::new(predicted, conditions, control)?;
    compare_means(&truth, &predicted, changed, genes)
}

/// The same from means of conditions, e.g. those of a [baseline](Baselines). Conditions that were not predicted are left out.
///
/// # Errors
/// As [`compare`].
pub fn compare_means(
    truth: &Effects,
    predicted: &Effects,
    changed: &ChangedGenes,
    genes: GenesCompared,
) -> Result<Comparison> {
    if truth.n_genes() != predicted.n_genes() {
        return Err(Error::Length {
            what: "a predicted cell",
            found: predicted.n_genes(),
            expected: truth.n_genes(),
        });
    }
    let mut all = Vec::new();
    for condition in truth.conditions() {
        let (Some(t), Some(p)) = (truth.mean(condition), predicted.mean(condition)) else {
            continue;
        };
        if t.iter().all(|&v| v == 0.0) {
            continue;
        }
        let Some(de) = changed.get(condition) else {
            return Err(Error::InvalidSetting {
                name: "changed",
                value: format!("no genes for condition \"{condition}\""),
                reason: "give the genes that change most, or ChangedGenes::by_effect".into(),
            });
        };
        if let Some(&index) = de.iter().find(|&&g| g >= truth.n_genes()) {
            let (what, len) = ("gene", truth.n_genes());
            return Err(sc_data::Error::OutOfRange { what, index, len }.into());
        }
        all.push((
            condition.clone(),
            correlations(t, p, truth.control(), de, genes),
        ));
    }
    let over = |of: fn(&Correlations) -> f64| {
        let defined: Vec<f64> = all
            .iter()
            .map(|(_, c)| of(c))
            .filter(|v| !v.is_nan())
            .collect();
        defined.iter().sum::<f64>() / defined.len() as f64
    };
    Ok(Comparison {
        mean: Correlations {
            pearson: over(|c| c.pearson),
            pearson_de: over(|c| c.pearson_de),
            pearson_delta: over(|c| c.pearson_delta),
            pearson_de_delta: over(|c| c.pearson_de_delta),
        },
        conditions: all,
    })
}

fn correlations(
    truth: ArrayView1<'_, f64>,
    predicted: ArrayView1<'_, f64>,
    control: ArrayView1<'_, f64>,
    changed: &[usize],
    genes: GenesCompared,
) -> Correlations {
    let all: Vec<usize> = (0..truth.len())
        .filter(|&g| genes == GenesCompared::All || truth.get(g).is_some_and(|&v| v != 0.0))
        .collect();
    let pick = |values: &Array1<f64>, at: &[usize]| -> Vec<f64> {
        at.iter().filter_map(|&g| values.get(g).copied()).collect()
    };
    let (t, p) = (truth.to_owned(), predicted.to_owned());
    let (dt, dp) = (&t - &control, &p - &control);
    let of = |a: &Array1<f64>, b: &Array1<f64>, at: &[usize]| pearson(&pick(a, at), &pick(b, at));
    Correlations {
        pearson: of(&t, &p, &all),
        pearson_de: of(&t, &p, changed),
        pearson_delta: of(&dt, &dp, &all),
        pearson_de_delta: of(&dt, &dp, changed),
    }
}

/// Pearson's correlation; NaN if a side is constant.
fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (ma, mb) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - ma, y - mb);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa == 0.0 || bb == 0.0 {
        return f64::NAN;
    }
    (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0)
}
