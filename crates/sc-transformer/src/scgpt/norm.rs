//! Normalisation layers.

use candle_core::{DType, Tensor};
use sc_model::layers::BatchNorm;
use sc_model::{Init, Mode, Param, ParamBuilder, Parity};
use sc_tensor::{Stream, ops};

use super::config::{InputNorm, ScGptConfig};
use super::rows::gather;
use crate::{Error, Result};

/// Layer normalisation with scale and shift, epsilon 1e-5.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    weight: Param,
    bias: Param,
}

impl LayerNorm {
    pub(super) fn new(p: &ParamBuilder<'_>, n: usize) -> Result<Self> {
        Ok(Self {
            weight: p.param("weight", n, Init::Const(1.0))?,
            bias: p.param("bias", n, Init::Const(0.0))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(mode), self.bias.get(mode));
        Ok(ops::layer_norm(x, Some(weight), Some(bias), 1e-5)?)
    }

    /// The norm of `x + dropout(branch)`.
    pub(super) fn forward_sum(
        &self,
        x: &Tensor,
        branch: &Tensor,
        dropout: Option<(f64, &mut Stream)>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(mode), self.bias.get(mode));
        let y = ops::add_layer_norm(x, branch, dropout, Some(weight), Some(bias), 1e-5)?;
        Ok(y)
    }
}

/// scGPT's epsilon of batch normalisation.
const EPS: f64 = 6.1e-5;
const MOMENTUM: f64 = 0.1;

/// Rows that are normalised together, and by which domain's statistics.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) domain: u32,
    pub(super) rows: Vec<u32>,
}

/// What normalises the tokens' vectors before the transformer.
#[derive(Debug, Clone)]
pub(super) enum TokenNorm {
    None,
    Batch(Box<BatchNorm>),
    Domains(Vec<DomainNorm>, Parity),
}

impl TokenNorm {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Self> {
        let (d, bns) = (c.d_model, p.pp("dsbn").pp("bns"));
        Ok(match c.input_norm {
            InputNorm::None => Self::None,
            InputNorm::Batch => {
                Self::Batch(Box::new(BatchNorm::new(&p.pp("bn"), d, MOMENTUM, EPS)?))
            }
            InputNorm::DomainSpecific => Self::Domains(
                (0..c.batches.len())
                    .map(|i| DomainNorm::new(&bns.pp(i), d))
                    .collect::<Result<_>>()?,
                c.parity,
            ),
        })
    }

    /// Whether the domain of each cell must be known.
    pub(super) fn needs_domains(&self) -> bool {
        matches!(self, Self::Domains(..))
    }

    /// `[rows, D] -> [rows, D]`. The groups must hold each row once.
    pub(super) fn forward(
        &self,
        x: Tensor,
        mut groups: Vec<Group>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        match self {
            Self::None => return Ok(x),
            Self::Batch(bn) if groups.len() == 1 => return Ok(bn.forward(&x, mode)?),
            Self::Domains(all, parity) => {
                if *parity == Parity::Upstream
                    && let Some(first) = groups.first().map(|g| g.domain)
                {
                    groups.iter_mut().for_each(|g| g.domain = first);
                }
                if let Some(g) = groups.iter().find(|g| g.domain as usize >= all.len()) {
                    return Err(Error::InvalidSetting {
                        name: "batch",
                        value: g.domain.to_string(),
                        reason: format!(
                            "the model normalises {} batches, from 0; map a new batch to one of them",
                            all.len()
                        ),
                    });
                }
            }
            Self::Batch(_) => {}
        }
        groups.retain(|g| !g.rows.is_empty());
        let mut parts = Vec::with_capacity(groups.len());
        for g in &groups {
            let part = match groups.len() {
                1 => x.clone(),
                _ => gather(&x, &g.rows)?,
            };
            parts.push(match self {
                Self::None => part,
                Self::Batch(bn) => bn.forward(&part, mode)?,
                Self::Domains(all, _) => match all.get(g.domain as usize) {
                    Some(bn) => bn.forward(&part, mode)?,
                    None => part,
                },
            });
        }
        put_back(&parts, &groups, x)
    }
}

/// The rows of all groups where they came from.
fn put_back(parts: &[Tensor], groups: &[Group], x: Tensor) -> Result<Tensor> {
    match parts {
        [] => Ok(x),
        [one] => Ok(one.clone()),
        _ => {
            let mut at = vec![0u32; x.dim(0)?];
            let all = groups.iter().flat_map(|g| &g.rows);
            for (from, &to) in (0u32..).zip(all) {
                if let Some(slot) = at.get_mut(to as usize) {
                    *slot = from;
                }
            }
            gather(&Tensor::cat(parts, 0)?, &at)
        }
    }
}

/// Batch normalisation of one domain, without scale and shift.
#[derive(Debug, Clone)]
pub(super) struct DomainNorm {
    running_mean: Param,
    running_var: Param,
    num_batches_tracked: Param,
}

impl DomainNorm {
    pub(super) fn new(p: &ParamBuilder<'_>, n: usize) -> Result<Self> {
        Ok(Self {
            running_mean: p.buffer("running_mean", n, 0.0, p.dtype())?,
            running_var: p.buffer("running_var", n, 1.0, p.dtype())?,
            num_batches_tracked: p.buffer("num_batches_tracked", (), 0.0, DType::I64)?,
        })
    }

    /// `[rows, D] -> [rows, D]`; training normalises by the rows and notes their statistics.
    pub(super) fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let (mean, var) = (self.running_mean.value(), self.running_var.value());
        let (one, zero) = (mean.ones_like()?, mean.zeros_like()?);
        let frozen = !self.running_mean.is_updated();
        if !mode.uses_batch_statistics(frozen) {
            return Ok(ops::batch_norm_eval(x, &one, &zero, mean, var, EPS)?);
        }
        let rows = x.dim(0)?;
        if rows < 2 {
            return Err(Error::Model(sc_model::Error::TooFewCells {
                what: "a training minibatch with batch normalisation".into(),
                found: rows,
                needed: 2,
            }));
        }
        let (y, batch_mean, batch_var) = ops::batch_norm_train(x, &one, &zero, EPS)?;
        if !frozen {
            let unbiased = (batch_var * (rows as f64 / (rows as f64 - 1.0)))?;
            fold(&self.running_mean, &batch_mean)?;
            fold(&self.running_var, &unbiased)?;
            let count = (self.num_batches_tracked.value() + 1.0)?;
            self.num_batches_tracked.var().set(&count)?;
        }
        Ok(y)
    }
}

fn fold(running: &Param, batch: &Tensor) -> Result<()> {
    let kept = (running.value() * (1.0 - MOMENTUM))?;
    Ok(running.var().set(&(kept + (batch * MOMENTUM)?)?)?)
}
