use std::ops::Range;

use candle_core::Tensor;
use ndarray::Array2;
use rayon::prelude::*;
use sc_tensor::Rng;

use super::arrays::{array, to_array};
use crate::error::invalid;
use crate::solve::{At, BrownianPath, Noise, Schedule, Scheme, Sde, Solve};
use crate::{Error, Result};

/// Paths that are solved together, whatever the machine.
const BLOCK: usize = 1024;
/// Blocks are filled up to a multiple of this many rows, so that matrix products are done by the same code for one path as
/// for a thousand.
const ROWS: usize = 64;
/// Above the numbers of cells there is room for the copies.
const CELL_BITS: u32 = 40;

/// Where cells go: many paths of an equation from each of some start cells.
///
/// The paths are numbered cell by cell: path `p` is copy `p % copies` of cell `p / copies`. They are solved in blocks, and
/// handed out block by block, so a million cells need no more memory than a few thousand. What a path does depends on the seed,
/// the number of its cell (its row unless [`Simulation::cells`] says otherwise) and its copy alone: not on the other cells, the
/// blocks or the number of threads. So cells of the same number have the same random numbers, which makes them comparable.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use sc_sde::downstream::Simulation;
/// use sc_sde::solve::zoo::DoubleWell;
///
/// let wells = DoubleWell::new(1.0, 0.7);
/// let start = Tensor::new(&[[0.0], [0.9]], &Device::Cpu)?;
/// let simulation = Simulation::new(&wells, &[0.0, 1.0, 2.0], 0.05)?.copies(100).seed(1);
/// let mut right = [0; 2];
/// simulation.run(&start, |batch| {
///     let ends = batch.array(2)?;                      // at the third time
///     for (i, end) in ends.rows().into_iter().enumerate() {
///         right[batch.path(i).0] += usize::from(end[0] > 0.0);
///     }
///     Ok(())
/// })?;
/// assert!(right[0] < 70 && right[1] > 80);
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Clone)]
pub struct Simulation<'a> {
    pub(super) sde: &'a (dyn Sde + Sync),
    pub(super) scheme: Scheme,
    pub(super) schedule: Schedule,
    dt: f64,
    pub(super) copies: usize,
    seed: u64,
    cells: Option<Vec<u64>>,
}

/// The states of some paths at all times.
#[derive(Debug, Clone)]
pub struct Batch {
    first: usize,
    copies: usize,
    times: Vec<f64>,
    states: Vec<Tensor>,
}

impl Batch {
    /// The numbers of its paths.
    pub fn paths(&self) -> Range<usize> {
        let n = self.states.first().map_or(0, |s| s.dim(0).unwrap_or(0));
        self.first..self.first + n
    }

    /// The row of the start cell, and the copy, of the path in row `i` of the states.
    pub fn path(&self, i: usize) -> (usize, usize) {
        let p = self.first + i;
        (p / self.copies, p % self.copies)
    }

    /// The times; the first is that of the start.
    pub fn times(&self) -> &[f64] {
        &self.times
    }

    /// The states at each time, `[paths, D]`.
    pub fn states(&self) -> &[Tensor] {
        &self.states
    }

    /// The states at time number `k`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no such time.
    pub fn at(&self, k: usize) -> Result<&Tensor> {
        self.states.get(k).ok_or_else(|| Error::Shape {
            what: "the number of a time",
            found: vec![k],
            expected: format!("below {}", self.states.len()),
        })
    }

    /// The same as an array.
    ///
    /// # Errors
    /// As [`Batch::at`].
    pub fn array(&self, k: usize) -> Result<Array2<f32>> {
        to_array(self.at(k)?)
    }

    /// The states at the last time.
    ///
    /// # Errors
    /// None that are known.
    pub fn ends(&self) -> Result<Array2<f32>> {
        self.array(self.states.len().saturating_sub(1))
    }
}

/// Paths that are solved together.
pub(super) struct Block {
    pub(super) start: Tensor,
    pub(super) motion: BrownianPath,
    pub(super) paths: Range<usize>,
}

impl<'a> Simulation<'a> {
    /// From the first of `times` to the last, in steps of about `dt`; states are handed out at `times`. One path of each cell,
    /// seed 0, scheme [`Scheme::Euler`].
    ///
    /// # Errors
    /// [`Error::Times`] as [`Schedule::grid`].
    pub fn new(sde: &'a (dyn Sde + Sync), times: &[f64], dt: f64) -> Result<Self> {
        Ok(Self::with_schedule(sde, Schedule::grid(times, dt)?, dt))
    }

    /// With other steps than an even grid. `dt` is the length of most.
    pub fn with_schedule(sde: &'a (dyn Sde + Sync), schedule: Schedule, dt: f64) -> Self {
        Self {
            sde,
            scheme: Scheme::Euler,
            schedule,
            dt,
            copies: 1,
            seed: 0,
            cells: None,
        }
    }

    /// Paths of each cell.
    #[must_use]
    pub fn copies(mut self, copies: usize) -> Self {
        self.copies = copies;
        self
    }

    /// Seed of all paths.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The scheme of the solver.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// The number of each start cell, below 2^40, instead of its row. Cells of the same number move by the same random numbers.
    #[must_use]
    pub fn cells(mut self, numbers: Vec<u64>) -> Self {
        self.cells = Some(numbers);
        self
    }

    /// The equation.
    pub fn sde(&self) -> &'a (dyn Sde + Sync) {
        self.sde
    }

    /// The times at which states are handed out.
    pub fn times(&self) -> &[f64] {
        self.schedule.times()
    }

    /// Paths of each cell.
    pub fn n_copies(&self) -> usize {
        self.copies
    }

    /// How many steps are done at time number `k`.
    pub(super) fn step_of(&self, k: usize) -> usize {
        self.schedule.outputs().get(k).map_or(0, |o| o.after)
    }

    /// Seed of all paths.
    pub(super) fn seed_of_paths(&self) -> u64 {
        self.seed
    }

    /// Solves all paths from `start` (`[cells, D]`), and calls `visit` with one batch after the other, in order.
    ///
    /// # Errors
    /// [`Error::Diverged`] if a path leaves the finite numbers, [`Error::NotFinite`] if it starts there (`cell` and `row` are
    /// the start cell's row), [`Error::InvalidSetting`] without copies, [`Error::Shape`] unless every cell has a number; and
    /// those of `visit`.
    pub fn run(&self, start: &Tensor, mut visit: impl FnMut(&Batch) -> Result<()>) -> Result<()> {
        let m = self.check(start)?;
        self.each_block(start, m, |block| self.solve(&block), |batch| visit(&batch))
    }

    /// Where all paths end, `[paths, D]`.
    ///
    /// # Errors
    /// As [`Simulation::run`].
    pub fn ends(&self, start: &Tensor) -> Result<Array2<f32>> {
        let mut all = Vec::new();
        let mut d = 0;
        self.run(start, |batch| {
            let ends = batch.ends()?;
            d = ends.ncols();
            all.extend(ends);
            Ok(())
        })?;
        array((all.len() / d.max(1), d), all)
    }

    /// The population at every time, `[paths, D]` each: all states of all paths in memory.
    ///
    /// # Errors
    /// As [`Simulation::run`].
    pub fn populations(&self, start: &Tensor) -> Result<Vec<Array2<f32>>> {
        let mut all = vec![Vec::new(); self.times().len()];
        let mut d = 0;
        self.run(start, |batch| {
            for (k, all) in all.iter_mut().enumerate() {
                let states = batch.array(k)?;
                d = states.ncols();
                all.extend(states);
            }
            Ok(())
        })?;
        let one = |v: Vec<f32>| array((v.len() / d.max(1), d), v);
        all.into_iter().map(one).collect()
    }

    /// Checks the start; the number of Brownian motions of each path.
    pub(super) fn check(&self, start: &Tensor) -> Result<usize> {
        let Ok((n, d)) = start.dims2() else {
            return Err(Error::Shape {
                what: "the start",
                found: start.dims().to_vec(),
                expected: "[cells, dimensions]".into(),
            });
        };
        if n == 0 || d == 0 {
            return Err(Error::Empty {
                what: "the start",
                found: vec![n, d],
            });
        }
        if self.copies == 0 || self.copies >= 1 << (64 - CELL_BITS) {
            return Err(invalid(
                "copies",
                self.copies,
                "between 1 and 16,777,215 paths of each cell",
            ));
        }
        if let Some(numbers) = &self.cells {
            if numbers.len() != n {
                return Err(Error::Shape {
                    what: "the numbers of cells",
                    found: vec![numbers.len()],
                    expected: format!("[{n}], one for each start cell"),
                });
            }
            if let Some(big) = numbers.iter().find(|c| **c >= 1 << CELL_BITS) {
                return Err(invalid("the number of a cell", big, "below 2^40"));
            }
        }
        self.scheme.check(self.sde.noise(), self.sde.calculus())?;
        self.motions(&start.narrow(0, 0, 1)?)
    }

    /// How many Brownian motions a path has, which an equation with general noise says by its diffusion only.
    fn motions(&self, one: &Tensor) -> Result<usize> {
        Ok(match self.sde.noise() {
            Noise::Absent => 0,
            Noise::Scalar => 1,
            Noise::Diagonal | Noise::Coordinatewise => one.dim(1)?,
            Noise::Additive | Noise::General => {
                let t = self.times().first().copied().unwrap_or_default();
                let at = At {
                    t,
                    step: 0,
                    stage: 0,
                };
                self.sde.diffusion(at, &one.contiguous()?)?.dims3()?.2
            }
        })
    }

    /// Computes something for each block, on all threads, and takes the results in order.
    pub(super) fn each_block<T: Send>(
        &self,
        start: &Tensor,
        motions: usize,
        solve: impl Fn(Block) -> Result<T> + Sync,
        mut take: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let start = &start.detach().contiguous()?;
        let n = start.dim(0)?.saturating_mul(self.copies);
        let firsts: Vec<usize> = (0..n).step_by(BLOCK).collect();
        for wave in firsts.chunks(rayon::current_num_threads().max(1)) {
            let done: Vec<Result<T>> = wave
                .par_iter()
                .map(|&first| {
                    let paths = first..n.min(first + BLOCK);
                    self.block(start, motions, paths.clone())
                        .and_then(&solve)
                        .map_err(|e| self.of_cell(e, &paths))
                })
                .collect();
            for one in done {
                take(one?)?;
            }
        }
        Ok(())
    }

    /// The paths with these numbers, and some more that fill the block up.
    fn block(&self, start: &Tensor, motions: usize, paths: Range<usize>) -> Result<Block> {
        let rows = paths.len().next_multiple_of(ROWS);
        let last = paths.end.saturating_sub(1);
        let all = (paths.start..paths.start + rows).map(|p| p.min(last));
        let (mut cells, mut numbers) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for path in all {
            let (cell, copy) = (path / self.copies, (path % self.copies) as u64);
            let numbered = self.cells.as_ref().and_then(|c| c.get(cell).copied());
            cells.push(cell as u32);
            numbers.push(numbered.unwrap_or(cell as u64) | (copy << CELL_BITS));
        }
        let origin = self.times().first().copied().unwrap_or_default();
        let rng = Rng::new(self.seed);
        Ok(Block {
            start: start.index_select(&Tensor::new(cells, start.device())?, 0)?,
            motion: BrownianPath::of_cells(&rng, numbers, motions, origin, self.dt)?,
            paths,
        })
    }

    fn solve(&self, block: &Block) -> Result<Batch> {
        let solve = Solve::new(self.sde, self.scheme, &block.motion, &self.schedule);
        let n = block.paths.len();
        let states = solve.run(&block.start)?;
        let states = states.iter().map(|s| s.narrow(0, 0, n)?.contiguous());
        Ok(Batch {
            first: block.paths.start,
            copies: self.copies,
            times: self.times().to_vec(),
            states: states.collect::<candle_core::Result<_>>()?,
        })
    }

    /// The error of a row of a block as that of its cell.
    fn of_cell(&self, error: Error, paths: &Range<usize>) -> Error {
        let cell = |row: usize| (paths.start + row).min(paths.end.saturating_sub(1)) / self.copies;
        match error {
            Error::Diverged {
                time,
                step,
                cell: row,
                norm,
            } => Error::Diverged {
                time,
                step,
                cell: cell(row),
                norm,
            },
            Error::NotFinite {
                what: what @ "the start",
                row,
                column,
                value,
            } => Error::NotFinite {
                what,
                row: cell(row),
                column,
                value,
            },
            other => other,
        }
    }
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
