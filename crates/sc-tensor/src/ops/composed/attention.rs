use candle_core::{D, Tensor};

use crate::Result;
use crate::ops::{Keys, Segment, Segments, dropout as drop, softmax};
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
    let mut stream = dropout.map(|(p, s)| (p, s.clone()));
    let mut out = Vec::with_capacity(segments.len());
    for s in segments.iter().filter(|s| s.rows > 0) {
        out.push(sequence(qkv, heads, s, keys, &mut stream)?);
    }
    if out.is_empty() {
        let width = qkv.dim(1)? / 3;
        return Ok(Tensor::zeros((0, width), qkv.dtype(), qkv.device())?);
    }
    Ok(Tensor::cat(&out, 0)?)
}

fn sequence(
    qkv: &Tensor,
    heads: usize,
    s: Segment,
    keys: Keys,
    dropout: &mut Option<(f64, Stream)>,
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
    if let Some((p, stream)) = dropout {
        weights = drop(&weights, *p, stream)?;
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
