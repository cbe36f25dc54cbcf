use ndarray::{Array2, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;
use sc_tensor::math::Float;

use super::cloud::{Cloud, same_dim};
use super::plan::Plan;
use super::simplex::Simplex;
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
/// By the network simplex: time grows a little faster than the number of pairs. If both clouds have the same number of equally heavy points
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
    check_costs(cost)?;
    // Columns that nobody is assigned to go to one more row, at no cost.
    let mut costs = Array2::zeros((n + usize::from(n < m), m));
    for (mut to, from) in costs.rows_mut().into_iter().zip(cost.rows()) {
        to.assign(&from);
    }
    let mut supply = vec![1.0; n];
    if n < m {
        supply.push((m - n) as f64);
    }
    let plan = Simplex::new(costs.view(), &supply, &vec![1.0; m])
        .run()
        .plan();
    let mut columns = vec![0; n];
    for &(i, j, _) in plan.entries() {
        if let Some(column) = columns.get_mut(i) {
            *column = j;
        }
    }
    Ok(columns)
}

impl Plan {
    /// The plan with these row and column sums for which the sum of mass times cost is least. Column sums are scaled to
    /// the mass of the rows.
    ///
    /// By the network simplex algorithm. The potentials prove that the plan is optimal.
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
        check_costs(cost)?;
        let demand: Vec<f64> = columns.iter().map(|b| b * mass / received).collect();
        let (some_rows, some_columns) = (with_mass(rows), with_mass(&demand));
        if some_rows.len() == n && some_columns.len() == m {
            let cost = cost.as_standard_layout();
            return Ok(Simplex::new(cost.view(), rows, &demand).run().plan());
        }
        let part = cost
            .select(Axis(0), &some_rows)
            .select(Axis(1), &some_columns);
        let part = part.as_standard_layout();
        let rows = pick(rows, &some_rows);
        let columns = pick(&demand, &some_columns);
        let plan = Simplex::new(part.view(), &rows, &columns).run().plan();
        Ok(plan.widened(cost, &some_rows, &some_columns))
    }

    /// The plan of some rows and columns as one of all: the others have no mass, and potentials that are as large as may be.
    fn widened(self, cost: ArrayView2<'_, f64>, rows: &[usize], columns: &[usize]) -> Self {
        let (some_u, some_v) = self.potentials;
        let mut v = vec![f64::INFINITY; cost.ncols()];
        for (&i, u) in rows.iter().zip(&some_u) {
            for (v, c) in v.iter_mut().zip(cost.row(i)) {
                *v = v.min(c - u);
            }
        }
        for (&j, &known) in columns.iter().zip(&some_v) {
            v[j] = known;
        }
        let highest = |row: ArrayView1<'_, f64>| {
            let free = row.iter().zip(&v).map(|(c, v)| c - v);
            free.fold(f64::INFINITY, f64::min)
        };
        let mut u: Vec<f64> = cost.rows().into_iter().map(highest).collect();
        for (&i, &known) in rows.iter().zip(&some_u) {
            u[i] = known;
        }
        let entries = self.entries.into_iter();
        Self {
            entries: entries
                .map(|(i, j, mass)| (rows[i], columns[j], mass))
                .collect(),
            cost: self.cost,
            potentials: (u, v),
        }
    }
}

fn with_mass(masses: &[f64]) -> Vec<usize> {
    (0..masses.len()).filter(|&k| masses[k] > 0.0).collect()
}

fn pick(of: &[f64], which: &[usize]) -> Vec<f64> {
    which.iter().map(|&k| of[k]).collect()
}

fn check_costs(cost: ArrayView2<'_, f64>) -> Result<()> {
    if cost.is_empty() {
        return Err(Error::Empty {
            what: "the costs of a plan",
            found: cost.shape().to_vec(),
        });
    }
    match cost.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), &value)) => Err(Error::NotFinite {
            what: "the costs of a plan",
            row,
            column,
            value,
        }),
        None => Ok(()),
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

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
