use candle_core::{D, Tensor};

use crate::Result;
use crate::ops::attention::Dropout;
use crate::ops::{Keys, Segment, Segments, softmax};
use crate::rng::Stream;

/// Multi-head attention, sequence by sequence, see [`attention`](crate::ops::attention()).
///
/// # Errors
/// If the shapes don't fit.
pub fn attention(
    qkv: &Tensor,
    heads: usize,
    segments: &Segments,
    keys: Keys,
    dropout: Option<(f64, &Stream)>,
) -> Result<Tensor> {
    let dropout = dropout.and_then(|(p, stream)| Dropout::new(p, stream));
    let mut out = Vec::with_capacity(segments.len());
    for (i, s) in segments.iter().enumerate().filter(|(_, s)| s.rows > 0) {
        let mask = |columns| dropout.map(|drop| mask(&drop, i, heads, s.rows, columns, qkv));
        out.push(sequence(qkv, heads, s, keys, &mask)?);
    }
    if out.is_empty() {
        let width = qkv.dim(1)? / 3;
        return Ok(Tensor::zeros((0, width), qkv.dtype(), qkv.device())?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// Attention of one query per sequence, see [`attention_first`](crate::ops::attention_first()).
///
/// # Errors
/// If the shapes don't fit.
pub fn attention_first(
    q: &Tensor,
    kv: &Tensor,
    heads: usize,
    segments: &Segments,
) -> Result<Tensor> {
    let width = q.dim(1)?;
    let d = width / heads;
    let mut out = Vec::with_capacity(segments.len());
    for (i, s) in segments.iter().enumerate() {
        if s.keys == 0 {
            out.push(Tensor::zeros((1, width), q.dtype(), q.device())?);
            continue;
        }
        let part = |at: usize| -> Result<Tensor> {
            let x = kv.narrow(0, s.start, s.keys)?.narrow(1, at, width)?;
            Ok(x.reshape((s.keys, heads, d))?
                .transpose(0, 1)?
                .contiguous()?)
        };
        let query = (q.narrow(0, i, 1)?.reshape((heads, 1, d))? / (d as f64).sqrt())?;
        let weights = softmax(&query.matmul(&part(0)?.t()?.contiguous()?)?)?;
        out.push(weights.matmul(&part(width)?)?.reshape((1, width))?);
    }
    if out.is_empty() {
        return Ok(Tensor::zeros((0, width), q.dtype(), q.device())?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

/// What the weights of a sequence are multiplied by, `[heads, rows, columns]`.
fn mask(
    dropout: &Dropout,
    sequence: usize,
    heads: usize,
    rows: usize,
    columns: usize,
    like: &Tensor,
) -> Result<Tensor> {
    let mut factors = Vec::with_capacity(heads * rows * columns);
    for head in 0..heads {
        for row in 0..rows {
            let key = dropout.row(sequence, head, row);
            factors.extend((0..columns).map(|c| dropout.column::<f64>(key, c)));
        }
    }
    let factors = Tensor::from_vec(factors, (heads, rows, columns), like.device())?;
    Ok(factors.to_dtype(like.dtype())?)
}

fn sequence(
    qkv: &Tensor,
    heads: usize,
    s: Segment,
    keys: Keys,
    mask: &dyn Fn(usize) -> Option<Result<Tensor>>,
) -> Result<Tensor> {
    let width = qkv.dim(1)? / 3;
    let d = width / heads;
    // [heads, rows, d]
    let part = |i: usize| -> Result<Tensor> {
        let x = qkv
            .narrow(0, s.start, s.rows)?
            .narrow(1, i * width, width)?;
        Ok(x.reshape((s.rows, heads, d))?
            .transpose(0, 1)?
            .contiguous()?)
    };
    let (q, k, v) = ((part(0)? / (d as f64).sqrt())?, part(1)?, part(2)?);
    let (known_k, known_v) = (k.narrow(1, 0, s.keys)?, v.narrow(1, 0, s.keys)?);
    let others = s.rows - s.keys;
    let with_self = keys == Keys::AndSelf && others > 0;
    if s.keys == 0 && !with_self {
        return Ok(Tensor::zeros((s.rows, width), qkv.dtype(), qkv.device())?);
    }
    let mut scores = q.matmul(&known_k.t()?.contiguous()?)?;
    if with_self {
        // The row's own score; minus infinity for those that are keys already.
        let own = (&q * &k)?
            .sum_keepdim(D::Minus1)?
            .narrow(1, s.keys, others)?;
        let none =
            (Tensor::ones((heads, s.keys, 1), qkv.dtype(), qkv.device())? * f64::NEG_INFINITY)?;
        scores = Tensor::cat(&[&scores, &Tensor::cat(&[&none, &own], 1)?], 2)?;
    }
    let mut weights = softmax(&scores)?;
    if let Some(mask) = mask(weights.dim(2)?) {
        weights = (weights * mask?)?;
    }
    let mut y = weights
        .narrow(2, 0, s.keys)?
        .contiguous()?
        .matmul(&known_v.contiguous()?)?;
    if with_self {
        y = (y + weights.narrow(2, s.keys, 1)?.broadcast_mul(&v)?)?;
    }
    Ok(y.transpose(0, 1)?.reshape((s.rows, width))?)
}
