//! How a fused CPU kernel becomes an operation of candle's graph.
//!
//! candle has one trait per number of arguments, hands over raw storage with strides, and asks for the gradient of
//! every argument even if nobody wants it. [`Kernel`] takes any number of arguments, always contiguous, and is told which
//! gradients are wanted; [`apply`] and [`tape`](crate::tape) do the rest.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, DType, Device, InplaceOp2, Layout, Result, Shape, Storage, StorageRef, Tensor,
};
use rayon::prelude::*;

use crate::math::Float;
use crate::simd::vectorised;
use crate::tape;

/// The element types that kernels know, `f32` and `f64`, with the few functions that [`Float`] lacks.
pub(crate) trait Real: Float {
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    /// The larger of two; a NaN comes through, whichever side it is on.
    fn larger(self, other: Self) -> Self;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            #[inline(always)]
            fn ln(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                if self < other || other.is_nan() {
                    other
                } else {
                    self
                }
            }
        }
    };
}
real!(f32);
real!(f64);

/// One argument of a kernel: contiguous numbers and their shape.
pub(crate) struct Arg<'a> {
    storage: &'a CpuStorage,
    layout: &'a Layout,
}

impl<'a> Arg<'a> {
    pub(crate) fn dims(&self) -> &'a [usize] {
        self.layout.dims()
    }

    pub(crate) fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    pub(crate) fn slice<T: Real>(&self) -> Result<&'a [T]> {
        contiguous(self.storage, self.layout)
    }
}

fn contiguous<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let all = T::cpu_storage_as_slice(storage)?;
    layout
        .contiguous_offsets()
        .and_then(|(start, end)| all.get(start..end))
        .ok_or_else(|| {
            candle_core::Error::msg("a kernel was given a tensor that is not contiguous")
        })
}

/// A tensor on the CPU, held for reading.
pub(crate) struct View<'a> {
    guard: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> View<'a> {
    /// The tensor must be contiguous by the time [`View::slice`] is called.
    pub(crate) fn new(tensor: &'a Tensor) -> Self {
        let (guard, layout) = tensor.storage_and_layout();
        Self { guard, layout }
    }

    pub(crate) fn slice<T: Real>(&self) -> Result<&[T]> {
        let arg = self.arg()?;
        contiguous(arg.storage, arg.layout)
    }

    fn arg(&self) -> Result<Arg<'_>> {
        match &*self.guard {
            Storage::Cpu(storage) => Ok(Arg {
                storage,
                layout: self.layout,
            }),
            _ => Err(candle_core::Error::msg(
                "a CPU kernel was given a tensor of another device",
            )),
        }
    }
}

/// A fused operation on the CPU.
pub(crate) trait Kernel: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Computes the output; the arguments are contiguous.
    fn forward(&self, args: &[Arg<'_>]) -> Result<(CpuStorage, Shape)>;

    /// The gradients of the arguments, given the output and its gradient. All tensors are contiguous and detached.
    ///
    /// Where `needs[i]` is set, entry `i` must be there.
    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>>;

    /// Whether each gradient has memory of its own that nobody else has, and `grad` isn't kept: then that memory is used
    /// again.
    fn gradients_are_new(&self) -> bool {
        false
    }
}

/// Runs a kernel on tensors of the CPU and records it in the graph.
pub(crate) fn apply<K: Kernel>(kernel: K, args: &[&Tensor]) -> Result<Tensor> {
    let args: Vec<Tensor> = args.iter().map(|a| a.contiguous()).collect::<Result<_>>()?;
    let out = {
        let views: Vec<View<'_>> = args.iter().map(View::new).collect();
        let views = views.iter().map(View::arg).collect::<Result<Vec<_>>>()?;
        kernel.forward(&views)?
    };
    if args.iter().any(Tensor::track_op) {
        return tape::record(Box::new(kernel), args, out);
    }
    match out {
        (CpuStorage::F32(v), shape) => tensor(v, shape),
        (CpuStorage::F64(v), shape) => tensor(v, shape),
        (other, _) => Err(candle_core::Error::UnsupportedDTypeForOp(
            other.dtype(),
            kernel.name(),
        )),
    }
}

/// A tensor on the CPU that takes over `data`.
pub(crate) fn tensor<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
}

/// `to += from` in place; `false` if these are not contiguous numbers of one type on the CPU.
pub(crate) fn add_into(to: &Tensor, from: &Tensor) -> Result<bool> {
    let plain = |t: &Tensor| t.device().is_cpu() && t.is_contiguous();
    let known = matches!(to.dtype(), DType::F32 | DType::F64) && to.dtype() == from.dtype();
    if !known || !plain(to) || !plain(from) || to.dims() != from.dims() {
        return Ok(false);
    }
    to.inplace_op2(from, &AddInto)?;
    Ok(true)
}

struct AddInto;

impl InplaceOp2 for AddInto {
    fn name(&self) -> &'static str {
        "add_into"
    }

    fn cpu_fwd(&self, a: &mut CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<()> {
        fn run<T: Real>(a: &mut [T], la: &Layout, b: &[T], lb: &Layout) {
            let part = |l: &Layout| l.contiguous_offsets().map(|(from, to)| from..to);
            let a = part(la).and_then(|r| a.get_mut(r));
            let b = part(lb).and_then(|r| b.get(r));
            if let (Some(a), Some(b)) = (a, b) {
                for_chunks(a, |a, at| {
                    let b = &b[at..][..a.len()];
                    vectorised(
                        #[inline(always)]
                        || a.iter_mut().zip(b).for_each(|(a, &b)| *a += b),
                    );
                });
            }
        }
        match (a, b) {
            (CpuStorage::F32(a), CpuStorage::F32(b)) => run(a, la, b, lb),
            (CpuStorage::F64(a), CpuStorage::F64(b)) => run(a, la, b, lb),
            _ => return Err(candle_core::Error::msg("a sum of numbers of other types")),
        }
        Ok(())
    }
}

/// Calls `$f::<f32>` or `$f::<f64>`, whichever `$dtype` says.
macro_rules! by_dtype {
    ($op:expr, $dtype:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $dtype {
            candle_core::DType::F32 => $f::<f32>($($arg),*),
            candle_core::DType::F64 => $f::<f64>($($arg),*),
            other => Err(candle_core::Error::UnsupportedDTypeForOp(other, $op)),
        }
    };
}
pub(crate) use by_dtype;

/// Below this many elements one thread is faster than two.
pub(crate) const PARALLEL_FROM: usize = 1 << 15;

/// Elements per task: a fixed size, so that nothing depends on the number of threads.
const CHUNK: usize = 1 << 13;

/// Writes `f(chunk of out, offset of the chunk)` for all chunks of `out`, in parallel where that pays.
pub(crate) fn for_chunks<T: Send>(out: &mut [T], f: impl Fn(&mut [T], usize) + Sync) {
    if out.len() < PARALLEL_FROM {
        f(out, 0);
    } else {
        out.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(k, chunk)| f(chunk, k * CHUNK));
    }
}

/// Calls `f(row index, row)` for all rows of `width` elements, in parallel where that pays.
pub(crate) fn for_rows<T: Send>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if width == 0 {
        return;
    }
    let per_task = (CHUNK / width).max(1);
    if out.len() < PARALLEL_FROM {
        for (i, row) in out.chunks_exact_mut(width).enumerate() {
            f(i, row);
        }
    } else {
        out.par_chunks_mut(width * per_task)
            .enumerate()
            .for_each(|(k, rows)| {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    f(k * per_task + i, row);
                }
            });
    }
}
