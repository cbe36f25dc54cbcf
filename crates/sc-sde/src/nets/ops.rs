//! The two operations that nets are made of besides products: an activation, and a product with its slope.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Shape, Tensor};
use rayon::prelude::*;
use sc_tensor::math::Float;
use sc_tensor::ops;

use super::Activation;
use crate::Result;

/// Elements per task: a fixed size, so that nothing depends on the number of threads.
const CHUNK: usize = 1 << 13;
/// Below this many elements one thread is faster than two.
const PARALLEL_FROM: usize = 1 << 15;

/// `phi(h)`.
pub(super) fn activate(h: &Tensor, f: Activation) -> Result<Tensor> {
    Ok(h.contiguous()?.apply_op1(Activate(f))?)
}

/// `v * phi'(h)`, where `v` has the shape of `h`, or is one row for all of its rows.
///
/// Its gradient in `h` holds the second derivative, which makes a potential's gradient differentiable once more by going
/// back through plain first-order operations.
pub(super) fn times_slope(v: &Tensor, h: &Tensor, f: Activation) -> Result<Tensor> {
    // Nothing flows back through a slope that is constant.
    let h = match f.is_piecewise_linear() {
        true => h.detach(),
        false => h.clone(),
    };
    Ok(v.contiguous()?.apply_op2(&h.contiguous()?, TimesSlope(f))?)
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Float>(
            f: Activation,
            s: &CpuStorage,
            l: &Layout,
        ) -> candle_core::Result<CpuStorage> {
            let x = slice::<T>(s, l)?;
            let mut out = vec![T::ZERO; x.len()];
            for_chunks(&mut out, |out, at| f.values(part(x, at, out.len()), out));
            Ok(T::to_cpu_storage_owned(out))
        }
        let out = match s {
            CpuStorage::F32(_) => run::<f32>(self.0, s, l)?,
            CpuStorage::F64(_) => run::<f64>(self.0, s, l)?,
            _ => return Err(floats_only("activation")),
        };
        Ok((out, l.shape().clone()))
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let grad = grad.detach().contiguous()?;
        Ok(Some(
            grad.apply_op2_no_bwd(&arg.detach(), &TimesSlope(self.0))?,
        ))
    }
}

struct TimesSlope(Activation);

impl CustomOp2 for TimesSlope {
    fn name(&self) -> &'static str {
        "times-slope"
    }

    fn cpu_fwd(
        &self,
        v: &CpuStorage,
        vl: &Layout,
        h: &CpuStorage,
        hl: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let args = (v, vl, h, hl);
        let out = match h {
            CpuStorage::F32(_) => product::<f32>(args, |h, out| self.0.slopes(h, out))?,
            CpuStorage::F64(_) => product::<f64>(args, |h, out| self.0.slopes(h, out))?,
            _ => return Err(floats_only("times-slope")),
        };
        Ok((out, hl.shape().clone()))
    }

    fn bwd(
        &self,
        v: &Tensor,
        h: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad, plain) = (grad.detach().contiguous()?, h.detach());
        let dv = match v.track_op() {
            true => {
                let all = grad.apply_op2_no_bwd(&plain, self)?;
                Some(match v.rank() < h.rank() {
                    true => ops::sum_rows(&all).map_err(candle_core::Error::wrap)?,
                    false => all,
                })
            }
            false => None,
        };
        let dh = match h.track_op() {
            true => {
                let curved = v
                    .detach()
                    .apply_op2_no_bwd(&plain, &TimesCurvature(self.0))?;
                Some((curved * grad)?)
            }
            false => None,
        };
        Ok((dv, dh))
    }
}

struct TimesCurvature(Activation);

impl CustomOp2 for TimesCurvature {
    fn name(&self) -> &'static str {
        "times-curvature"
    }

    fn cpu_fwd(
        &self,
        v: &CpuStorage,
        vl: &Layout,
        h: &CpuStorage,
        hl: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let args = (v, vl, h, hl);
        let out = match h {
            CpuStorage::F32(_) => product::<f32>(args, |h, out| self.0.curvatures(h, out))?,
            CpuStorage::F64(_) => product::<f64>(args, |h, out| self.0.curvatures(h, out))?,
            _ => return Err(floats_only("times-curvature")),
        };
        Ok((out, hl.shape().clone()))
    }
}

/// `v * f(h)`; `v` is as large as `h`, or one row of it.
fn product<T: Float>(
    (v, vl, h, hl): (&CpuStorage, &Layout, &CpuStorage, &Layout),
    f: impl Fn(&[T], &mut [T]) + Sync,
) -> candle_core::Result<CpuStorage> {
    let (v, h) = (slice::<T>(v, vl)?, slice::<T>(h, hl)?);
    let width = hl.dims().last().copied().unwrap_or(1);
    if v.len() != h.len() && v.len() != width {
        return Err(candle_core::Error::msg(format!(
            "times-slope: {:?} and {:?} don't fit",
            vl.dims(),
            hl.dims()
        )));
    }
    let mut out = vec![T::ZERO; h.len()];
    if v.len() == h.len() {
        for_chunks(&mut out, |out, at| {
            f(part(h, at, out.len()), out);
            for (o, &v) in out.iter_mut().zip(part(v, at, h.len())) {
                *o = *o * v;
            }
        });
    } else {
        for_chunks(&mut out, |out, at| {
            f(part(h, at, out.len()), out);
            for (o, &v) in out.iter_mut().zip(v.iter().cycle().skip(at % width.max(1))) {
                *o = *o * v;
            }
        });
    }
    Ok(T::to_cpu_storage_owned(out))
}

fn floats_only(op: &'static str) -> candle_core::Error {
    candle_core::Error::UnsupportedDTypeForOp(DType::U8, op)
}

fn slice<'a, T: Float>(s: &'a CpuStorage, l: &Layout) -> candle_core::Result<&'a [T]> {
    let all = T::cpu_storage_as_slice(s)?;
    l.contiguous_offsets()
        .and_then(|(start, end)| all.get(start..end))
        .ok_or_else(|| candle_core::Error::msg("an activation was given a strided tensor"))
}

/// `n` elements from `at` on, or what there is of them.
fn part<T>(x: &[T], at: usize, n: usize) -> &[T] {
    let start = at.min(x.len());
    x.get(start..at.saturating_add(n).min(x.len()))
        .unwrap_or(&[])
}

fn for_chunks<T: Send>(out: &mut [T], f: impl Fn(&mut [T], usize) + Sync) {
    if out.len() < PARALLEL_FROM {
        f(out, 0);
    } else {
        out.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(k, chunk)| f(chunk, k * CHUNK));
    }
}
