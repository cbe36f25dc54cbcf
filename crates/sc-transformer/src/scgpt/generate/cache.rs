//! Keys and values of the known genes of a cell.

use candle_core::{D, Tensor};
use sc_model::Mode;
use sc_tensor::ops;

use crate::Result;
use crate::scgpt::layer::Layer;
use crate::scgpt::model::ScGpt;

/// What the known genes of one cell offer to attention, layer by layer.
pub(super) struct Known {
    layers: Vec<Option<KeysValues>>,
}

/// `[heads, genes, D / heads]` each.
struct KeysValues {
    keys: Tensor,
    values: Tensor,
}

impl Known {
    /// No gene is known.
    pub(super) fn new(model: &ScGpt) -> Self {
        let layers = model.nets.stack.layers.iter().map(|_| None);
        Self {
            layers: layers.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.layers.iter().all(Option::is_none)
    }

    /// More genes are known: each attends to all, those before among them.
    pub(super) fn extend(&mut self, model: &ScGpt, rows: Tensor) -> Result<()> {
        let mode = Mode::eval();
        let mut h = rows;
        for (layer, known) in model.nets.stack.layers.iter().zip(&mut self.layers) {
            h = layer.around(&h, &mode, |x| {
                let Heads { q, k, v } = Heads::of(layer, x)?;
                let all = match known.take() {
                    Some(old) => KeysValues {
                        keys: Tensor::cat(&[old.keys, k], 1)?,
                        values: Tensor::cat(&[old.values, v], 1)?,
                    },
                    None => KeysValues { keys: k, values: v },
                };
                let context = all.attend(&q, None)?;
                *known = Some(all);
                Ok(layer.out_proj.forward(&join(&context)?, &mode)?)
            })?;
        }
        Ok(())
    }

    /// What unknown genes become: each attends to the known ones and to itself, and its context is not projected.
    pub(super) fn ask(&self, model: &ScGpt, rows: Tensor) -> Result<Tensor> {
        let (mode, stack) = (Mode::eval(), &model.nets.stack);
        let mut h = rows;
        for (layer, known) in stack.layers.iter().zip(&self.layers) {
            h = layer.around(&h, &mode, |x| {
                let heads = Heads::of(layer, x)?;
                match known {
                    Some(known) => join(&known.attend(&heads.q, Some((&heads.k, &heads.v)))?),
                    None => join(&heads.v),
                }
            })?;
        }
        stack.last_norm(h, &mode)
    }
}

/// Queries (scaled), keys and values, `[heads, rows, D / heads]`.
struct Heads {
    q: Tensor,
    k: Tensor,
    v: Tensor,
}

impl Heads {
    fn of(layer: &Layer, x: &Tensor) -> Result<Self> {
        let qkv = layer.wqkv.forward(x, &Mode::eval())?;
        let (n, d) = x.dims2()?;
        let size = d / layer.heads.max(1);
        let part = |i: usize| -> Result<Tensor> {
            let x = qkv.narrow(1, i * d, d)?.reshape((n, layer.heads, size))?;
            Ok(x.transpose(0, 1)?.contiguous()?)
        };
        Ok(Self {
            q: (part(0)? / (size as f64).sqrt())?,
            k: part(1)?,
            v: part(2)?,
        })
    }
}

/// Heads side by side again: `[rows, D]`.
fn join(heads: &Tensor) -> Result<Tensor> {
    let (h, n, size) = heads.dims3()?;
    Ok(heads
        .transpose(0, 1)?
        .contiguous()?
        .reshape((n, h * size))?)
}

impl KeysValues {
    /// Queries attend to all of them and, if given, each to a key and value of its own.
    fn attend(&self, q: &Tensor, own: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
        let mut scores = q.matmul(&self.keys.t()?.contiguous()?)?;
        let n = scores.dim(2)?;
        if let Some((k, _)) = own {
            let own = (q * k)?.sum_keepdim(D::Minus1)?;
            scores = Tensor::cat(&[scores, own], 2)?;
        }
        let weights = ops::softmax(&scores)?;
        let known = weights.narrow(2, 0, n)?.contiguous()?;
        let context = known.matmul(&self.values)?;
        match own {
            Some((_, v)) => Ok((context + weights.narrow(2, n, 1)?.broadcast_mul(v)?)?),
            None => Ok(context),
        }
    }
}
