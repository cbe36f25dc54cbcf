//! Diagonal normals in one pass: what models with several latent variables do for every cell, or every cell and label.

use candle_core::{CpuStorage, D, Shape, Tensor};

use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::ops::composed::fusible;
use crate::simd::{reduce, vectorised};
use crate::{Error, Result, math};

/// A draw from `N(mean, var)`: `mean + sqrt(var) noise`, all of one shape. There is no gradient for `noise`.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ.
pub fn draw_normal(mean: &Tensor, var: &Tensor, noise: &Tensor) -> Result<Tensor> {
    for (what, t) in [("the variance", var), ("the noise", noise)] {
        same(what, t, mean)?;
    }
    if !fusible(&[mean, var, noise]) {
        return draw_composed(mean, var, noise);
    }
    Ok(kernel::apply(Draw, &[mean, var, &noise.detach()])?)
}

pub(super) fn draw_composed(mean: &Tensor, var: &Tensor, noise: &Tensor) -> Result<Tensor> {
    Ok((mean + (var.sqrt()? * noise.detach())?)?)
}

/// `KL(N(mean, var) || N(0, 1))` of each row: `sum_d (var + mean^2 - 1 - ln var) / 2`.
///
/// `mean` and `var` are `[.., D]`; the result lacks the last dimension.
///
/// # Errors
/// [`Error::Shape`] if the shapes differ, or for a scalar.
pub fn kl_standard_normal(mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    same("the variance", var, mean)?;
    if !fusible(&[mean, var]) || mean.rank() == 0 || mean.dim(D::Minus1)? == 0 {
        return kl_composed(mean, var);
    }
    Ok(kernel::apply(Kl, &[mean, var])?)
}

pub(super) fn kl_composed(mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    let terms = (((var + mean.sqr()?)? - 1.0)? - var.log()?)?;
    Ok((terms.sum(D::Minus1)? * 0.5)?)
}

/// `-ln N(x; mean, e^log_var)` of each row, summed over the columns: `sum_d (ln 2 pi + log_var + (x - mean)^2 e^-log_var) / 2`.
///
/// `mean` and `log_var` are `[K N, D]`, `x` is `[N, D]` and stands below itself `K` times: row `r` of the result, `[K N]`, is
/// about row `r mod N` of `x`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit.
pub fn neg_log_normal(x: &Tensor, mean: &Tensor, log_var: &Tensor) -> Result<Tensor> {
    same("the log variance", log_var, mean)?;
    let fits = match (x.dims(), mean.dims()) {
        (&[n, d], &[rows, of_mean]) => d > 0 && d == of_mean && n > 0 && rows % n == 0,
        _ => false,
    };
    if !fits {
        return Err(Error::Shape {
            op: "neg_log_normal",
            what: "the mean",
            found: mean.dims().to_vec(),
            expected: format!("a multiple of the rows of {:?}", x.dims()),
        });
    }
    if !fusible(&[x, mean, log_var]) {
        return neg_log_composed(x, mean, log_var);
    }
    Ok(kernel::apply(NegLog, &[x, mean, log_var])?)
}

pub(super) fn neg_log_composed(x: &Tensor, mean: &Tensor, log_var: &Tensor) -> Result<Tensor> {
    let x = x.repeat((mean.dim(0)? / x.dim(0)?, 1))?;
    let squares = ((x - mean)?.sqr()? * log_var.neg()?.exp()?)?;
    Ok((((squares + log_var)? + ln_two_pi())? * 0.5)?.sum(1)?)
}

fn ln_two_pi() -> f64 {
    (2.0 * std::f64::consts::PI).ln()
}

fn same(what: &'static str, t: &Tensor, as_mean: &Tensor) -> Result<()> {
    if t.dims() == as_mean.dims() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "normal",
        what,
        found: t.dims().to_vec(),
        expected: format!("{:?}, as the mean", as_mean.dims()),
    })
}

struct Draw;

impl Kernel for Draw {
    fn name(&self) -> &'static str {
        "draw_normal"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
            let (mean, var) = (args[0].slice::<T>()?, args[1].slice::<T>()?);
            let noise = args[2].slice::<T>()?;
            let mut out = vec![T::ZERO; mean.len()];
            kernel::for_chunks(&mut out, |out, at| {
                let n = out.len();
                let (mean, var, noise) = (&mean[at..][..n], &var[at..][..n], &noise[at..][..n]);
                vectorised(|| {
                    for j in 0..n {
                        out[j] = mean[j] + var[j].sqrt() * noise[j];
                    }
                });
            });
            Ok((T::to_cpu_storage_owned(out), args[0].dims().into()))
        }
        by_dtype!("draw_normal", args[0].dtype(), run(args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn var<T: Real>(args: &[Tensor], grad: &Tensor) -> candle_core::Result<Tensor> {
            let views = [&args[1], &args[2], grad].map(View::new);
            let (var, noise) = (views[0].slice::<T>()?, views[1].slice::<T>()?);
            let (g, half) = (views[2].slice::<T>()?, T::from_f64(0.5));
            let mut out = vec![T::ZERO; var.len()];
            kernel::for_chunks(&mut out, |out, at| {
                let n = out.len();
                let (var, noise, g) = (&var[at..][..n], &noise[at..][..n], &g[at..][..n]);
                vectorised(|| {
                    for j in 0..n {
                        out[j] = half * g[j] * noise[j] / var[j].sqrt();
                    }
                });
            });
            kernel::tensor(out, args[1].shape())
        }
        let dvar = match needs[1] {
            true => Some(by_dtype!("draw_normal", grad.dtype(), var(args, grad))?),
            false => None,
        };
        Ok(vec![Some(grad.clone()), dvar, None])
    }
}

struct Kl;

impl Kernel for Kl {
    fn name(&self) -> &'static str {
        "kl_standard_normal"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
            let (mean, var) = (args[0].slice::<T>()?, args[1].slice::<T>()?);
            let dims = args[0].dims();
            let d = dims[dims.len() - 1];
            let mut logs = var.to_vec();
            math::ln(&mut logs);
            let half = T::from_f64(0.5);
            let mut out = vec![T::ZERO; mean.len() / d];
            kernel::for_rows(&mut out, 1, |i, out| {
                let row = i * d..(i + 1) * d;
                let (m, v, l) = (&mean[row.clone()], &var[row.clone()], &logs[row]);
                out[0] = half * reduce(d, |j| v[j] + m[j] * m[j] - T::ONE - l[j]);
            });
            Ok((T::to_cpu_storage_owned(out), dims[..dims.len() - 1].into()))
        }
        by_dtype!("kl_standard_normal", args[0].dtype(), run(args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn run<T: Real>(
            args: &[Tensor],
            grad: &Tensor,
        ) -> candle_core::Result<Vec<Option<Tensor>>> {
            let d = args[0].dim(D::Minus1)?;
            let views = [&args[0], &args[1], grad].map(View::new);
            let (mean, var) = (views[0].slice::<T>()?, views[1].slice::<T>()?);
            let (g, half) = (views[2].slice::<T>()?, T::from_f64(0.5));
            let (mut dm, mut dv) = (vec![T::ZERO; mean.len()], vec![T::ZERO; mean.len()]);
            kernel::for_rows(&mut dm, d, |i, dm| {
                dm.iter_mut()
                    .zip(&mean[i * d..])
                    .for_each(|(dm, &m)| *dm = g[i] * m);
            });
            kernel::for_rows(&mut dv, d, |i, dv| {
                dv.iter_mut()
                    .zip(&var[i * d..])
                    .for_each(|(dv, &v)| *dv = half * g[i] * (T::ONE - T::ONE / v));
            });
            Ok(vec![
                Some(kernel::tensor(dm, args[0].shape())?),
                Some(kernel::tensor(dv, args[1].shape())?),
            ])
        }
        by_dtype!("kl_standard_normal", grad.dtype(), run(args, grad))
    }
}

struct NegLog;

impl Kernel for NegLog {
    fn name(&self) -> &'static str {
        "neg_log_normal"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Real>(args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
            let (n, d) = (args[0].dims()[0], args[0].dims()[1]);
            let (x, mean) = (args[0].slice::<T>()?, args[1].slice::<T>()?);
            let log_var = args[2].slice::<T>()?;
            let precision = precision(log_var);
            let (half, constant) = (T::from_f64(0.5), T::from_f64(ln_two_pi()));
            let mut out = vec![T::ZERO; mean.len() / d];
            kernel::for_rows(&mut out, 1, |r, out| {
                let row = r * d..(r + 1) * d;
                let (m, l, p) = (&mean[row.clone()], &log_var[row.clone()], &precision[row]);
                let x = &x[r % n * d..][..d];
                let sum = reduce(d, |j| {
                    constant + l[j] + (x[j] - m[j]) * (x[j] - m[j]) * p[j]
                });
                out[0] = half * sum;
            });
            let rows = out.len();
            Ok((T::to_cpu_storage_owned(out), rows.into()))
        }
        by_dtype!("neg_log_normal", args[0].dtype(), run(args))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        by_dtype!(
            "neg_log_normal",
            grad.dtype(),
            neg_log_gradients(args, grad)
        )
    }
}

/// With `p = e^-log_var`: `d mean = -g (x - mean) p`, `d log_var = g (1 - (x - mean)^2 p) / 2`, and `d x` is minus the sum of
/// the `d mean` of its rows.
fn neg_log_gradients<T: Real>(
    args: &[Tensor],
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let (n, d) = args[0].dims2()?;
    let views = [&args[0], &args[1], &args[2], grad].map(View::new);
    let (x, mean) = (views[0].slice::<T>()?, views[1].slice::<T>()?);
    let (log_var, g) = (views[2].slice::<T>()?, views[3].slice::<T>()?);
    let precision = precision(log_var);
    let half = T::from_f64(0.5);
    let (mut dm, mut dl) = (vec![T::ZERO; mean.len()], vec![T::ZERO; mean.len()]);
    kernel::for_rows(&mut dm, d, |r, dm| {
        let (m, p) = (&mean[r * d..][..d], &precision[r * d..][..d]);
        let x = &x[r % n * d..][..d];
        for j in 0..d {
            dm[j] = g[r] * (m[j] - x[j]) * p[j];
        }
    });
    kernel::for_rows(&mut dl, d, |r, dl| {
        let (m, p) = (&mean[r * d..][..d], &precision[r * d..][..d]);
        let x = &x[r % n * d..][..d];
        for j in 0..d {
            dl[j] = half * g[r] * (T::ONE - (x[j] - m[j]) * (x[j] - m[j]) * p[j]);
        }
    });
    let mut dx = vec![T::ZERO; x.len()];
    kernel::for_rows(&mut dx, d, |i, dx| {
        for row in dm.chunks_exact(d).skip(i).step_by(n) {
            dx.iter_mut().zip(row).for_each(|(dx, &dm)| *dx -= dm);
        }
    });
    Ok(vec![
        Some(kernel::tensor(dx, (n, d))?),
        Some(kernel::tensor(dm, args[1].shape())?),
        Some(kernel::tensor(dl, args[2].shape())?),
    ])
}

/// `e^-log_var`.
fn precision<T: Real>(log_var: &[T]) -> Vec<T> {
    let mut out: Vec<T> = log_var.iter().map(|&v| T::ZERO - v).collect();
    math::exp(&mut out);
    out
}

#[cfg(test)]
#[path = "normal_tests.rs"]
mod tests;
