use ndarray::{Array2, ArrayView2, Axis, stack};
use sc_data::RowSource;
use sc_model::Parity;
use sc_tensor::Rng;
use serde::Serialize;

use super::statistics::{MeanTest, Welch, log2_fold_change, mean_test, moments, welch};
use super::{Experiment, FateCounts, Perturbation};
use crate::error::invalid;
use crate::{Error, Result};

/// What the original adds to fractions before it takes the logarithm of their ratio.
const EPSILON: f64 = 1e-9;

/// Shares of fates in repeated experiments with samples of cells, as the original's experiments have them.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicates {
    names: Vec<String>,
    control: Array2<f64>,
    perturbed: Array2<f64>,
}

/// How replicates differ in one fate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplicateEffect {
    /// The fate.
    pub fate: String,
    /// The mean over replicates of `log2((perturbed + 1e-9) / (control + 1e-9))`: around 30 where a fate is absent from one
    /// side.
    pub log2_fold_change: f64,
    /// Its standard deviation between replicates; none for one.
    pub log2_fold_change_std: Option<f64>,
    /// Welch's test of the fractions, control less perturbed: the original's. None where it isn't defined.
    pub welch: Option<Welch>,
    /// The t-test of the differences, which is right where a replicate's control is of the same cells.
    pub paired: Option<MeanTest>,
}

impl Replicates {
    /// `control` and `perturbed` are `[replicates, labels]`: the share of each label.
    ///
    /// # Errors
    /// [`Error::Shape`] unless both have a column for each name and as many rows.
    pub fn new(names: Vec<String>, control: Array2<f64>, perturbed: Array2<f64>) -> Result<Self> {
        for (what, found) in [("the controls", &control), ("the perturbed", &perturbed)] {
            if found.ncols() != names.len() || found.nrows() != control.nrows() {
                return Err(Error::Shape {
                    what,
                    found: found.shape().to_vec(),
                    expected: format!("[{}, {}]", control.nrows(), names.len()),
                });
            }
        }
        Ok(Self {
            names,
            control,
            perturbed,
        })
    }

    /// The shares of the controls, `[replicates, labels]`.
    pub fn control(&self) -> &Array2<f64> {
        &self.control
    }

    /// The shares of the perturbed.
    pub fn perturbed(&self) -> &Array2<f64> {
        &self.perturbed
    }

    /// How they differ, fate by fate.
    pub fn effects(&self) -> Vec<ReplicateEffect> {
        let effect = |(j, fate): (usize, &String)| {
            let (c, p) = (
                self.control.column(j).to_vec(),
                self.perturbed.column(j).to_vec(),
            );
            let pairs = || p.iter().zip(&c);
            let lfc: Vec<f64> = pairs()
                .map(|(p, c)| log2_fold_change(*p, *c, EPSILON))
                .collect();
            let differences: Vec<f64> = pairs().map(|(p, c)| p - c).collect();
            ReplicateEffect {
                fate: fate.clone(),
                log2_fold_change: lfc.iter().sum::<f64>() / lfc.len().max(1) as f64,
                log2_fold_change_std: moments(&lfc).map(|m| m.1.sqrt()),
                welch: welch(&c, &p),
                paired: mean_test(&differences, 0.95).ok(),
            }
        };
        self.names.iter().enumerate().map(effect).collect()
    }
}

impl Experiment<'_> {
    /// Repeats one perturbation on `replicates` samples of `n` of the cells in `rows`.
    ///
    /// Controls are the same cells with the same random numbers. In the original (`Parity::Upstream`) they are another sample,
    /// at the places in `stored` (those of all cells of `expression`), with other random numbers.
    ///
    /// # Errors
    /// As [`Experiment::run`]; [`Error::InvalidSetting`] if there are fewer than `n` cells, or no stored places where they are
    /// needed.
    pub fn replicates(
        &self,
        expression: &dyn RowSource,
        rows: &[usize],
        perturbation: &Perturbation,
        (n, replicates): (usize, usize),
        stored: Option<ArrayView2<'_, f32>>,
        parity: Parity,
    ) -> Result<Replicates> {
        if n == 0 || n > rows.len() || replicates == 0 {
            return Err(invalid(
                "cells of a replicate",
                n,
                format!("1 to {}, in at least one replicate", rows.len()),
            ));
        }
        let base = Rng::new(self.seed()).stream("perturbation/sample");
        let sample = |r: usize, side: u64| -> Vec<usize> {
            let order = base.at(&[r as u64, side]).permutation(rows.len());
            order
                .iter()
                .take(n)
                .filter_map(|&i| rows.get(i).copied())
                .collect()
        };
        let number = |r: usize, side: usize| -> Vec<u64> {
            let first = (2 * r + side) * n;
            (first as u64..(first + n) as u64).collect()
        };
        let (mut control, mut perturbed) = (Vec::new(), Vec::new());
        let mut names = Vec::new();
        for r in 0..replicates {
            let cells = sample(r, 0);
            let places = self.controls(expression, &cells)?;
            let starts = self.perturbed(
                expression,
                &cells,
                &places,
                std::slice::from_ref(perturbation),
            )?;
            let with = self.fates(&starts, &number(r, 0))?;
            let without = match parity {
                Parity::Correct => self.fates(&places, &number(r, 0))?,
                Parity::Upstream => {
                    let places = stored_places(stored, &sample(r, 1))?;
                    self.fates(&places, &number(r, 1))?
                }
            };
            control.push(shares(&without));
            perturbed.push(shares(&with));
            names = with.names().to_vec();
        }
        Replicates::new(names, rows_of(&control)?, rows_of(&perturbed)?)
    }
}

fn stored_places(stored: Option<ArrayView2<'_, f32>>, rows: &[usize]) -> Result<Array2<f32>> {
    let Some(places) = stored else {
        return Err(invalid(
            "parity",
            "Upstream",
            "the original's controls are stored places of cells, and none were given",
        ));
    };
    match rows.iter().find(|&&r| r >= places.nrows()) {
        None => Ok(places.select(Axis(0), rows)),
        Some(row) => Err(Error::Shape {
            what: "the stored places",
            found: places.shape().to_vec(),
            expected: format!("a row for each cell; there is none for {row}"),
        }),
    }
}

/// The share of each label among all paths.
fn shares(counts: &FateCounts) -> ndarray::Array1<f64> {
    let sums = counts.counts().sum_axis(Axis(0)).mapv(|c| c as f64);
    let total = sums.sum();
    sums / total.max(1.0)
}

fn rows_of(rows: &[ndarray::Array1<f64>]) -> Result<Array2<f64>> {
    let views: Vec<_> = rows.iter().map(|r| r.view()).collect();
    stack(Axis(0), &views).map_err(|e| invalid("replicates", e, "rows of one length"))
}
