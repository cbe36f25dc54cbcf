//! Where a trained model moves cells.

use ndarray::{Array2, ArrayView2};
use sc_sde::downstream::{FateCounts, Simulation, StateLabels, field, to_tensor};
use sc_sde::solve::{Noise, Sde};
use sc_sde::transport::{Cloud, Sinkhorn};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::cells::Cells;
use crate::common::Training;
use crate::methods::Trained;

/// A step of the solver, in days, as in training.
const DT: f64 = 0.1;
/// Paths of a population, at least.
const PATHS: usize = 1000;

pub(crate) struct Movement<'a> {
    trained: &'a Trained,
    equation: Box<dyn Sde + Sync>,
    seed: u64,
}

impl<'a> Movement<'a> {
    pub(crate) fn of(trained: &'a Trained, seed: u64) -> Result<Self> {
        Ok(Self {
            trained,
            equation: trained.equation()?,
            seed,
        })
    }

    /// Labels of the ends of `copies` paths from each place, from day `from` to day 6.
    pub(crate) fn fates(
        &self,
        cells: &Cells,
        from: f64,
        start: ArrayView2<'_, f32>,
        copies: usize,
    ) -> Result<FateCounts> {
        let simulation = Simulation::new(&*self.equation, &[from, 6.0], DT)?;
        // Without noise all paths of a cell are the same.
        let copies = match self.equation.noise() {
            Noise::Absent => 1,
            _ => copies,
        };
        let simulation = simulation.copies(copies).seed(self.seed);
        let states = StateLabels::new(cells.places.view(), &cells.kinds)?.k(cells.votes);
        let start = to_tensor(start, self.trained.dtype())?;
        Ok(FateCounts::predict(&simulation, &start, &states)?)
    }

    /// Cells of the first day at all days; a thousand paths or one of each cell.
    pub(crate) fn populations(
        &self,
        start: ArrayView2<'_, f32>,
        days: &[f64],
    ) -> Result<Vec<Array2<f32>>> {
        let copies = PATHS.div_ceil(start.nrows().max(1));
        let simulation = Simulation::new(&*self.equation, days, DT)?;
        let simulation = simulation.copies(copies).seed(self.seed);
        let start = to_tensor(start, self.trained.dtype())?;
        Ok(simulation.populations(&start)?)
    }

    /// The divergence from cells that validate, day by day and in sum: the criterion that settings are chosen by.
    pub(crate) fn validation(&self, cells: &Training) -> Result<Value> {
        let days = cells.snapshots.times();
        let first = days.first().copied().unwrap_or_default();
        let moved = self.populations(cells.validating(first).view(), days)?;
        let (mut all, mut sum) = (Map::new(), 0.0);
        for (day, moved) in days.iter().zip(&moved).skip(1) {
            let value = divergence(moved.view(), cells.validating(*day).view())?;
            sum += value;
            all.insert(format!("day {day}"), json!(value));
        }
        all.insert("sum".into(), json!(sum));
        Ok(Value::Object(all))
    }

    /// `dt` times the mean length of the drift, over that of the diffusion, at all cells that train: what the ratio is asked to be.
    pub(crate) fn ratio(&self, cells: &Training) -> Result<Value> {
        let places = to_tensor(cells.places.view(), self.trained.dtype())?;
        let first = cells.snapshots.times().first().copied().unwrap_or_default();
        if self.equation.noise() == Noise::Absent {
            return Ok(Value::Null);
        }
        let found = field(&*self.equation, &places, first)?;
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (drift, diffusion) = (mean(&found.drift_norm), mean(&found.diffusion_norm));
        Ok(json!({"drift": drift, "diffusion": diffusion, "ratio": DT * drift / diffusion}))
    }
}

/// The Sinkhorn divergence with the settings of scDiffEq's training.
pub(crate) fn divergence(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Result<f64> {
    let (x, y) = (x.mapv(f64::from), y.mapv(f64::from));
    let sinkhorn = Sinkhorn::params().check()?;
    Ok(sinkhorn.divergence(&Cloud::new(x.view())?, &Cloud::new(y.view())?)?)
}
