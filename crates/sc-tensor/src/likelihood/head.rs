//! A likelihood together with the linear layers that give its logits.
//!
//! The last layers of a decoder make `[N, G]` logits of `[N, H]` hidden units, the likelihood reads each of them once, and
//! `backward` does the same in reverse. As one operation the `[N, G]` matrices never become tensors: the products write
//! into buffers that are used again in the next step, the rows of the likelihood overwrite the logits by their gradients,
//! and the cotangent scales the `[N, H]` side of the products only:
//! with `S` the gradients by the logits, `c` the cotangent and `h` the hidden units,
//! `dW = S^T (diag(c) h)` and `dh = diag(c) (S W)`.

use std::sync::Arc;

use candle_core::Tensor;
use sc_data::Csr;

use super::family::{Dispersion, DispersionRows, Family, Mean};
use super::graph::log_prob;
use super::head_graph;
use super::problem::{MeanKind, Problem};
use crate::ops::linear;
use crate::{DType, Error, Result};

/// A linear layer, `h W^T + b`.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// `[G, H]`, as PyTorch keeps it.
    pub weight: &'a Tensor,
    /// `[G]`
    pub bias: &'a Tensor,
}

/// How the mean comes about from the logits of a [`Layer`]; see [`Mean`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum LinearMean<'a> {
    /// `mu = exp(log_library) * softmax(logits)`
    Softmax {
        /// Gives the logits.
        layer: Layer<'a>,
        /// `[N]` or `[N, 1]`
        log_library: &'a Tensor,
    },
    /// `mu = exp(log_library) * softplus(logits)`
    Softplus {
        /// Gives the logits.
        layer: Layer<'a>,
        /// `[N]` or `[N, 1]`
        log_library: &'a Tensor,
    },
}

impl<'a> LinearMean<'a> {
    fn parts(&self) -> (MeanKind, Layer<'a>, &'a Tensor) {
        match *self {
            Self::Softmax { layer, log_library } => (MeanKind::Softmax, layer, log_library),
            Self::Softplus { layer, log_library } => (MeanKind::Softplus, layer, log_library),
        }
    }
}

impl Layer<'_> {
    fn logits(&self, h: &Tensor) -> Result<Tensor> {
        linear(h, self.weight, Some(self.bias))
    }

    fn check(&self, what: &'static str, g: usize, width: usize, dtype: DType) -> Result<()> {
        let shape = |what, found: &Tensor, expected| Error::Shape {
            op: "log_prob_linear",
            what,
            found: found.dims().to_vec(),
            expected,
        };
        if self.weight.dims() != [g, width] {
            return Err(shape(what, self.weight, format!("[{g}, {width}]")));
        }
        if self.bias.dims() != [g] {
            return Err(shape("a bias", self.bias, format!("[{g}]")));
        }
        for t in [self.weight, self.bias] {
            if t.dtype() != dtype {
                return Err(Error::DType {
                    op: "log_prob_linear, all tensors of one type",
                    found: t.dtype(),
                });
            }
        }
        Ok(())
    }
}

/// [`log_prob`](log_prob()) of logits that linear layers make of `h`, `[N, H]`, in one operation: `[N]`.
///
/// The same numbers as [`linear`] followed by [`log_prob`](log_prob()), up to rounding, but no `[N, G]` tensor is made. On a
/// device other than the CPU, and for a dispersion of each cell, it is that composition.
///
/// ```
/// use std::sync::Arc;
/// use sc_data::Csr;
/// use sc_tensor::likelihood::{Dispersion, Family, Layer, LinearMean, log_prob_linear};
/// use sc_tensor::{DType, Device, Tensor, Var};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let x = Arc::new(Csr::new(2, 3, vec![0, 2, 3], vec![0, 2, 1], vec![3.0, 1.0, 2.0])?);
/// let h = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let weight = Var::zeros((3, 2), DType::F32, &Device::Cpu)?;
/// let bias = Var::zeros(3, DType::F32, &Device::Cpu)?;
/// let log_theta = Var::zeros(3, DType::F32, &Device::Cpu)?;
/// let log_library = Tensor::new(&[4f32.ln(), 2f32.ln()], &Device::Cpu)?;
///
/// let layer = Layer { weight: &weight, bias: &bias };
/// let mean = LinearMean::Softmax { layer, log_library: &log_library };
/// let dispersion = Dispersion::shared(&log_theta);
/// let ll = log_prob_linear(Family::NegativeBinomial, &x, &h, &mean, Some(&dispersion), None)?;
/// assert_eq!(ll.dims(), [2]);
/// assert!(ll.sum_all()?.backward()?.get(&weight).is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// As [`log_prob`](log_prob()), and if a layer doesn't fit `h` and the counts.
pub fn log_prob_linear(
    family: Family,
    x: &Arc<Csr>,
    h: &Tensor,
    mean: &LinearMean<'_>,
    dispersion: Option<&Dispersion<'_>>,
    dropout: Option<Layer<'_>>,
) -> Result<Tensor> {
    let (kind, layer, log_library) = mean.parts();
    let per_cell = dispersion.is_some_and(|d| matches!(d.rows, DispersionRows::PerCell));
    if per_cell || !h.device().is_cpu() {
        let logits = &layer.logits(h)?;
        let mean = match kind {
            MeanKind::Softplus => Mean::Softplus {
                logits,
                log_library,
            },
            _ => Mean::Softmax {
                logits,
                log_library,
            },
        };
        let dropout = dropout.map(|d| d.logits(h)).transpose()?;
        return log_prob(family, x, &mean, dispersion, dropout.as_ref());
    }
    let (g, dtype) = (x.n_cols(), h.dtype());
    let &[n, width] = h.dims() else {
        return Err(Error::Shape {
            op: "log_prob_linear",
            what: "h",
            found: h.dims().to_vec(),
            expected: "[N, H]".into(),
        });
    };
    layer.check("the weight of the mean", g, width, dtype)?;
    if let Some(dropout) = dropout {
        dropout.check("the weight of the dropout", g, width, dtype)?;
    }
    let dims = [n, g];
    let problem = Problem::of_dims(
        family,
        x,
        (kind, &dims, dtype),
        Some(log_library),
        dispersion,
        dropout.map(|_| dims.as_slice()),
    )?;
    let tensors = head_graph::Tensors {
        h,
        mean: layer,
        dropout,
        log_theta: dispersion.map(|d| d.log_theta),
        log_library,
    };
    Ok(match dtype {
        DType::F64 => head_graph::connect::<f64>(problem, &tensors)?,
        _ => head_graph::connect::<f32>(problem, &tensors)?,
    })
}
