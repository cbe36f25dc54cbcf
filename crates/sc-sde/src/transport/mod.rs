//! Optimal transport between clouds of cells, and other ways to say how far two clouds are apart.
//!
//! | to | see |
//! |---|---|
//! | compare two clouds by something that can be trained: balanced or unbalanced, weighted, batched, with gradients | [`Sinkhorn`] |
//! | get a soft plan: which cell goes where, with how much mass | [`Solution::plan`] |
//! | transport exactly, where the clouds are small | [`wasserstein`], [`exact_plan`], [`assignment`] |
//! | compare two clouds as if they were Gaussian | [`Gaussian`] |
//! | compare two clouds by their distances or a kernel | [`Mmd`] |
//! | draw pairs of cells from a plan | [`Plan::sample`], [`sample_plan`] |
//!
//! The Sinkhorn divergence is that of geomloss, with its schedule; nothing of the size of all pairs is ever stored, except
//! where a plan is asked for.
//!
//! ```
//! use ndarray::array;
//! use sc_sde::transport::{Cloud, Sinkhorn};
//!
//! # fn main() -> Result<(), sc_sde::Error> {
//! let early = array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
//! let late = array![[2.0, 0.0], [3.0, 0.0]];
//! let sinkhorn = Sinkhorn::params().blur(0.1).scaling(0.7).check()?;
//! let solution = sinkhorn.solve(&Cloud::new(early.view())?, &Cloud::new(late.view())?)?;
//! // Half of the mean squared distance that the mass has to go, roughly.
//! assert!((solution.value() - 2.53).abs() < 0.01);
//! // The cells want to go to the right: the divergence falls with their first coordinate.
//! assert!(solution.gradient_x()?.column(0).iter().all(|&g| g < 0.0));
//! # Ok(())
//! # }
//! ```

mod bures;
mod cloud;
mod envelope;
mod exact;
mod mmd;
mod plan;
mod simplex;
mod sinkhorn;

pub use bures::Gaussian;
pub use cloud::Cloud;
pub use exact::{assignment, exact_plan, wasserstein};
pub use mmd::{Kernel, Mmd};
pub use plan::{Plan, sample_plan};
pub use sinkhorn::{Diameter, Sinkhorn, SinkhornParams, Solution, Stop};
