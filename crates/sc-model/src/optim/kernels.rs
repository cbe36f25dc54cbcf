use candle_core::{CpuStorage, DType, Storage, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::OptimizerKind;
use crate::Result;

/// Numbers handled by one task. Fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 16 * 1024;

/// Everything of a step that does not depend on the parameter's element.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coefficients {
    kind: OptimizerKind,
    lr: f64,
    grad_scale: f64,
    step: u64,
}

impl Coefficients {
    pub(super) fn new(kind: &OptimizerKind, lr: f64, grad_scale: f64, step: u64) -> Self {
        Self {
            kind: *kind,
            lr,
            grad_scale,
            step,
        }
    }
}

/// The floating-point types of parameters.
pub(super) trait Real:
    Copy
    + Send
    + Sync
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Div<Output = Self>
    + PartialOrd
{
    /// Moments closer to zero than this become zero: denormal numbers are slow to compute with and mean nothing here.
    const TINY: Self;
    fn of(x: f64) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
}

macro_rules! real {
    ($t:ty, $tiny:expr) => {
        impl Real for $t {
            const TINY: Self = $tiny;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
        }
    };
}
real!(f32, 1e-30);
real!(f64, 1e-290);

#[inline(always)]
fn flush<T: Real>(x: T) -> T {
    if x.abs() < T::TINY { T::of(0.0) } else { x }
}

/// One step of one parameter, in chunks that do not depend on each other. Where `held` is 0 the parameter keeps its value;
/// empty holds nothing.
pub(super) fn update<T: Real>(
    p: &mut [T],
    g: &[T],
    held: &[T],
    moments: [&mut [T]; 2],
    c: &Coefficients,
) {
    let [m, v] = moments;
    match c.kind {
        OptimizerKind::Adam {
            betas,
            eps,
            weight_decay,
        } => {
            let a = Adam::new(c, betas, eps);
            let l2 = T::of(weight_decay);
            chunks(
                p,
                g,
                held,
                m,
                v,
                #[inline(always)]
                |p, g, m, v| adam(p, g, m, v, &a, l2, T::of(1.0)),
            );
        }
        OptimizerKind::AdamW {
            betas,
            eps,
            weight_decay,
        } => {
            let a = Adam::new(c, betas, eps);
            let keep = T::of(1.0 - c.lr * weight_decay);
            chunks(
                p,
                g,
                held,
                m,
                v,
                #[inline(always)]
                |p, g, m, v| adam(p, g, m, v, &a, T::of(0.0), keep),
            );
        }
        OptimizerKind::RmsProp {
            alpha,
            eps,
            momentum,
            weight_decay,
        } => {
            let k = [
                alpha,
                1.0 - alpha,
                eps,
                momentum,
                weight_decay,
                c.lr,
                c.grad_scale,
            ]
            .map(T::of);
            chunks(
                p,
                g,
                held,
                m,
                v,
                #[inline(always)]
                |p, g, m, v| rms_prop(p, g, m, v, k),
            );
        }
        OptimizerKind::Sgd {
            momentum,
            nesterov,
            weight_decay,
        } => {
            let k = [momentum, weight_decay, c.lr, c.grad_scale].map(T::of);
            let first = c.step == 1;
            chunks(
                p,
                g,
                held,
                m,
                v,
                #[inline(always)]
                |p, g, m, _| sgd(p, g, m, k, nesterov, first),
            );
        }
    }
}

/// Runs `f` on matching chunks of parameter, gradient and moments; a moment that the optimiser does not have is empty.
fn chunks<T: Real>(
    p: &mut [T],
    g: &[T],
    held: &[T],
    m: &mut [T],
    v: &mut [T],
    f: impl Fn(&mut [T], &[T], &mut [T], &mut [T]) + Sync,
) {
    let n = p.len().div_ceil(CHUNK);
    let empty_or_chunks = |s: &'_ mut [T]| -> Vec<Option<std::ops::Range<usize>>> {
        (0..n)
            .map(|i| (!s.is_empty()).then(|| i * CHUNK..((i + 1) * CHUNK).min(s.len())))
            .collect()
    };
    let (m_ranges, v_ranges) = (empty_or_chunks(m), empty_or_chunks(v));
    let m_parts = split(m, &m_ranges);
    let v_parts = split(v, &v_ranges);
    p.par_chunks_mut(CHUNK)
        .enumerate()
        .zip(g.par_chunks(CHUNK))
        .zip(m_parts.into_par_iter().zip(v_parts))
        .for_each(|(((k, p), g), (m, v))| {
            let held = held.get(k * CHUNK..).unwrap_or_default();
            if held.is_empty() {
                return Arch::new().dispatch(|| f(p, g, m, v));
            }
            let before = p.to_vec();
            Arch::new().dispatch(|| f(p, g, m, v));
            for ((p, before), held) in p.iter_mut().zip(before).zip(held) {
                if *held == T::of(0.0) {
                    *p = before;
                }
            }
        });
}

fn split<'a, T>(mut s: &'a mut [T], ranges: &[Option<std::ops::Range<usize>>]) -> Vec<&'a mut [T]> {
    ranges
        .iter()
        .map(|r| {
            let (head, tail) =
                std::mem::take(&mut s).split_at_mut(r.as_ref().map_or(0, std::ops::Range::len));
            s = tail;
            head
        })
        .collect()
}

struct Adam<T> {
    b1: T,
    c1: T,
    b2: T,
    c2: T,
    step_size: T,
    inv_root_bias: T,
    eps: T,
    grad_scale: T,
}

impl<T: Real> Adam<T> {
    /// PyTorch's order of operations: `p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)`.
    fn new(c: &Coefficients, (b1, b2): (f64, f64), eps: f64) -> Self {
        let t = c.step.min(i32::MAX as u64) as i32;
        Self {
            b1: T::of(b1),
            c1: T::of(1.0 - b1),
            b2: T::of(b2),
            c2: T::of(1.0 - b2),
            step_size: T::of(c.lr / (1.0 - b1.powi(t))),
            inv_root_bias: T::of(1.0 / (1.0 - b2.powi(t)).sqrt()),
            eps: T::of(eps),
            grad_scale: T::of(c.grad_scale),
        }
    }
}

#[inline(always)]
fn adam<T: Real>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], a: &Adam<T>, l2: T, keep: T) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * a.grad_scale + l2 * *p;
        *m = flush(a.b1 * *m + a.c1 * g);
        *v = flush(a.b2 * *v + a.c2 * g * g);
        *p = *p * keep - a.step_size * *m / (v.sqrt() * a.inv_root_bias + a.eps);
    }
}

#[inline(always)]
fn rms_prop<T: Real>(p: &mut [T], g: &[T], v: &mut [T], b: &mut [T], k: [T; 7]) {
    let [alpha, one_minus_alpha, eps, momentum, l2, lr, grad_scale] = k;
    let has_momentum = !b.is_empty();
    for (i, ((p, &g), v)) in p.iter_mut().zip(g).zip(v).enumerate() {
        let g = g * grad_scale + l2 * *p;
        *v = flush(alpha * *v + one_minus_alpha * g * g);
        let mut step = g / (v.sqrt() + eps);
        if has_momentum {
            b[i] = flush(momentum * b[i] + step);
            step = b[i];
        }
        *p = *p - lr * step;
    }
}

#[inline(always)]
fn sgd<T: Real>(p: &mut [T], g: &[T], b: &mut [T], k: [T; 4], nesterov: bool, first: bool) {
    let [momentum, l2, lr, grad_scale] = k;
    let has_momentum = !b.is_empty();
    for (i, (p, &g)) in p.iter_mut().zip(g).enumerate() {
        let mut step = g * grad_scale + l2 * *p;
        if has_momentum {
            // PyTorch starts the buffer at the first gradient, not at (1 - dampening) times it.
            b[i] = if first {
                step
            } else {
                flush(momentum * b[i] + step)
            };
            step = if nesterov {
                step + momentum * b[i]
            } else {
                b[i]
            };
        }
        *p = *p - lr * step;
    }
}

/// The sum of squares, accumulated in `f64` over fixed chunks.
pub(crate) fn sum_of_squares(t: &Tensor) -> Result<f64> {
    let t = t.contiguous()?;
    let host;
    let t = if t.device().is_cpu() && t.dtype() != DType::BF16 && t.dtype() != DType::F16 {
        &t
    } else {
        host = t
            .to_device(&candle_core::Device::Cpu)?
            .to_dtype(DType::F32)?;
        &host
    };
    let (storage, layout) = t.storage_and_layout();
    let range = layout.contiguous_offsets().unwrap_or((0, 0));
    let parts: Vec<f64> = match &*storage {
        Storage::Cpu(CpuStorage::F32(v)) => v[range.0..range.1]
            .par_chunks(CHUNK)
            .map(|c| c.iter().map(|&x| f64::from(x) * f64::from(x)).sum())
            .collect(),
        Storage::Cpu(CpuStorage::F64(v)) => v[range.0..range.1]
            .par_chunks(CHUNK)
            .map(|c| c.iter().map(|&x| x * x).sum())
            .collect(),
        _ => vec![f64::NAN],
    };
    Ok(parts.iter().sum())
}
