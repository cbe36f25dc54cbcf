//! FAVOR+: attention in linear time (Choromanski et al. 2021), with the features of scBERT's Performer.

mod backward;
mod importance;
mod keys;
mod problem;
mod queries;

use std::any::Any;
use std::sync::OnceLock;

use candle_core::{CpuStorage, Shape, Tensor};

use super::attention::Segments;
use super::composed;
use super::norm::wrong;
use crate::Result;
use crate::kernel::{self, Arg, Kernel, View, by_dtype};
use crate::tiles::Lanes;
use problem::{Features, Largest, Sizes, Sums};

/// Over what the maximum is taken that is subtracted from the exponents of keys.
///
/// Because of the constant that is added to each feature the maximum does not cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stabiliser {
    /// All heads and keys of a sequence: a cell's result does not depend on the others.
    PerSequence,
    /// All heads and keys of all sequences, as scBERT does in batches: a cell's result depends on the others.
    Batch,
}

/// FAVOR+ attention, head by head, within each sequence: softmax attention in expectation, at a cost that is linear in the
/// rows (Choromanski et al. 2021).
///
/// `q`, `k`, `v` are `[rows, D]`, heads side by side, `d = D / heads` numbers each; `projection` is `[m, d]`. With
/// `u = d^(-1/4) P x` and `n = |x|^2 / (2 sqrt(d))` the features are `phi(q) = exp(u - n - max u) + 1e-4`, the maximum over
/// the features of the query, and `psi(k) = exp(u - n - M) + 1e-4`, with `M` the maximum that `stabiliser` says. Row `i`
/// is `sum_j phi_i psi_j v_j / sum_j phi_i psi_j` over the keys `j` of its sequence; a row without keys gets zeros.
/// (The factor `m^(-1/2)` of the paper's features cancels.)
///
/// Gradients flow to `q`, `k`, `v`, also through the maxima: to the first of the largest exponents of a query, and in equal
/// parts to all keys' exponents that reach `M`. The projection is a constant.
///
/// Features are computed a tile at a time and again on the way back: memory is linear in the rows and does not depend on
/// `m` times rows.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn favor_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    let sizes = sizes(
        &[("q", q), ("k", k), ("v", v)],
        projection,
        heads,
        segments,
        stabiliser,
    )?;
    if !composed::fusible(&[q, k, v, projection]) {
        return composed::favor_attention(q, k, v, projection, heads, segments, stabiliser);
    }
    let projection = projection.detach().to_dtype(q.dtype())?.contiguous()?;
    let op = Favor {
        sizes,
        projection,
        saved: OnceLock::new(),
    };
    Ok(kernel::apply(op, &[q, k, v])?)
}

/// How much attention each key gets in [`favor_attention`], on average over the queries of its sequence: the column means
/// of the attention matrix of each head, `[rows, heads]`, without computing that matrix.
///
/// Each head's column sums to 1 over a sequence; rows that are no keys get 0. No gradient is recorded.
///
/// # Errors
/// As [`favor_attention`].
pub fn favor_key_importance(
    q: &Tensor,
    k: &Tensor,
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Tensor> {
    fn run<T: Lanes>(
        sizes: &Sizes,
        q: &Tensor,
        k: &Tensor,
        projection: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let views = [q, k, projection].map(View::new);
        let features = Features::new(sizes, views[2].slice::<T>()?);
        let scores =
            importance::importance::<T>(sizes, &features, views[0].slice()?, views[1].slice()?);
        kernel::tensor(scores, (sizes.segments.rows(), sizes.heads))
    }
    let sizes = sizes(
        &[("q", q), ("k", k)],
        projection,
        heads,
        segments,
        stabiliser,
    )?;
    if !composed::fusible(&[q, k, projection]) {
        return composed::favor_key_importance(q, k, projection, heads, segments, stabiliser);
    }
    let k = k.detach().to_dtype(q.dtype())?.contiguous()?;
    let projection = projection.detach().to_dtype(q.dtype())?.contiguous()?;
    let q = q.detach().contiguous()?;
    Ok(by_dtype!(
        "favor_key_importance",
        q.dtype(),
        run(&sizes, &q, &k, &projection)
    )?)
}

fn sizes(
    rows: &[(&'static str, &Tensor)],
    projection: &Tensor,
    heads: usize,
    segments: &Segments,
    stabiliser: Stabiliser,
) -> Result<Sizes> {
    const OP: &str = "favor_attention";
    let &[m, d] = projection.dims() else {
        return Err(wrong(
            OP,
            "the projection",
            projection,
            "[features, numbers of a head]".into(),
        ));
    };
    if m == 0 || d == 0 || heads == 0 {
        let expected =
            format!("[features, numbers of a head], both and the {heads} heads at least 1");
        return Err(wrong(OP, "the projection", projection, expected));
    }
    for &(what, x) in rows {
        if x.dims() != [segments.rows(), heads * d] {
            return Err(wrong(
                OP,
                what,
                x,
                format!("[{}, {heads} heads x {d}]", segments.rows()),
            ));
        }
    }
    Ok(Sizes {
        segments: segments.clone(),
        heads,
        d,
        m,
        stabiliser,
    })
}

struct Favor {
    sizes: Sizes,
    projection: Tensor,
    /// What the way back needs: a `Saved<f32>` or `Saved<f64>`.
    saved: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// The sums over the keys of each sequence and head, and the maximum of each sequence.
struct Saved<T> {
    sums: Vec<Vec<Sums<T>>>,
    largest: Vec<Largest<T>>,
}

impl Kernel for Favor {
    fn name(&self) -> &'static str {
        "favor_attention"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Lanes>(op: &Favor, args: &[Arg<'_>]) -> candle_core::Result<CpuStorage> {
            let projection = View::new(&op.projection);
            let features = Features::new(&op.sizes, projection.slice::<T>()?);
            let (q, k, v) = (args[0].slice()?, args[1].slice()?, args[2].slice()?);
            let (sums, largest) = keys::key_sums::<T>(&op.sizes, &features, k, Some(v));
            let out = queries::outputs(&op.sizes, &features, q, &sums);
            // Set once only, as this runs once only.
            op.saved.set(Box::new(Saved { sums, largest })).ok();
            Ok(T::to_cpu_storage_owned(out))
        }
        let out = by_dtype!("favor_attention", args[0].dtype(), run(self, args))?;
        Ok((out, (self.sizes.segments.rows(), self.sizes.width()).into()))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn run<T: Lanes>(
            op: &Favor,
            args: &[Tensor],
            output: &Tensor,
            grad: &Tensor,
        ) -> candle_core::Result<Vec<Option<Tensor>>> {
            let saved = op
                .saved
                .get()
                .and_then(|saved| saved.downcast_ref::<Saved<T>>());
            let Some(saved) = saved else {
                return Err(candle_core::Error::msg(
                    "favor_attention was not computed yet",
                ));
            };
            let projection = View::new(&op.projection);
            let views = [&args[0], &args[1], &args[2], output, grad].map(View::new);
            let known = backward::Known {
                sizes: &op.sizes,
                features: &Features::new(&op.sizes, projection.slice::<T>()?),
                queries: views[0].slice()?,
                keys: views[1].slice()?,
                values: views[2].slice()?,
                out: views[3].slice()?,
                grad: views[4].slice()?,
                sums: &saved.sums,
                largest: &saved.largest,
            };
            let grads = backward::backward(&known);
            grads
                .into_iter()
                .map(|g| Ok(Some(kernel::tensor(g, output.shape())?)))
                .collect()
        }
        by_dtype!(
            "favor_attention",
            grad.dtype(),
            run(self, args, output, grad)
        )
    }
}

#[cfg(test)]
mod tests;
