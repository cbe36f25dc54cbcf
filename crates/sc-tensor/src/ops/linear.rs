use candle_core::{CpuStorage, Shape, Tensor};

use super::composed;
use super::reduce::sum_rows_kernel;
use crate::kernel::{self, Arg, Kernel, View, by_dtype};
use crate::matmul::{Matrix, product};
use crate::pool;
use crate::tiles::{Lanes, Panels, Rows};
use crate::{Error, Result};

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
    let &[o, i] = w.dims() else {
        return Err(wrong("the weight", w, "[outputs, inputs]".into()));
    };
    if x.dims().last() != Some(&i) {
        return Err(wrong("the input", x, format!("[.., {i}]")));
    }
    if let Some(b) = b
        && b.dims() != [o]
    {
        return Err(wrong("the bias", b, format!("[{o}]")));
    }
    if composed::is_half(w) && !composed::is_half(x) {
        return linear(x, &w.to_dtype(x.dtype())?, b);
    }
    if !composed::fusible(&[x, w]) {
        return composed::linear(x, w, b);
    }
    let mut args = vec![x, w];
    args.extend(b);
    Ok(kernel::apply(Linear, &args)?)
}

fn wrong(what: &'static str, t: &Tensor, expected: String) -> Error {
    Error::Shape {
        op: "linear",
        what,
        found: t.dims().to_vec(),
        expected,
    }
}

struct Linear;

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
        let y = by_dtype!("linear", x.dtype(), forward(x, w, bias, (n, o, i)))?;
        Ok((y, dims.into()))
    }

    fn backward(
        &self,
        args: &[Tensor],
        needs: &[bool],
        _: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<Vec<Option<Tensor>>> {
        let (x, w) = (&args[0], &args[1]);
        let (o, i) = w.dims2()?;
        let n = grad.elem_count() / o.max(1);
        let g = grad.reshape((n, o))?;
        let (dx, dw) = by_dtype!(
            "linear",
            g.dtype(),
            products(&g, x, w, (n, o, i), [needs[0], needs[1]])
        )?;
        let db = match needs.get(2) {
            Some(true) => Some(by_dtype!("linear", g.dtype(), sum_rows_kernel(&g))?),
            _ => None,
        };
        Ok(vec![dx, dw, db])
    }
}

fn forward<T: Lanes>(
    x: &Arg<'_>,
    w: &Arg<'_>,
    bias: Option<&Arg<'_>>,
    (n, o, i): (usize, usize, usize),
) -> candle_core::Result<CpuStorage> {
    let panels = Panels::of_transposed(Rows::new(w.slice()?, i, o, i));
    let x = Rows::new(x.slice()?, i, n, i);
    let mut y = pool::take(n * o);
    match bias {
        Some(bias) => {
            let bias = bias.slice::<T>()?;
            panels.left_multiplied(x, &mut y, |at, sums, y| {
                for ((y, &sum), &b) in y.iter_mut().zip(sums).zip(&bias[at..]) {
                    *y = sum + b;
                }
            });
        }
        None => panels.left_multiplied(x, &mut y, |_, sums, y| y.copy_from_slice(sums)),
    }
    panels.recycle();
    Ok(T::to_cpu_storage_owned(y))
}

/// `dx = g w` and `dw = g^T x`, those that are needed.
fn products<T: Lanes>(
    g: &Tensor,
    x: &Tensor,
    w: &Tensor,
    (n, o, i): (usize, usize, usize),
    needs: [bool; 2],
) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
    let views = [g, x, w].map(View::new);
    let grad = Matrix::new(views[0].slice::<T>()?, n, o)?;
    let dx = match needs[0] {
        true => {
            let panels = Panels::of(Rows::new(views[2].slice::<T>()?, i, o, i));
            let rows = Rows::new(views[0].slice()?, o, n, o);
            let mut dx = pool::take(n * i);
            panels.left_multiplied(rows, &mut dx, |_, sums, dx| dx.copy_from_slice(sums));
            panels.recycle();
            Some(kernel::tensor(dx, x.shape())?)
        }
        false => None,
    };
    let dw = match needs[1] {
        true => {
            let dw = product(grad.t(), Matrix::new(views[1].slice()?, n, i)?)?;
            Some(kernel::tensor(dw, w.shape())?)
        }
        false => None,
    };
    Ok((dx, dw))
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
