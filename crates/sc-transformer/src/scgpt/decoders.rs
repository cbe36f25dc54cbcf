//! What reads the transformer's output: expression of genes, cell types, batches.

use candle_core::Tensor;
use sc_model::layers::Linear;
use sc_model::{Mode, ParamBuilder};
use sc_tensor::{Stream, ops};

use super::norm::LayerNorm;
use super::rows::gather;
use crate::Result;

/// Slope of the leaky rectifier below 0.
const SLOPE: f64 = 0.01;

/// What decoders are told besides a cell's or gene's own vector: rows of a table, and which row each token and cell has.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    /// `[different, D]`.
    pub(super) rows: Tensor,
    pub(super) of_token: Vec<u32>,
    pub(super) of_cell: Vec<u32>,
}

/// A linear map of `[x ; condition]`: the part of the condition is computed once for each different one.
fn conditioned(
    linear: &Linear,
    x: &Tensor,
    condition: Option<&Condition>,
    mode: &Mode<'_>,
) -> Result<Tensor> {
    let Some(c) = condition else {
        return Ok(linear.forward(x, mode)?);
    };
    let (weight, d) = (linear.weight().get(mode), x.dim(1)?);
    let rest = weight.dim(1)?.saturating_sub(d);
    let own = weight.narrow(1, 0, d)?.contiguous()?;
    let told = weight.narrow(1, d, rest)?.contiguous()?;
    let bias = linear.bias().map(|b| b.get(mode));
    let table = ops::linear(&c.rows, &told, bias)?;
    Ok((ops::linear(x, &own, None)? + gather(&table, &c.of_token)?)?)
}

/// Three linear maps with leaky rectifiers between: one number a row.
#[derive(Debug, Clone)]
struct Head {
    layers: [Linear; 3],
}

impl Head {
    fn new(p: &ParamBuilder<'_>, n_in: usize, d: usize) -> Result<Self> {
        Ok(Self {
            layers: [
                Linear::new(&p.pp(0), n_in, d, true)?,
                Linear::new(&p.pp(2), d, d, true)?,
                Linear::new(&p.pp(4), d, 1, true)?,
            ],
        })
    }

    /// `[rows, D] -> [rows]`.
    fn forward(&self, x: &Tensor, told: Option<&Condition>, mode: &Mode<'_>) -> Result<Tensor> {
        let [first, second, third] = &self.layers;
        let x = ops::leaky_relu(&conditioned(first, x, told, mode)?, SLOPE)?;
        let x = ops::leaky_relu(&second.forward(&x, mode)?, SLOPE)?;
        Ok(third.forward(&x, mode)?.squeeze(1)?)
    }
}

/// Predicted values of genes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Predicted {
    /// The value of each token, on the scale of the bins.
    pub value: Tensor,
    /// The logit of the probability that the value is not zero, where the model has it. (Upstream calls that probability
    /// `zero_probs`.)
    pub nonzero_logit: Option<Tensor>,
}

impl Predicted {
    /// The probability that a value is not zero.
    ///
    /// # Errors
    /// If the tensor operation fails.
    pub fn nonzero_prob(&self) -> Result<Option<Tensor>> {
        let sigmoid = |t: &Tensor| Ok(ops::sigmoid(t)?);
        self.nonzero_logit.as_ref().map(sigmoid).transpose()
    }

    /// The values, each set to zero with the probability that it is zero, where the model has that (upstream's `do_sample`).
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn sampled(&self, stream: &mut Stream) -> Result<Tensor> {
        let Some(p) = self.nonzero_prob()? else {
            return Ok(self.value.clone());
        };
        let mut draws = vec![0f64; p.elem_count()];
        stream.fill_uniform(0.0, 1.0, &mut draws);
        let draws = Tensor::from_vec(draws, p.shape(), p.device())?.to_dtype(p.dtype())?;
        Ok((draws.lt(&p)?.to_dtype(p.dtype())? * &self.value)?)
    }
}

/// Expression of genes, from their rows (upstream's `ExprDecoder`).
#[derive(Debug, Clone)]
pub(super) struct ExpressionDecoder {
    value: Head,
    nonzero: Option<Head>,
}

impl ExpressionDecoder {
    pub(super) fn new(p: &ParamBuilder<'_>, n_in: usize, d: usize, nonzero: bool) -> Result<Self> {
        Ok(Self {
            value: Head::new(&p.pp("fc"), n_in, d)?,
            nonzero: nonzero
                .then(|| Head::new(&p.pp("zero_logit"), n_in, d))
                .transpose()?,
        })
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        told: Option<&Condition>,
        mode: &Mode<'_>,
    ) -> Result<Predicted> {
        let nonzero = |h: &Head| h.forward(x, told, mode);
        Ok(Predicted {
            value: self.value.forward(x, told, mode)?,
            nonzero_logit: self.nonzero.as_ref().map(nonzero).transpose()?,
        })
    }
}

/// What comes between the linear maps of a [`Classifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    Relu,
    LeakyRelu,
}

/// Linear map, rectifier, layer norm, several times, then the logits. The cell-type classifier and the adversary.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    hidden: Vec<(Linear, LayerNorm)>,
    out: Linear,
    between: Between,
}

impl Classifier {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        d: usize,
        n_layers: usize,
        n_out: usize,
        between: Between,
    ) -> Result<Self> {
        let below = p.pp("_decoder");
        let hidden = (0..n_layers.saturating_sub(1))
            .map(|i| {
                let linear = Linear::new(&below.pp(3 * i), d, d, true)?;
                Ok((linear, LayerNorm::new(&below.pp(3 * i + 2), d)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            hidden,
            out: Linear::new(&p.pp("out_layer"), d, n_out, true)?,
            between,
        })
    }

    /// `[cells, D] -> [cells, classes]`.
    pub(super) fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let mut x = x.clone();
        for (linear, norm) in &self.hidden {
            x = linear.forward(&x, mode)?;
            x = match self.between {
                Between::Relu => ops::relu(&x)?,
                Between::LeakyRelu => ops::leaky_relu(&x, SLOPE)?,
            };
            x = norm.forward(&x, mode)?;
        }
        Ok(self.out.forward(&x, mode)?)
    }
}
