use std::borrow::Cow;

use candle_core::{CpuStorage, Shape, Tensor};

use super::activation::{Mask, check_p};
use super::composed;
use super::reduce::column_sums;
use crate::kernel::{self, Arg, Kernel, View, by_dtype};
use crate::matmul::{Matrix, product};
use crate::pool;
use crate::simd::vectorised;
use crate::tiles::{Lanes, Left, Panels, Rows};
use crate::{Error, Result, Stream};

/// A linear layer: `y = x w^T + b`.
///
/// `x` is `[.., I]`, `w` is `[O, I]` as in a PyTorch checkpoint, `b` is `[O]`; the result is `[.., O]`. Only the
/// gradients that are wanted are computed: for an input that is data, none.
///
/// The bits of a row of `y` depend on that row of `x` and the weights only: not on the other rows, nor on their number.
///
/// A weight in half precision (`bf16`, `f16`) is widened to the type of `x` for the time of the product: kept so, it takes half
/// the memory, and the sums are as exact as ever.
///
/// ```
/// use sc_tensor::{Device, Tensor, ops};
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let w = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[0f32, 0.0, 10.0], &Device::Cpu)?;
/// assert_eq!(ops::linear(&x, &w, Some(&b))?.to_vec2::<f32>()?, [[1.0, 2.0, 13.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit, [`Error::Candle`] if the element types or devices differ.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    check(x, w, b)?;
    let w = &*widened(x, w)?;
    if !composed::fusible(&[x, w]) {
        return composed::linear(x, w, b);
    }
    let mut args = vec![x, w];
    args.extend(b);
    Ok(kernel::apply(Linear { relu: None }, &args)?)
}

/// [`linear`], then a relu, then dropout if there is any, `(p, stream)`, in one pass.
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit, [`Error::Value`] unless `0 <= p < 1`, [`Error::Candle`] if the element types
/// or devices differ.
pub fn linear_relu(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    dropout: Option<(f64, &mut Stream)>,
) -> Result<Tensor> {
    check(x, w, b)?;
    if let Some((p, _)) = &dropout {
        check_p(*p)?;
    }
    let w = &*widened(x, w)?;
    if !composed::fusible(&[x, w]) {
        let y = composed::linear(x, w, b)?;
        return match dropout {
            Some((p, stream)) => super::relu_dropout(&y, p, stream),
            None => super::relu(&y),
        };
    }
    let (i, o) = (w.dim(1)?.max(1), w.dim(0)?);
    let mask = dropout.and_then(|(p, stream)| Mask::draw(p, x.elem_count() / i * o, stream));
    let mut args = vec![x, w];
    args.extend(b);
    Ok(kernel::apply(
        Linear {
            relu: Some(Relu(mask)),
        },
        &args,
    )?)
}

/// A weight in half precision in the type of `x`.
fn widened<'a>(x: &Tensor, w: &'a Tensor) -> Result<Cow<'a, Tensor>> {
    Ok(match composed::is_half(w) && !composed::is_half(x) {
        true => Cow::Owned(w.to_dtype(x.dtype())?),
        false => Cow::Borrowed(w),
    })
}

fn check(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<()> {
    let &[o, i] = w.dims() else {
        return Err(wrong("the weight", w, "[outputs, inputs]".into()));
    };
    if x.dims().last() != Some(&i) {
        return Err(wrong("the input", x, format!("[.., {i}]")));
    }
    match b {
        Some(b) if b.dims() != [o] => Err(wrong("the bias", b, format!("[{o}]"))),
        _ => Ok(()),
    }
}

fn wrong(what: &'static str, t: &Tensor, expected: String) -> Error {
    Error::Shape {
        op: "linear",
        what,
        found: t.dims().to_vec(),
        expected,
    }
}

struct Linear {
    relu: Option<Relu>,
}

/// A relu, and what dropout keeps of its output.
struct Relu(Option<Mask>);

impl Kernel for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn forward(&self, args: &[Arg<'_>]) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, w) = (&args[0], &args[1]);
        let (o, i) = (w.dims()[0], w.dims()[1]);
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = o;
        }
        let n = dims.iter().product::<usize>() / o.max(1);
        let bias = args.get(2);
        let y = by_dtype!("linear", x.dtype(), forward(self, x, w, bias, (n, o, i)))?;
        Ok((y, dims.into()))
    }

    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        output: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        by_dtype!(
            "linear",
            grad.dtype(),
            gradients(self, args, needs, output, grad)
        )
    }

    fn gradients_are_new(&self) -> bool {
        true
    }
}

fn forward<T: Lanes>(
    op: &Linear,
    x: &Arg<'_>,
    w: &Arg<'_>,
    bias: Option<&Arg<'_>>,
    (n, o, i): (usize, usize, usize),
) -> candle_core::Result<CpuStorage> {
    let panels = Panels::of_transposed(Rows::new(w.slice()?, i, o, i));
    let x = Left::Rows(Rows::new(x.slice()?, i, n, i));
    let bias = match bias {
        Some(bias) => Cow::Borrowed(bias.slice::<T>()?),
        None => Cow::Owned(vec![T::ZERO; o]),
    };
    let mut y = pool::take(n * o);
    match &op.relu {
        None => panels.left_multiplied(
            x,
            &mut y,
            false,
            #[inline(always)]
            |_, at, sums, y| {
                for ((y, &sum), &b) in y.iter_mut().zip(sums).zip(&bias[at..]) {
                    *y = sum + b;
                }
            },
        ),
        Some(Relu(None)) => panels.left_multiplied(
            x,
            &mut y,
            false,
            #[inline(always)]
            |_, at, sums, y| {
                for ((y, &sum), &b) in y.iter_mut().zip(sums).zip(&bias[at..]) {
                    *y = positive(sum + b);
                }
            },
        ),
        Some(Relu(Some(mask))) => {
            let scale = T::from_f64(mask.scale);
            panels.left_multiplied(
                x,
                &mut y,
                false,
                #[inline(always)]
                |row, at, sums, y| {
                    let keep = &mask.keep[row * o + at..];
                    let terms = y.iter_mut().zip(sums).zip(&bias[at..]).zip(keep);
                    for (((y, &sum), &b), &keep) in terms {
                        let v = positive(sum + b) * scale;
                        *y = if keep == 0 { T::ZERO } else { v };
                    }
                },
            );
        }
    }
    panels.recycle();
    Ok(T::to_cpu_storage_owned(y))
}

/// `max(v, 0)`; a NaN stays one.
#[inline(always)]
fn positive<T: Lanes>(v: T) -> T {
    if v <= T::ZERO { T::ZERO } else { v }
}

/// Rows from which the gradient of the weight is a product of tiles; below, packing costs too much.
const TILED_FROM: usize = 256;
/// How many of them are gone through at a time, so that their panels stay in a core's cache. It has no influence on the
/// bits.
const CHUNK: usize = 384;

/// `dx = g w`, `dw = g^T x` and `db = sum over rows of g`, those that are needed.
fn gradients<T: Lanes>(
    op: &Linear,
    args: &[Tensor],
    needs: &[bool],
    output: &Tensor,
    grad: &Tensor,
) -> candle_core::Result<Vec<Option<Tensor>>> {
    let (o, i) = args[1].dims2()?;
    let n = grad.elem_count() / o.max(1);
    let views = [&args[0], &args[1], output, grad].map(View::new);
    let (x, w) = (views[0].slice::<T>()?, views[1].slice::<T>()?);
    let g = views[3].slice::<T>()?;
    let g = match &op.relu {
        None => Cow::Borrowed(g),
        Some(Relu(mask)) => {
            let scale = mask.as_ref().map_or(1.0, |m| m.scale);
            Cow::Owned(where_open(g, views[2].slice::<T>()?, scale))
        }
    };
    let mut grads = vec![None; args.len()];
    if needs[0] {
        let panels = Panels::of(Rows::new(w, i, o, i));
        let mut dx = pool::take(n * i);
        let rows = Left::Rows(Rows::new(&g, o, n, o));
        panels.left_multiplied(rows, &mut dx, false, |_, _, sums, dx| {
            dx.copy_from_slice(sums);
        });
        panels.recycle();
        grads[0] = Some(kernel::tensor(dx, args[0].shape())?);
    }
    if needs[1] {
        let dw = match n < TILED_FROM {
            true => product(Matrix::new(&g, n, o)?.t(), Matrix::new(x, n, i)?)?,
            false => weight_gradient(&g, x, (n, o, i)),
        };
        grads[1] = Some(kernel::tensor(dw, args[1].shape())?);
    }
    if needs.get(2) == Some(&true) {
        grads[2] = Some(kernel::tensor::<T>(column_sums(&g, o), o)?);
    }
    if let Cow::Owned(g) = g {
        pool::give(g);
    }
    Ok(grads)
}

/// The gradient in front of a relu (and dropout) with the output `y`: `scale g` where `y > 0`, elsewhere 0. What was dropped
/// is 0 in `y`.
fn where_open<T: Lanes>(g: &[T], y: &[T], scale: f64) -> Vec<T> {
    let scale = T::from_f64(scale);
    let mut out = pool::take(g.len());
    kernel::for_chunks(&mut out, |out, at| {
        let n = out.len();
        let (g, y) = (&g[at..][..n], &y[at..][..n]);
        vectorised(
            #[inline(always)]
            move || {
                for ((out, &g), &y) in out.iter_mut().zip(g).zip(y) {
                    let open = g * scale;
                    // A NaN is not closed, so that it shows.
                    *out = if y <= T::ZERO { T::ZERO } else { open };
                }
            },
        );
    });
    out
}

/// `g^T x`, some rows at a time.
fn weight_gradient<T: Lanes>(g: &[T], x: &[T], (n, o, i): (usize, usize, usize)) -> Vec<T> {
    let mut dw = pool::take(o * i);
    for from in (0..n).step_by(CHUNK) {
        let rows = CHUNK.min(n - from);
        let panels = Panels::of(Rows::new(&x[from * i..], i, rows, i));
        let g = Left::Columns(Rows::new(&g[from * o..], o, rows, o));
        panels.left_multiplied(g, &mut dw, from > 0, |_, _, sums, dw| {
            dw.copy_from_slice(sums);
        });
        panels.recycle();
    }
    dw
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
