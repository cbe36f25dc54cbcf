//! How a fused CPU kernel becomes an operation of candle's graph.
//!
//! candle has one trait per number of arguments, hands over raw storage with strides, and asks for the gradient of
//! every argument even if nobody wants it. [`Kernel`] takes one to three arguments, always contiguous, and is told which
//! gradients are wanted; [`apply`] does the rest.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Storage,
    StorageRef, Tensor,
};
use rayon::prelude::*;

use crate::backward::collect;
use crate::math::Float;

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
        use candle_core::backend::BackendStorage;
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
        match &*self.guard {
            Storage::Cpu(storage) => contiguous(storage, self.layout),
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
    /// Where `needs[i]` is set, entry `i` must be there: candle panics over a node without a gradient.
    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<Vec<Option<Tensor>>>;
}

struct Op<K>(K);

impl<K: Kernel> Op<K> {
    fn run(&self, args: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let args: Vec<Arg<'_>> = args
            .iter()
            .map(|&(storage, layout)| Arg { storage, layout })
            .collect();
        self.0.forward(&args)
    }

    fn grad<const N: usize>(
        &self,
        args: [&Tensor; N],
        output: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let needs = args.map(Tensor::track_op);
        let detached = args.map(Tensor::detach);
        let grads = self.0.backward(
            &detached,
            &needs,
            &output.detach(),
            &grad.detach().contiguous()?,
        )?;
        let mut grads = grads.into_iter();
        Ok(args.map(|arg| {
            let wanted = grads.next().flatten().filter(|_| arg.track_op());
            wanted.and_then(|grad| collect(arg, grad))
        }))
    }
}

impl<K: Kernel> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(&[(s, l)])
    }

    fn bwd(&self, arg: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [g] = self.grad([arg], res, grad)?;
        Ok(g)
    }
}

impl<K: Kernel> CustomOp2 for Op<K> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(&[(s1, l1), (s2, l2)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [a, b] = self.grad([a, b], res, grad)?;
        Ok((a, b))
    }
}

impl<K: Kernel> CustomOp3 for Op<K> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [a, b, c] = self.grad([a, b, c], res, grad)?;
        Ok((a, b, c))
    }
}

/// Runs a kernel on one to three tensors of the CPU and records it in the graph.
pub(crate) fn apply<K: Kernel>(kernel: K, args: &[&Tensor]) -> Result<Tensor> {
    let op = Op(kernel);
    match args {
        [a] => a.contiguous()?.apply_op1(op),
        [a, b] => a.contiguous()?.apply_op2(&b.contiguous()?, op),
        [a, b, c] => a
            .contiguous()?
            .apply_op3(&b.contiguous()?, &c.contiguous()?, op),
        _ => Err(candle_core::Error::msg(format!(
            "{}: {} arguments, expected one to three",
            op.0.name(),
            args.len()
        ))),
    }
}

/// A tensor on the CPU that takes over `data`.
pub(crate) fn tensor<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &Device::Cpu)
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
