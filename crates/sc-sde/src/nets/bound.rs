//! A net whose parameters are tensors, and its derivatives in the input in closed form.

use candle_core::Tensor;
use sc_model::Mode;
use sc_model::layers::Linear;
use sc_tensor::ops;
use sc_tensor::rng::Stream;

use super::Activation;
use super::ops::{activate, times_slope};
use crate::{Error, Result};

/// A [`TorchNet`](super::TorchNet) with the tensors of one mode; made by [`TorchNet::bind`](super::TorchNet::bind).
///
/// `counters` tells the evaluations apart that drop units of their own: the same counters drop the same units.
#[derive(Debug, Clone)]
pub struct BoundNet {
    pub(super) n_in: usize,
    pub(super) n_augment: usize,
    pub(super) layers: Vec<BoundLayer>,
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
pub(super) struct BoundLayer {
    weight: Tensor,
    /// The transpose, input-major: what a gradient is multiplied by on its way back.
    transposed: Tensor,
    bias: Option<Tensor>,
    activation: Activation,
    dropout: Option<(f64, Stream)>,
}

impl BoundLayer {
    pub(super) fn new(
        linear: &Linear,
        activation: Activation,
        dropout: Option<(f64, Stream)>,
        mode: &Mode<'_>,
    ) -> Result<Self> {
        let weight = linear.weight().get(mode).clone();
        Ok(Self {
            transposed: weight.t()?.contiguous()?,
            weight,
            bias: linear.bias().map(|b| b.get(mode).clone()),
            activation,
            dropout,
        })
    }

    /// The pre-activation, units dropped.
    fn linear(&self, x: &Tensor, counters: &[u64]) -> Result<Tensor> {
        let h = ops::linear(x, &self.weight, self.bias.as_ref())?;
        self.drop_units(&h, counters)
    }

    /// The pre-activation without a graph, where nothing flows back through it.
    fn linear_detached(&self, x: &Tensor, counters: &[u64]) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Tensor::detach);
        let h = ops::linear(&x.detach(), &self.weight.detach(), bias.as_ref())?;
        self.drop_units(&h, counters)
    }

    fn drop_units(&self, h: &Tensor, counters: &[u64]) -> Result<Tensor> {
        Ok(match &self.dropout {
            Some((p, stream)) => ops::dropout(h, *p, &mut stream.at(counters))?,
            None => h.clone(),
        })
    }
}

impl BoundNet {
    /// `[N, n_in] -> [N, n_out]`.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, x: &Tensor, counters: &[u64]) -> Result<Tensor> {
        let mut a = self.augment(x)?;
        for layer in &self.layers {
            a = activate(&layer.linear(&a, counters)?, layer.activation)?;
        }
        Ok(ops::linear(&a, &self.weight, self.bias.as_ref())?)
    }

    /// The gradient of a net with one output in its input, `[N, n_in] -> [N, n_in]`.
    ///
    /// With `h_l = W_l a_(l-1) + b_l` and `a_l = phi(h_l)` it is `v_0`, where `v_L` is the row of the last layer and
    /// `v_(l-1) = W_l^T (phi'(h_l) v_l)`. These are ordinary operations, so that going back through them once gives the
    /// gradients of a loss of this gradient. With a piecewise linear activation the first sweep carries no gradient, and
    /// isn't recorded.
    ///
    /// # Errors
    /// [`Error::Shape`] if the net has another number of outputs.
    pub fn gradient(&self, x: &Tensor, counters: &[u64]) -> Result<Tensor> {
        let v = match self.weight.dims() {
            [1, _] => self.weight.squeeze(0)?,
            dims => {
                return Err(Error::Shape {
                    what: "the last layer of a potential",
                    found: dims.to_vec(),
                    expected: "[1, inputs]: a potential is one number".into(),
                });
            }
        };
        let linear = self
            .layers
            .iter()
            .all(|l| l.activation.is_piecewise_linear());
        let mut sums = Vec::with_capacity(self.layers.len());
        let mut a = self.augment(x)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let h = match linear {
                true => layer.linear_detached(&a, counters)?,
                false => layer.linear(&a, counters)?,
            };
            if i + 1 < self.layers.len() {
                a = activate(&h, layer.activation)?;
            }
            sums.push(h);
        }
        let mut v = v;
        for (layer, h) in self.layers.iter().zip(&sums).rev() {
            let back = layer.drop_units(&times_slope(&v, h, layer.activation)?, counters)?;
            v = ops::linear(&back, &layer.transposed, None)?;
        }
        if v.rank() == 1 {
            // No hidden layer: the potential is linear and its gradient the same everywhere.
            v = v.broadcast_as((x.dim(0)?, v.dim(0)?))?.contiguous()?;
        }
        self.first_inputs(&v)
    }

    /// The derivative of the output along `direction` (`[N, n_in]`), `[N, n_out]`: the product of the Jacobian with it.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn jvp(&self, x: &Tensor, direction: &Tensor, counters: &[u64]) -> Result<Tensor> {
        let (mut a, mut tangent) = (self.augment(x)?, self.augment(direction)?);
        for layer in &self.layers {
            let h = layer.linear(&a, counters)?;
            let moved = ops::linear(&tangent, &layer.weight, None)?;
            let moved = layer.drop_units(&moved, counters)?;
            tangent = times_slope(&moved, &h, layer.activation)?;
            a = activate(&h, layer.activation)?;
        }
        Ok(ops::linear(&tangent, &self.weight, None)?)
    }

    fn augment(&self, x: &Tensor) -> Result<Tensor> {
        if x.rank() != 2 || x.dim(1)? != self.n_in {
            return Err(Error::Shape {
                what: "the input of a net",
                found: x.dims().to_vec(),
                expected: format!("[cells, {}]", self.n_in),
            });
        }
        if self.n_augment == 0 {
            return Ok(x.clone());
        }
        let zeros = Tensor::zeros((x.dim(0)?, self.n_augment), x.dtype(), x.device())?;
        Ok(Tensor::cat(&[x, &zeros], 1)?)
    }

    fn first_inputs(&self, v: &Tensor) -> Result<Tensor> {
        Ok(match self.n_augment {
            0 => v.clone(),
            _ => v.narrow(1, 0, self.n_in)?.contiguous()?,
        })
    }
}
