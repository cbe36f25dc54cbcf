use candle_core::{CpuStorage, D, Shape, Tensor};

use super::composed;
use super::reduce::{by_columns, column_sums_of};
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::simd::vectorised;
use crate::{Error, Result};

/// Batch norm while training: `y = gamma (x - mean) / sqrt(var + eps) + beta` with the statistics of the batch.
///
/// `x` is `[N, H]`, `gamma` and `beta` are `[H]`. Returns `(y, mean, var)`; `mean` and the *biased* `var` (divided by
/// `N`) are `[H]`, outside of the graph, for running statistics. (torch folds the unbiased variance,
/// `var * N / (N - 1)`, into its running variance.) The gradient takes into account that the statistics depend on `x`
/// (Ioffe and Szegedy 2015).
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit or there is no row.
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
    let x = x.contiguous()?;
    let (mean, var) = by_dtype!("batch_norm", x.dtype(), column_moments(&x, h))?;
    let mean_out = Tensor::new(mean.as_slice(), x.device())?.to_dtype(x.dtype())?;
    let var_out = Tensor::new(var.as_slice(), x.device())?.to_dtype(x.dtype())?;
    let op = BatchNorm {
        inv_std: var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect(),
        mean,
        of_batch: true,
    };
    Ok((kernel::apply(op, &[&x, gamma, beta])?, mean_out, var_out))
}

/// Batch norm after training: `y = gamma (x - mean) / sqrt(var + eps) + beta` with given statistics, all `[H]`.
///
/// Differentiable in `x`, `gamma` and `beta`; the statistics are constants.
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit.
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
    };
    Ok(kernel::apply(op, &[x, gamma, beta])?)
}

/// Layer norm: `y = weight (x - mean) / sqrt(var + eps) + bias`, the biased moments over the last axis.
///
/// `x` is `[.., H]`, `weight` and `bias` are `[H]`; without them they are 1 and 0 (Ba, Kiros, Hinton 2016).
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit.
pub fn layer_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let h = match x.dims().last() {
        Some(&h) if h > 0 => h,
        _ => return Err(wrong("layer_norm", "x", x, "[.., features]".into())),
    };
    for t in [weight, bias].into_iter().flatten() {
        if t.dims() != [h] {
            return Err(wrong(
                "layer_norm",
                "an affine parameter",
                t,
                format!("[{h}]"),
            ));
        }
    }
    if !composed::fusible(&[x]) {
        return composed::layer_norm(x, weight, bias, eps);
    }
    let op = LayerNorm {
        eps,
        weight: weight.is_some(),
    };
    let mut args = vec![x];
    args.extend(weight);
    args.extend(bias);
    Ok(kernel::apply(op, &args)?)
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

fn wrong(op: &'static str, what: &'static str, t: &Tensor, expected: String) -> Error {
    Error::Shape {
        op,
        what,
        found: t.dims().to_vec(),
        expected,
    }
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

struct BatchNorm {
    mean: Vec<f64>,
    inv_std: Vec<f64>,
    /// Whether mean and deviation are functions of the input.
    of_batch: bool,
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
            let mut y = vec![T::ZERO; x.len()];
            kernel::for_rows(&mut y, h, |i, y| {
                let x = &x[i * h..][..h];
                vectorised(|| {
                    for j in 0..h {
                        y[j] = (x[j] - mean[j]) * inv_std[j] * gamma[j] + beta[j];
                    }
                });
            });
            Ok((T::to_cpu_storage_owned(y), args[0].dims().into()))
        }
        by_dtype!("batch_norm", args[0].dtype(), run(self, args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        by_dtype!(
            "batch_norm",
            grad.dtype(),
            batch_norm_gradients(self, args, grad)
        )
    }
}

impl BatchNorm {
    fn rounded<T: Real>(&self, v: &[f64]) -> Vec<T> {
        v.iter().map(|&v| T::from_f64(v)).collect()
    }
}

/// With `h = (x - mean) / std`: `d gamma = sum g h`, `d beta = sum g`, and
/// `dx = gamma / std (g - mean(g) - h mean(g h))`, where the means drop out if the statistics are constants.
fn batch_norm_gradients<T: Real>(
    op: &BatchNorm,
    args: &[Tensor],
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let (n, h) = args[0].dims2()?;
    let (xv, gammav, gv) = (View::new(&args[0]), View::new(&args[1]), View::new(grad));
    let (x, gamma, g) = (xv.slice::<T>()?, gammav.slice::<T>()?, gv.slice::<T>()?);
    // Per column: the sums of g and of g h.
    let mut sums = vec![[0f64; 2]; h];
    by_columns(2 * x.len(), &mut sums, |(k, sums)| {
        let first = k * super::reduce::COLUMNS;
        let (mean, inv_std) = (&op.mean[first..], &op.inv_std[first..]);
        vectorised(|| {
            for i in 0..n {
                let (x, g) = (&x[i * h + first..], &g[i * h + first..]);
                for (j, sum) in sums.iter_mut().enumerate() {
                    let g = g[j].to_f64();
                    sum[0] += g;
                    sum[1] += g * ((x[j].to_f64() - mean[j]) * inv_std[j]);
                }
            }
        });
    });
    let column = |which: usize, scale: f64| -> Vec<T> {
        sums.iter().map(|s| T::from_f64(s[which] * scale)).collect()
    };
    let share = if op.of_batch { 1.0 / n as f64 } else { 0.0 };
    let (mean_g, mean_gh) = (column(0, share), column(1, share));
    let (mean, inv_std) = (op.rounded::<T>(&op.mean), op.rounded::<T>(&op.inv_std));
    let mut dx = vec![T::ZERO; x.len()];
    kernel::for_rows(&mut dx, h, |i, dx| {
        let (x, g) = (&x[i * h..][..h], &g[i * h..][..h]);
        vectorised(|| {
            for j in 0..h {
                let normed = (x[j] - mean[j]) * inv_std[j];
                dx[j] = gamma[j] * inv_std[j] * (g[j] - mean_g[j] - normed * mean_gh[j]);
            }
        });
    });
    Ok(vec![
        Some(kernel::tensor(dx, (n, h))?),
        Some(kernel::tensor(column(1, 1.0), h)?),
        Some(kernel::tensor(column(0, 1.0), h)?),
    ])
}

struct LayerNorm {
    eps: f64,
    /// Whether the second argument is a weight.
    weight: bool,
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(
            op: &LayerNorm,
            args: &[Arg<'_>],
        ) -> candle_core::Result<(CpuStorage, Shape)> {
            let x = args[0].slice::<T>()?;
            let h = args[0].dims().last().copied().unwrap_or(1);
            let weight = match op.weight {
                true => args[1].slice::<T>()?.to_vec(),
                false => vec![T::ONE; h],
            };
            let bias = match args.get(1 + usize::from(op.weight)) {
                Some(b) => b.slice::<T>()?.to_vec(),
                None => vec![T::ZERO; h],
            };
            let mut y = vec![T::ZERO; x.len()];
            kernel::for_rows(&mut y, h, |i, y| {
                let x = &x[i * h..][..h];
                vectorised(|| {
                    let (mean, inv_std) = op.moments(x);
                    for j in 0..h {
                        y[j] = (x[j] - mean) * inv_std * weight[j] + bias[j];
                    }
                });
            });
            Ok((T::to_cpu_storage_owned(y), args[0].dims().into()))
        }
        by_dtype!("layer_norm", args[0].dtype(), run(self, args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        by_dtype!(
            "layer_norm",
            grad.dtype(),
            layer_norm_gradients(self, args, needs, grad)
        )
    }
}

impl LayerNorm {
    /// Mean and `1 / sqrt(var + eps)` of a row.
    #[inline(always)]
    fn moments<T: Real>(&self, x: &[T]) -> (T, T) {
        use crate::simd::reduce;
        let n = T::from_f64(1.0 / x.len() as f64);
        let mean = reduce(x.len(), |j| x[j]) * n;
        let var = reduce(x.len(), |j| (x[j] - mean) * (x[j] - mean)) * n;
        (mean, T::ONE / (var + T::from_f64(self.eps)).sqrt())
    }
}

/// As for batch norm, with the means over the row: `dx = (u - mean(u) - h mean(u h)) / std` with `u = g weight`.
fn layer_norm_gradients<T: Real>(
    op: &LayerNorm,
    args: &[Tensor],
    needs: &[bool],
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    use crate::simd::reduce;
    let h = args[0].dim(D::Minus1)?;
    let (xv, gv) = (View::new(&args[0]), View::new(grad));
    let (x, g) = (xv.slice::<T>()?, gv.slice::<T>()?);
    let weight = match op.weight {
        true => View::new(&args[1]).slice::<T>()?.to_vec(),
        false => vec![T::ONE; h],
    };
    let share = T::from_f64(1.0 / h as f64);
    let mut dx = vec![T::ZERO; x.len()];
    kernel::for_rows(&mut dx, h, |i, dx| {
        let (x, g) = (&x[i * h..][..h], &g[i * h..][..h]);
        vectorised(|| {
            let (mean, inv_std) = op.moments(x);
            let mean_u = reduce(h, |j| g[j] * weight[j]) * share;
            let mean_uh = reduce(h, |j| g[j] * weight[j] * ((x[j] - mean) * inv_std)) * share;
            for j in 0..h {
                let normed = (x[j] - mean) * inv_std;
                dx[j] = (g[j] * weight[j] - mean_u - normed * mean_uh) * inv_std;
            }
        });
    });
    let mut grads = vec![Some(kernel::tensor(dx, args[0].shape())?)];
    if op.weight {
        grads.push(match needs[1] {
            true => Some(layer_norm_weight_gradient(op, x, g, h)?),
            false => None,
        });
    }
    if needs.len() > grads.len() {
        let sums = column_sums_of(g, h, |_, v| v.to_f64());
        grads.push(Some(kernel::tensor::<T>(
            sums.into_iter().map(T::from_f64).collect(),
            h,
        )?));
    }
    Ok(grads)
}

/// `d weight = sum over rows of g h`.
fn layer_norm_weight_gradient<T: Real>(
    op: &LayerNorm,
    x: &[T],
    g: &[T],
    h: usize,
) -> candle_core::Result<Tensor> {
    let mut products = vec![T::ZERO; x.len()];
    kernel::for_rows(&mut products, h, |i, out| {
        let (x, g) = (&x[i * h..][..h], &g[i * h..][..h]);
        vectorised(|| {
            let (mean, inv_std) = op.moments(x);
            for j in 0..h {
                out[j] = g[j] * ((x[j] - mean) * inv_std);
            }
        });
    });
    let sums = column_sums_of(&products, h, |_, v| v.to_f64());
    kernel::tensor::<T>(sums.into_iter().map(T::from_f64).collect(), h)
}

#[cfg(test)]
#[path = "norm_tests.rs"]
mod tests;
