//! FAVOR+ made of plain tensor operations.

use candle_core::{D, Tensor};
use sc_tensor::ops::{Segment, Segments};

use crate::Result;

const EPS: f64 = 1e-4;

/// Over which keys the largest exponent is subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stabiliser {
    /// Those of the own sequence.
    PerSequence,
    /// Those of all sequences.
    Batch,
}

/// `[rows, heads d]` of one sequence as `[heads, rows, d]`.
fn split_heads(x: &Tensor, heads: usize, s: Segment) -> Result<Tensor> {
    let d = x.dim(1)? / heads;
    let x = x.narrow(0, s.start, s.rows)?;
    Ok(x.reshape((s.rows, heads, d))?
        .transpose(0, 1)?
        .contiguous()?)
}

/// The exponents `c x P^T` and `c^2 |x|^2 / 2`.
fn exponents(x: &Tensor, projection: &Tensor) -> Result<(Tensor, Tensor)> {
    let c = (x.dim(2)? as f64).powf(-0.25);
    let u = (x * c)?.broadcast_matmul(&projection.t()?)?;
    let diag = (x.sqr()?.sum_keepdim(D::Minus1)? * (c * c / 2.0))?;
    Ok((u, diag))
}

fn features(u: &Tensor, diag: &Tensor, max: &Tensor) -> Result<Tensor> {
    let ratio = (u.dim(2)? as f64).powf(-0.5);
    let e = u.broadcast_sub(diag)?.broadcast_sub(max)?.exp()?;
    Ok(((e + EPS)? * ratio)?)
}

fn key_max(u: &Tensor) -> Result<Tensor> {
    Ok(u.flatten_all()?.max_keepdim(0)?.reshape((1, 1, 1))?)
}

/// Query and key features of each sequence, `[heads, rows, features]`.
fn all_features(
    q: &Tensor,
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Vec<(Segment, Tensor, Tensor)>> {
    let mut keys = Vec::new();
    for s in segments.iter() {
        keys.push(exponents(&split_heads(k, heads, s)?, projection)?);
    }
    let maxima = keys
        .iter()
        .map(|(u, _)| key_max(u))
        .collect::<Result<Vec<_>>>()?;
    let global = Tensor::cat(&maxima, 0)?.max_keepdim(0)?;
    let mut all = Vec::new();
    for ((s, (u, diag)), own) in segments.iter().zip(&keys).zip(&maxima) {
        let max = if stabiliser == Stabiliser::Batch {
            &global
        } else {
            own
        };
        let phi_k = features(u, diag, max)?;
        let (u, diag) = exponents(&split_heads(q, heads, s)?, projection)?;
        let phi_q = features(&u, &diag, &u.max_keepdim(D::Minus1)?)?;
        all.push((s, phi_q, phi_k));
    }
    Ok(all)
}

/// Linear attention, `[rows, heads d]`.
pub(super) fn favor_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let mut out = Vec::new();
    for (s, phi_q, phi_k) in all_features(q, k, projection, heads, segments, stabiliser)? {
        let v = split_heads(v, heads, s)?;
        let sum = phi_k.t()?.contiguous()?.matmul(&v)?;
        let z = phi_k.sum_keepdim(1)?.t()?.contiguous()?;
        let y = phi_q.matmul(&sum)?.broadcast_div(&phi_q.matmul(&z)?)?;
        out.push(y.transpose(0, 1)?.reshape((s.rows, q.dim(1)?))?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// How much attention each key gets, averaged over the queries of its sequence: `[rows, heads]`.
pub(super) fn favor_key_importance(
    q: &Tensor,
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let mut out = Vec::new();
    for (_, phi_q, phi_k) in all_features(q, k, projection, heads, segments, stabiliser)? {
        let z = phi_k.sum_keepdim(1)?.t()?.contiguous()?;
        let w = phi_q.broadcast_div(&phi_q.matmul(&z)?)?.mean_keepdim(1)?;
        out.push(
            phi_k
                .matmul(&w.t()?.contiguous()?)?
                .squeeze(2)?
                .t()?
                .contiguous()?,
        );
    }
    Ok(Tensor::cat(&out, 0)?)
}
