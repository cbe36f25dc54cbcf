use ndarray::{Array2, ArrayView2};
use sc_tensor::Stream;

use crate::{Error, Result};

/// Which point goes where, with how much mass: the non-zero entries of an exact plan, and the proof that it is optimal.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) entries: Vec<(usize, usize, f64)>,
    pub(super) cost: f64,
    pub(super) potentials: (Vec<f64>, Vec<f64>),
}

impl Plan {
    /// `(row, column, mass)`, rows in order. At most one less than there are rows and columns together.
    #[must_use]
    pub fn entries(&self) -> &[(usize, usize, f64)] {
        &self.entries
    }

    /// The least total cost: the sum of mass times cost.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.cost
    }

    /// Dual potentials `u`, `v` of rows and columns: `u_i + v_j <= cost_ij` for all pairs, with equality where mass goes.
    #[must_use]
    pub fn potentials(&self) -> (&[f64], &[f64]) {
        (&self.potentials.0, &self.potentials.1)
    }

    /// As a matrix.
    #[must_use]
    pub fn to_dense(&self) -> Array2<f64> {
        let (u, v) = &self.potentials;
        let mut dense = Array2::zeros((u.len(), v.len()));
        for &(i, j, mass) in &self.entries {
            if let Some(out) = dense.get_mut((i, j)) {
                *out += mass;
            }
        }
        dense
    }

    /// `n` pairs, each drawn by its share of the mass, independently: the minibatches of OT-CFM.
    #[must_use]
    pub fn sample(&self, n: usize, stream: &mut Stream) -> Vec<(usize, usize)> {
        let all = Cumulative::new(self.entries.iter().map(|e| e.2));
        all.draws(n, stream)
            .into_iter()
            .filter_map(|k| self.entries.get(k).map(|&(i, j, _)| (i, j)))
            .collect()
    }
}

/// `n` pairs `(row, column)` of a plan, each drawn by its share of the mass, independently.
///
/// # Errors
/// [`Error::Weights`] if an entry is negative or not finite, or all are 0.
pub fn sample_plan(
    plan: ArrayView2<'_, f64>,
    n: usize,
    stream: &mut Stream,
) -> Result<Vec<(usize, usize)>> {
    let bad = plan.iter().find(|v| !(**v >= 0.0 && v.is_finite()));
    if bad.is_some() || plan.sum() <= 0.0 {
        return Err(Error::Weights {
            what: "a plan",
            reason: match bad {
                Some(v) => format!("has the entry {v}; entries are finite and not negative"),
                None => "has no mass".into(),
            },
        });
    }
    let all = Cumulative::new(plan.iter().copied());
    let columns = plan.ncols();
    let draws = all.draws(n, stream);
    Ok(draws.iter().map(|k| (k / columns, k % columns)).collect())
}

/// Sums up to each of some masses, to draw one by its share.
pub(super) struct Cumulative(Vec<f64>);

impl Cumulative {
    pub(super) fn new(masses: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let add = |m: f64| {
            sum += m;
            sum
        };
        Self(masses.into_iter().map(add).collect())
    }

    /// The one that a number between 0 and 1 stands for; never one without mass, if there is one with mass.
    pub(super) fn draw(&self, u: f64) -> usize {
        let total = self.0.last().copied().unwrap_or(0.0);
        // Rounding may give the total itself, which no sum exceeds.
        let at = self.0.partition_point(|sum| *sum <= u * total);
        let last = self.0.partition_point(|sum| *sum < total);
        at.min(last)
    }

    fn draws(&self, n: usize, stream: &mut Stream) -> Vec<usize> {
        let mut uniform = vec![0.0; n];
        stream.fill_uniform(0.0, 1.0, &mut uniform);
        uniform.iter().map(|u| self.draw(*u)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use sc_tensor::Rng;

    use super::*;

    #[test]
    fn draws_follow_the_masses() {
        let plan = array![[0.0, 0.1, 0.0], [0.6, 0.0, 0.3]];
        let mut stream = Rng::new(1).stream("pairs");
        let pairs = sample_plan(plan.view(), 20_000, &mut stream).unwrap();
        let mut counts = Array2::<f64>::zeros((2, 3));
        for (i, j) in pairs {
            counts[(i, j)] += 1.0 / 20_000.0;
        }
        for (found, expected) in counts.iter().zip(&plan) {
            assert!((found - expected).abs() < 0.015);
            assert!(*expected > 0.0 || *found == 0.0);
        }
    }

    #[test]
    fn ends_of_the_range() {
        let c = Cumulative::new([0.0, 2.0, 0.0, 1.0, 0.0]);
        assert_eq!((c.draw(0.0), c.draw(0.6666), c.draw(0.67)), (1, 1, 3));
        assert_eq!(c.draw(1.0), 3);
        assert_eq!(Cumulative::new([0.0]).draw(0.5), 0);
    }

    #[test]
    fn bad_plans_are_refused() {
        let mut stream = Rng::new(1).stream("pairs");
        for bad in [array![[0.0]], array![[-1.0, 2.0]], array![[f64::NAN]]] {
            assert!(sample_plan(bad.view(), 1, &mut stream).is_err());
        }
    }
}
