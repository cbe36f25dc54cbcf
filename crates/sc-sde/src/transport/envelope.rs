//! Losses whose gradient is known without going back through their computation.

use ndarray::{ArrayView1, ArrayView2};
use sc_tensor::math::Float;
use sc_tensor::{DType, Device, Tensor};

use super::cloud::Cloud;
use crate::{Error, Result};

/// `value` in the graph, with these gradients for these tensors: `value + sum (t - detached t) gradient`, of which the
/// second part is 0; the sum is over all but the batch if there is one.
///
/// By the envelope theorem the potentials of optimal transport are constants for the gradient, so there is nothing to
/// record while they are computed.
pub(super) fn with_gradients(
    value: Tensor,
    gradients: &[(&Tensor, Tensor)],
    batched: bool,
) -> Result<Tensor> {
    let mut out = value;
    for (tensor, gradient) in gradients {
        let gradient = gradient.reshape(tensor.shape())?;
        let zero = ((*tensor - tensor.detach())? * gradient)?;
        let zero = match batched {
            true => zero.flatten_from(1)?.sum(1)?,
            false => zero.sum_all()?,
        };
        out = (out + zero)?;
    }
    Ok(out)
}

/// Numbers as a tensor like another one.
pub(super) fn tensor_like(numbers: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    let t = Tensor::from_vec(numbers, shape, &Device::Cpu)?;
    Ok(t.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// Clouds of a tensor, with weights if there are some: `[n, d]` with `[n]`, or batches of these.
pub(super) struct Side<T> {
    pub(super) batch: Option<usize>,
    n: usize,
    dim: usize,
    points: Vec<T>,
    weights: Option<Vec<T>>,
}

impl<T: Float> Side<T> {
    pub(super) fn new(what: &'static str, x: &Tensor, weights: Option<&Tensor>) -> Result<Self> {
        let (batch, n, dim) = match *x.dims() {
            [n, d] => (None, n, d),
            [b, n, d] => (Some(b), n, d),
            _ => {
                return Err(Error::Shape {
                    what,
                    found: x.dims().to_vec(),
                    expected: "[points, coordinates] or [batch, points, coordinates]".into(),
                });
            }
        };
        if x.elem_count() == 0 {
            return Err(Error::Empty {
                what,
                found: x.dims().to_vec(),
            });
        }
        if let Some(w) = weights {
            let expected = &x.dims()[..x.rank() - 1];
            if w.dims() != expected {
                return Err(Error::Shape {
                    what: "the weights of a cloud",
                    found: w.dims().to_vec(),
                    expected: format!("{expected:?}, one for each point"),
                });
            }
        }
        Ok(Self {
            batch,
            n,
            dim,
            points: numbers(x)?,
            weights: weights.map(numbers).transpose()?,
        })
    }

    pub(super) fn clouds(&self) -> Result<Vec<Cloud<'_, T>>> {
        let shape = |e: ndarray::ShapeError| Error::Candle(candle_core::Error::wrap(e));
        (0..self.batch.unwrap_or(1))
            .map(|b| {
                let points = &self.points[b * self.n * self.dim..][..self.n * self.dim];
                let view = ArrayView2::from_shape((self.n, self.dim), points).map_err(shape)?;
                let cloud = Cloud::new(view)?;
                match &self.weights {
                    Some(w) => cloud.with_weights(ArrayView1::from(&w[b * self.n..][..self.n])),
                    None => Ok(cloud),
                }
            })
            .collect()
    }
}

fn numbers<T: Float>(t: &Tensor) -> Result<Vec<T>> {
    let t = t.detach().to_device(&Device::Cpu)?.to_dtype(T::DTYPE)?;
    Ok(t.flatten_all()?.to_vec1()?)
}

/// Two batches of clouds, compared pair by pair.
pub(super) struct Sides<T> {
    pub(super) x: Side<T>,
    pub(super) y: Side<T>,
}

impl<T: Float> Sides<T> {
    pub(super) fn new(
        x: &Tensor,
        a: Option<&Tensor>,
        y: &Tensor,
        b: Option<&Tensor>,
    ) -> Result<Self> {
        let (x, y) = (
            Side::new("the first cloud", x, a)?,
            Side::new("the second cloud", y, b)?,
        );
        if x.batch != y.batch {
            return Err(Error::Shape {
                what: "the batch of second clouds",
                found: y.batch.into_iter().collect(),
                expected: match x.batch {
                    Some(n) => format!("[{n}], as the first clouds"),
                    None => "no batch, as the first cloud".into(),
                },
            });
        }
        Ok(Self { x, y })
    }
}

/// Fails unless the number type is one that can be computed with, the same for both clouds.
pub(super) fn dtype(x: &Tensor, y: &Tensor) -> Result<DType> {
    match (x.dtype(), y.dtype()) {
        (a, b) if a == b && matches!(a, DType::F32 | DType::F64) => Ok(a),
        (a, b) => Err(Error::InvalidSetting {
            name: "the number type of the clouds",
            value: format!("{a:?} and {b:?}"),
            reason: "both must be F32, or both F64; convert with `to_dtype`".into(),
        }),
    }
}
