//! Fates without movement.

use ndarray::{Array2, ArrayView2, Axis};
use sc_data::Categorical;
use sc_neighbors::knn_query;
use sc_sde::downstream::{CrossEntropy, FateMatrix, LogisticFates, StateLabels, cross_entropy};
use sc_tensor::Rng;

use crate::Result;
use crate::cells::{Cells, UNDECIDED};
use crate::methods::Method;

/// Parts that cells with known fates are cut into, each predicted from the others.
const FOLDS: usize = 5;
/// Neighbours whose fates are taken.
const NEAR: usize = 20;
/// Penalties of regression, of which the taught cells choose one.
const PENALTIES: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// Cells that a method is taught with.
#[derive(Clone)]
pub(crate) struct Taught {
    pub(crate) places: Array2<f32>,
    pub(crate) fates: FateMatrix,
    pub(crate) clones: Vec<usize>,
}

impl Taught {
    fn select(&self, rows: &[usize]) -> Result<Self> {
        Ok(Self {
            places: self.places.select(Axis(0), rows),
            fates: self.fates.select(rows)?,
            clones: rows
                .iter()
                .filter_map(|r| self.clones.get(*r).copied())
                .collect(),
        })
    }

    /// The fold of each cell; cells of a clone are in the same.
    fn folds(&self, seed: u64) -> Vec<usize> {
        let mut all = self.clones.clone();
        all.sort_unstable();
        all.dedup();
        let order = Rng::new(seed).stream("folds").permutation(all.len());
        let fold = |clone: &usize| {
            all.binary_search(clone)
                .ok()
                .and_then(|i| order.get(i))
                .map_or(0, |p| p % FOLDS)
        };
        self.clones.iter().map(fold).collect()
    }

    /// Each cell, predicted by a method that was taught with the other folds.
    pub(crate) fn cross_validated(&self, method: Method, seed: u64) -> Result<FateMatrix> {
        self.by_folds(seed, |known, places| known.predict(method, places, seed))
    }

    fn by_folds(
        &self,
        seed: u64,
        predict: impl Fn(&Self, ArrayView2<'_, f32>) -> Result<FateMatrix>,
    ) -> Result<FateMatrix> {
        let folds = self.folds(seed);
        let mut all = Array2::zeros(self.fates.fractions().dim());
        for fold in 0..FOLDS {
            let (test, rest): (Vec<usize>, Vec<usize>) =
                (0..folds.len()).partition(|i| folds[*i] == fold);
            if test.is_empty() {
                continue;
            }
            let found = predict(
                &self.select(&rest)?,
                self.places.select(Axis(0), &test).view(),
            )?;
            for (row, p) in test.iter().zip(found.fractions().rows()) {
                all.row_mut(*row).assign(&p);
            }
        }
        Ok(FateMatrix::new(self.fates.fates().to_vec(), all)?)
    }

    /// What a method that is taught with these cells says of places.
    pub(crate) fn predict(
        &self,
        method: Method,
        places: ArrayView2<'_, f32>,
        seed: u64,
    ) -> Result<FateMatrix> {
        match method {
            Method::Logistic => {
                let model =
                    LogisticFates::fit(self.places.view(), &self.fates, self.penalty(seed)?)?;
                Ok(model.predict(places)?)
            }
            Method::Neighbours => {
                let k = NEAR.min(self.places.nrows().saturating_sub(1));
                let near = knn_query(self.places.view(), places, k)?;
                self.mean_over(near.indices.rows().into_iter().map(|r| r.to_vec()))
            }
            Method::Frequencies => {
                let all: Vec<u32> = (0..self.fates.n_cells() as u32).collect();
                self.mean_over((0..places.nrows()).map(|_| all.clone()))
            }
            _ => Err(format!("{method} is not taught").into()),
        }
    }

    /// The penalty of the lowest cross-entropy in folds of its own.
    fn penalty(&self, seed: u64) -> Result<f64> {
        let mut best = (f64::INFINITY, PENALTIES[0]);
        for penalty in PENALTIES {
            let found = self.by_folds(seed + 1, |known, places| {
                let model = LogisticFates::fit(known.places.view(), &known.fates, penalty)?;
                Ok(model.predict(places)?)
            })?;
            let loss = cross_entropy(&self.fates, &found, CrossEntropy::default())?;
            if loss < best.0 {
                best = (loss, penalty);
            }
        }
        Ok(best.1)
    }

    /// The mean fates of some of the cells, for each of several places.
    fn mean_over(&self, groups: impl ExactSizeIterator<Item = Vec<u32>>) -> Result<FateMatrix> {
        let fractions = self.fates.fractions();
        let mut all = Array2::zeros((groups.len(), fractions.ncols()));
        for (mut row, group) in all.rows_mut().into_iter().zip(groups) {
            for cell in &group {
                row += &fractions.row(*cell as usize);
            }
            row /= group.len().max(1) as f64;
        }
        Ok(FateMatrix::new(self.fates.fates().to_vec(), all)?)
    }
}

/// Nothing moves: the labels of the nearest differentiated cells.
pub(crate) fn nearest(cells: &Cells, places: ArrayView2<'_, f32>) -> Result<FateMatrix> {
    let decided = cells
        .kinds
        .iter()
        .map(|k| k.filter(|k| !UNDECIDED.contains(k)));
    let states = StateLabels::new(cells.places.view(), &Categorical::from_options(decided))?;
    let votes = states.k(NEAR).votes(places)?;
    let shares = votes.mapv(|v| f64::from(v) / NEAR as f64);
    let decided = cells
        .kinds
        .iter()
        .map(|k| k.filter(|k| !UNDECIDED.contains(k)));
    let names = Categorical::from_options(decided).categories().to_vec();
    Ok(FateMatrix::new(names, shares)?)
}
