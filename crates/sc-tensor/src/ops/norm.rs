use candle_core::{CpuStorage, D, Shape, Tensor};

use super::composed;
use super::reduce::column_sums_of;
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::simd::vectorised;
use crate::{Error, Result};

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

pub(super) fn wrong(op: &'static str, what: &'static str, t: &Tensor, expected: String) -> Error {
    Error::Shape {
        op,
        what,
        found: t.dims().to_vec(),
        expected,
    }
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
