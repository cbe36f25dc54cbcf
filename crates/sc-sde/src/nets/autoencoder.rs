use candle_core::Tensor;
use sc_model::{Mode, ParamBuilder};
use serde::{Deserialize, Serialize};

use super::{Activation, NetConfig, TorchNet};
use crate::{Error, Result};

/// An autoencoder around the latent space in which cells move: a net down to it, and one of mirrored widths back up.
///
/// It is a plain autoencoder: nothing is sampled and there is no KL term.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoencoderConfig {
    /// Columns of the data.
    pub n_input: usize,
    /// Hidden layers of each half; 4.
    pub n_hidden: usize,
    /// Widths lie evenly between the ends once their `power`-th root is taken; 2.
    pub power: f64,
    /// Between the layers; leaky rectifiers.
    pub activation: Activation,
    /// Share of units that is dropped while training; 0.2.
    pub dropout: f64,
    /// Whether the layers have biases; they do.
    pub bias: bool,
}

impl AutoencoderConfig {
    /// The original's defaults for data of this many columns.
    pub fn new(n_input: usize) -> Self {
        Self {
            n_input,
            n_hidden: 4,
            power: 2.0,
            activation: Activation::LeakyReLU,
            dropout: 0.2,
            bias: true,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`].
    pub fn check(&self, n_latent: usize) -> Result<()> {
        let invalid = |value: String, reason: String| {
            Err(Error::InvalidSetting {
                name: "autoencoder",
                value,
                reason,
            })
        };
        if self.n_input < n_latent {
            return invalid(
                format!("n_input {}", self.n_input),
                format!("it leads to {n_latent} latent dimensions, which should be fewer"),
            );
        }
        if self.n_hidden > 64 {
            return invalid(
                format!("n_hidden {}", self.n_hidden),
                "at most 64 layers".into(),
            );
        }
        if !(self.power.is_finite() && self.power > 0.0) {
            return invalid(format!("power {}", self.power), "it is above 0".into());
        }
        self.net(&[1]).check("autoencoder")
    }

    fn net(&self, hidden: &[usize]) -> NetConfig {
        NetConfig {
            hidden: hidden.to_vec(),
            activation: vec![self.activation],
            dropout: vec![self.dropout],
            bias: self.bias,
            output_bias: self.bias,
            n_augment: 0,
        }
    }
}

/// Widths of the hidden layers between `start` and `stop`: evenly spaced in the `power`-th root.
pub fn power_widths(start: usize, stop: usize, n_hidden: usize, power: f64) -> Vec<usize> {
    let (a, b) = (
        (start as f64).powf(1.0 / power),
        (stop as f64).powf(1.0 / power),
    );
    let gaps = (n_hidden + 1) as f64;
    let width = |k: usize| (a + (b - a) / gaps * k as f64).powf(power) as usize;
    (1..=n_hidden).map(|k| width(k).max(1)).collect()
}

/// The encoder and the decoder of [`AutoencoderConfig`].
#[derive(Debug, Clone)]
pub struct Autoencoder {
    encoder: TorchNet,
    decoder: TorchNet,
}

impl Autoencoder {
    /// Makes the parameters below `Encoder` and `Decoder`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the configuration can't be.
    pub fn new(p: &ParamBuilder<'_>, c: &AutoencoderConfig, n_latent: usize) -> Result<Self> {
        c.check(n_latent)?;
        let down = power_widths(c.n_input, n_latent, c.n_hidden, c.power);
        let up = power_widths(n_latent, c.n_input, c.n_hidden, c.power);
        Ok(Self {
            encoder: TorchNet::new(&p.pp("Encoder"), &c.net(&down), c.n_input, n_latent)?,
            decoder: TorchNet::new(&p.pp("Decoder"), &c.net(&up), n_latent, c.n_input)?,
        })
    }

    /// Data to latent space, `[N, n_input] -> [N, n_latent]`.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn encode(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        self.encoder.forward(x, mode)
    }

    /// Latent space to data, `[N, n_latent] -> [N, n_input]`.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn decode(&self, z: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        self.decoder.forward(z, mode)
    }

    /// The squared error of reconstructing `x`, summed: the loss of pretraining.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn reconstruction_loss(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let again = self.decode(&self.encode(x, mode)?, mode)?;
        Ok((again - x)?.sqr()?.sum_all()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_originals() {
        assert_eq!(power_widths(30, 5, 4, 2.0), [23, 17, 12, 8]);
        assert_eq!(power_widths(5, 30, 4, 2.0), [8, 12, 17, 23]);
    }
}
