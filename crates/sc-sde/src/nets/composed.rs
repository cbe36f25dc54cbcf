//! Activations and their slopes made of plain tensor operations: they run on every device, and are what the fused ones are
//! tested against.

use candle_core::Tensor;
use sc_tensor::ops::composed::{sigmoid, softplus};

use super::Activation;
use super::activation::{LEAK, SELU_ALPHA, SELU_SCALE};
use crate::Result;

/// `phi(x)`.
pub(super) fn values(x: &Tensor, f: Activation) -> Result<Tensor> {
    Ok(match f {
        Activation::LeakyReLU => (x.relu()? - (x.neg()?.relu()? * LEAK)?)?,
        Activation::ReLU => x.relu()?,
        Activation::Softplus => softplus(x)?,
        Activation::SiLU => (x * sigmoid(x)?)?,
        Activation::Tanh => x.tanh()?,
        Activation::Sigmoid => sigmoid(x)?,
        Activation::ELU => x.elu(1.0)?,
        Activation::SELU => (x.elu(SELU_ALPHA)? * SELU_SCALE)?,
    })
}

/// `phi'(x)`, to be differentiated once more.
pub(super) fn slopes(x: &Tensor, f: Activation) -> Result<Tensor> {
    let positive = || Ok::<_, crate::Error>(x.gt(0.0)?.to_dtype(x.dtype())?);
    Ok(match f {
        Activation::LeakyReLU => positive()?.affine(1.0 - LEAK, LEAK)?,
        Activation::ReLU => positive()?,
        Activation::Softplus => sigmoid(x)?,
        Activation::SiLU => {
            let s = sigmoid(x)?;
            (&s * ((x * s.affine(-1.0, 1.0)?)? + 1.0)?)?
        }
        Activation::Tanh => x.tanh()?.sqr()?.affine(-1.0, 1.0)?,
        Activation::Sigmoid => {
            let s = sigmoid(x)?;
            (&s * s.affine(-1.0, 1.0)?)?
        }
        Activation::ELU => exponential_below(x, 1.0, 1.0)?,
        Activation::SELU => exponential_below(x, SELU_SCALE, SELU_SCALE * SELU_ALPHA)?,
    })
}

/// `above` where `x > 0`, elsewhere `below e^x`.
fn exponential_below(x: &Tensor, above: f64, below: f64) -> Result<Tensor> {
    let positive = x.gt(0.0)?;
    // No exponential of what isn't used: it could be infinite.
    let safe = positive.where_cond(&x.zeros_like()?, x)?;
    let straight = (x.zeros_like()? + above)?;
    Ok(positive.where_cond(&straight, &(safe.exp()? * below)?)?)
}
