mod gradients;
mod rows;
#[cfg(test)]
mod tests;

use candle_core::{CpuStorage, Shape, Tensor};
use pulp::Arch;

use super::composed;
use super::norm::wrong;
use super::reduce::column_sums_of;
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::{Result, Stream};
use gradients::{gradients_gated, gradients_plain};
use rows::{Close, Norm};

/// Batch norm while training: `y = gamma (x - mean) / sqrt(var + eps) + beta` with the statistics of the batch.
///
/// `x` is `[N, H]`, `gamma` and `beta` are `[H]`. Returns `(y, mean, var)`; `mean` and the *biased* `var` (divided by
/// `N`) are `[H]`, outside of the graph, for running statistics. (torch folds the unbiased variance,
/// `var * N / (N - 1)`, into its running variance.) The gradient takes into account that the statistics depend on `x`
/// (Ioffe and Szegedy 2015).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit or there is no row.
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, h) = check_batch(x, gamma, beta)?;
    if n == 0 {
        return Err(wrong("batch_norm", "x", x, "at least one row".into()));
    }
    if !composed::fusible(&[x, gamma, beta]) {
        return composed::batch_norm_train(x, gamma, beta, eps);
    }
    of_batch((x, gamma, beta), h, eps, None)
}

/// [`batch_norm_train`], then [`relu`](super::relu()), then [`dropout`](super::dropout) with the probability and the stream
/// given, in one pass over the data on the way and in two on the way back: the same bits as one after the other.
///
/// # Errors
/// Those of the three.
pub fn batch_norm_relu(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    dropout: Option<(f64, &mut Stream)>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, h) = check_batch(x, gamma, beta)?;
    if n == 0 || !composed::fusible(&[x, gamma, beta]) {
        let (y, mean, var) = batch_norm_train(x, gamma, beta, eps)?;
        let y = match dropout {
            Some((p, stream)) => super::relu_dropout(&y, p, stream)?,
            None => super::relu(&y)?,
        };
        return Ok((y, mean, var));
    }
    let mut gate = Gate {
        keep: Vec::new(),
        scale: 1.0,
    };
    if let Some((p, stream)) = dropout {
        super::activation::check_p(p)?;
        if p > 0.0 {
            gate.scale = 1.0 / (1.0 - p);
            gate.keep = vec![0; n * h];
            stream.fill_bernoulli(1.0 - p, &mut gate.keep);
        }
    }
    of_batch((x, gamma, beta), h, eps, Some(gate))
}

fn of_batch(
    (x, gamma, beta): (&Tensor, &Tensor, &Tensor),
    h: usize,
    eps: f64,
    gate: Option<Gate>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let x = x.contiguous()?;
    let (mean, var) = by_dtype!("batch_norm", x.dtype(), column_moments(&x, h))?;
    let mean_out = Tensor::new(mean.as_slice(), x.device())?.to_dtype(x.dtype())?;
    let var_out = Tensor::new(var.as_slice(), x.device())?.to_dtype(x.dtype())?;
    let op = BatchNorm {
        inv_std: var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect(),
        mean,
        of_batch: true,
        gate,
    };
    Ok((kernel::apply(op, &[&x, gamma, beta])?, mean_out, var_out))
}

/// Batch norm after training: `y = gamma (x - mean) / sqrt(var + eps) + beta` with given statistics, all `[H]`.
///
/// Differentiable in `x`, `gamma` and `beta`; the statistics are constants.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if the shapes don't fit.
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let (_, h) = check_batch(x, gamma, beta)?;
    for (what, t) in [("the running mean", mean), ("the running variance", var)] {
        if t.dims() != [h] {
            return Err(wrong("batch_norm", what, t, format!("[{h}]")));
        }
    }
    if !composed::fusible(&[x, gamma, beta]) {
        return composed::batch_norm_eval(x, gamma, beta, mean, var, eps);
    }
    let numbers = |t: &Tensor| t.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>();
    let op = BatchNorm {
        mean: numbers(mean)?,
        inv_std: numbers(var)?
            .iter()
            .map(|v| 1.0 / (v + eps).sqrt())
            .collect(),
        of_batch: false,
        gate: None,
    };
    Ok(kernel::apply(op, &[x, gamma, beta])?)
}

fn check_batch(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<(usize, usize)> {
    let &[n, h] = x.dims() else {
        return Err(wrong("batch_norm", "x", x, "[cells, features]".into()));
    };
    for (what, t) in [("gamma", gamma), ("beta", beta)] {
        if t.dims() != [h] {
            return Err(wrong("batch_norm", what, t, format!("[{h}]")));
        }
    }
    Ok((n, h))
}

/// Mean and biased variance of each column, in two passes and in `f64`.
fn column_moments<T: Real>(x: &Tensor, h: usize) -> candle_core::Result<(Vec<f64>, Vec<f64>)> {
    let view = View::new(x);
    let xs = view.slice::<T>()?;
    let n = (xs.len() / h.max(1)).max(1) as f64;
    let mut mean = column_sums_of(xs, h, |_, v| v.to_f64());
    mean.iter_mut().for_each(|m| *m /= n);
    let mut var = column_sums_of(xs, h, |j, v| {
        let d = v.to_f64() - mean[j];
        d * d
    });
    var.iter_mut().for_each(|v| *v /= n);
    Ok((mean, var))
}

/// What lets a number through after the norm: it must be positive, and kept by dropout if there is one.
struct Gate {
    /// Empty without dropout.
    keep: Vec<u8>,
    scale: f64,
}

struct BatchNorm {
    mean: Vec<f64>,
    inv_std: Vec<f64>,
    /// Whether mean and deviation are functions of the input.
    of_batch: bool,
    gate: Option<Gate>,
}

impl Kernel for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(
            op: &BatchNorm,
            args: &[Arg<'_>],
        ) -> candle_core::Result<(CpuStorage, Shape)> {
            let (x, gamma, beta) = (
                args[0].slice::<T>()?,
                args[1].slice::<T>()?,
                args[2].slice::<T>()?,
            );
            let h = op.mean.len();
            let (mean, inv_std) = (op.rounded::<T>(&op.mean), op.rounded::<T>(&op.inv_std));
            let scale = op.scale();
            let mut y = vec![T::ZERO; x.len()];
            kernel::for_rows(&mut y, h, |i, y| {
                let norm = Norm {
                    y: &mut *y,
                    x: &x[i * h..][..h],
                    mean: &mean[..h],
                    inv_std: &inv_std[..h],
                    gamma: &gamma[..h],
                    beta: &beta[..h],
                };
                Arch::new().dispatch(norm);
                if op.gate.is_some() {
                    Arch::new().dispatch(Close {
                        y,
                        keep: op.keep(i * h, h),
                        scale,
                    });
                }
            });
            Ok((T::to_cpu_storage_owned(y), args[0].dims().into()))
        }
        by_dtype!("batch_norm", args[0].dtype(), run(self, args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        match self.gate {
            Some(_) => by_dtype!(
                "batch_norm",
                grad.dtype(),
                gradients_gated(self, args, output, grad)
            ),
            None => by_dtype!(
                "batch_norm",
                grad.dtype(),
                gradients_plain(self, args, grad)
            ),
        }
    }
}

impl BatchNorm {
    fn rounded<T: Real>(&self, v: &[f64]) -> Vec<T> {
        v.iter().map(|&v| T::from_f64(v)).collect()
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64(self.gate.as_ref().map_or(1.0, |g| g.scale))
    }

    /// The mask of `len` numbers from `at`, if there is dropout.
    fn keep(&self, at: usize, len: usize) -> Option<&[u8]> {
        let keep = &self.gate.as_ref()?.keep;
        keep.get(at..at + len)
    }
}
