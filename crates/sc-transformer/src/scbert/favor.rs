//! FAVOR+ (Choromanski et al. 2021), made of plain tensor operations: attention whose weights are products of random
//! features, `phi(q) . phi(k)`, so that its cost grows with the number of rows and not with its square.
//!
//! With `u = c x P^T`, `c = d^(-1/4)`, a row's features are `(exp(u - c^2 |x|^2 / 2 - max) + 1e-4) / sqrt(m)`. For a query the
//! maximum is that of its own `u`; for keys it is that over all rows, features and heads of a sequence (or of all
//! sequences: [`Stabiliser::Batch`]). It doesn't cancel, because of the constant that is added.

use candle_core::{D, Tensor};
use sc_tensor::ops::{Segment, Segments};

use crate::Result;

const EPS: f64 = 1e-4;
/// Rows whose features are held at once where no gradient is wanted.
const TILE: usize = 512;

/// Over which keys the largest exponent is taken that the others are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stabiliser {
    /// Those of the own sequence, which then does not depend on others.
    PerSequence,
    /// Those of all sequences together.
    Batch,
}

/// Some rows of one sequence, `[rows, heads d]`, as `[heads, rows, d]`.
fn split_heads(x: &Tensor, heads: usize, start: usize, rows: usize) -> Result<Tensor> {
    let d = x.dim(1)? / heads;
    let x = x.narrow(0, start, rows)?.reshape((rows, heads, d))?;
    Ok(x.transpose(0, 1)?.contiguous()?)
}

/// The exponents `u` and what is taken off each row of them.
fn exponents(x: &Tensor, projection: &Tensor) -> Result<(Tensor, Tensor)> {
    let c = (x.dim(2)? as f64).powf(-0.25);
    let u = (x * c)?.broadcast_matmul(&projection.t()?)?;
    let half = (x.sqr()?.sum_keepdim(D::Minus1)? * (c * c / 2.0))?;
    Ok((u, half))
}

fn features(u: &Tensor, half: &Tensor, max: &Tensor) -> Result<Tensor> {
    let ratio = (u.dim(2)? as f64).powf(-0.5);
    let e = u.broadcast_sub(half)?.broadcast_sub(max)?.exp()?;
    Ok(((e + EPS)? * ratio)?)
}

fn query_features(x: &Tensor, projection: &Tensor) -> Result<Tensor> {
    let (u, half) = exponents(x, projection)?;
    features(&u, &half, &u.max_keepdim(D::Minus1)?)
}

/// The largest of all, as `[1, 1, 1]`.
fn largest(u: &Tensor) -> Result<Tensor> {
    Ok(u.flatten_all()?.max_keepdim(0)?.reshape((1, 1, 1))?)
}

/// The largest exponent of the keys of each sequence, or of all.
fn key_maxima(
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Vec<Tensor>> {
    let mut own = Vec::with_capacity(segments.len());
    for s in segments.iter() {
        let tiles = tiles(k, s);
        let maxima = tiles.iter().map(|&(start, rows)| {
            let (u, _) = exponents(&split_heads(k, heads, start, rows)?, projection)?;
            largest(&u)
        });
        own.push(largest(&Tensor::cat(
            &maxima.collect::<Result<Vec<_>>>()?,
            0,
        )?)?);
    }
    if stabiliser == Stabiliser::Batch {
        let all = largest(&Tensor::cat(&own, 0)?)?;
        own.iter_mut().for_each(|m| *m = all.clone());
    }
    Ok(own)
}

/// The rows of a sequence in pieces `(start, rows)`; in one where gradients are wanted, as those keep everything anyway.
fn tiles(x: &Tensor, s: Segment) -> Vec<(usize, usize)> {
    let size = if x.track_op() { s.rows.max(1) } else { TILE };
    let starts = (0..s.rows).step_by(size);
    starts
        .map(|at| (s.start + at, size.min(s.rows - at)))
        .collect()
}

fn add(sum: Option<Tensor>, term: Tensor) -> Result<Option<Tensor>> {
    Ok(Some(match sum {
        Some(sum) => (sum + term)?,
        None => term,
    }))
}

/// Attention of each sequence to itself: `[rows, heads d]` of queries, keys and values to `[rows, heads d]`.
pub(super) fn favor_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let maxima = key_maxima(k, projection, heads, segments, stabiliser)?;
    let mut out = Vec::new();
    for (s, max) in segments.iter().zip(&maxima) {
        let (mut sum, mut total) = (None, None);
        for (start, rows) in tiles(k, s) {
            let (u, half) = exponents(&split_heads(k, heads, start, rows)?, projection)?;
            let phi = features(&u, &half, max)?;
            let v = split_heads(v, heads, start, rows)?;
            sum = add(sum, phi.t()?.contiguous()?.matmul(&v)?)?;
            total = add(total, phi.sum_keepdim(1)?)?;
        }
        let (Some(sum), Some(total)) = (sum, total) else {
            continue;
        };
        let total = total.t()?.contiguous()?;
        for (start, rows) in tiles(q, s) {
            let phi = query_features(&split_heads(q, heads, start, rows)?, projection)?;
            let y = phi.matmul(&sum)?.broadcast_div(&phi.matmul(&total)?)?;
            out.push(y.transpose(0, 1)?.reshape((rows, q.dim(1)?))?);
        }
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// How much attention each key gets, averaged over the queries of its sequence: `[rows, heads]`. Key `j` gets `phi(k_j) . w`
/// with `w` the mean over queries of `phi(q_i) / (phi(q_i) . sum_j phi(k_j))`.
pub(super) fn favor_key_importance(
    q: &Tensor,
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let maxima = key_maxima(k, projection, heads, segments, stabiliser)?;
    let mut out = Vec::new();
    for (s, max) in segments.iter().zip(&maxima) {
        let keys = |start, rows| -> Result<Tensor> {
            let (u, half) = exponents(&split_heads(k, heads, start, rows)?, projection)?;
            features(&u, &half, max)
        };
        let mut total = None;
        for (start, rows) in tiles(k, s) {
            total = add(total, keys(start, rows)?.sum_keepdim(1)?)?;
        }
        let Some(total) = total else { continue };
        let total = total.t()?.contiguous()?;
        let mut asked = None;
        for (start, rows) in tiles(q, s) {
            let phi = query_features(&split_heads(q, heads, start, rows)?, projection)?;
            let share = phi.broadcast_div(&phi.matmul(&total)?)?;
            asked = add(asked, (share.sum_keepdim(1)? / s.rows as f64)?)?;
        }
        let Some(asked) = asked else { continue };
        let asked = asked.t()?.contiguous()?;
        for (start, rows) in tiles(k, s) {
            let y = keys(start, rows)?.matmul(&asked)?;
            out.push(y.squeeze(2)?.t()?.contiguous()?);
        }
    }
    Ok(Tensor::cat(&out, 0)?)
}
