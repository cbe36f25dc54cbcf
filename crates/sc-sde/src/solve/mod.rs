//! Solvers of stochastic differential equations `dy = f(t, y) dt + g(t, y) dB`, and gradients through them.
//!
//! | | |
//! |---|---|
//! | the equation | [`Sde`]: drift, diffusion and how the noise enters ([`Noise`], [`Calculus`]) |
//! | the Brownian motion | [`BrownianPath`], which can be asked for any stretch of time again and again, or [`GivenIncrements`] |
//! | the scheme | [`Scheme`]: Euler, Milstein, stochastic Runge-Kutta, Heun, ... |
//! | the times | [`Schedule`]: an even grid, or torchsde's clock |
//! | solving | [`Solve`] over a schedule, [`Solver`] a step at a time with dense output |
//! | gradients | [`Solve::with_gradients`], exact, in bounded memory and stack; [`stochastic_adjoint`] |
//! | divergence of a path from a prior's | [`PathKl`] |
//! | equations with known solutions | [`zoo`] |

mod adjoint;
mod backprop;
mod motion;
mod path;
mod path_kl;
mod project;
mod run;
mod schedule;
mod scheme;
mod sde;
mod solver;
mod srk;
#[cfg(test)]
mod tests;
pub mod zoo;

pub use adjoint::stochastic_adjoint;
pub use backprop::{Gradients, Solution};
pub use motion::{GivenIncrements, Increment, Motion};
pub use path::BrownianPath;
pub use path_kl::{PathKl, PriorDrift};
pub use run::Solve;
pub use schedule::{ClockPrecision, Interval, Output, Schedule};
pub use scheme::{Scheme, State};
pub use sde::{At, Calculus, Noise, ReadAs, Sde};
pub use solver::Solver;
