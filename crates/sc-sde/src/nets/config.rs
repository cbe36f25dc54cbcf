use serde::{Deserialize, Serialize};

use super::Activation;
use crate::{Error, Result};

/// The layers of a [`TorchNet`](super::TorchNet), without the sizes of its input and output.
///
/// As in the original, a list of activations or dropout rates that is shorter than the list of layers repeats its last
/// element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetConfig {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Activations of the hidden layers.
    pub activation: Vec<Activation>,
    /// Share of each hidden layer's units that is dropped while training.
    pub dropout: Vec<f64>,
    /// Whether hidden layers have a bias.
    pub bias: bool,
    /// Whether the last layer has a bias.
    pub output_bias: bool,
    /// Zeros that are appended to the input ("augmented" nets).
    pub n_augment: usize,
}

impl NetConfig {
    /// Hidden layers of these widths with leaky rectifiers and biases, without dropout.
    pub fn new(hidden: impl Into<Vec<usize>>) -> Self {
        Self {
            hidden: hidden.into(),
            activation: vec![Activation::LeakyReLU],
            dropout: vec![0.0],
            bias: true,
            output_bias: true,
            n_augment: 0,
        }
    }

    /// The same activation everywhere.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = vec![activation];
        self
    }

    /// The same dropout rate everywhere.
    #[must_use]
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = vec![rate];
        self
    }

    /// Checks the settings of the net called `name`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`].
    pub fn check(&self, name: &'static str) -> Result<()> {
        let invalid = |value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.into(),
            })
        };
        if self.hidden.contains(&0) {
            return invalid(format!("{:?}", self.hidden), "a layer needs units");
        }
        if let Some(w) = self.hidden.iter().find(|&&w| w > 1 << 20) {
            return invalid(w.to_string(), "a layer has at most 1,048,576 units");
        }
        if self.n_augment > 1 << 20 {
            return invalid(self.n_augment.to_string(), "at most 1,048,576 zeros");
        }
        if self.activation.is_empty() && !self.hidden.is_empty() {
            return invalid("no activation".into(), "hidden layers need one");
        }
        match self.dropout.iter().find(|p| !(0.0..1.0).contains(*p)) {
            Some(p) => invalid(format!("dropout {p}"), "it is at least 0 and below 1"),
            None => Ok(()),
        }
    }

    /// The activation of a hidden layer.
    pub(super) fn activation_of(&self, layer: usize) -> Activation {
        let all = &self.activation;
        let repeated = all.get(layer).or(all.last());
        repeated.copied().unwrap_or(Activation::LeakyReLU)
    }

    /// The dropout rate of a hidden layer.
    pub(super) fn dropout_of(&self, layer: usize) -> f64 {
        let repeated = self.dropout.get(layer).or(self.dropout.last());
        repeated.copied().unwrap_or(0.0)
    }
}
