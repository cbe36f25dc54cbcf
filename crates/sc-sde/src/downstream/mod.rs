//! What is asked of a trained model: where cells go, how sure that is, and what would change it.
//!
//! | to | see |
//! |---|---|
//! | simulate many paths of many cells, in bounded memory | [`Simulation`] |
//! | predict fates, by the labels of the cells nearest to where paths end | [`FateCounts::predict`], [`StateLabels`] |
//! | see what became of clones, and score predictions against it | [`ClonalFates`], [`fate_scores`], [`accuracy`], [`cross_entropy`] |
//! | predict fates without dynamics, as a baseline | [`LogisticFates`] |
//! | judge how a withheld day is interpolated | [`Interpolation`] |
//! | get drift, diffusion, potential of cells | [`field`], [`potential`], [`landscape`] |
//! | smooth over neighbours, find cells where nothing was observed | [`smooth`], [`manifold_outliers`] |
//! | know which state paths meet first, and when | [`Simulation::first_hits`] |
//! | go between cells and genes | [`GeneSpace`] |
//! | over-express and knock down genes, one or all of them | [`Experiment`], [`Perturbation`] |
//! | pool what several models say | [`pool`], [`fisher`] |
//! | follow drift, diffusion and genes over time | [`Dynamics`] |
//! | draw velocities in a UMAP | [`VelocityGraph`], [`velocity_grid`] |
//!
//! Everything takes any [`Sde`](crate::solve::Sde): a trained model's equation, a flow, or one written by hand. The same seed
//! gives the same bits on any number of threads.

mod arrays;
mod clones;
mod dynamics;
mod effects;
mod fates;
mod field;
mod genes;
mod hits;
mod interpolate;
mod labels;
mod perturb;
mod pooling;
mod ranking;
mod regression;
mod replicates;
mod scores;
mod simulate;
mod smooth;
mod statistics;
mod velocity;

pub use arrays::{to_array, to_tensor};
pub use clones::ClonalFates;
pub use dynamics::{Dynamics, GeneDynamics, TemporalExpression, by_group, peaks};
pub use effects::{Effects, FateEffect};
pub use fates::{FateCounts, FateMatrix};
pub use field::{CellField, field, landscape, potential};
pub use genes::GeneSpace;
pub use hits::Hits;
pub use interpolate::{Interpolation, InterpolationScores, linear_transport};
pub use labels::StateLabels;
pub use perturb::{Experiment, Perturbation};
pub use pooling::{Between, Pooled, pool};
pub use regression::LogisticFates;
pub use replicates::{ReplicateEffect, Replicates};
pub use scores::{
    CrossEntropy, FateScores, HAS_FATE, OneFate, accuracy, bias_correlation, cross_entropy,
    divergences, fate_scores,
};
pub use simulate::{Batch, Simulation};
pub use smooth::{OUTLIER_NEIGHBORS, Outliers, manifold_outliers, smooth};
pub use statistics::{
    MeanTest, Welch, benjamini_hochberg, fisher, log2_fold_change, mean_test, welch,
};
pub use velocity::{VelocityGraph, VelocityGrid, velocity_grid};
