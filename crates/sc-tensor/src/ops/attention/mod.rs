//! Attention over sequences of different lengths.

mod segments;

use candle_core::Tensor;

pub use segments::{Segment, Segments};

use super::composed;
use super::norm::wrong;
use crate::Result;
use crate::rng::Stream;

/// Which rows a row may attend to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// The keys of its sequence.
    Only,
    /// The keys of its sequence, and itself if it is none: the mask of scGPT's generative pre-training, where a gene whose
    /// value is unknown sees those that are known, and itself.
    AndSelf,
}

/// Multi-head attention: `softmax(q k^T / sqrt(d)) v`, head by head, within each sequence (Vaswani et al. 2017).
///
/// `qkv` is `[rows, 3 D]`: queries, keys and values side by side, each with its heads side by side, `d = D / heads` numbers a
/// head. The result is `[rows, D]`. With `dropout`, `(p, stream)`, each weight of the softmax is dropped with probability `p`.
/// A row that may attend to nothing gets zeros.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit, [`Error::Value`](crate::Error::Value) unless `0 <= p < 1`.
pub fn attention(
    qkv: &Tensor,
    heads: usize,
    segments: &Segments,
    keys: Keys,
    dropout: Option<(f64, &Stream)>,
) -> Result<Tensor> {
    let fits = matches!(qkv.dims(), &[n, w] if n == segments.rows() && heads > 0 && w > 0 && w % (3 * heads) == 0);
    if !fits {
        let expected = format!(
            "[{}, 3 x {heads} heads x numbers of a head]",
            segments.rows()
        );
        return Err(wrong("attention", "qkv", qkv, expected));
    }
    composed::attention(qkv, heads, segments, keys, dropout)
}
