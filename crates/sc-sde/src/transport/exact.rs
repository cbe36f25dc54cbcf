use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;
use sc_tensor::math::Float;

use super::cloud::{Cloud, same_dim};
use super::plan::Plan;
use crate::{Error, Result};

/// More pairs than this (1 GiB of costs) are refused.
const MOST_PAIRS: usize = 1 << 27;
/// Masses may differ by so much, relative to the larger one: weights come from single precision.
const MASS_TOLERANCE: f64 = 1e-5;

/// The Wasserstein distance of order `p` between two clouds, by exact transport: the p-th root of the least mean of
/// `|x - y|^p`. For clouds of some thousand points at most; masses are brought to 1.
///
/// # Errors
/// As [`exact_plan`].
pub fn wasserstein<T: Float>(x: &Cloud<'_, T>, y: &Cloud<'_, T>, p: u32) -> Result<f64> {
    let cost = exact_plan(x, y, p)?.cost() / x.mass();
    Ok(cost.max(0.0).powf(1.0 / f64::from(p)))
}

/// The plan between two clouds for which the sum of mass times `|x - y|^p` is least.
///
/// Time grows with the third power of the number of points. If both clouds have the same number of equally heavy points
/// the plan is an assignment.
///
/// # Errors
/// If `p` isn't 1 or 2, the clouds have different coordinates or masses, or there are more than 2^27 pairs
/// ([`Sinkhorn`](super::Sinkhorn) has no such limit).
pub fn exact_plan<T: Float>(x: &Cloud<'_, T>, y: &Cloud<'_, T>, p: u32) -> Result<Plan> {
    if !matches!(p, 1 | 2) {
        return Err(Error::InvalidSetting {
            name: "p",
            value: p.to_string(),
            reason: "1 (distances) or 2 (squared distances)".into(),
        });
    }
    same_dim(x, y)?;
    Plan::optimal(costs(x, y, p)?.view(), x.weights(), y.weights())
}

/// `|x - y|^p` of all pairs.
fn costs<T: Float>(x: &Cloud<'_, T>, y: &Cloud<'_, T>, p: u32) -> Result<Array2<f64>> {
    check_size(x.n_points(), y.n_points())?;
    let (dim, y) = (x.dim(), y.points().mapv(T::wide));
    let mut costs = Array2::zeros((x.n_points(), y.nrows()));
    costs
        .outer_iter_mut()
        .into_par_iter()
        .zip(x.points().outer_iter().into_par_iter())
        .for_each(|(mut costs, x)| {
            let mut point = vec![0.0; dim];
            for (point, v) in point.iter_mut().zip(x) {
                *point = v.wide();
            }
            for (cost, y) in costs.iter_mut().zip(y.rows()) {
                let square: f64 = point.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
                *cost = if p == 1 { square.sqrt() } else { square };
            }
        });
    Ok(costs)
}

fn check_size(n: usize, m: usize) -> Result<()> {
    match n.saturating_mul(m) > MOST_PAIRS {
        true => Err(Error::InvalidSetting {
            name: "the number of points",
            value: format!("{n} and {m}"),
            reason: "exact transport is for small clouds; use the Sinkhorn divergence, or draw some of the points".into(),
        }),
        false => Ok(()),
    }
}

/// The columns that rows are assigned to so that the sum of costs is least, each column to one row at most. There must be at
/// least as many columns as rows.
///
/// ```
/// use ndarray::array;
/// let cost = array![[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]];
/// assert_eq!(sc_sde::transport::assignment(cost.view())?, [1, 0, 2]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if there are fewer columns than rows, [`Error::NotFinite`] if a cost is NaN or infinite.
pub fn assignment(cost: ArrayView2<'_, f64>) -> Result<Vec<usize>> {
    let (n, m) = cost.dim();
    if n > m {
        return Err(Error::Shape {
            what: "the costs of an assignment",
            found: vec![n, m],
            expected: "at least as many columns as rows; transpose them".into(),
        });
    }
    let mut search = Search::new(cost, vec![1.0; m], 0.0)?;
    for row in 0..n {
        search.send(row, 1.0);
    }
    let mut columns = vec![0; n];
    for (j, flows) in search.flows.iter().enumerate() {
        for &(i, _) in flows {
            columns[i] = j;
        }
    }
    Ok(columns)
}

impl Plan {
    /// The plan with these row and column sums for which the sum of mass times cost is least. Column sums are scaled to
    /// the mass of the rows.
    ///
    /// By successive shortest paths with dual potentials, the generalisation of Jonker and Volgenant's assignment
    /// algorithm to weights (Ahuja, Magnanti and Orlin, "Network Flows", 1993, section 9.7). The potentials prove that
    /// it is optimal.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is one mass for each row and column, [`Error::Weights`] if one is negative or not
    /// finite, all are 0, or the sums differ by more than rounding, [`Error::NotFinite`] if a cost is NaN or infinite.
    pub fn optimal(cost: ArrayView2<'_, f64>, rows: &[f64], columns: &[f64]) -> Result<Self> {
        let (n, m) = cost.dim();
        check_size(n, m)?;
        let mass = masses("the row sums of a plan", rows, n)?;
        let received = masses("the column sums of a plan", columns, m)?;
        if (mass - received).abs() > MASS_TOLERANCE * mass.max(received) {
            return Err(Error::Weights {
                what: "the masses of two clouds",
                reason: format!(
                    "are {mass} and {received}; exact transport needs equal masses (or an unbalanced Sinkhorn divergence)"
                ),
            });
        }
        let demand = columns.iter().map(|b| b * mass / received).collect();
        let mut search = Search::new(cost, demand, 1e-14 * mass)?;
        for (row, &supply) in rows.iter().enumerate() {
            search.send(row, supply);
        }
        Ok(search.plan())
    }
}

/// Checks masses and gives their sum.
fn masses(what: &'static str, masses: &[f64], expected: usize) -> Result<f64> {
    if masses.len() != expected {
        return Err(Error::Shape {
            what,
            found: vec![masses.len()],
            expected: format!("[{expected}], one for each of the costs"),
        });
    }
    if let Some(bad) = masses.iter().find(|v| !(**v >= 0.0 && v.is_finite())) {
        return Err(Error::Weights {
            what,
            reason: format!("one is {bad}; masses are finite and not negative"),
        });
    }
    let sum: f64 = masses.iter().sum();
    match sum > 0.0 {
        true => Ok(sum),
        false => Err(Error::Weights {
            what,
            reason: "all are 0; there must be some mass".into(),
        }),
    }
}

/// Not reached, or nobody.
const NONE: usize = usize::MAX;

/// Shortest paths from a row with mass left to columns with room.
///
/// Reduced costs `cost_ij - u_i - v_j` are never negative, and 0 where mass goes, so that the plan so far is always the
/// best one for the mass sent so far.
struct Search<'a> {
    cost: ArrayView2<'a, f64>,
    u: Vec<f64>,
    v: Vec<f64>,
    /// How much each column still takes.
    demand: Vec<f64>,
    /// Masses up to this are what rounding leaves over. They count as nothing: otherwise each would be sent on a path of
    /// its own, and leave others.
    least: f64,
    /// The rows that send to each column, and how much.
    flows: Vec<Vec<(usize, f64)>>,
    /// Distances to columns, and the row before each.
    distance: Vec<f64>,
    before: Vec<usize>,
    done: Vec<bool>,
    /// The column by which each row was reached.
    reached: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(cost: ArrayView2<'a, f64>, demand: Vec<f64>, least: f64) -> Result<Self> {
        let (n, m) = cost.dim();
        if n == 0 || m == 0 {
            return Err(Error::Empty {
                what: "the costs of a plan",
                found: vec![n, m],
            });
        }
        for ((row, column), &value) in cost.indexed_iter() {
            if !value.is_finite() {
                return Err(Error::NotFinite {
                    what: "the costs of a plan",
                    row,
                    column,
                    value,
                });
            }
        }
        let lowest = |row: ArrayView1<'_, f64>| row.iter().copied().fold(f64::INFINITY, f64::min);
        Ok(Self {
            cost,
            least,
            u: cost.rows().into_iter().map(lowest).collect(),
            // Potentials of columns only fall, and stay 0 where nothing arrives: that proves an assignment of fewer rows.
            v: vec![0.0; m],
            demand,
            flows: vec![Vec::new(); m],
            distance: vec![0.0; m],
            before: vec![NONE; m],
            done: vec![false; m],
            reached: vec![NONE; n],
        })
    }

    /// Sends `supply` from a row.
    fn send(&mut self, row: usize, mut supply: f64) {
        while supply > self.least {
            let Some(end) = self.shortest(row) else {
                return;
            };
            supply -= self.push(row, end, supply);
        }
    }

    /// Finds the nearest column with room and updates the potentials.
    fn shortest(&mut self, start: usize) -> Option<usize> {
        self.done.fill(false);
        self.reached.fill(NONE);
        self.distance.fill(f64::INFINITY);
        let mut rows = vec![(start, 0.0)];
        self.relax(start, 0.0);
        let end = loop {
            let column = self.nearest()?;
            if self.has_room(column) {
                break column;
            }
            self.done[column] = true;
            let at = self.distance[column];
            for k in 0..self.flows[column].len() {
                let row = self.flows[column][k].0;
                if row != start && self.reached[row] == NONE {
                    self.reached[row] = column;
                    rows.push((row, at));
                    self.relax(row, at);
                }
            }
        };
        let length = self.distance[end];
        for (row, at) in rows {
            self.u[row] += length - at;
        }
        for j in 0..self.v.len() {
            if self.done[j] {
                self.v[j] -= length - self.distance[j];
            }
        }
        Some(end)
    }

    /// Paths that go on from a row at distance `at`.
    fn relax(&mut self, row: usize, at: f64) {
        let base = at - self.u[row];
        for (j, c) in self.cost.row(row).iter().enumerate() {
            let d = base + c - self.v[j];
            if !self.done[j] && d < self.distance[j] {
                // Rounding may bring it below what is done already.
                self.distance[j] = d.max(at);
                self.before[j] = row;
            }
        }
    }

    /// The column that is nearest among those not done; one with room before others.
    fn nearest(&self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (j, (&d, &done)) in self.distance.iter().zip(&self.done).enumerate() {
            if done || d == f64::INFINITY {
                continue;
            }
            let better = best.is_none_or(|b| {
                d < self.distance[b]
                    || (d == self.distance[b] && self.has_room(j) && !self.has_room(b))
            });
            if better {
                best = Some(j);
            }
        }
        best
    }

    /// Sends along the path to `end` as much as all of it can take; at least one thing on it is used up.
    fn push(&mut self, start: usize, end: usize, supply: f64) -> f64 {
        let mut amount = supply.min(self.demand[end]);
        let mut column = end;
        while self.before[column] != start {
            let row = self.before[column];
            column = self.reached[row];
            amount = amount.min(self.flow(column, row));
        }
        self.demand[end] -= amount;
        let mut column = end;
        loop {
            let row = self.before[column];
            self.add(column, row, amount);
            if row == start {
                return amount;
            }
            column = self.reached[row];
            self.add(column, row, -amount);
        }
    }

    fn has_room(&self, column: usize) -> bool {
        self.demand[column] > self.least
    }

    fn flow(&self, column: usize, row: usize) -> f64 {
        let found = self.flows[column].iter().find(|f| f.0 == row);
        found.map_or(0.0, |f| f.1)
    }

    fn add(&mut self, column: usize, row: usize, amount: f64) {
        let flows = &mut self.flows[column];
        match flows.iter().position(|f| f.0 == row) {
            Some(k) => {
                flows[k].1 += amount;
                if flows[k].1 <= self.least {
                    flows.swap_remove(k);
                }
            }
            None => flows.push((row, amount)),
        }
    }

    fn plan(self) -> Plan {
        let mut entries = Vec::new();
        for (j, flows) in self.flows.iter().enumerate() {
            entries.extend(flows.iter().map(|&(i, mass)| (i, j, mass)));
        }
        entries.sort_unstable_by_key(|e| (e.0, e.1));
        let cost = entries
            .iter()
            .map(|&(i, j, mass)| mass * self.cost[(i, j)])
            .sum();
        Plan {
            entries,
            cost,
            potentials: (self.u, self.v),
        }
    }
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
