//! Layer norm, alone and behind a residual sum: `y = LN(x + dropout(branch))` in one pass, as the layers of transformers
//! have it.

use std::sync::OnceLock;

use candle_core::{CpuStorage, D, Shape, Tensor};
use rayon::prelude::*;

use super::activation::{Mask, check_p};
use super::composed;
use crate::kernel::{self, Arg, Kernel, PARALLEL_FROM, Real, View, by_dtype};
use crate::pool::{self, Pooled};
use crate::simd::{sum_of, vectorised};
use crate::{Error, Result, Stream};

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
    check(x, weight, bias)?;
    if !composed::fusible(&[x]) {
        return composed::layer_norm(x, weight, bias, eps);
    }
    run(x, None, weight, bias, eps)
}

/// [`layer_norm`] of a residual sum: of `x + branch`, or of `x + dropout(branch)` with `dropout` `(p, stream)`.
///
/// One pass forward and one back, and the sum is not kept.
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit, [`Error::Value`] unless `0 <= p < 1`.
pub fn add_layer_norm(
    x: &Tensor,
    branch: &Tensor,
    dropout: Option<(f64, &mut Stream)>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    check(x, weight, bias)?;
    if branch.dims() != x.dims() {
        let expected = format!("{:?}, as x", x.dims());
        return Err(wrong("add_layer_norm", "the branch", branch, expected));
    }
    if let Some((p, _)) = &dropout {
        check_p(*p)?;
    }
    if !composed::fusible(&[x, branch]) {
        let branch = match dropout {
            Some((p, stream)) => super::dropout(branch, p, stream)?,
            None => branch.clone(),
        };
        return composed::layer_norm(&(x + branch)?, weight, bias, eps);
    }
    let mask = dropout.and_then(|(p, stream)| Mask::draw(p, x.elem_count(), stream));
    run(x, Some((branch, mask)), weight, bias, eps)
}

fn check(x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<()> {
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
    Ok(())
}

fn run(
    x: &Tensor,
    branch: Option<(&Tensor, Option<Mask>)>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let mut args = vec![x];
    let mut op = LayerNorm {
        eps,
        branch: branch.is_some(),
        mask: None,
        weight: weight.is_some(),
        moments: OnceLock::new(),
    };
    if let Some((branch, mask)) = branch {
        args.push(branch);
        op.mask = mask;
    }
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

/// Rows of a task: a fixed number, so that the sums over rows have a fixed order.
const ROWS: usize = 16;

struct LayerNorm {
    eps: f64,
    /// Whether the second argument is added to the first, and what dropout leaves of it.
    branch: bool,
    mask: Option<Mask>,
    /// Whether the next argument is a weight.
    weight: bool,
    /// Mean and `1 / sqrt(var + eps)` of each row, for the way back.
    moments: OnceLock<CpuStorage>,
}

/// The arguments.
struct Numbers<'a, T> {
    x: &'a [T],
    branch: Option<&'a [T]>,
    mask: Option<&'a Mask>,
    h: usize,
}

impl<T: Real> Numbers<'_, T> {
    /// Writes row `i` of the sum.
    #[inline(always)]
    fn sum(&self, i: usize, out: &mut [T]) {
        let h = self.h;
        let x = &self.x[i * h..][..h];
        match (self.branch, self.mask) {
            (None, _) => out.copy_from_slice(x),
            (Some(branch), None) => {
                let b = &branch[i * h..][..h];
                for j in 0..h {
                    out[j] = x[j] + b[j];
                }
            }
            (Some(branch), Some(mask)) => {
                let (b, keep) = (&branch[i * h..][..h], &mask.keep[i * h..][..h]);
                let scale = T::from_f64(mask.scale);
                for j in 0..h {
                    out[j] = x[j] + if keep[j] == 0 { T::ZERO } else { b[j] * scale };
                }
            }
        }
    }
}

impl Kernel for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = by_dtype!("layer_norm", args[0].dtype(), forward(self, args))?;
        Ok((y, args[0].dims().into()))
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
            gradients(self, args, needs, grad)
        )
    }

    fn gradients_are_new(&self) -> bool {
        // Without dropout, both terms of the sum have one gradient.
        !self.branch || self.mask.is_some()
    }
}

impl LayerNorm {
    /// Where the weight and the bias are among the arguments.
    fn affine(&self) -> (Option<usize>, usize) {
        let first = 1 + usize::from(self.branch);
        (
            self.weight.then_some(first),
            first + usize::from(self.weight),
        )
    }
}

fn forward<T: Pooled>(op: &LayerNorm, args: &[Arg<'_>]) -> candle_core::Result<CpuStorage> {
    let h = args[0].dims().last().copied().unwrap_or(1);
    let x = Numbers {
        x: args[0].slice::<T>()?,
        branch: match op.branch {
            true => Some(args[1].slice::<T>()?),
            false => None,
        },
        mask: op.mask.as_ref(),
        h,
    };
    let (weight, bias) = op.affine();
    let weight = match weight {
        Some(at) => args[at].slice::<T>()?.to_vec(),
        None => vec![T::ONE; h],
    };
    let bias = match args.get(bias) {
        Some(b) => b.slice::<T>()?.to_vec(),
        None => vec![T::ZERO; h],
    };
    let (weight, bias) = (&weight[..], &bias[..]);
    let mut y = pool::take(x.x.len());
    let mut moments = vec![[T::ZERO; 2]; x.x.len() / h];
    let block = |(k, (y, moments)): (usize, (&mut [T], &mut [[T; 2]]))| {
        vectorised(
            #[inline(always)]
            || {
                for (r, (y, moments)) in y.chunks_exact_mut(h).zip(moments).enumerate() {
                    x.sum(k * ROWS + r, y);
                    let [mean, inv_std] = row_moments(y, op.eps);
                    *moments = [mean, inv_std];
                    for j in 0..h {
                        y[j] = (y[j] - mean) * inv_std * weight[j] + bias[j];
                    }
                }
            },
        );
    };
    if y.len() < PARALLEL_FROM {
        let parts = y.chunks_mut(ROWS * h).zip(moments.chunks_mut(ROWS));
        parts.enumerate().for_each(block);
    } else {
        let parts = y.par_chunks_mut(ROWS * h).zip(moments.par_chunks_mut(ROWS));
        parts.enumerate().for_each(block);
    }
    let moments = moments.into_iter().flatten().collect();
    // Set once only, as this runs once only.
    op.moments.set(T::to_cpu_storage_owned(moments)).ok();
    Ok(T::to_cpu_storage_owned(y))
}

/// Mean and `1 / sqrt(var + eps)` of a row.
#[inline(always)]
fn row_moments<T: Real>(x: &[T], eps: f64) -> [T; 2] {
    let n = T::from_f64(1.0 / x.len() as f64);
    let mean = sum_of(
        [x],
        #[inline(always)]
        |[x]| x,
    ) * n;
    let var = sum_of(
        [x],
        #[inline(always)]
        |[x]| (x - mean) * (x - mean),
    ) * n;
    [mean, T::ONE / (var + T::from_f64(eps)).sqrt()]
}

/// As for batch norm, with the means over the row: `dx = (u - mean(u) - h mean(u h)) / std` with `u = g weight`, and
/// `d weight = sum over rows of g h`, `d bias = sum of g`.
fn gradients<T: Pooled>(
    op: &LayerNorm,
    args: &[Tensor],
    needs: &[bool],
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let h = args[0].dim(D::Minus1)?;
    let views: Vec<View<'_>> = args.iter().map(View::new).collect();
    let gv = View::new(grad);
    let g = gv.slice::<T>()?;
    let x = Numbers {
        x: views[0].slice::<T>()?,
        branch: match op.branch {
            true => Some(views[1].slice::<T>()?),
            false => None,
        },
        mask: op.mask.as_ref(),
        h,
    };
    let (weight_at, bias_at) = op.affine();
    let weight = match weight_at {
        Some(at) => views[at].slice::<T>()?.to_vec(),
        None => vec![T::ONE; h],
    };
    let moments = match op.moments.get() {
        Some(moments) => T::cpu_storage_as_slice(moments)?,
        None => {
            return Err(candle_core::Error::msg("layer_norm was not computed yet"));
        }
    };
    let (weight, moments) = (&weight[..], moments.as_chunks::<2>().0);
    let mut dx = pool::take(x.x.len());
    let share = T::from_f64(1.0 / h as f64);
    // Per block of rows, the sums of `g h` and of `g`.
    let mut sums = vec![T::ZERO; moments.len().div_ceil(ROWS) * 2 * h];
    let block = |(k, (dx, sums)): (usize, (&mut [T], &mut [T]))| {
        let (of_weight, of_bias) = sums.split_at_mut(h);
        vectorised(
            #[inline(always)]
            || {
                for (r, dx) in dx.chunks_exact_mut(h).enumerate() {
                    let i = k * ROWS + r;
                    let [mean, inv_std] = moments[i];
                    let g = &g[i * h..][..h];
                    x.sum(i, dx);
                    for j in 0..h {
                        dx[j] = (dx[j] - mean) * inv_std;
                        of_weight[j] += g[j] * dx[j];
                        of_bias[j] += g[j];
                    }
                    let mean_u = sum_of(
                        [g, weight],
                        #[inline(always)]
                        |[g, w]| g * w,
                    ) * share;
                    let mean_uh = sum_of(
                        [g, weight, &*dx],
                        #[inline(always)]
                        |[g, w, h]| g * w * h,
                    ) * share;
                    for j in 0..h {
                        dx[j] = (g[j] * weight[j] - mean_u - dx[j] * mean_uh) * inv_std;
                    }
                }
            },
        );
    };
    if dx.len() < PARALLEL_FROM {
        let parts = dx.chunks_mut(ROWS * h).zip(sums.chunks_mut(2 * h));
        parts.enumerate().for_each(block);
    } else {
        let parts = dx.par_chunks_mut(ROWS * h).zip(sums.par_chunks_mut(2 * h));
        parts.enumerate().for_each(block);
    }
    let mut grads = vec![None; args.len()];
    let branch = match &op.mask {
        Some(mask) if op.branch => Some(kernel::tensor(mask.apply(&dx), args[0].shape())?),
        _ => None,
    };
    let dx = kernel::tensor(dx, args[0].shape())?;
    if op.branch {
        grads[1] = Some(branch.unwrap_or_else(|| dx.clone()));
    }
    grads[0] = Some(dx);
    let total = |from: usize| -> candle_core::Result<Tensor> {
        let mut totals = vec![0f64; h];
        for sums in sums.chunks_exact(2 * h) {
            for (total, sum) in totals.iter_mut().zip(&sums[from..]) {
                *total += sum.to_f64();
            }
        }
        kernel::tensor::<T>(totals.into_iter().map(T::from_f64).collect(), h)
    };
    if let Some(at) = weight_at
        && needs[at]
    {
        grads[at] = Some(total(0)?);
    }
    if needs.get(bias_at) == Some(&true) {
        grads[bias_at] = Some(total(h)?);
    }
    Ok(grads)
}

#[cfg(test)]
#[path = "norm_tests.rs"]
mod tests;
