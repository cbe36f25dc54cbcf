//! Attention over sequences of different lengths.

mod backward;
mod dropout;
mod first;
mod forward;
mod problem;
mod segments;

use std::sync::OnceLock;

use candle_core::{CpuStorage, Shape, Tensor};

pub(crate) use dropout::Dropout;
pub use first::attention_first;
pub use segments::{Segment, Segments};

use super::activation::check_p;
use super::composed;
use super::norm::wrong;
use crate::Result;
use crate::kernel::{self, Arg, Kernel, View, by_dtype};
use crate::rng::Stream;
use crate::tiles::Lanes;
use backward::Known;
use problem::Problem;

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
/// Scores are computed a tile at a time and again on the way back (Dao et al. 2022): memory is linear in the rows. The bits
/// of a sequence's rows depend on that sequence only: not on the others, their order, or the number of threads; with
/// dropout also on its position, by which the dropped weights are drawn.
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
    if let Some((p, _)) = dropout {
        check_p(p)?;
    }
    if !composed::fusible(&[qkv]) {
        return composed::attention(qkv, heads, segments, keys, dropout);
    }
    let problem = Problem {
        segments: segments.clone(),
        keys,
        heads,
        head: qkv.dim(1)? / (3 * heads),
        dropout: dropout.and_then(|(p, stream)| Dropout::new(p, stream)),
    };
    let sums = OnceLock::new();
    Ok(kernel::apply(Attention { problem, sums }, &[qkv])?)
}

struct Attention {
    problem: Problem,
    /// The logarithms of the sums of `exp(score)`, which the way back needs: `[rows, heads]`.
    sums: OnceLock<CpuStorage>,
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Lanes>(op: &Attention, qkv: &Arg<'_>) -> candle_core::Result<CpuStorage> {
            let (out, sums) = forward::forward::<T>(&op.problem, qkv.slice()?);
            // Set once only, as this runs once only.
            op.sums.set(T::to_cpu_storage_owned(sums)).ok();
            Ok(T::to_cpu_storage_owned(out))
        }
        let out = by_dtype!("attention", args[0].dtype(), run(self, &args[0]))?;
        Ok((
            out,
            (self.problem.segments.rows(), self.problem.width()).into(),
        ))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn run<T: Lanes>(
            op: &Attention,
            qkv: &Tensor,
            output: &Tensor,
            grad: &Tensor,
        ) -> candle_core::Result<Tensor> {
            let views = [qkv, output, grad].map(View::new);
            let sums = op.sums.get().map(T::cpu_storage_as_slice);
            let known = Known {
                qkv: views[0].slice()?,
                out: views[1].slice()?,
                grad: views[2].slice()?,
                sums: sums
                    .ok_or_else(|| candle_core::Error::msg("attention was not computed yet"))??,
            };
            kernel::tensor(backward::backward::<T>(&op.problem, &known), qkv.shape())
        }
        let dqkv = by_dtype!("attention", grad.dtype(), run(self, &args[0], output, grad))?;
        Ok(vec![Some(dqkv)])
    }

    fn gradients_are_new(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
