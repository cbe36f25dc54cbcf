use candle_core::{DType, Tensor};
use sc_tensor::{Stream, ops};

use crate::{Init, Mode, Param, ParamBuilder, Result};

/// Batch normalisation over rows (Ioffe & Szegedy 2015) with PyTorch's meaning of momentum:
/// `running = (1 - momentum) running + momentum batch`, where the batch variance that is folded in is unbiased and the
/// one that normalises is not.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Param,
    bias: Param,
    running_mean: Param,
    running_var: Param,
    num_batches_tracked: Param,
    momentum: f64,
    eps: f64,
}

impl BatchNorm {
    /// For `n` features.
    ///
    /// # Errors
    /// If the names are taken.
    pub fn new(p: &ParamBuilder<'_>, n: usize, momentum: f64, eps: f64) -> Result<Self> {
        let dtype = p.dtype();
        Ok(Self {
            weight: p.param("weight", n, Init::Const(1.0))?,
            bias: p.param("bias", n, Init::Const(0.0))?,
            running_mean: p.buffer("running_mean", n, 0.0, dtype)?,
            running_var: p.buffer("running_var", n, 1.0, dtype)?,
            num_batches_tracked: p.buffer("num_batches_tracked", (), 0.0, DType::I64)?,
            momentum,
            eps,
        })
    }

    /// `[N, n] -> [N, n]`. Training normalises by the minibatch and updates the running statistics, unless those are frozen
    /// ([`Param::set_trainable`] of the buffers).
    ///
    /// # Errors
    /// If the shapes do not fit, or a training minibatch has one row (its variance is unknown).
    pub fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(mode), self.bias.get(mode));
        if !mode.uses_batch_statistics(self.is_frozen()) {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return Ok(ops::batch_norm_eval(x, weight, bias, mean, var, self.eps)?);
        }
        let rows = enough(x)?;
        let (y, mean, var) = ops::batch_norm_train(x, weight, bias, self.eps)?;
        self.note(rows, &mean, &var)?;
        Ok(y)
    }

    /// [`BatchNorm::forward`], then a rectifier, then dropout where training drops units; in one pass where that can be.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`].
    pub fn forward_relu(
        &self,
        x: &Tensor,
        mode: &Mode<'_>,
        dropout: Option<(f64, &mut Stream)>,
    ) -> Result<Tensor> {
        if !mode.uses_batch_statistics(self.is_frozen()) {
            let y = self.forward(x, mode)?;
            return Ok(match dropout {
                Some((rate, stream)) => ops::relu_dropout(&y, rate, stream)?,
                None => ops::relu(&y)?,
            });
        }
        let (weight, bias) = (self.weight.get(mode), self.bias.get(mode));
        let rows = enough(x)?;
        let (y, mean, var) = ops::batch_norm_relu(x, weight, bias, self.eps, dropout)?;
        self.note(rows, &mean, &var)?;
        Ok(y)
    }

    /// Whether the running statistics stay as they are.
    fn is_frozen(&self) -> bool {
        !self.running_mean.is_updated()
    }

    /// Folds the statistics of a minibatch into the running ones, unless these are frozen.
    fn note(&self, rows: usize, mean: &Tensor, var: &Tensor) -> Result<()> {
        if self.is_frozen() {
            return Ok(());
        }
        let unbiased = (var * (rows as f64 / (rows as f64 - 1.0)))?;
        self.fold(&self.running_mean, mean)?;
        self.fold(&self.running_var, &unbiased)?;
        let count = (self.num_batches_tracked.value() + 1.0)?;
        Ok(self.num_batches_tracked.var().set(&count)?)
    }

    fn fold(&self, running: &Param, batch: &Tensor) -> Result<()> {
        let kept = (running.value() * (1.0 - self.momentum))?;
        Ok(running.var().set(&(kept + (batch * self.momentum)?)?)?)
    }

    /// The scale `weight / sqrt(running_var + eps)` that it applies at inference.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn scale(&self) -> Result<Tensor> {
        Ok((self.weight.value() / (self.running_var.value() + self.eps)?.sqrt()?)?)
    }
}

/// The rows of a minibatch, if they have a variance.
fn enough(x: &Tensor) -> Result<usize> {
    let rows = x.dim(0)?;
    if rows < 2 {
        return Err(crate::Error::TooFewCells {
            what: "a training minibatch with batch normalisation".into(),
            found: rows,
            needed: 2,
        });
    }
    Ok(rows)
}
