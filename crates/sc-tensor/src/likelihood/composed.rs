//! The likelihood made of plain tensor operations: any device, gradients by candle.

use std::sync::Arc;

use candle_core::{D, Result, Tensor};
use sc_data::Csr;

use super::family::{Dispersion, DispersionRows, Family, Mean};
use super::problem::Problem;

const EPS: f64 = 1e-8;

/// The same as [`log_prob`](super::log_prob()), as a composition of tensor operations.
///
/// It is slower, keeps some thirty `[N, G]` tensors for `backward`, makes the counts dense, and in `f32` loses digits where
/// theta or the counts are large. It exists for devices other than the CPU, and to check the fused kernel.
///
/// # Errors
/// As [`log_prob`](super::log_prob()).
pub fn log_prob_composed(
    family: Family,
    x: &Arc<Csr>,
    mean: &Mean<'_>,
    dispersion: Option<&Dispersion<'_>>,
    dropout_logits: Option<&Tensor>,
) -> crate::Result<Tensor> {
    let problem = Problem::new(family, x, mean, dispersion, dropout_logits)?;
    let counts = dense_counts(&problem, mean.tensor())?;
    let (mu, log_mu) = means(mean, problem.n)?;
    let log_theta = dispersion
        .map(|d| dispersion_rows(d, problem.n))
        .transpose()?;
    let shape = (problem.n, problem.g);
    let log_theta = match log_theta {
        Some(t) => t.broadcast_as(shape)?,
        None => mu.zeros_like()?,
    };
    let entries = match (family, dropout_logits) {
        (Family::Poisson, _) => poisson(&counts, &mu, &log_mu)?,
        (Family::Normal, _) => normal(&counts, &mu, &log_theta)?,
        (Family::ZeroInflatedNegativeBinomial, Some(p)) => {
            zero_inflated(&counts, &mu, &log_theta.exp()?, p)?
        }
        _ => negative_binomial(&counts, &mu, &log_theta.exp()?)?,
    };
    Ok(entries.sum(D::Minus1)?)
}

fn dense_counts(problem: &Problem, like: &Tensor) -> Result<Tensor> {
    let x = &problem.x;
    let (rows, g) = (x.n_rows(), problem.g);
    let mut dense = vec![0f32; rows * g];
    for (i, out) in dense.chunks_mut(g.max(1)).enumerate() {
        let (genes, counts) = x.row(i);
        for (&gene, &count) in genes.iter().zip(counts) {
            out[gene as usize] = count;
        }
    }
    let copies = problem.n.checked_div(rows).unwrap_or(0);
    Tensor::from_vec(dense, (1, rows, g), like.device())?
        .to_dtype(like.dtype())?
        .broadcast_as((copies, rows, g))?
        .reshape((problem.n, g))
}

/// mu and ln(mu); for rates the latter only where it is finite.
fn means(mean: &Mean<'_>, n: usize) -> Result<(Tensor, Tensor)> {
    match *mean {
        Mean::Rate(mu) => {
            let zero = mu.zeros_like()?;
            let positive = mu.gt(&zero)?;
            let log = positive.where_cond(mu, &mu.ones_like()?)?.log()?;
            let log = positive.where_cond(&log, &(zero + f64::NEG_INFINITY)?)?;
            Ok((mu.clone(), log))
        }
        Mean::Softmax {
            logits,
            log_library,
        } => {
            let max = logits.max_keepdim(D::Minus1)?.detach();
            let shifted = logits.broadcast_sub(&max)?;
            let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
            let library = log_library.reshape((n, 1))?;
            let log = shifted.broadcast_sub(&log_sum)?.broadcast_add(&library)?;
            Ok((log.exp()?, log))
        }
        Mean::Softplus {
            logits,
            log_library,
        } => {
            let library = log_library.reshape((n, 1))?;
            let activation = softplus(logits)?;
            let mu = activation.broadcast_mul(&library.exp()?)?;
            // ln(softplus(l)) is l for small l, where 1 + e^l is 1.
            let small = logits.lt(-15.0)?;
            let safe = small.where_cond(&logits.ones_like()?, &activation)?;
            let log = small.where_cond(logits, &safe.log()?)?;
            Ok((mu, log.broadcast_add(&library)?))
        }
    }
}

fn dispersion_rows(dispersion: &Dispersion<'_>, n: usize) -> Result<Tensor> {
    let t = dispersion.log_theta;
    match &dispersion.rows {
        DispersionRows::Shared => t.reshape((1, t.elem_count())),
        DispersionRows::PerCell => Ok(t.clone()),
        DispersionRows::Index(index) => {
            let rows: Vec<u32> = index.iter().copied().cycle().take(n).collect();
            t.index_select(&Tensor::from_vec(rows, n, t.device())?, 0)
        }
    }
}

/// max(t, 0) + ln(1 + e^-|t|)
fn softplus(t: &Tensor) -> Result<Tensor> {
    t.relu()? + (t.abs()?.neg()?.exp()? + 1.0)?.log()?
}

fn poisson(x: &Tensor, mu: &Tensor, log_mu: &Tensor) -> Result<Tensor> {
    let zero = x.zeros_like()?;
    let counted = x.gt(&zero)?;
    // 0 ln(0) = 0, with a gradient of 0.
    let safe = counted.where_cond(log_mu, &zero)?;
    (x * safe)? - mu - lgamma(&(x + 1.0)?)?
}

fn normal(x: &Tensor, mu: &Tensor, log_sigma: &Tensor) -> Result<Tensor> {
    let d = ((x - mu)? * log_sigma.neg()?.exp()?)?;
    (d.sqr()? * -0.5)? - (log_sigma + 0.918_938_533_204_672_8)?
}

fn negative_binomial(x: &Tensor, mu: &Tensor, theta: &Tensor) -> Result<Tensor> {
    let log_sum = ((theta + mu)? + EPS)?.log()?;
    let zeros = (theta * ((theta + EPS)?.log()? - &log_sum)?)?;
    let counted = (x * ((mu + EPS)?.log()? - &log_sum)?)?;
    zeros + counted + lgamma(&(x + theta)?)? - lgamma(theta)? - lgamma(&(x + 1.0)?)?
}

fn zero_inflated(x: &Tensor, mu: &Tensor, theta: &Tensor, p: &Tensor) -> Result<Tensor> {
    let zero = x.zeros_like()?;
    let log_sum = ((theta + mu)? + EPS)?.log()?;
    let a = ((theta * ((theta + EPS)?.log()? - &log_sum)?)? - p)?;
    let of_zero = (softplus(&a)? - softplus(&p.neg()?)?)?;
    let of_count = (negative_binomial(x, mu, theta)? - softplus(p)?)?;
    x.gt(&zero)?.where_cond(&of_count, &of_zero)
}

/// Stirling's series at y + 8, and lgamma(y) = lgamma(y + 8) - ln(y (y + 1) ... (y + 7)), whose factors pair up to
/// v, v + 6, v + 10, v + 12 with v = y (y + 7).
fn lgamma(y: &Tensor) -> Result<Tensor> {
    let z = (y + 8.0)?;
    let inverse = z.recip()?;
    let square = inverse.sqr()?;
    let mut series = (&square * (-3617.0 / 122_400.0))?;
    for c in [
        1.0 / 156.0,
        -691.0 / 360_360.0,
        1.0 / 1188.0,
        -1.0 / 1680.0,
        1.0 / 1260.0,
        -1.0 / 360.0,
    ] {
        series = ((series + c)? * &square)?;
    }
    let series = ((series + 1.0 / 12.0)? * inverse)?;
    let stirling = (((&z - 0.5)? * (z.log()? - 1.0)?)? + series)? + (0.918_938_533_204_672_8 - 0.5);
    let v = (y * (y + 7.0)?)?;
    let low = (&v * (&v + 6.0)?)?.log()?;
    let high = ((&v + 10.0)? * (&v + 12.0)?)?.log()?;
    stirling? - low - high
}
