use ndarray::{Array2, ArrayView2};
use sc_tensor::Rng;
use serde::Serialize;

use super::arrays::{array, check_places};
use crate::error::invalid;
use crate::transport::{Cloud, Sinkhorn, exact_plan};
use crate::{Error, Result};

/// Cells of a day of which exact transport plans are made at most.
const MOST: usize = 1000;

/// How near simulated cells come to those of a day that wasn't trained on, and what that is worth: beside it the distances of
/// simple guesses, and of one half of the real cells to the other.
///
/// Distances are Sinkhorn divergences, near half of the squared Wasserstein distance; their settings are those of scDiffEq's
/// training unless [`Interpolation::sinkhorn`] says otherwise.
#[derive(Debug, Clone)]
pub struct Interpolation<'a> {
    early: ArrayView2<'a, f32>,
    between: ArrayView2<'a, f32>,
    late: ArrayView2<'a, f32>,
    share: f64,
    sinkhorn: Sinkhorn,
    seed: u64,
}

/// Distances to the real cells of the day in between.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct InterpolationScores {
    /// Of the simulated cells.
    pub model: f64,
    /// Of the cells between those of the days before and after, along an optimal transport plan between the two (McCann).
    pub linear_transport: f64,
    /// Of the cells of the day before: as if nothing happened.
    pub early: f64,
    /// Of the cells of the day after.
    pub late: f64,
    /// Of one half of the real cells from the other: no model can be expected to come nearer.
    pub halves: f64,
}

impl<'a> Interpolation<'a> {
    /// Observed cells of three days, `[cells, D]` each, at times `t_early < t_between < t_late`.
    ///
    /// # Errors
    /// [`Error::Times`] unless times increase, [`Error::Empty`], [`Error::NotFinite`], [`Error::Shape`] if dimensions differ, and
    /// if there are fewer than two real cells.
    pub fn new(
        (t_early, early): (f64, ArrayView2<'a, f32>),
        (t_between, between): (f64, ArrayView2<'a, f32>),
        (t_late, late): (f64, ArrayView2<'a, f32>),
    ) -> Result<Self> {
        let share = (t_between - t_early) / (t_late - t_early);
        if !(t_early < t_between && t_between < t_late && share.is_finite()) {
            return Err(Error::Times {
                reason: format!(
                    "{t_between} is not between {t_early} and {t_late}; give the days in order"
                ),
            });
        }
        for (what, cells) in [
            ("the cells before", early),
            ("the cells between", between),
            ("the cells after", late),
        ] {
            check_places(what, cells)?;
            if cells.ncols() != between.ncols() {
                return Err(Error::Shape {
                    what,
                    found: cells.shape().to_vec(),
                    expected: format!("[cells, {}], as those between", between.ncols()),
                });
            }
        }
        if between.nrows() < 2 {
            return Err(invalid(
                "the number of real cells",
                between.nrows(),
                "at least 2",
            ));
        }
        Ok(Self {
            early,
            between,
            late,
            share,
            sinkhorn: Sinkhorn::params().check()?,
            seed: 0,
        })
    }

    /// How distances are measured.
    #[must_use]
    pub fn sinkhorn(mut self, sinkhorn: Sinkhorn) -> Self {
        self.sinkhorn = sinkhorn;
        self
    }

    /// Seed of the choice of cells.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The distance of some cells, `[cells, D]`, from the real ones.
    ///
    /// # Errors
    /// [`Error::Shape`] if dimensions differ, [`Error::Empty`], [`Error::NotFinite`].
    pub fn distance(&self, cells: ArrayView2<'_, f32>) -> Result<f64> {
        between(&self.sinkhorn, cells, self.between)
    }

    /// The distances of simulated cells, and of what they must be compared with.
    ///
    /// # Errors
    /// As [`Interpolation::distance`].
    pub fn scores(&self, simulated: ArrayView2<'_, f32>) -> Result<InterpolationScores> {
        let mut stream = Rng::new(self.seed).stream("interpolation/halves");
        let order = stream.permutation(self.between.nrows());
        let (one, other) = order.split_at(order.len() / 2);
        let half = |rows: &[usize]| self.between.select(ndarray::Axis(0), rows);
        let line = linear_transport(self.early, self.late, self.share, self.seed)?;
        Ok(InterpolationScores {
            model: self.distance(simulated)?,
            linear_transport: self.distance(line.view())?,
            early: self.distance(self.early)?,
            late: self.distance(self.late)?,
            halves: between(&self.sinkhorn, half(one).view(), half(other).view())?,
        })
    }
}

/// The divergence of two populations, computed in `f64`.
fn between(sinkhorn: &Sinkhorn, x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>) -> Result<f64> {
    let (x, y) = (x.mapv(f64::from), y.mapv(f64::from));
    sinkhorn.divergence(&Cloud::new(x.view())?, &Cloud::new(y.view())?)
}

/// Cells at `share` of the way from one population to another, each along a line of the exact optimal transport plan (McCann
/// 1997). There are as many as in the larger population, at most 1,000, drawn from both; cells of the smaller one stand for
/// several.
///
/// # Errors
/// [`Error::InvalidSetting`] unless `share` is between 0 and 1, and those of [`exact_plan`].
pub fn linear_transport(
    early: ArrayView2<'_, f32>,
    late: ArrayView2<'_, f32>,
    share: f64,
    seed: u64,
) -> Result<Array2<f32>> {
    if !(0.0..=1.0).contains(&share) {
        return Err(invalid("share", share, "between 0 (early) and 1 (late)"));
    }
    let rng = Rng::new(seed);
    let n = early.nrows().max(late.nrows()).min(MOST);
    let some = |cells: ArrayView2<'_, f32>, name: &str| {
        let order = rng.stream(name).permutation(cells.nrows());
        let rows: Vec<usize> = order.into_iter().cycle().take(n).collect();
        cells.select(ndarray::Axis(0), &rows).mapv(f64::from)
    };
    let x = some(early, "interpolation/early");
    let y = some(late, "interpolation/late");
    // As many cells on both sides, all of the same weight: the plan is an assignment, and every pair a cell.
    let plan = exact_plan(&Cloud::new(x.view())?, &Cloud::new(y.view())?, 2)?;
    let pairs = plan.entries();
    let mut values = Vec::with_capacity(pairs.len() * x.ncols());
    for (i, j, _) in pairs {
        let line = x.row(*i).into_iter().zip(y.row(*j));
        values.extend(line.map(|(x, y)| (x + share * (y - x)) as f32));
    }
    array((pairs.len(), x.ncols()), values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(n: usize, shift: f32, seed: u64) -> Array2<f32> {
        let mut values = vec![0f32; n * 2];
        Rng::new(seed).stream("cloud").fill_normal(&mut values);
        values.iter_mut().step_by(2).for_each(|v| *v += shift);
        Array2::from_shape_vec((n, 2), values).unwrap()
    }

    #[test]
    fn cells_that_move_straight_are_interpolated_well() {
        let (early, between, late) = (cloud(200, 0.0, 1), cloud(150, 3.0, 2), cloud(200, 6.0, 3));
        let days = Interpolation::new(
            (2.0, early.view()),
            (4.0, between.view()),
            (6.0, late.view()),
        );
        let days = days.unwrap();
        let good = cloud(180, 3.0, 4);
        let scores = days.scores(good.view()).unwrap();
        assert!(
            scores.linear_transport < 0.1 && scores.model < 0.1,
            "{scores:?}"
        );
        assert!((scores.early - 4.5).abs() < 1.0 && (scores.late - 4.5).abs() < 1.0);
        assert!(scores.halves < 0.2);
        assert_eq!(scores, days.scores(good.view()).unwrap());
    }

    #[test]
    fn the_ends_of_the_line_are_the_populations() {
        let (early, late) = (cloud(50, 0.0, 1), cloud(50, 5.0, 2));
        let sum = |a: &Array2<f32>| a.iter().map(|v| f64::from(*v)).sum::<f64>();
        let start = linear_transport(early.view(), late.view(), 0.0, 0).unwrap();
        let end = linear_transport(early.view(), late.view(), 1.0, 0).unwrap();
        assert_eq!(start.nrows(), 50);
        assert!((sum(&start) - sum(&early)).abs() < 1e-3);
        assert!((sum(&end) - sum(&late)).abs() < 1e-3);
        let unequal = linear_transport(early.view(), cloud(70, 5.0, 2).view(), 0.5, 0).unwrap();
        assert_eq!(unequal.nrows(), 70);
    }

    #[test]
    fn bad_input_is_refused() {
        let a = cloud(5, 0.0, 1);
        let first = |axis, n: usize| a.slice_axis(ndarray::Axis(axis), (..n).into());
        let (one, flat, none) = (first(0, 1), first(1, 1), first(0, 0));
        let days = |x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, t: f64| {
            Interpolation::new((2.0, x), (t, y), (6.0, a.view())).is_err()
        };
        assert!(days(a.view(), a.view(), 6.0) && days(a.view(), a.view(), f64::NAN));
        assert!(days(flat, a.view(), 4.0) && days(none, a.view(), 4.0) && days(a.view(), one, 4.0));
        assert!(linear_transport(a.view(), a.view(), 1.5, 0).is_err());
    }
}
