//! Cross-entropy, and gradients of a minibatch that is gone through in parts.

use candle_core::{DType, Tensor};
use sc_model::{Mode, Params};
use sc_tensor::ops;

use crate::Result;

/// The sum of `-weight log softmax(logits)[target]` over the rows, as a scalar.
pub(super) fn cross_entropy(
    logits: &Tensor,
    targets: &[u32],
    weights: impl Fn(usize) -> f64,
) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let mut chosen = vec![0f64; rows * classes];
    for (i, (row, &target)) in chosen.chunks_exact_mut(classes).zip(targets).enumerate() {
        if let Some(entry) = row.get_mut(target as usize) {
            *entry = -weights(i);
        }
    }
    let chosen =
        Tensor::from_vec(chosen, (rows, classes), logits.device())?.to_dtype(logits.dtype())?;
    Ok((ops::log_softmax(logits)? * chosen)?.sum_all()?)
}

/// How many rows have their largest logit, among the classes allowed, at the target.
pub(super) fn correct(
    logits: &Tensor,
    targets: &[u32],
    allowed: std::ops::Range<usize>,
) -> Result<usize> {
    let rows = logits.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let best = |row: &Vec<f64>| {
        let allowed = row.iter().enumerate().filter(|(j, _)| allowed.contains(j));
        let first = (allowed.clone().map(|(j, _)| j)).next();
        allowed
            .fold((first, f64::NEG_INFINITY), |best, (j, &v)| {
                if v > best.1 { (Some(j), v) } else { best }
            })
            .0
    };
    Ok(rows
        .iter()
        .zip(targets)
        .filter(|(row, target)| best(row) == Some(**target as usize))
        .count())
}

/// A loss that is the sum of the losses of several parts of a minibatch. Each part is computed and differentiated before the
/// next, so that memory holds one at a time; the result is a scalar with the value and the gradients of the sum.
pub(super) struct Parts<'a> {
    params: &'a Params,
    mode: Mode<'a>,
    total: usize,
    value: f64,
    /// Of the only part.
    whole: Option<Tensor>,
    sums: Vec<Option<Tensor>>,
}

impl<'a> Parts<'a> {
    /// A sum of so many parts.
    pub(super) fn new(params: &'a Params, mode: Mode<'a>, total: usize) -> Self {
        Self {
            params,
            mode,
            total,
            value: 0.0,
            whole: None,
            sums: vec![None; params.iter().len()],
        }
    }

    pub(super) fn add(&mut self, loss: Tensor) -> Result<()> {
        self.value += loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if self.total == 1 {
            self.whole = Some(loss);
            return Ok(());
        }
        if !self.mode.tracks() {
            return Ok(());
        }
        let grads = sc_tensor::backward(&loss)?;
        for (p, sum) in self.params.iter().zip(&mut self.sums) {
            if let Some(grad) = grads.get(p.var()) {
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + grad)?.detach(),
                    None => grad.detach(),
                });
            }
        }
        Ok(())
    }

    /// The sum.
    pub(super) fn finish(self) -> Result<Tensor> {
        if let Some(loss) = self.whole {
            return Ok(loss);
        }
        // Linear in the parameters, with the gradients as slopes.
        let mut line = Tensor::zeros((), self.params.dtype(), self.params.device())?;
        for (p, grad) in self.params.iter().zip(&self.sums) {
            if let Some(grad) = grad {
                line = (line + (p.get(&self.mode) * grad)?.sum_all()?)?;
            }
        }
        Ok(((&line - line.detach())? + self.value)?)
    }
}
