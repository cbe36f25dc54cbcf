//! Expression after a perturbation as a line through the value before.

use candle_core::Tensor;
use sc_model::{Mode, ParamBuilder};
use sc_tensor::ops;
use serde::{Deserialize, Serialize};

use super::PerturbConfig;
use crate::Result;
use crate::scgpt::decoders::ExpressionDecoder;
use crate::tokens::TokenBatch;

/// A function of slope and shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// As they are.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `tanh(x)`.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

impl Activation {
    fn of(self, x: Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::None => x,
            Self::Relu => ops::relu(&x)?,
            Self::Tanh => x.tanh()?,
            Self::Sigmoid => ops::sigmoid(&x)?,
        })
    }
}

/// `value = slope * value before + shift`, gene by gene.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Affine {
    /// The expression after the perturbation.
    pub value: Tensor,
    /// What the value before is multiplied by.
    pub slope: Tensor,
    /// What is added.
    pub shift: Tensor,
    /// The logit of the probability that the value is not zero, where the model has it.
    pub nonzero_logit: Option<Tensor>,
}

#[derive(Debug, Clone)]
pub(super) struct AffineDecoder {
    slope: ExpressionDecoder,
    shift: ExpressionDecoder,
    activation: Activation,
    adaptive: bool,
}

impl AffineDecoder {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &PerturbConfig) -> Result<Self> {
        let (d, nonzero) = (c.base.d_model, c.base.nonzero_prob);
        let decoder = |name: &str| ExpressionDecoder::new(&p.pp(name), d, d, nonzero);
        Ok(Self {
            slope: decoder("coeff_decoder")?,
            shift: decoder("bias_decoder")?,
            activation: c.activation,
            adaptive: c.adaptive_bias,
        })
    }

    pub(super) fn forward(
        &self,
        hidden: &Tensor,
        cells: &TokenBatch,
        mode: &Mode<'_>,
    ) -> Result<Affine> {
        let slope = self.slope.forward(hidden, None, mode)?;
        let shift = self.shift.forward(hidden, None, mode)?.value;
        let (a, mut b) = (self.activation.of(slope.value)?, self.activation.of(shift)?);
        let like = |v: &[f32]| -> Result<Tensor> {
            let t = Tensor::from_slice(v, v.len(), hidden.device())?;
            Ok(t.to_dtype(hidden.dtype())?)
        };
        if self.adaptive {
            b = (b * like(&nonzero_means(cells))?)?;
        }
        Ok(Affine {
            value: ((&a * like(&cells.values)?)? + &b)?,
            slope: a,
            shift: b,
            nonzero_logit: slope.nonzero_logit,
        })
    }
}

/// For each token the mean of its cell's values that are not zero; 0 where all are.
fn nonzero_means(cells: &TokenBatch) -> Vec<f32> {
    let mut all = Vec::with_capacity(cells.n_tokens());
    for s in cells.segments.iter() {
        let row = cells.values.get(s.start..s.start + s.rows).unwrap_or(&[]);
        let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
        let n = row.iter().filter(|v| **v != 0.0).count();
        let mean = if n == 0 { 0.0 } else { sum / n as f64 };
        all.extend(std::iter::repeat_n(mean as f32, s.rows));
    }
    all
}
