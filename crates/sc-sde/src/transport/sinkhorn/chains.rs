//! Updates of potentials.

use sc_tensor::pairs::{Cost, Points, log_sums, log_sums_both, log_sums_within};

use super::params::{SinkhornParams, Stop};
use crate::Result;
use crate::error::invalid;

/// Which potentials are looked for.
#[derive(Clone, Copy)]
pub(super) enum Task<'a> {
    /// Those of two clouds, with the logarithms of their weights.
    Pair {
        x: &'a Points,
        y: &'a Points,
        ln_a: &'a [f64],
        ln_b: &'a [f64],
    },
    /// The one of a cloud with itself.
    Own { points: &'a Points, ln: &'a [f64] },
}

/// What the last update started from and gave, for the points of one cloud: all that values, gradients and plans need.
#[derive(Debug, Clone)]
pub(super) struct Last {
    /// Terms of the points on the other side: `ln weight + potential / epsilon`.
    pub(super) terms: Vec<f64>,
    /// Log-sums over the other side.
    pub(super) log_sums: Vec<f64>,
    /// The new potential.
    pub(super) potential: Vec<f64>,
}

/// The end of a chain of updates.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    /// Of the first cloud (or the only one).
    pub(super) x: Last,
    /// Of the second cloud; empty if there is one only.
    pub(super) y: Last,
}

pub(super) fn solve(
    params: &SinkhornParams,
    cost: Cost,
    epsilons: &[f64],
    task: Task<'_>,
) -> Result<Chain> {
    let mut state = State {
        params,
        cost,
        task,
        f: Vec::new(),
        g: Vec::new(),
    };
    if let Some(&first) = epsilons.first() {
        let start = state.update(first, true)?;
        (state.f, state.g) = (start.x.potential, start.y.potential);
    }
    for &epsilon in epsilons {
        let new = state.update(epsilon, false)?;
        average(&mut state.f, &new.x.potential);
        average(&mut state.g, &new.y.potential);
    }
    let last = params.epsilon();
    if let Stop::Converged {
        tolerance,
        max_updates,
    } = params.stop
    {
        state.converge(last, tolerance, max_updates)?;
    }
    state.update(last, false)
}

fn average(old: &mut [f64], new: &[f64]) {
    for (old, new) in old.iter_mut().zip(new) {
        *old = 0.5 * (*old + new);
    }
}

/// Potentials on their way.
struct State<'a> {
    params: &'a SinkhornParams,
    cost: Cost,
    task: Task<'a>,
    f: Vec<f64>,
    g: Vec<f64>,
}

/// `ln weight + potential / epsilon`; without potentials at the start.
fn terms(ln: &[f64], potential: &[f64], epsilon: f64, start: bool) -> Vec<f64> {
    match start {
        true => ln.to_vec(),
        false => ln
            .iter()
            .zip(potential)
            .map(|(ln, v)| ln + v / epsilon)
            .collect(),
    }
}

impl State<'_> {
    /// Soft minima of the costs minus the potentials of the other side, for both sides at once; nothing is averaged.
    fn update(&self, epsilon: f64, start: bool) -> Result<Chain> {
        Ok(match self.task {
            Task::Pair { x, y, ln_a, ln_b } => {
                let of_x = terms(ln_a, &self.f, epsilon, start);
                let of_y = terms(ln_b, &self.g, epsilon, start);
                let (rows, columns) = log_sums_both(x, y, self.cost, epsilon, &of_x, &of_y)?;
                Chain {
                    x: self.last(epsilon, of_y, rows),
                    y: self.last(epsilon, of_x, columns),
                }
            }
            Task::Own { points, ln } => {
                let terms = terms(ln, &self.f, epsilon, start);
                let sums = log_sums_within(points, self.cost, epsilon, &terms)?;
                Chain {
                    x: self.last(epsilon, terms, sums),
                    y: self.last(epsilon, Vec::new(), Vec::new()),
                }
            }
        })
    }

    fn last(&self, epsilon: f64, terms: Vec<f64>, log_sums: Vec<f64>) -> Last {
        let scale = -epsilon * self.params.damping(epsilon);
        Last {
            potential: log_sums.iter().map(|v| scale * v).collect(),
            terms,
            log_sums,
        }
    }

    /// Updates at one epsilon until they change nothing any more: in turns for two clouds, which is faster than both at
    /// once; averaged for a cloud with itself.
    fn converge(&mut self, epsilon: f64, tolerance: f64, max_updates: usize) -> Result<()> {
        let mut change = f64::INFINITY;
        for _ in 0..max_updates {
            change = match self.task {
                Task::Pair { x, y, ln_a, ln_b } => {
                    let f = self.soft_min(x, y, epsilon, ln_b, &self.g)?;
                    let g = self.soft_min(y, x, epsilon, ln_a, &f)?;
                    let change = largest_change(&self.f, &f).max(largest_change(&self.g, &g));
                    (self.f, self.g) = (f, g);
                    change
                }
                Task::Own { .. } => {
                    let new = self.update(epsilon, false)?.x.potential;
                    let change = largest_change(&self.f, &new);
                    average(&mut self.f, &new);
                    change
                }
            };
            if change <= tolerance * epsilon {
                return Ok(());
            }
        }
        Err(invalid(
            "max_updates",
            max_updates,
            format!(
                "potentials still change by {:.2e} epsilon, not by the tolerance of {tolerance:e}; allow more updates, a larger tolerance (f32 reaches about 1e-3) or a larger blur",
                change / epsilon
            ),
        ))
    }

    fn soft_min(
        &self,
        x: &Points,
        y: &Points,
        epsilon: f64,
        ln: &[f64],
        g: &[f64],
    ) -> Result<Vec<f64>> {
        let terms = terms(ln, g, epsilon, false);
        let sums = log_sums(x, y, self.cost, epsilon, &terms)?;
        Ok(self.last(epsilon, Vec::new(), sums).potential)
    }
}

fn largest_change(old: &[f64], new: &[f64]) -> f64 {
    let changes = old.iter().zip(new).map(|(a, b)| (a - b).abs());
    changes.fold(0.0, f64::max)
}
