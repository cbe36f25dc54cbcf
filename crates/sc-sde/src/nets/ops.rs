//! The two operations that nets are made of besides products: an activation, and a product with its slope.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Shape, Tensor};
use rayon::prelude::*;
use sc_tensor::math::Float;
use sc_tensor::ops;

use super::{Activation, composed};
use crate::Result;

/// Elements per task: a fixed size, so that nothing depends on the number of threads.
const CHUNK: usize = 1 << 13;
/// Below this many elements one thread is faster than two.
const PARALLEL_FROM: usize = 1 << 15;

/// `phi(h)`.
pub(super) fn activate(h: &Tensor, f: Activation) -> Result<Tensor> {
    if !h.device().is_cpu() {
        return composed::values(h, f);
    }
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
    if !h.device().is_cpu() {
        return Ok(v.broadcast_mul(&composed::slopes(&h, f)?)?);
    }
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
            for_chunks(&mut out, 1, |out, at| f.values(part(x, at, out.len()), out));
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
    // Whole rows, so that a row of `v` stands beside each.
    for_chunks(&mut out, width.max(1), |out, at| {
        f(part(h, at, out.len()), out);
        if v.len() == h.len() {
            multiply(out, part(v, at, out.len()));
        } else {
            for row in out.chunks_mut(width.max(1)) {
                multiply(row, v);
            }
        }
    });
    Ok(T::to_cpu_storage_owned(out))
}

fn multiply<T: Float>(out: &mut [T], by: &[T]) {
    for (o, &v) in out.iter_mut().zip(by) {
        *o *= v;
    }
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

/// Calls `f` with pieces of whole rows of `width` elements and where they begin.
fn for_chunks<T: Send>(out: &mut [T], width: usize, f: impl Fn(&mut [T], usize) + Sync) {
    if out.len() < PARALLEL_FROM {
        f(out, 0);
    } else {
        let size = width * (CHUNK / width).max(1);
        out.par_chunks_mut(size)
            .enumerate()
            .for_each(|(k, chunk)| f(chunk, k * size));
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use sc_tensor::{GradStore, Rng, backward};

    use super::*;
    use crate::nets::Activation::{ELU, LeakyReLU, ReLU, SELU, SiLU, Sigmoid, Softplus, Tanh};

    fn largest(t: Tensor) -> f64 {
        let t = t.abs().unwrap().max_all().unwrap();
        t.to_scalar::<f64>().unwrap()
    }

    /// Values and gradients of the fused operations are those of the plain ones, for a matrix and for a row of it, and for
    /// more elements than one task has.
    #[test]
    fn fused_and_plain_agree() {
        let random = |name: &str, shape: &[usize]| {
            let mut stream = Rng::new(1).stream(name);
            let t = stream.normal(shape, DType::F64, &Device::Cpu).unwrap();
            Var::from_tensor(&(t * 2.0).unwrap()).unwrap()
        };
        let (h, full, row) = (
            random("h", &[70, 500]),
            random("v", &[70, 500]),
            random("row", &[500]),
        );
        let by = random("by", &[70, 500]);
        let gradient =
            |y: &Tensor| backward(&(y * by.as_tensor()).unwrap().sum_all().unwrap()).unwrap();
        let same = |a: &GradStore, b: &GradStore, v: &Var| match (a.get(v), b.get(v)) {
            (Some(a), Some(b)) => assert!(largest((a - b).unwrap()) < 1e-11),
            (None, other) => assert!(other.is_none_or(|t| largest(t.clone()) == 0.0)),
            (Some(a), None) => assert_eq!(largest(a.clone()), 0.0),
        };
        for f in [LeakyReLU, ReLU, Softplus, SiLU, Tanh, Sigmoid, ELU, SELU] {
            let (a, b) = (activate(&h, f).unwrap(), composed::values(&h, f).unwrap());
            assert!(largest((&a - &b).unwrap()) < 1e-14, "{f}");
            same(&gradient(&a), &gradient(&b), &h);
            for v in [&full, &row] {
                let a = times_slope(v, &h, f).unwrap();
                let b = v.broadcast_mul(&composed::slopes(&h, f).unwrap()).unwrap();
                assert!(largest((&a - &b).unwrap()) < 1e-13, "{f}");
                let (a, b) = (gradient(&a), gradient(&b));
                same(&a, &b, &h);
                same(&a, &b, v);
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert!(times_slope(&t(&[3]), &t(&[2, 4]), Tanh).is_err());
        let whole = Tensor::zeros((2, 4), DType::U32, &Device::Cpu).unwrap();
        assert!(activate(&whole, Tanh).is_err());
    }
}
