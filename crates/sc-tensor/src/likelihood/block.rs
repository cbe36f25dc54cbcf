//! The scratch memory of one thread: a block of genes of one cell.

use crate::math::Float;

/// Genes per block: all arrays of a block together fit into the first-level cache.
pub(super) const BLOCK: usize = 256;

/// Arrays of one block. They are fields of one struct so that the compiler sees that they don't overlap, which is what
/// makes it vectorise loops over a dozen of them.
pub(super) struct Block<T> {
    /// The mean.
    pub(super) mu: [T; BLOCK],
    /// d mu / d logit divided by mu; only for a softplus mean.
    pub(super) chain: [T; BLOCK],
    /// Inverse dispersion, or standard deviation.
    pub(super) theta: [T; BLOCK],
    /// 1 / (theta + eps), or 1 / standard deviation.
    pub(super) inverse: [T; BLOCK],
    /// Dropout logit; ln of the standard deviation for a normal.
    pub(super) logit: [T; BLOCK],
    /// theta ln(1 + mu / (theta + eps)); the observation for a normal.
    pub(super) decline: [T; BLOCK],
    /// Out: log-probability.
    pub(super) log_prob: [T; BLOCK],
    /// Out: gradient by mu, times mu unless the mean is a rate.
    pub(super) by_mean: [T; BLOCK],
    /// Out: gradient by log_theta.
    pub(super) by_log_theta: [T; BLOCK],
    /// Out: gradient by the dropout logit.
    pub(super) by_logit: [T; BLOCK],
}

impl<T: Float> Block<T> {
    pub(super) fn new() -> Self {
        let ones = [T::ONE; BLOCK];
        Self {
            mu: ones,
            chain: ones,
            theta: ones,
            inverse: ones,
            logit: ones,
            decline: ones,
            log_prob: ones,
            by_mean: ones,
            by_log_theta: ones,
            by_logit: ones,
        }
    }
}

/// Stored entries of one block, gathered so that loops run over contiguous numbers.
pub(super) struct Entries<T> {
    pub(super) len: usize,
    /// The gene, counted from the start of the block.
    pub(super) gene: [u16; BLOCK],
    pub(super) x: [T; BLOCK],
    pub(super) mu: [T; BLOCK],
    pub(super) theta: [T; BLOCK],
    pub(super) inverse: [T; BLOCK],
    pub(super) logit: [T; BLOCK],
    pub(super) decline: [T; BLOCK],
    /// lgamma(x + 1)
    pub(super) log_factorial: [f64; BLOCK],
    /// ln(mu); only for a Poisson.
    pub(super) log_mu: [f64; BLOCK],
    /// Out, as in [`Block`].
    pub(super) log_prob: [f64; BLOCK],
    pub(super) by_mean: [T; BLOCK],
    pub(super) by_log_theta: [T; BLOCK],
    pub(super) by_logit: [T; BLOCK],
}

impl<T: Float> Entries<T> {
    pub(super) fn new() -> Self {
        let ones = [T::ONE; BLOCK];
        Self {
            len: 0,
            gene: [0; BLOCK],
            x: ones,
            mu: ones,
            theta: ones,
            inverse: ones,
            logit: ones,
            decline: ones,
            log_factorial: [0.0; BLOCK],
            log_mu: [0.0; BLOCK],
            log_prob: [0.0; BLOCK],
            by_mean: ones,
            by_log_theta: ones,
            by_logit: ones,
        }
    }
}
