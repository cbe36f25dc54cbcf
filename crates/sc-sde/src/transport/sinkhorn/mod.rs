//! The Sinkhorn divergence.

mod chains;
mod params;
mod schedule;
mod solution;
mod tensor;
#[cfg(test)]
mod tests;

pub use params::{Diameter, SinkhornParams, Stop};
pub use solution::Solution;

use rayon::prelude::*;
use sc_tensor::math::Float;
use sc_tensor::pairs::{Cost, Points};

use self::chains::{Chain, Task, solve};
use super::cloud::{Cloud, centre, same_dim};
use crate::{Error, Result};

/// The Sinkhorn divergence: how far two clouds are apart by entropic optimal transport, without the bias of the entropy.
///
/// With `OT(x, y)` the least of `<C, P> + epsilon KL(P | a b)` over the plans `P` between the clouds (C is half of the
/// squared distance, or the distance), `S = OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2`. With a small `blur` it is near optimal
/// transport, with a large one near an energy distance; it is never negative at convergence, and 0 for equal clouds.
///
/// Algorithm and numbers are those of geomloss' `SamplesLoss("sinkhorn")`: symmetric updates while epsilon falls from the
/// diameter to `blur`, one update for each epsilon ([`Stop::Schedule`]). That isn't converged; [`Stop::Converged`] is.
///
/// Feydy et al., "Interpolating between optimal transport and MMD using Sinkhorn divergences" (2019); unbalanced:
/// Sejourne et al., "Sinkhorn divergences for unbalanced optimal transport" (2019).
#[derive(Debug, Clone, PartialEq)]
pub struct Sinkhorn {
    params: SinkhornParams,
}

impl Sinkhorn {
    /// The settings, with geomloss' defaults, which scDiffEq trains with: p = 2, blur 0.05, scaling 0.5, debiased, balanced.
    #[must_use]
    pub fn params() -> SinkhornParams {
        SinkhornParams::default()
    }

    /// The settings of PRESCIENT: blur 0.1, scaling 0.7.
    #[must_use]
    pub fn prescient() -> SinkhornParams {
        SinkhornParams::default().blur(0.1).scaling(0.7)
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &SinkhornParams {
        &self.params
    }

    /// The values of epsilon that potentials of these clouds go through: the schedule.
    ///
    /// # Errors
    /// As [`Sinkhorn::solve`].
    pub fn epsilons<T: Float>(&self, x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Result<Vec<f64>> {
        schedule::epsilons(&self.params, self.diameter(&[(x, y)])?)
    }

    /// The divergence of two clouds.
    ///
    /// # Errors
    /// As [`Sinkhorn::solve`].
    pub fn divergence<T: Float>(&self, x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Result<f64> {
        Ok(self.solve(x, y)?.value())
    }

    /// The divergence with its potentials, gradients and plan. In the precision of the clouds; potentials are kept in
    /// `f64`.
    ///
    /// # Errors
    /// If the clouds have different coordinates ([`Error::Shape`]); if `blur` is too small for clouds so far apart, or
    /// convergence was asked for and not reached ([`Error::InvalidSetting`]); if masses differ where convergence was asked
    /// for and mass can't be created ([`Error::Weights`]).
    pub fn solve<T: Float>(&self, x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Result<Solution> {
        let diameter = self.diameter(&[(x, y)])?;
        self.solve_with(x, y, diameter)
    }

    /// [`Sinkhorn::solve`] for several pairs of clouds, which may have different sizes.
    ///
    /// # Errors
    /// As [`Sinkhorn::solve`].
    pub fn solve_batch<T: Float>(
        &self,
        pairs: &[(Cloud<'_, T>, Cloud<'_, T>)],
    ) -> Result<Vec<Solution>> {
        let all: Vec<_> = pairs.iter().map(|(x, y)| (x, y)).collect();
        let diameters = match self.params.diameter {
            Diameter::Each => all
                .iter()
                .map(|pair| self.diameter(&[*pair]))
                .collect::<Result<Vec<f64>>>()?,
            _ => vec![self.diameter(&all)?; all.len()],
        };
        all.into_par_iter()
            .zip(diameters)
            .map(|((x, y), diameter)| self.solve_with(x, y, diameter))
            .collect()
    }

    fn diameter<T: Float>(&self, pairs: &[(&Cloud<'_, T>, &Cloud<'_, T>)]) -> Result<f64> {
        for (x, y) in pairs {
            same_dim(x, y)?;
        }
        Ok(match self.params.diameter {
            Diameter::Fixed(d) => d,
            _ => schedule::diameter(pairs),
        })
    }

    fn solve_with<T: Float>(
        &self,
        x: &Cloud<'_, T>,
        y: &Cloud<'_, T>,
        diameter: f64,
    ) -> Result<Solution> {
        let p = &self.params;
        let (a, b) = (x.mass(), y.mass());
        let converge = matches!(p.stop, Stop::Converged { .. });
        if converge && p.reach.is_none() && (a - b).abs() > 1e-6 * a.max(b) {
            return Err(Error::Weights {
                what: "the masses of two clouds",
                reason: format!(
                    "are {a} and {b}: without a reach no plan moves all of one to all of the other; make them equal or set `reach`"
                ),
            });
        }
        let epsilons = schedule::epsilons(p, diameter)?;
        let origin = centre(x, y);
        let points =
            |c: &Cloud<'_, T>| Points::new(&c.coordinates(), c.dim(), &origin).map_err(Error::from);
        let (x_points, y_points) = (points(x)?, points(y)?);
        let (chains, of_x, of_y) = self.chains(
            &x_points,
            &y_points,
            &logarithms(x.weights()),
            &logarithms(y.weights()),
            &epsilons,
        )?;
        Solution::new(
            p.clone(),
            (x_points, x.weights().to_vec()),
            (y_points, y.weights().to_vec()),
            chains,
            of_x.zip(of_y),
        )
    }

    /// The chain of both clouds, and those of each with itself, which don't know of each other.
    fn chains(
        &self,
        x: &Points,
        y: &Points,
        ln_a: &[f64],
        ln_b: &[f64],
        epsilons: &[f64],
    ) -> Result<(Chain, Option<Chain>, Option<Chain>)> {
        let task = |task: Task<'_>| solve(&self.params, self.cost(), epsilons, task);
        let own = |points, ln| match self.params.debias {
            true => task(Task::Own { points, ln }).map(Some),
            false => Ok(None),
        };
        let (both, (of_x, of_y)) = rayon::join(
            || task(Task::Pair { x, y, ln_a, ln_b }),
            || rayon::join(|| own(x, ln_a), || own(y, ln_b)),
        );
        Ok((both?, of_x?, of_y?))
    }

    fn cost(&self) -> Cost {
        self.params.cost()
    }
}

/// What stands for the logarithm of a weight of 0.
const LN_NOTHING: f64 = -100_000.0;

fn logarithms(weights: &[f64]) -> Vec<f64> {
    weights
        .iter()
        .map(|&w| if w > 0.0 { w.ln() } else { LN_NOTHING })
        .collect()
}
