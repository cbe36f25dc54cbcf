//! The same operations made of plain tensor operations: slow, but they run on every device.
//!
//! The fused operations fall back to these when a tensor is not on the CPU, and are tested against them. Shapes and
//! meaning are those of the functions of the same name in [`ops`](super).

mod attention;
mod favor;

use candle_core::{D, DType, Tensor};

pub use attention::{attention, attention_first};
pub use favor::{favor_attention, favor_key_features, favor_key_importance, favor_query_features};

use crate::Result;

/// `x w^T + b`, see [`linear`](super::linear()).
///
/// # Errors
/// If the shapes don't fit.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let rows = x.elem_count() / w.dim(1)?.max(1);
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = w.dim(0)?;
    }
    let y = x.reshape((rows, w.dim(1)?))?.matmul(&w.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    };
    Ok(y.reshape(dims)?)
}

/// Batch norm with the statistics of the batch; `(y, mean, biased variance)`, see
/// [`batch_norm_train`](super::batch_norm_train).
///
/// # Errors
/// If the shapes don't fit.
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let mean = x.mean(0)?;
    let centred = x.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean(0)?;
    let y = centred
        .broadcast_div(&(&var + eps)?.sqrt()?)?
        .broadcast_mul(gamma)?
        .broadcast_add(beta)?;
    Ok((y, mean.detach(), var.detach()))
}

/// Batch norm with running statistics, see [`batch_norm_eval`](super::batch_norm_eval).
///
/// # Errors
/// If the shapes don't fit.
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    Ok(x.broadcast_sub(&mean.detach())?
        .broadcast_div(&(var.detach() + eps)?.sqrt()?)?
        .broadcast_mul(gamma)?
        .broadcast_add(beta)?)
}

/// Layer norm over the last axis, see [`layer_norm`](super::layer_norm).
///
/// # Errors
/// If the shapes don't fit.
pub fn layer_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let var = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let mut y = centred.broadcast_div(&(var + eps)?.sqrt()?)?;
    if let Some(w) = weight {
        y = y.broadcast_mul(w)?;
    }
    if let Some(b) = bias {
        y = y.broadcast_add(b)?;
    }
    Ok(y)
}

/// `max(x, 0)` with gradient 0 at 0.
///
/// # Errors
/// If candle refuses.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    let positive = x.gt(0.0)?.to_dtype(x.dtype())?;
    Ok((x * positive)?)
}

/// `x` where it is above 0, elsewhere `slope x`, which is also the gradient at 0.
///
/// # Errors
/// If candle refuses.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    let positive = x.gt(0.0)?.to_dtype(x.dtype())?;
    Ok((x * positive.affine(1.0 - slope, slope)?)?)
}

/// `x Phi(x)` with the normal distribution function, see [`gelu`](super::gelu).
///
/// # Errors
/// If candle refuses.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let cdf = ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)?;
    Ok((x * (cdf * 0.5)?)?)
}

/// `1 / (1 + exp(-x))`.
///
/// # Errors
/// If candle refuses.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    // As a tanh nothing overflows.
    Ok(((x * 0.5)?.tanh()? * 0.5)?.affine(1.0, 0.5)?)
}

/// `max(x, 0) + log(1 + exp(-|x|))`.
///
/// # Errors
/// If candle refuses.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    // With s = sigmoid(|x|): -log(s) = log(1 + exp(-|x|)); max(x, 0) is (x + |x|) / 2, which has slope 1/2 at 0 as it
    // must: the kinks of the two terms cancel in the sum.
    let magnitude = x.abs()?;
    let tail = sigmoid(&magnitude)?.log()?.neg()?;
    Ok((((x + magnitude)? * 0.5)? + tail)?)
}

/// `log(1 + x)`, by the correction `log(u) x / (u - 1)` with `u = 1 + x`, which keeps small `x` exact.
///
/// # Errors
/// If candle refuses.
pub fn log1p(x: &Tensor) -> Result<Tensor> {
    let plain = (x + 1.0)?.log()?;
    // The correction is a constant factor of the value, so it takes no part in the gradient.
    let u = (x.detach() + 1.0)?;
    let tiny = (&u - 1.0)?.eq(0.0)?;
    let one = u.ones_like()?;
    let span = tiny.where_cond(&one, &(&u - 1.0)?)?;
    let exact = tiny.where_cond(&x.detach(), &((u.log()? * x.detach())? / span)?)?;
    let lost = (exact - plain.detach())?;
    Ok((plain + lost)?)
}

/// The shift that brings the argument of the asymptotic series into its range.
const SHIFT: usize = 8;

/// `log Gamma(x)` for `x > 0`: Stirling's series at `x + 8`, less the logarithms of `x, x + 1, .. x + 7`.
///
/// # Errors
/// If candle refuses.
pub fn lgamma(x: &Tensor) -> Result<Tensor> {
    let z = (x + SHIFT as f64)?;
    let mut product = x.clone();
    let mut logs = None;
    for i in 1..SHIFT {
        product = (product * (x + i as f64)?)?;
        if i % 2 == 1 {
            // Two factors at a time can't overflow where one alone would not.
            let log = product.log()?;
            logs = Some(match logs {
                None => log,
                Some(sum) => (sum + log)?,
            });
            product = x.ones_like()?;
        }
    }
    let r = z.recip()?;
    let r2 = r.sqr()?;
    // B_2k / (2k (2k - 1)): 1/12, -1/360, 1/1260, -1/1680, 1/1188, -691/360360
    let mut series = (&r2 * (-691.0 / 360_360.0))?;
    for c in [1.0 / 1188.0, -1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0] {
        series = ((series + c)? * &r2)?;
    }
    let series = ((series + 1.0 / 12.0)? * r)?;
    let half_log_two_pi = 0.918_938_533_204_672_8;
    let main = (((&z - 0.5)? * z.log()?)? - &z)?.affine(1.0, half_log_two_pi)?;
    let sum = (main + series)?;
    Ok(match logs {
        None => sum,
        Some(logs) => (sum - logs)?,
    })
}

/// The derivative of `log Gamma(x)` for `x > 0`: the asymptotic series at `x + 8`, less `1/x + .. + 1/(x + 7)`.
///
/// # Errors
/// If candle refuses.
pub fn digamma(x: &Tensor) -> Result<Tensor> {
    let z = (x + SHIFT as f64)?;
    let mut sum = x.recip()?;
    for i in 1..SHIFT {
        sum = (sum + (x + i as f64)?.recip()?)?;
    }
    let r = z.recip()?;
    let r2 = r.sqr()?;
    // B_2k / 2k: 1/12, -1/120, 1/252, -1/240, 1/132, -691/32760
    let mut series = (&r2 * (691.0 / 32_760.0))?;
    for c in [
        -1.0 / 132.0,
        1.0 / 240.0,
        -1.0 / 252.0,
        1.0 / 120.0,
        -1.0 / 12.0,
    ] {
        series = ((series + c)? * &r2)?;
    }
    Ok((((z.log()? - (r * 0.5)?)? + series)? - sum)?)
}

/// `log sum exp` over the last axis, which disappears.
///
/// # Errors
/// If candle refuses.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    let max = x.detach().max_keepdim(D::Minus1)?;
    let sum = x
        .broadcast_sub(&max)?
        .exp()?
        .sum_keepdim(D::Minus1)?
        .log()?;
    Ok((sum + max)?.squeeze(D::Minus1)?)
}

/// `x - log sum exp(x)` over the last axis.
///
/// # Errors
/// If candle refuses.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_sub(&log_sum_exp(x)?.unsqueeze(D::Minus1)?)?)
}

/// `exp(x) / sum exp(x)` over the last axis.
///
/// # Errors
/// If candle refuses.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let e = x
        .broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?
        .exp()?;
    Ok(e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?)
}

/// The sum over the first axis, as a product with a row of ones.
///
/// # Errors
/// If candle refuses.
pub fn sum_rows(x: &Tensor) -> Result<Tensor> {
    let n = x.dim(0)?;
    let rest = x.dims().get(1..).unwrap_or_default().to_vec();
    let width: usize = rest.iter().product();
    let ones = Tensor::ones((1, n), x.dtype(), x.device())?;
    Ok(ones.matmul(&x.reshape((n, width))?)?.reshape(rest)?)
}

/// Rows of `weight` by index.
///
/// # Errors
/// If candle refuses.
pub fn embedding(weight: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(weight.dim(1)?);
    Ok(weight.index_select(&ids.flatten_all()?, 0)?.reshape(dims)?)
}

/// `x`, whose gradient is multiplied by `-lambda` on the way back.
///
/// # Errors
/// If candle refuses.
pub fn grad_reverse(x: &Tensor, lambda: f64) -> Result<Tensor> {
    // -lambda x + (1 + lambda) x, where the second x is a constant.
    Ok(((x * -lambda)? + (x.detach() * (1.0 + lambda))?)?)
}

/// Sparse times dense through a dense copy, see [`csr_linear`](super::csr_linear()).
///
/// # Errors
/// If the shapes don't fit.
pub fn csr_linear(
    x: &super::SparseInput,
    w_t: &Tensor,
    b: Option<&Tensor>,
    extra: Option<&Tensor>,
) -> Result<Tensor> {
    let mut dense = x.to_dense(w_t.dtype(), w_t.device())?;
    let mut weight = w_t.clone();
    match extra {
        Some(extra) => dense = Tensor::cat(&[&dense, extra], 1)?,
        None => weight = weight.narrow(0, 0, x.n_cols())?,
    }
    let y = dense.matmul(&weight)?;
    Ok(match b {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    })
}

/// `x` times a mask that is 0 or `1 / (1 - p)`.
///
/// # Errors
/// If candle refuses.
pub fn dropout(x: &Tensor, keep: &Tensor, p: f64) -> Result<Tensor> {
    let mask = (keep.to_dtype(x.dtype())? * (1.0 / (1.0 - p)))?;
    Ok((x * mask.reshape(x.shape())?)?)
}

/// Whether the fused kernels can take these tensors: on the CPU, in `f32` or `f64`.
pub(crate) fn fusible(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|t| t.device().is_cpu() && matches!(t.dtype(), DType::F32 | DType::F64))
}

/// Whether a tensor is kept in half precision.
pub(crate) fn is_half(t: &Tensor) -> bool {
    matches!(t.dtype(), DType::BF16 | DType::F16)
}
