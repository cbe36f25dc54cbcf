use candle_core::{CpuStorage, Shape, Tensor};

use super::composed;
use super::trigamma::trigamma_of;
use crate::kernel::{self, Arg, Kernel, Real, View, by_dtype};
use crate::math;
use crate::pool::{self, Pooled};
use crate::simd::vectorised;
use crate::{Error, Result, Stream};

/// `max(x, 0)`, with gradient 0 at 0 as in torch (candle's own has 1).
///
/// # Errors
/// If candle refuses.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Relu, composed::relu)
}

/// `x` where it is above 0, elsewhere `slope x`; the gradient at 0 is `slope`, as in torch.
///
/// # Errors
/// [`Error::Value`] if `slope` is not finite.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    if !slope.is_finite() {
        return Err(Error::Value {
            op: "leaky_relu",
            what: "slope",
            found: slope,
            expected: "a number",
        });
    }
    if !composed::fusible(&[x]) {
        return composed::leaky_relu(x, slope);
    }
    Ok(kernel::apply(Pointwise::LeakyRelu(slope), &[x])?)
}

/// `x Phi(x)`, with `Phi` the distribution function of the normal distribution: the exact form, not the one with a tanh
/// (Hendrycks, Gimpel 2016).
///
/// # Errors
/// If candle refuses.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Gelu, composed::gelu)
}

/// `log(1 + exp(x))`, computed as `max(x, 0) + log1p(exp(-|x|))`: exact for large and small `x`.
///
/// torch returns `x` itself above 20, which differs by less than 2.1e-9.
///
/// # Errors
/// If candle refuses.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Softplus, composed::softplus)
}

/// `log(1 + x)`, exact for small `x`.
///
/// # Errors
/// If candle refuses.
pub fn log1p(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Log1p, composed::log1p)
}

/// `1 / (1 + exp(-x))`.
///
/// # Errors
/// If candle refuses.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Sigmoid, composed::sigmoid)
}

/// `log Gamma(x)` for `x > 0`; its derivative is [`digamma`].
///
/// # Errors
/// If candle refuses.
pub fn lgamma(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Lgamma, composed::lgamma)
}

/// The derivative of `log Gamma(x)` for `x > 0`; its own derivative is the trigamma function.
///
/// # Errors
/// If candle refuses.
pub fn digamma(x: &Tensor) -> Result<Tensor> {
    pointwise(x, Pointwise::Digamma, composed::digamma)
}

/// Sets each element to 0 with probability `p` and divides the others by `1 - p` (Srivastava et al. 2014).
///
/// The mask comes from `stream`. With `p = 0` this is `x` itself and nothing is drawn.
///
/// # Errors
/// [`Error::Value`] unless `0 <= p < 1`.
pub fn dropout(x: &Tensor, p: f64, stream: &mut Stream) -> Result<Tensor> {
    check_p(p)?;
    let Some(mask) = Mask::draw(p, x.elem_count(), stream) else {
        return Ok(x.clone());
    };
    if !composed::fusible(&[x]) {
        let keep = Tensor::from_vec(mask.keep, x.shape(), x.device())?;
        return composed::dropout(x, &keep, p);
    }
    Ok(kernel::apply(Dropout { mask, relu: false }, &[x])?)
}

/// [`relu`], then [`dropout`], in one pass.
///
/// # Errors
/// [`Error::Value`] unless `0 <= p < 1`.
pub fn relu_dropout(x: &Tensor, p: f64, stream: &mut Stream) -> Result<Tensor> {
    check_p(p)?;
    if p == 0.0 || !composed::fusible(&[x]) {
        return dropout(&relu(x)?, p, stream);
    }
    match Mask::draw(p, x.elem_count(), stream) {
        Some(mask) => Ok(kernel::apply(Dropout { mask, relu: true }, &[x])?),
        None => relu(x),
    }
}

pub(super) fn check_p(p: f64) -> Result<()> {
    match (0.0..1.0).contains(&p) {
        true => Ok(()),
        false => Err(Error::Value {
            op: "dropout",
            what: "p",
            found: p,
            expected: "at least 0 and below 1",
        }),
    }
}

fn pointwise(x: &Tensor, f: Pointwise, twin: fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if !composed::fusible(&[x]) {
        return twin(x);
    }
    Ok(kernel::apply(f, &[x])?)
}

/// A function of one number.
#[derive(Clone, Copy)]
enum Pointwise {
    Relu,
    LeakyRelu(f64),
    Gelu,
    Softplus,
    Log1p,
    Sigmoid,
    Lgamma,
    Digamma,
}

impl Pointwise {
    /// `out[i] = f(x[i])`.
    fn values<T: Real>(self, x: &[T], out: &mut [T]) {
        if let Self::Relu = self {
            // A NaN stays one.
            return map(x, out, |v| if v <= T::ZERO { T::ZERO } else { v });
        }
        if let Self::LeakyRelu(slope) = self {
            let slope = T::of(slope);
            return map(x, out, move |v| if v > T::ZERO { v } else { slope * v });
        }
        if let Self::Gelu = self {
            out.copy_from_slice(x);
            math::normal_cdf(out);
            return multiply(out, x);
        }
        out.copy_from_slice(x);
        match self {
            Self::Relu | Self::LeakyRelu(_) | Self::Gelu => {}
            Self::Softplus => math::softplus(out),
            Self::Log1p => math::ln_1p(out),
            Self::Sigmoid => math::sigmoid(out),
            Self::Lgamma => math::lgamma(out),
            Self::Digamma => math::digamma(out),
        }
    }

    /// `out[i] = f'(x[i])`, given `y[i] = f(x[i])` as well.
    fn slopes<T: Real>(self, x: &[T], y: &[T], out: &mut [T]) {
        match self {
            Self::Relu => map(x, out, |v| if v > T::ZERO { T::ONE } else { T::ZERO }),
            Self::LeakyRelu(slope) => {
                let slope = T::of(slope);
                map(x, out, move |v| if v > T::ZERO { T::ONE } else { slope });
            }
            // Phi(x) + x phi(x)
            Self::Gelu => {
                out.copy_from_slice(x);
                math::gelu_slope(out);
            }
            Self::Softplus => {
                out.copy_from_slice(x);
                math::sigmoid(out);
            }
            Self::Log1p => map(x, out, |v| T::ONE / (T::ONE + v)),
            Self::Sigmoid => map(y, out, |s| s * (T::ONE - s)),
            Self::Lgamma => {
                out.copy_from_slice(x);
                math::digamma(out);
            }
            Self::Digamma => map(x, out, |v| T::of(trigamma_of(v.wide()))),
        }
    }
}

fn multiply<T: Real>(out: &mut [T], x: &[T]) {
    vectorised(
        #[inline(always)]
        || {
            for (o, &v) in out.iter_mut().zip(x) {
                *o *= v;
            }
        },
    );
}

fn map<T: Real>(x: &[T], out: &mut [T], f: impl Fn(T) -> T) {
    // `move`: numbers that `f` holds must not be read from memory again for each element, or nothing is vectorised.
    vectorised(
        #[inline(always)]
        move || {
            for (o, &v) in out.iter_mut().zip(x) {
                *o = f(v);
            }
        },
    );
}

impl Kernel for Pointwise {
    fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::LeakyRelu(_) => "leaky_relu",
            Self::Gelu => "gelu",
            Self::Softplus => "softplus",
            Self::Log1p => "log1p",
            Self::Sigmoid => "sigmoid",
            Self::Lgamma => "lgamma",
            Self::Digamma => "digamma",
        }
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Pooled>(f: Pointwise, x: &Arg<'_>) -> candle_core::Result<(CpuStorage, Shape)> {
            let xs = x.slice::<T>()?;
            let mut y = pool::take(xs.len());
            kernel::for_chunks(&mut y, |y, at| {
                f.values(&xs[at..][..y.len()], y);
            });
            Ok((T::to_cpu_storage_owned(y), x.dims().into()))
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
        fn run<T: Pooled>(
            f: Pointwise,
            x: &Tensor,
            y: &Tensor,
            g: &Tensor,
        ) -> candle_core::Result<Tensor> {
            let (xv, yv, gv) = (View::new(x), View::new(y), View::new(g));
            let (xs, ys, gs) = (xv.slice::<T>()?, yv.slice::<T>()?, gv.slice::<T>()?);
            let mut dx = pool::take(xs.len());
            kernel::for_chunks(&mut dx, |dx, at| {
                let n = dx.len();
                f.slopes(&xs[at..][..n], &ys[at..][..n], dx);
                vectorised(
                    #[inline(always)]
                    || {
                        for (slope, &g) in dx.iter_mut().zip(&gs[at..]) {
                            *slope *= g;
                        }
                    },
                );
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

    fn gradients_are_new(&self) -> bool {
        true
    }
}

/// What dropout keeps.
pub(super) struct Mask {
    /// 1 for what is kept.
    pub(super) keep: Vec<u8>,
    /// What is kept is multiplied by `1 / (1 - p)`.
    pub(super) scale: f64,
}

impl Mask {
    /// A mask for `n` numbers; `None` if all are kept.
    pub(super) fn draw(p: f64, n: usize, stream: &mut Stream) -> Option<Self> {
        (p > 0.0).then(|| {
            let mut keep = vec![0u8; n];
            stream.fill_bernoulli(1.0 - p, &mut keep);
            Self {
                keep,
                scale: 1.0 / (1.0 - p),
            }
        })
    }

    /// `mask x / (1 - p)`
    pub(super) fn apply<T: Pooled>(&self, x: &[T]) -> Vec<T> {
        self.where_open::<T, false>(x, x)
    }

    /// The same where `sign > 0` if that is asked for, elsewhere 0.
    fn where_open<T: Pooled, const RELU: bool>(&self, x: &[T], sign: &[T]) -> Vec<T> {
        let scale = T::from_f64(self.scale);
        let mut out = pool::take(x.len());
        kernel::for_chunks(&mut out, |out, at| {
            let n = out.len();
            let (x, sign, keep) = (&x[at..][..n], &sign[at..][..n], &self.keep[at..][..n]);
            vectorised(
                #[inline(always)]
                move || {
                    let each = out.iter_mut().zip(x).zip(sign).zip(keep);
                    for (((out, &x), &sign), &keep) in each {
                        // A NaN is not closed, so that it shows.
                        let closed = (keep == 0) | (RELU & (sign <= T::ZERO));
                        let open = x * scale;
                        *out = if closed { T::ZERO } else { open };
                    }
                },
            );
        });
        out
    }
}

struct Dropout {
    mask: Mask,
    /// Whether a relu comes first.
    relu: bool,
}

impl Dropout {
    fn run<T: Pooled>(&self, x: &[T], sign: &[T]) -> Vec<T> {
        match self.relu {
            true => self.mask.where_open::<T, true>(x, sign),
            false => self.mask.where_open::<T, false>(x, sign),
        }
    }
}

impl Kernel for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        fn run<T: Pooled>(op: &Dropout, x: &Arg<'_>) -> candle_core::Result<(CpuStorage, Shape)> {
            let xs = x.slice::<T>()?;
            Ok((T::to_cpu_storage_owned(op.run(xs, xs)), x.dims().into()))
        }
        by_dtype!("dropout", args[0].dtype(), run(self, &args[0]))
    }

    fn backward(
        &self,
        args: &[Tensor],
        _: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        fn run<T: Pooled>(op: &Dropout, x: &Tensor, g: &Tensor) -> candle_core::Result<Tensor> {
            let (xv, gv) = (View::new(x), View::new(g));
            kernel::tensor(op.run(gv.slice::<T>()?, xv.slice::<T>()?), x.shape())
        }
        let dx = by_dtype!("dropout", grad.dtype(), run(self, &args[0], grad))?;
        Ok(vec![Some(dx)])
    }

    fn gradients_are_new(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "activation_tests.rs"]
mod tests;
