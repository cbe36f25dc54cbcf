use candle_core::{CpuStorage, D, Shape, Tensor};

use super::composed;
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::math;
use crate::simd::{maximum, reduce, vectorised};
use crate::{Error, Result};

/// The sum over the first axis: `[N, ..]` to `[..]`.
///
/// Adds in a fixed order, in `f64`, many times faster than candle's sum over an axis that isn't the last.
///
/// # Errors
/// [`Error::Shape`] for a scalar.
pub fn sum_rows(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        return Err(Error::Shape {
            op: "sum_rows",
            what: "the input",
            found: vec![],
            expected: "at least one axis".into(),
        });
    }
    if !composed::fusible(&[x]) {
        return composed::sum_rows(x);
    }
    Ok(kernel::apply(SumRows, &[x])?)
}

/// `exp(x) / sum exp(x)` over the last axis.
///
/// # Errors
/// [`Error::Shape`] for a scalar.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    over_rows(x, RowOp::Softmax, composed::softmax)
}

/// `x - log sum exp(x)` over the last axis: the logarithm of [`softmax`], exact where that underflows.
///
/// # Errors
/// [`Error::Shape`] for a scalar.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    over_rows(x, RowOp::LogSoftmax, composed::log_softmax)
}

/// `log sum exp(x)` over the last axis, which disappears: `[.., K]` to `[..]`.
///
/// A row of minus infinities gives minus infinity.
///
/// # Errors
/// [`Error::Shape`] for a scalar.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    over_rows(x, RowOp::LogSumExp, composed::log_sum_exp)
}

fn over_rows(x: &Tensor, op: RowOp, twin: fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if x.rank() == 0 || x.dim(D::Minus1)? == 0 {
        return Err(Error::Shape {
            op: op.name(),
            what: "the input",
            found: x.dims().to_vec(),
            expected: "a last axis with at least one element".into(),
        });
    }
    if !composed::fusible(&[x]) {
        return twin(x);
    }
    Ok(kernel::apply(op, &[x])?)
}

struct SumRows;

impl Kernel for SumRows {
    fn name(&self) -> &'static str {
        "sum_rows"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: &Arg<'_>) -> candle_core::Result<(CpuStorage, Shape)> {
            let rest = &x.dims()[1..];
            let sums = column_sums(x.slice::<T>()?, rest.iter().product());
            Ok((T::to_cpu_storage_owned(sums), rest.into()))
        }
        by_dtype!("sum_rows", args[0].dtype(), run(&args[0]))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(grad.broadcast_as(args[0].shape())?)])
    }
}

/// The sums of the columns of a matrix, outside of any graph.
pub(super) fn sum_rows_kernel<T: Real>(x: &Tensor) -> candle_core::Result<Tensor> {
    let (_, width) = x.dims2()?;
    let view = View::new(x);
    kernel::tensor(column_sums(view.slice::<T>()?, width), width)
}

/// The sums of the columns of `width` numbers.
pub(super) fn column_sums<T: Real>(x: &[T], width: usize) -> Vec<T> {
    column_sums_of(
        x,
        width,
        #[inline(always)]
        |_, v| v.to_f64(),
    )
    .into_iter()
    .map(T::from_f64)
    .collect()
}

/// `out[j] = sum over rows i of f(j, x[i, j])`, rows in ascending order, columns in parallel.
pub(super) fn column_sums_of<T: Real>(
    x: &[T],
    width: usize,
    f: impl Fn(usize, T) -> f64 + Sync,
) -> Vec<f64> {
    let mut sums = vec![0f64; width];
    if width == 0 {
        return sums;
    }
    let block = |(k, sums): (usize, &mut [f64])| {
        let first = k * COLUMNS;
        vectorised(
            #[inline(always)]
            || {
                for row in x.chunks_exact(width) {
                    let part = &row[first..first + sums.len()];
                    for (j, (sum, &v)) in sums.iter_mut().zip(part).enumerate() {
                        *sum += f(first + j, v);
                    }
                }
            },
        );
    };
    by_columns(x.len(), &mut sums, block);
    sums
}

/// Columns per task of a reduction over rows.
pub(super) const COLUMNS: usize = 64;

/// Runs `block(k, part)` for all parts of `COLUMNS` columns, in parallel where `work` says that it pays.
pub(super) fn by_columns<T: Send>(
    work: usize,
    columns: &mut [T],
    block: impl Fn((usize, &mut [T])) + Sync + Send,
) {
    use rayon::prelude::*;
    if work < 2 * kernel::PARALLEL_FROM {
        columns.chunks_mut(COLUMNS).enumerate().for_each(block);
    } else {
        columns.par_chunks_mut(COLUMNS).enumerate().for_each(block);
    }
}

#[derive(Clone, Copy)]
enum RowOp {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

impl Kernel for RowOp {
    fn name(&self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::LogSoftmax => "log_softmax",
            Self::LogSumExp => "log_sum_exp",
        }
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(op: RowOp, x: &Arg<'_>) -> candle_core::Result<(CpuStorage, Shape)> {
            let dims = x.dims();
            let width = dims.last().copied().unwrap_or(1);
            let x = x.slice::<T>()?;
            let out_width = op.out_width(width);
            let mut out = vec![T::ZERO; x.len() / width * out_width];
            let parallel_as = (x.len() / out.len().max(1)).max(1);
            rows_weighted(&mut out, out_width, parallel_as, |i, out| {
                vectorised(|| op.forward_row(&x[i * width..][..width], out));
            });
            let shape = match op {
                RowOp::LogSumExp => dims[..dims.len() - 1].into(),
                _ => dims.into(),
            };
            Ok((T::to_cpu_storage_owned(out), shape))
        }
        by_dtype!(self.name(), args[0].dtype(), run(*self, &args[0]))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn run<T: Real>(
            op: RowOp,
            x: &Tensor,
            y: &Tensor,
            g: &Tensor,
        ) -> candle_core::Result<Tensor> {
            let width = x.dim(D::Minus1)?;
            let out_width = op.out_width(width);
            let (xv, yv, gv) = (View::new(x), View::new(y), View::new(g));
            let (xs, ys, gs) = (xv.slice::<T>()?, yv.slice::<T>()?, gv.slice::<T>()?);
            let mut dx = vec![T::ZERO; xs.len()];
            kernel::for_rows(&mut dx, width, |i, dx| {
                let (x, y) = (&xs[i * width..][..width], &ys[i * out_width..][..out_width]);
                let g = &gs[i * out_width..][..out_width];
                vectorised(|| op.backward_row(x, y, g, dx));
            });
            kernel::tensor(dx, x.shape())
        }
        let dx = by_dtype!(
            self.name(),
            grad.dtype(),
            run(*self, &args[0], output, grad)
        )?;
        Ok(vec![Some(dx)])
    }
}

impl RowOp {
    fn out_width(self, width: usize) -> usize {
        match self {
            Self::LogSumExp => 1,
            _ => width,
        }
    }

    #[inline(always)]
    fn forward_row<T: Real>(self, x: &[T], out: &mut [T]) {
        let max = maximum(x);
        // exp(x - max) of a row of infinities would be NaN.
        let shift = if max.absolute() == T::of_f32(f32::INFINITY) {
            T::ZERO
        } else {
            max
        };
        match self {
            Self::Softmax => {
                for (o, &v) in out.iter_mut().zip(x) {
                    *o = v - shift;
                }
                math::exp(out);
                let scale = T::ONE / reduce(out.len(), |j| out[j]);
                for o in out.iter_mut() {
                    *o *= scale;
                }
            }
            Self::LogSoftmax => {
                let log_sum = log_sum_exp_row(x, shift);
                for (o, &v) in out.iter_mut().zip(x) {
                    *o = v - log_sum;
                }
            }
            Self::LogSumExp => out[0] = log_sum_exp_row(x, shift),
        }
    }

    #[inline(always)]
    fn backward_row<T: Real>(self, x: &[T], y: &[T], g: &[T], dx: &mut [T]) {
        match self {
            Self::Softmax => {
                let mean = crate::simd::dot(g, y);
                for (d, (&g, &y)) in dx.iter_mut().zip(g.iter().zip(y)) {
                    *d = y * (g - mean);
                }
            }
            Self::LogSoftmax => {
                let total = reduce(g.len(), |j| g[j]);
                dx.copy_from_slice(y);
                math::exp(dx);
                for (d, &g) in dx.iter_mut().zip(g) {
                    *d = g - *d * total;
                }
            }
            Self::LogSumExp => {
                for (d, &v) in dx.iter_mut().zip(x) {
                    *d = v - y[0];
                }
                math::exp(dx);
                for d in dx.iter_mut() {
                    *d *= g[0];
                }
            }
        }
    }
}

#[inline(always)]
fn log_sum_exp_row<T: Real>(x: &[T], shift: T) -> T {
    // Blocks on the stack: the exponentials are needed for their sum only.
    let mut buffer = [T::ZERO; 256];
    let mut total = T::ZERO;
    for part in x.chunks(buffer.len()) {
        let e = &mut buffer[..part.len()];
        for (e, &v) in e.iter_mut().zip(part) {
            *e = v - shift;
        }
        math::exp(e);
        total += reduce(e.len(), |j| e[j]);
    }
    total.ln() + shift
}

/// As [`kernel::for_rows`], where a row of the output stands for `weight` times as much work.
fn rows_weighted<T: Send>(
    out: &mut [T],
    width: usize,
    weight: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    use rayon::prelude::*;
    if weight == 1 || out.len() * weight < kernel::PARALLEL_FROM {
        kernel::for_rows(out, width, f);
    } else {
        out.par_chunks_mut(width)
            .enumerate()
            .for_each(|(i, row)| f(i, row));
    }
}

#[cfg(test)]
#[path = "reduce_tests.rs"]
mod tests;
