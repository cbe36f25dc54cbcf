use candle_core::Tensor;
use ndarray::Array2;

use super::simulate::{Block, Simulation};
use crate::solve::Solver;
use crate::{Error, Result};

/// Says which target each path is in, if any, from the states of the paths.
type Met = dyn Fn(&Tensor) -> Result<Vec<Option<usize>>> + Sync;

impl Simulation<'_> {
    /// What each path meets first. `met` is given the states of some paths, `[paths, D]`, after each step, and says which target
    /// each of them is in, if any; targets are numbered from 0 to `n_targets - 1`. The share of paths that meet one of two targets
    /// first is the committor: a fate probability. Targets are looked for at the ends of steps, so `dt` should be small beside
    /// the time in which a path crosses one.
    ///
    /// # Errors
    /// As [`Simulation::run`]; [`Error::Shape`] if `met` doesn't answer for each path, or names another target.
    pub fn first_hits(&self, start: &Tensor, n_targets: usize, met: &Met) -> Result<Hits> {
        let m = self.check(start)?;
        let mut hits = Hits::none(start.dim(0)?, n_targets, self.copies);
        let solve = |block: Block| Ok((block.paths.clone(), self.hits_of(&block, met)?));
        self.each_block(start, m, solve, |(paths, found)| {
            for (path, hit) in paths.zip(found) {
                hits.add(path / self.copies, hit)?;
            }
            Ok(())
        })?;
        Ok(hits)
    }

    /// The target that each path of a block meets first, and when.
    fn hits_of(&self, block: &Block, met: &Met) -> Result<Vec<Option<(usize, f64)>>> {
        let n = block.paths.len();
        let t0 = self.times().first().copied().unwrap_or_default();
        let start = block.start.clone();
        let mut solver = Solver::new(self.sde, self.scheme, &block.motion, t0, start)?;
        let mut found: Vec<Option<(usize, f64)>> = vec![None; n];
        let mut look = |states: &Tensor, t: f64| -> Result<bool> {
            let now = met(&states.narrow(0, 0, n)?.contiguous()?)?;
            if now.len() != n {
                return Err(Error::Shape {
                    what: "the targets that paths are in",
                    found: vec![now.len()],
                    expected: format!("[{n}], one for each path"),
                });
            }
            for (first, now) in found.iter_mut().zip(now) {
                *first = first.or(now.map(|target| (target, t - t0)));
            }
            Ok(found.iter().all(Option::is_some))
        };
        let mut done = look(&solver.state().y, t0)?;
        for step in self.schedule.steps() {
            if done {
                break;
            }
            let state = solver.step_to(step.end)?;
            done = look(&state.y, step.end)?;
        }
        Ok(found)
    }
}

/// Which target the paths of each cell met first, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    counts: Array2<u32>,
    time: Array2<f64>,
    copies: usize,
}

impl Hits {
    fn none(cells: usize, targets: usize, copies: usize) -> Self {
        Self {
            counts: Array2::zeros((cells, targets)),
            time: Array2::zeros((cells, targets)),
            copies,
        }
    }

    fn add(&mut self, cell: usize, hit: Option<(usize, f64)>) -> Result<()> {
        let Some((target, time)) = hit else {
            return Ok(());
        };
        let targets = self.counts.ncols();
        match (
            self.counts.get_mut((cell, target)),
            self.time.get_mut((cell, target)),
        ) {
            (Some(count), Some(sum)) => {
                *count += 1;
                *sum += time;
                Ok(())
            }
            _ => Err(Error::Shape {
                what: "the number of a target",
                found: vec![target],
                expected: format!("below {targets}"),
            }),
        }
    }

    /// Paths of each cell (rows) that met each target (columns) first.
    pub fn counts(&self) -> &Array2<u32> {
        &self.counts
    }

    /// The same as shares of all paths of the cell. What is missing to 1 met none in time.
    pub fn probability(&self) -> Array2<f64> {
        self.counts.mapv(|c| f64::from(c) / self.copies as f64)
    }

    /// The standard error of each probability, `sqrt(p (1 - p) / copies)`.
    pub fn standard_error(&self) -> Array2<f64> {
        let n = self.copies as f64;
        self.probability().mapv(|p| (p * (1.0 - p) / n).sqrt())
    }

    /// The mean time since the start at which the paths that met a target first did; NaN where none did.
    pub fn mean_time(&self) -> Array2<f64> {
        let mut mean = self.time.clone();
        mean.zip_mut_with(&self.counts, |t, c| *t /= f64::from(*c));
        mean
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::solve::zoo::DoubleWell;

    /// -1 and 1, the wells.
    fn wells(states: &Tensor) -> Result<Vec<Option<usize>>> {
        let x = states.flatten_all()?.to_vec1::<f64>()?;
        let target = |x: &f64| match *x {
            x if x <= -1.0 => Some(0),
            x if x >= 1.0 => Some(1),
            _ => None,
        };
        Ok(x.iter().map(target).collect())
    }

    #[test]
    fn first_hits_are_the_committor_of_the_double_well() {
        let sde = DoubleWell::new(1.0, 1.0);
        let x = [-0.8, -0.4, -0.1, 0.0, 0.3, 0.7];
        let start = Tensor::from_slice(&x, (6, 1), &Device::Cpu).unwrap();
        let simulation = Simulation::new(&sde, &[0.0, 40.0], 0.004).unwrap();
        let hits = simulation
            .copies(1000)
            .seed(3)
            .first_hits(&start, 2, &wells);
        let hits = hits.unwrap();
        let p = hits.probability();
        for (i, &x) in x.iter().enumerate() {
            let exact = sde.committor(x, -1.0, 1.0);
            // Three standard errors, and what is missed between steps.
            assert!(
                (p[[i, 1]] - exact).abs() < 0.05,
                "{x}: {} {exact}",
                p[[i, 1]]
            );
            assert!((p[[i, 0]] + p[[i, 1]] - 1.0).abs() < 1e-12);
        }
        // From the ridge to both sides in the same time.
        let time = hits.mean_time();
        assert!((time[[3, 0]] - time[[3, 1]]).abs() < 0.1 * time[[3, 0]]);
    }

    #[test]
    fn targets_are_checked() {
        let sde = DoubleWell::new(1.0, 0.5);
        let start = Tensor::zeros((2, 1), DType::F64, &Device::Cpu).unwrap();
        let simulation = Simulation::new(&sde, &[0.0, 0.1], 0.1).unwrap();
        assert!(simulation.first_hits(&start, 2, &|_| Ok(vec![])).is_err());
        assert!(
            simulation
                .first_hits(&start, 2, &|_| Ok(vec![Some(2); 2]))
                .is_err()
        );
        let none = simulation.first_hits(&start, 1, &|_| Ok(vec![None; 2]));
        assert_eq!(none.unwrap().counts().sum(), 0);
    }
}
