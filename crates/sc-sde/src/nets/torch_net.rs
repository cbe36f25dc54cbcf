use candle_core::Tensor;
use sc_model::layers::Linear;
use sc_model::{Mode, ParamBuilder};
use sc_tensor::rng::Stream;

use super::bound::{BoundLayer, BoundNet};
use super::{Activation, NetConfig};
use crate::{Error, Result};

/// A feed-forward net: `[Linear, Dropout, Activation]` for each hidden layer, then `Linear`.
///
/// Dropout comes before the activation, as in the original. Parameters are called `hidden_1.linear.weight`, ...,
/// `output.linear.weight`, and start from PyTorch's distribution.
#[derive(Debug, Clone)]
pub struct TorchNet {
    n_in: usize,
    n_augment: usize,
    layers: Vec<Layer>,
    output: Linear,
}

#[derive(Debug, Clone)]
struct Layer {
    name: String,
    linear: Linear,
    activation: Activation,
    dropout: f64,
}

impl TorchNet {
    /// Makes the parameters below `p`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) if the configuration can't be, or the names are taken.
    pub fn new(
        p: &ParamBuilder<'_>,
        config: &NetConfig,
        n_in: usize,
        n_out: usize,
    ) -> Result<Self> {
        config.check("net")?;
        let mut width = n_in.saturating_add(config.n_augment);
        check_size(width, &config.hidden, n_out)?;
        let mut layers = Vec::with_capacity(config.hidden.len());
        for (i, &units) in config.hidden.iter().enumerate() {
            let p = p.pp(format!("hidden_{}", i + 1));
            layers.push(Layer {
                name: p.path("dropout"),
                linear: Linear::new(&p.pp("linear"), width, units, config.bias)?,
                activation: config.activation_of(i),
                dropout: config.dropout_of(i),
            });
            width = units;
        }
        let p = p.pp("output").pp("linear");
        Ok(Self {
            n_in,
            n_augment: config.n_augment,
            layers,
            output: Linear::new(&p, width, n_out, config.output_bias)?,
        })
    }

    /// Inputs, without the zeros that are appended.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// The last layer.
    pub fn output(&self) -> &Linear {
        &self.output
    }

    /// `[N, n_in] -> [N, n_out]`.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        self.bind(mode)?.forward(x, &[])
    }

    /// The net with the tensors of this mode, ready to be evaluated many times.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn bind(&self, mode: &Mode<'_>) -> Result<BoundNet> {
        let layer = |layer: &Layer| {
            let dropout: Option<Stream> = match layer.dropout > 0.0 {
                true => mode.dropout_stream(&layer.name),
                false => None,
            };
            let dropout = dropout.map(|stream| (layer.dropout, stream));
            BoundLayer::new(&layer.linear, layer.activation, dropout, mode)
        };
        Ok(BoundNet {
            n_in: self.n_in,
            n_augment: self.n_augment,
            layers: self.layers.iter().map(layer).collect::<Result<_>>()?,
            weight: self.output.weight().get(mode).clone(),
            bias: self.output.bias().map(|b| b.get(mode).clone()),
        })
    }
}

/// The most numbers that a layer's weight may have.
const LARGEST: usize = 1 << 30;

fn check_size(n_in: usize, hidden: &[usize], n_out: usize) -> Result<()> {
    let mut width = n_in;
    for &units in hidden.iter().chain([&n_out]) {
        if width.saturating_mul(units) > LARGEST {
            return Err(Error::InvalidSetting {
                name: "net",
                value: format!("a layer of {width} x {units}"),
                reason: format!("a weight has at most {LARGEST} numbers"),
            });
        }
        width = units;
    }
    Ok(())
}
