//! The Kullback-Leibler divergence of two diagonal normals. The tensors are small; candle's operations do.

use candle_core::{D, Tensor};

use crate::Result;

/// `KL(N(mean_q, var_q) || N(mean_p, var_p))` of each row:
/// `sum_d (ln(var_p / var_q) + (var_q + (mean_q - mean_p)^2) / var_p - 1) / 2`.
///
/// All are `[.., D]`; the result lacks the last dimension.
///
/// # Errors
/// Shapes or types that differ.
pub fn kl_normal(
    mean_q: &Tensor,
    var_q: &Tensor,
    mean_p: &Tensor,
    var_p: &Tensor,
) -> Result<Tensor> {
    let square = (mean_q - mean_p)?.sqr()?;
    let terms = ((var_p.log()? - var_q.log()?)? + (((var_q + square)? / var_p)? - 1.0)?)?;
    Ok((terms.sum(D::Minus1)? * 0.5)?)
}
