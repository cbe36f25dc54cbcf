//! The output layer of a decoder, written straight into memory that the caller holds.

use candle_core::Tensor;

use crate::kernel::{self, View};
use crate::math::{Kernel, LANES, Lane, dispatch};
use crate::matmul::{Matrix, multiply};
use crate::{DType, Error, Result};

/// What is done to the logits of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frequencies {
    /// `e^logit / sum of e^logits`
    Softmax,
    /// `ln(1 + e^logit)`
    Softplus,
}

/// `out[i, :] = sizes[i] * f(h[i, :] w^T + b)`, where `f` is the softmax of a row (or the softplus of its elements).
///
/// `h` is `[N, H]`, `w` is `[G, H]` as in a PyTorch checkpoint, `b` is `[G]`; `out` has `N G` elements, row by row, and
/// `sizes` one for each row or one for all. This is for inference: no `[N, G]` tensor is made, none is filled with zeros
/// first, nothing is copied, and there is no gradient. The bits don't depend on the number of threads.
///
/// ```
/// use sc_tensor::ops::{Frequencies, frequencies_into};
/// use sc_tensor::{Device, Tensor};
/// let h = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
/// let w = Tensor::new(&[[0f32, 0.0], [2f32.ln(), 0.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[0f32, 0.0], &Device::Cpu)?;
/// let mut out = [0.0; 2];
/// frequencies_into(&h, &w, &b, Frequencies::Softmax, &[30.0], &mut out)?;
/// assert!((out[0] - 10.0).abs() < 1e-5 && (out[1] - 20.0).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] if the shapes don't fit, [`Error::DType`] unless all tensors are `f32`, and if they are not on the CPU.
pub fn frequencies_into(
    h: &Tensor,
    w: &Tensor,
    b: &Tensor,
    f: Frequencies,
    sizes: &[f32],
    out: &mut [f32],
) -> Result<()> {
    let (n, g, width) = check(h, w, b, sizes.len(), out.len())?;
    if n == 0 || g == 0 {
        return Ok(());
    }
    let (h, w, b) = (h.contiguous()?, w.contiguous()?, b.contiguous()?);
    let (h, w, b) = (View::new(&h), View::new(&w), View::new(&b));
    multiply(
        Matrix::new(h.slice::<f32>()?, n, width)?,
        Matrix::new(w.slice()?, g, width)?.t(),
        out,
        false,
    )?;
    let bias = b.slice::<f32>()?;
    kernel::for_rows(out, g, |i, row| {
        let size = sizes[i % sizes.len()];
        match f {
            Frequencies::Softmax => dispatch(Softmax { row, bias, size }),
            Frequencies::Softplus => dispatch(Softplus { row, bias, size }),
        }
    });
    Ok(())
}

/// Rows, columns and hidden units, if everything fits.
fn check(
    h: &Tensor,
    w: &Tensor,
    b: &Tensor,
    sizes: usize,
    out: usize,
) -> Result<(usize, usize, usize)> {
    let wrong = |what, found: Vec<usize>, expected: String| Error::Shape {
        op: "frequencies_into",
        what,
        found,
        expected,
    };
    for t in [h, w, b] {
        if t.dtype() != DType::F32 {
            return Err(Error::DType {
                op: "frequencies_into",
                found: t.dtype(),
            });
        }
    }
    let &[n, width] = h.dims() else {
        return Err(wrong("h", h.dims().to_vec(), "[N, H]".into()));
    };
    let g = b.elem_count();
    if w.dims() != [g, width] || b.dims() != [g] {
        return Err(wrong(
            "the weight",
            w.dims().to_vec(),
            format!("[{g}, {width}]"),
        ));
    }
    if n.checked_mul(g) != Some(out) {
        return Err(wrong("the output", vec![out], format!("{n} x {g}")));
    }
    if sizes != 1 && sizes != n {
        return Err(wrong("the sizes", vec![sizes], format!("1 or {n}")));
    }
    Ok((n, g, width))
}

struct Softmax<'a> {
    row: &'a mut [f32],
    bias: &'a [f32],
    size: f32,
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { row, bias, size } = self;
        let mut largest = [f32::NEG_INFINITY; LANES];
        let (whole, rest) = row.as_chunks_mut::<LANES>();
        let (whole_bias, rest_bias) = bias.as_chunks::<LANES>();
        for (row, bias) in whole.iter_mut().zip(whole_bias) {
            shift_up(row, bias, &mut largest);
        }
        shift_up(rest, rest_bias, &mut largest);
        let max = largest.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
        // exp(x - max) of infinities would be NaN. A NaN in the row reaches the sum, and by it every element.
        let shift = if max.is_finite() { max } else { 0.0 };
        let mut sums = [0f32; LANES];
        for row in whole {
            exponentials::<FMA>(row, shift, &mut sums);
        }
        exponentials::<FMA>(rest, shift, &mut sums);
        let mut span = LANES / 2;
        while span > 0 {
            for l in 0..span {
                sums[l] += sums[l + span];
            }
            span /= 2;
        }
        let factor = size / sums[0];
        for v in row {
            *v *= factor;
        }
    }
}

/// Adds the bias and keeps the largest number of each lane.
#[inline(always)]
fn shift_up(row: &mut [f32], bias: &[f32], largest: &mut [f32; LANES]) {
    for ((v, &b), largest) in row.iter_mut().zip(bias).zip(largest) {
        *v += b;
        *largest = if *v > *largest { *v } else { *largest };
    }
}

/// `e^(x - shift)`, added to the sum of each lane.
#[inline(always)]
fn exponentials<const FMA: bool>(row: &mut [f32], shift: f32, sums: &mut [f32; LANES]) {
    for (v, sum) in row.iter_mut().zip(sums) {
        *v = (*v - shift).exp_lane::<FMA>();
        *sum += *v;
    }
}

struct Softplus<'a> {
    row: &'a mut [f32],
    bias: &'a [f32],
    size: f32,
}

impl Kernel for Softplus<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { row, bias, size } = self;
        for (v, &b) in row.iter_mut().zip(bias) {
            *v = (*v + b).softplus::<FMA>() * size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Rng, ops};

    fn numbers(shape: (usize, usize), name: &str) -> Tensor {
        let mut stream = Rng::new(1).stream(name);
        stream.normal(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn the_same_as_the_operations_one_by_one() {
        for (n, g, width) in [(3, 5, 2), (70, 601, 16)] {
            let (h, w) = (numbers((n, width), "h"), numbers((g, width), "w"));
            let b = numbers((1, g), "b").flatten_all().unwrap();
            let sizes: Vec<f32> = (0..n).map(|i| 1.0 + i as f32).collect();
            let logits = ops::linear(&h, &w, Some(&b)).unwrap();
            for (f, expected) in [
                (Frequencies::Softmax, ops::softmax(&logits).unwrap()),
                (Frequencies::Softplus, ops::softplus(&logits).unwrap()),
            ] {
                let mut out = vec![f32::NAN; n * g];
                frequencies_into(&h, &w, &b, f, &sizes, &mut out).unwrap();
                let expected = expected.to_vec2::<f32>().unwrap();
                for (i, (row, expected)) in out.chunks(g).zip(&expected).enumerate() {
                    for (&found, &e) in row.iter().zip(expected) {
                        let e = e * sizes[i];
                        assert!((found - e).abs() <= 2e-6 * e.abs(), "{found} for {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_thread_or_many() {
        let (h, w) = (numbers((300, 8), "h"), numbers((400, 8), "w"));
        let b = numbers((1, 400), "b").flatten_all().unwrap();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let mut out = vec![0.0; 300 * 400];
            pool.build().unwrap().install(|| {
                frequencies_into(&h, &w, &b, Frequencies::Softmax, &[1.0], &mut out).unwrap();
            });
            out
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let (h, w) = (numbers((3, 2), "h"), numbers((5, 2), "w"));
        let b = numbers((1, 5), "b").flatten_all().unwrap();
        let run = |h: &Tensor, sizes: &[f32], len: usize| {
            frequencies_into(h, &w, &b, Frequencies::Softmax, sizes, &mut vec![0.0; len])
        };
        assert!(run(&h, &[1.0], 15).is_ok());
        assert!(run(&h, &[1.0, 2.0], 15).is_err());
        assert!(run(&h, &[1.0], 14).is_err());
        assert!(run(&w.t().unwrap(), &[1.0], 10).is_err());
        assert!(run(&h.to_dtype(DType::F64).unwrap(), &[1.0], 15).is_err());
    }
}
