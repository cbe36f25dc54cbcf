use candle_core::DType;
use ndarray::{Array2, Axis, concatenate};
use sc_data::RowSource;

use super::arrays::to_tensor;
use super::effects::{Effects, effects};
use super::{FateCounts, GeneSpace, Simulation, StateLabels};
use crate::error::invalid;
use crate::{Error, Result};

/// Start cells, perturbed and not, that are simulated together.
const STARTS_AT_ONCE: usize = 1 << 16;
/// What is added to the number of a cell for random numbers of its own, where they aren't shared.
const OTHER_NUMBERS: u64 = 1 << 39;

/// Genes whose expression is set to a z-score.
#[derive(Debug, Clone, PartialEq)]
pub struct Perturbation {
    name: String,
    genes: Vec<usize>,
    z: f64,
}

impl Perturbation {
    /// Sets genes to `z` standard deviations above their mean: over-expression, or with a negative number knock-down.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if a gene isn't one of the model's (the error names some like it), no gene is given, or `z`
    /// isn't finite.
    pub fn set<S: AsRef<str>>(space: &GeneSpace, genes: &[S], z: f64) -> Result<Self> {
        if !z.is_finite() {
            return Err(invalid("z", z, "a finite number of standard deviations"));
        }
        let numbers = genes.iter().map(|g| space.gene(g.as_ref()));
        let mut numbers = numbers.collect::<Result<Vec<_>>>()?;
        let name: Vec<&str> = genes.iter().map(AsRef::as_ref).collect();
        numbers.sort_unstable();
        numbers.dedup();
        match numbers.is_empty() {
            true => Err(invalid("genes", "none", "at least one gene to perturb")),
            false => Ok(Self {
                name: name.join("+"),
                genes: numbers,
                z,
            }),
        }
    }

    /// The same genes at several doses.
    ///
    /// # Errors
    /// As [`Perturbation::set`].
    pub fn doses<S: AsRef<str>>(space: &GeneSpace, genes: &[S], z: &[f64]) -> Result<Vec<Self>> {
        z.iter().map(|z| Self::set(space, genes, *z)).collect()
    }

    /// Every gene of the model, one at a time: a screen.
    ///
    /// # Errors
    /// As [`Perturbation::set`].
    pub fn each_gene(space: &GeneSpace, z: f64) -> Result<Vec<Self>> {
        let genes = space.genes().iter();
        genes.map(|g| Self::set(space, &[g], z)).collect()
    }

    /// Its genes, joined by `+`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The z-score that they are set to.
    pub fn z(&self) -> f64 {
        self.z
    }
}

/// What becomes of cells whose expression is changed, beside what becomes of the same cells unchanged.
///
/// A gene is set to a z-score in the model's own scaled expression, and the cell moves by the difference times the gene's column
/// of the components. The controls are the same cells, brought to the space by the same transform, and move by the same random
/// numbers: what differs is the perturbation alone, and the difference of a cell from its control varies much less than two cells
/// do. In the original, controls are other cells at places that were stored, with other random numbers; see
/// [`Experiment::replicates`].
///
/// The effect on each fate is tested over cells (the mean of all copies of a cell counts once): a t-test of the differences from
/// the controls, false discovery rate over all perturbations and fates.
///
/// All perturbations of a call share the controls and are simulated together, so a screen over all genes is one call.
#[derive(Clone)]
pub struct Experiment<'a> {
    simulation: Simulation<'a>,
    states: &'a StateLabels,
    space: &'a GeneSpace,
    level: f64,
    dtype: DType,
    shared_noise: bool,
}

impl<'a> Experiment<'a> {
    /// Cells move as `simulation` says and end in one of `states`; `space` is the model's.
    ///
    /// # Errors
    /// [`Error::Shape`] if the labelled cells have other dimensions than the space.
    pub fn new(
        simulation: Simulation<'a>,
        states: &'a StateLabels,
        space: &'a GeneSpace,
    ) -> Result<Self> {
        if states.dim() != space.dim() {
            return Err(Error::Shape {
                what: "the labelled cells",
                found: vec![states.dim()],
                expected: format!("{} dimensions, as the space of genes", space.dim()),
            });
        }
        Ok(Self {
            simulation,
            states,
            space,
            level: 0.95,
            dtype: DType::F32,
            shared_noise: true,
        })
    }

    /// How sure intervals are, 0.95 unless set.
    #[must_use]
    pub fn level(mut self, level: f64) -> Self {
        self.level = level;
        self
    }

    /// The type the model computes in, `f32` unless set.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Whether a perturbed cell moves by the random numbers of its control, as it does unless set.
    #[must_use]
    pub fn shared_noise(mut self, shared: bool) -> Self {
        self.shared_noise = shared;
        self
    }

    /// Where the cells in `rows` of `expression` start, `[rows, D]`: the controls.
    ///
    /// # Errors
    /// As [`GeneSpace::project`].
    pub fn controls(&self, expression: &dyn RowSource, rows: &[usize]) -> Result<Array2<f32>> {
        self.space.project(expression, rows)
    }

    /// Where they start perturbed: for each perturbation one after the other, `[perturbations x rows, D]`. `controls` is what
    /// [`Experiment::controls`] gave for them.
    ///
    /// # Errors
    /// As [`GeneSpace::z_scores`].
    pub fn perturbed(
        &self,
        expression: &dyn RowSource,
        rows: &[usize],
        controls: &Array2<f32>,
        perturbations: &[Perturbation],
    ) -> Result<Array2<f32>> {
        let mut genes: Vec<usize> = perturbations.iter().flat_map(|p| p.genes.clone()).collect();
        genes.sort_unstable();
        genes.dedup();
        let now = self.space.z_scores(expression, rows, &genes)?;
        let components = self.space.components();
        let mut all = Vec::with_capacity(perturbations.len());
        for p in perturbations {
            let mut places = controls.clone();
            for gene in &p.genes {
                let Ok(column) = genes.binary_search(gene) else {
                    continue;
                };
                let direction = components.column(*gene);
                for (mut place, z) in places.rows_mut().into_iter().zip(now.column(column)) {
                    let by = p.z - z;
                    for (x, c) in place.iter_mut().zip(direction) {
                        *x = (f64::from(*x) + by * f64::from(*c)) as f32;
                    }
                }
            }
            all.push(places);
        }
        let views: Vec<_> = all.iter().map(|p| p.view()).collect();
        match views.is_empty() {
            true => Ok(Array2::zeros((0, self.space.dim()))),
            false => concatenate(Axis(0), &views).map_err(|e| invalid("starts", e, "one shape")),
        }
    }

    /// Runs all perturbations on the cells in `rows` of `expression` (`[cells, genes]`, as the model's space was made from; a
    /// row may occur once). `watch` is told how many perturbations are done, of how many.
    ///
    /// # Errors
    /// As [`Simulation::run`] and [`GeneSpace::project`]; [`Error::InvalidSetting`] with fewer than two cells, or a cell that
    /// occurs twice.
    pub fn run(
        &self,
        expression: &dyn RowSource,
        rows: &[usize],
        perturbations: &[Perturbation],
        mut watch: impl FnMut(usize, usize),
    ) -> Result<Effects> {
        check_rows(rows)?;
        let controls = self.controls(expression, rows)?;
        let numbers: Vec<u64> = rows.iter().map(|&r| r as u64).collect();
        let control = self.fates(&controls, &numbers)?;
        let mut done = Vec::with_capacity(perturbations.len());
        for some in perturbations.chunks((STARTS_AT_ONCE / rows.len()).max(1)) {
            let starts = self.perturbed(expression, rows, &controls, some)?;
            let own = if self.shared_noise { 0 } else { OTHER_NUMBERS };
            let repeated: Vec<u64> = some
                .iter()
                .flat_map(|_| numbers.iter().map(move |n| n | own))
                .collect();
            let counts = self.fates(&starts, &repeated)?;
            let blocks = counts.counts().axis_chunks_iter(Axis(0), rows.len());
            for (p, counts) in some.iter().zip(blocks) {
                let copies = self.simulation.n_copies() as f64;
                done.push(effects(p, &control, counts, copies, self.level)?);
            }
            watch(done.len(), perturbations.len());
        }
        Ok(Effects::new(control, done))
    }

    /// The seed of the simulation.
    pub(super) fn seed(&self) -> u64 {
        self.simulation.seed_of_paths()
    }

    /// The fates of cells that start at these places and have these numbers.
    pub(super) fn fates(&self, starts: &Array2<f32>, numbers: &[u64]) -> Result<FateCounts> {
        let starts = to_tensor(starts.view(), self.dtype)?;
        let simulation = self.simulation.clone().cells(numbers.to_vec());
        FateCounts::predict(&simulation, &starts, self.states)
    }
}

fn check_rows(rows: &[usize]) -> Result<()> {
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find_map(|w| match w {
        [a, b] if a == b => Some(*a),
        _ => None,
    });
    if let Some(row) = twice {
        return Err(invalid(
            "cells",
            format!("row {row} twice"),
            "each cell once; for more paths of a cell, set the copies of the simulation",
        ));
    }
    match rows.len() {
        n if n < 2 => Err(invalid(
            "the number of cells",
            n,
            "at least 2, to know how much effects vary",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "perturb_tests.rs"]
mod tests;
