use candle_core::{D, Tensor};

use crate::Result;
use crate::ops::{Segment, Segments, Stabiliser};

/// What is added to every feature.
const EPS: f64 = 1e-4;

/// FAVOR+ attention, see [`favor_attention`](crate::ops::favor_attention).
///
/// # Errors
/// If the shapes don't fit.
pub fn favor_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let mut out = Vec::with_capacity(segments.len());
    let keys = features_of_keys(k, projection, heads, segments, stabiliser)?;
    for (s, psi) in segments.iter().zip(keys).filter(|(s, _)| s.rows > 0) {
        let Some(psi) = psi else {
            out.push(Tensor::zeros((s.rows, v.dim(1)?), v.dtype(), v.device())?);
            continue;
        };
        let phi = features_of_queries(&by_head(q, heads, s, s.rows)?, projection)?;
        let values = by_head(v, heads, s, s.keys)?;
        let sums = psi.t()?.contiguous()?.matmul(&values)?;
        let totals = phi
            .broadcast_mul(&psi.sum_keepdim(1)?)?
            .sum_keepdim(D::Minus1)?;
        let y = phi.matmul(&sums)?.broadcast_div(&totals)?;
        out.push(y.transpose(0, 1)?.reshape((s.rows, v.dim(1)?))?);
    }
    if out.is_empty() {
        return Ok(Tensor::zeros((0, v.dim(1)?), v.dtype(), v.device())?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// The column means of the attention matrices, see [`favor_key_importance`](crate::ops::favor_key_importance).
///
/// # Errors
/// If the shapes don't fit.
pub fn favor_key_importance(
    q: &Tensor,
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let mut out = Vec::with_capacity(segments.len());
    let keys = features_of_keys(&k.detach(), projection, heads, segments, stabiliser)?;
    for (s, psi) in segments.iter().zip(keys).filter(|(s, _)| s.rows > 0) {
        let zeros = |n: usize| Tensor::zeros((n, heads), q.dtype(), q.device());
        let Some(psi) = psi else {
            out.push(zeros(s.rows)?);
            continue;
        };
        let phi = features_of_queries(&by_head(&q.detach(), heads, s, s.rows)?, projection)?;
        let matrix = phi.matmul(&psi.t()?.contiguous()?)?;
        let rows = matrix.broadcast_div(&matrix.sum_keepdim(D::Minus1)?)?;
        out.push(rows.mean(1)?.t()?.contiguous()?);
        out.push(zeros(s.rows - s.keys)?);
    }
    if out.is_empty() {
        return Ok(Tensor::zeros((0, heads), q.dtype(), q.device())?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// The features of the queries of each sequence, `[heads, rows, m]`: `phi` of
/// [`favor_attention`](crate::ops::favor_attention).
///
/// # Errors
/// If the shapes don't fit.
pub fn favor_query_features(
    q: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
) -> Result<Vec<Tensor>> {
    let of = |s: Segment| features_of_queries(&by_head(q, heads, s, s.rows)?, projection);
    segments.iter().map(of).collect()
}

/// The features of the keys of each sequence, `[heads, keys, m]`: `psi` of
/// [`favor_attention`](crate::ops::favor_attention).
///
/// # Errors
/// If the shapes don't fit.
pub fn favor_key_features(
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Vec<Tensor>> {
    let (m, dtype, device) = (projection.dim(0)?, k.dtype(), k.device());
    let none = || Ok(Tensor::zeros((heads, 0, m), dtype, device)?);
    let all = features_of_keys(k, projection, heads, segments, stabiliser)?;
    all.into_iter().map(|f| f.map_or_else(none, Ok)).collect()
}

/// `[heads, n, d]` of the first `n` rows of a sequence.
fn by_head(x: &Tensor, heads: usize, s: Segment, n: usize) -> Result<Tensor> {
    let x = x.narrow(0, s.start, n)?;
    let d = x.dim(1)? / heads;
    Ok(x.reshape((n, heads, d))?.transpose(0, 1)?.contiguous()?)
}

/// Exponents `[heads, n, m]`, and the norms `[heads, n, 1]` to be subtracted.
fn exponents(x: &Tensor, projection: &Tensor) -> Result<(Tensor, Tensor)> {
    let (heads, n, d) = x.dims3()?;
    let scaled = (x * (d as f64).powf(-0.25))?;
    let flat = scaled.reshape((heads * n, d))?;
    let u = flat
        .matmul(&projection.detach().t()?.contiguous()?)?
        .reshape((heads, n, ()))?;
    Ok((u, (scaled.sqr()?.sum_keepdim(D::Minus1)? * 0.5)?))
}

fn features_of_queries(x: &Tensor, projection: &Tensor) -> Result<Tensor> {
    let (u, norms) = exponents(x, projection)?;
    let first = u.detach().argmax_keepdim(D::Minus1)?;
    let largest = u.gather(&first, D::Minus1)?;
    Ok((u.broadcast_sub(&norms)?.broadcast_sub(&largest)?.exp()? + EPS)?)
}

/// The features of the keys of each sequence, `[heads, keys, m]`; none where there is no key.
fn features_of_keys(
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Vec<Option<Tensor>>> {
    let mut all = Vec::with_capacity(segments.len());
    for s in segments.iter() {
        all.push(match s.keys {
            0 => None,
            n => Some(exponents(&by_head(k, heads, s, n)?, projection)?),
        });
    }
    let of_all = match stabiliser {
        Stabiliser::PerSequence => None,
        Stabiliser::Batch => largest(all.iter().flatten().map(|(u, _)| u))?,
    };
    let mut features = Vec::with_capacity(all.len());
    for part in all {
        let Some((u, norms)) = part else {
            features.push(None);
            continue;
        };
        let largest = match &of_all {
            Some(largest) => largest.clone(),
            None => largest([&u])?.unwrap_or(u.sum_all()?),
        };
        let exponents = u.broadcast_sub(&norms)?.broadcast_sub(&largest)?;
        features.push(Some((exponents.exp()? + EPS)?));
    }
    Ok(features)
}

/// The largest element of all, as the mean of those that reach it: so its gradient is shared in equal parts.
fn largest<'a>(all: impl IntoIterator<Item = &'a Tensor>) -> Result<Option<Tensor>> {
    let mut flat = Vec::new();
    for u in all {
        flat.push(u.flatten_all()?);
    }
    if flat.is_empty() {
        return Ok(None);
    }
    let u = Tensor::cat(&flat, 0)?;
    let value = u.detach().max(0)?;
    let reached = u.detach().broadcast_eq(&value)?.to_dtype(u.dtype())?;
    let share = reached.broadcast_div(&reached.sum_all()?)?;
    Ok(Some((u * share)?.sum_all()?))
}
