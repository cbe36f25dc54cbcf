//! Log-likelihoods of counts, their gradients, and what goes with them.
//!
//! [`log_prob`] is the fused kernel: one pass over the minibatch computes the log-probability of every cell and, for the
//! tensors that are tracked by the graph, the gradients; `backward` then only scales them by the gradient of each cell. The
//! counts stay sparse: a zero costs its closed form, and the gamma functions are computed for stored entries only.
//! [`log_prob_linear`] takes the last linear layers of a decoder in as well.
//! [`log_prob_composed`] is the same made of plain tensor operations; it runs on every device, and checks the other one.
//!
//! # Equations
//! With mean mu, inverse dispersion theta, dropout logit p, and eps = 1e-8 inside of logarithms (Lopez et al., Deep
//! generative modeling for single-cell transcriptomics, Nature Methods 15, 2018; conventions of scvi-tools):
//!
//! - Poisson: `x ln mu - mu - lgamma(x + 1)`
//! - negative binomial: `NB = theta (ln(theta + eps) - lt) + x (ln(mu + eps) - lt) + lgamma(x + theta) - lgamma(theta)
//!   - lgamma(x + 1)` with `lt = ln(theta + mu + eps)`
//! - zero-inflated: with `A = -p + theta (ln(theta + eps) - lt)`, `softplus(A) - softplus(-p)` for x = 0 and
//!   `NB - softplus(p)` otherwise
//! - normal: `-((x - mu) / sigma)^2 / 2 - ln sigma - ln(2 pi) / 2`
//!
//! `theta (ln(theta + eps) - lt)` is computed as `-theta ln(1 + mu / (theta + eps))`, and the stored entries in `f64`, so
//! that a large dispersion costs no digits in `f32`.

mod block;
mod composed;
mod dense;
mod entry;
mod evaluate;
mod family;
mod graph;
mod head;
mod head_graph;
mod kl;
mod moments;
mod normal;
mod problem;
mod row;
mod sample;
mod stored;
mod stored_loops;

pub use composed::log_prob_composed;
pub use entry::log_prob_of;
pub use family::{Dispersion, DispersionRows, Family, Mean};
pub use graph::log_prob;
pub use head::{Layer, LinearMean, log_prob_linear};
pub use kl::kl_normal;
pub use moments::{negative_binomial_variance, zero_inflated_mean, zero_inflated_variance};
pub use normal::{draw_normal, kl_standard_normal, neg_log_normal};
pub use sample::{sample, sample_one};

#[cfg(test)]
mod tests;
