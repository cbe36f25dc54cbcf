//! Means and variances of the count distributions, as differentiable tensor operations. Arguments broadcast.

use candle_core::Tensor;

use crate::Result;

/// Variance of a negative binomial: `mu + mu^2 / theta`.
///
/// # Errors
/// Shapes that don't broadcast, or types that differ.
pub fn negative_binomial_variance(mu: &Tensor, theta: &Tensor) -> Result<Tensor> {
    Ok((mu + mu.sqr()?.broadcast_div(theta)?)?)
}

/// Mean of a zero-inflated negative binomial, `(1 - pi) mu` with dropout probability `pi = 1 / (1 + e^-logit)`.
///
/// # Errors
/// Shapes that don't broadcast, or types that differ.
pub fn zero_inflated_mean(mu: &Tensor, dropout_logits: &Tensor) -> Result<Tensor> {
    // 1 - pi
    let counted = (dropout_logits.exp()? + 1.0)?.recip()?;
    Ok(mu.broadcast_mul(&counted)?)
}

/// Variance of a zero-inflated negative binomial: `(1 - pi) mu (mu + theta + pi mu theta) / theta`.
///
/// # Errors
/// Shapes that don't broadcast, or types that differ.
pub fn zero_inflated_variance(
    mu: &Tensor,
    theta: &Tensor,
    dropout_logits: &Tensor,
) -> Result<Tensor> {
    let pi = (dropout_logits.neg()?.exp()? + 1.0)?.recip()?;
    let square = mu.sqr()?;
    // mu (mu + theta + pi mu theta) / theta = mu + mu^2 / theta + pi mu^2
    let spread = ((mu + square.broadcast_div(theta)?)? + square.broadcast_mul(&pi)?)?;
    zero_inflated_mean(&spread, dropout_logits)
}
