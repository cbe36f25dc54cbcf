//! Tokens to vectors: genes, values, batches and modalities.

use candle_core::{DType, Tensor};
use sc_model::layers::Linear;
use sc_model::{Init, Mode, Param, ParamBuilder};
use sc_tensor::ops;

use super::config::{ScGptConfig, ValueInput};
use super::norm::LayerNorm;
use super::rows::{Distinct, gather};
use crate::{Error, Result};

/// Learned vectors of which that of padding never changes.
#[derive(Debug, Clone)]
pub(super) struct PaddedEmbedding {
    weight: Param,
    pad: Option<u32>,
}

impl PaddedEmbedding {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        n: usize,
        d: usize,
        pad: Option<u32>,
        init: Init,
    ) -> Result<Self> {
        Ok(Self {
            weight: p.param("weight", (n, d), init)?,
            pad,
        })
    }

    /// `[len, D]`.
    pub(super) fn forward(&self, ids: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        let tracked = ops::embedding_ids(self.weight.get(mode), ids)?;
        let Some(pad) = self.pad.filter(|p| mode.tracks() && ids.contains(p)) else {
            return Ok(tracked);
        };
        let still = ops::embedding_ids(self.weight.value(), ids)?;
        let keep: Vec<f64> = ids.iter().map(|&i| f64::from(u8::from(i != pad))).collect();
        let keep =
            Tensor::from_vec(keep, (ids.len(), 1), still.device())?.to_dtype(still.dtype())?;
        // The padding rows of the constant, the other rows of the variable.
        Ok((tracked.broadcast_mul(&keep)? + still.broadcast_mul(&(1.0 - keep)?)?)?)
    }

    /// Sets the vector of padding to zero, as PyTorch starts it.
    pub(super) fn zero_pad(&self) -> Result<()> {
        let Some(pad) = self.pad else { return Ok(()) };
        let value = self.weight.value();
        let zeros = Tensor::zeros((1, value.dim(1)?), value.dtype(), value.device())?;
        let value = value.slice_scatter(&zeros, 0, pad as usize)?;
        Ok(self.weight.var().set(&value)?)
    }
}

/// Vectors of labels (genes, batches, modalities), then a layer norm.
#[derive(Debug, Clone)]
pub(super) struct LabelEncoder {
    pub(super) embedding: PaddedEmbedding,
    norm: LayerNorm,
}

impl LabelEncoder {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        n: usize,
        d: usize,
        pad: Option<u32>,
        init: Init,
    ) -> Result<Self> {
        Ok(Self {
            embedding: PaddedEmbedding::new(&p.pp("embedding"), n, d, pad, init)?,
            norm: LayerNorm::new(&p.pp("enc_norm"), d)?,
        })
    }

    pub(super) fn forward(&self, ids: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        self.norm.forward(&self.embedding.forward(ids, mode)?, mode)
    }

    /// One row for each different id.
    pub(super) fn table(&self, ids: &[u32], mode: &Mode<'_>) -> Result<Table> {
        let ids = Distinct::new(ids, |id| id);
        Ok(Table {
            rows: self.forward(&ids.table, mode)?,
            index: ids.index,
        })
    }
}

/// Different rows, and which of them each token has: what depends on the gene alone is computed once a gene.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// `[different, D]`.
    pub(super) rows: Tensor,
    pub(super) index: Vec<u32>,
}

impl Table {
    /// `[tokens, D]`.
    pub(super) fn expand(&self) -> Result<Tensor> {
        gather(&self.rows, &self.index)
    }
}

/// Values to vectors.
#[derive(Debug, Clone)]
pub(super) enum ValueEncoder {
    Continuous(ContinuousEncoder),
    Category(LabelEncoder),
    /// The value scales the vector of the gene.
    Scaling,
}

impl ValueEncoder {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Self> {
        let p = p.pp("value_encoder");
        Ok(match c.value_input {
            ValueInput::Continuous => Self::Continuous(ContinuousEncoder::new(&p, c)?),
            ValueInput::Category { n } => {
                let pad = (c.pad_value >= 0.0).then_some(c.pad_value as u32);
                let pad = pad.filter(|&p| (p as usize) < n);
                let init = Init::Normal(1.0);
                Self::Category(LabelEncoder::new(&p, n, c.d_model, pad, init)?)
            }
            ValueInput::Scaling => Self::Scaling,
        })
    }

    /// The vectors of genes `[tokens, D]` and values together.
    pub(super) fn join(&self, genes: &Tensor, values: &[f32], mode: &Mode<'_>) -> Result<Tensor> {
        match self {
            Self::Continuous(_) | Self::Category(_) => {
                Ok((genes + self.forward(values, genes, mode)?)?)
            }
            Self::Scaling => {
                let v = column(values, genes)?;
                Ok(genes.broadcast_mul(&v)?)
            }
        }
    }

    /// `[tokens, D]`, of the type of `like`.
    pub(super) fn forward(&self, values: &[f32], like: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        match self {
            Self::Continuous(e) => e.forward(values, like, mode),
            Self::Category(e) => {
                let ids: Vec<u32> = values.iter().map(|&v| v as u32).collect();
                e.table(&ids, mode)?.expand()
            }
            Self::Scaling => Err(Error::InvalidSetting {
                name: "value_input",
                value: "scaling".into(),
                reason: "its values have no vectors of their own".into(),
            }),
        }
    }

    pub(super) fn zero_pad(&self) -> Result<()> {
        match self {
            Self::Category(e) => e.embedding.zero_pad(),
            _ => Ok(()),
        }
    }

    /// Starts a network that reads numbers so that it tells those from 0 to `largest` apart.
    pub(super) fn spread(&self, largest: f64) -> Result<()> {
        match self {
            Self::Continuous(e) => e.spread(largest),
            _ => Ok(()),
        }
    }
}

fn column(values: &[f32], like: &Tensor) -> Result<Tensor> {
    let t = Tensor::from_slice(values, (values.len(), 1), like.device())?;
    Ok(t.to_dtype(like.dtype())?)
}

/// Values above this are read as this.
const LARGEST_VALUE: f32 = 512.0;

/// A small network that reads one number.
#[derive(Debug, Clone)]
pub(super) struct ContinuousEncoder {
    linear1: Linear,
    linear2: Linear,
    norm: LayerNorm,
    dropout: f64,
}

impl ContinuousEncoder {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Self> {
        let d = c.d_model;
        Ok(Self {
            linear1: Linear::new(&p.pp("linear1"), 1, d, true)?,
            linear2: Linear::new(&p.pp("linear2"), d, d, true)?,
            norm: LayerNorm::new(&p.pp("norm"), d)?,
            dropout: c.dropout,
        })
    }

    /// Lets the units that rise with the value begin to do so at places spread over `0..largest`.
    ///
    /// PyTorch's start, which the original has, bends all units near 0. Above, all of them grow in proportion to the value, and
    /// as the norm behind them takes the length away, the vectors of bins 10 and 50 have a cosine above 0.99: a new model is
    /// all but blind for values, and a short training does not change that. Now it is 0.6. Units that fall with the value
    /// stay, so that 0, 1, and the special values below are told apart as before.
    fn spread(&self, largest: f64) -> Result<()> {
        let Some(bias) = self.linear1.bias() else {
            return Ok(());
        };
        let numbers = |t: &Tensor| -> Result<Vec<f64>> {
            Ok(t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
        };
        let (old, slopes) = (bias.value(), numbers(self.linear1.weight().value())?);
        // The biases are uniform on -1..1: so are the places on 0..largest.
        let pairs = numbers(old)?.into_iter().zip(slopes);
        let new = pairs.map(|(b, slope)| match slope > 0.0 {
            true => -slope * largest * (b + 1.0) / 2.0,
            false => b,
        });
        let new = Tensor::from_vec(new.collect::<Vec<f64>>(), old.shape(), old.device())?;
        Ok(bias.var().set(&new.to_dtype(old.dtype())?)?)
    }

    /// Binned values are few, so the network runs once for each different value.
    fn forward(&self, values: &[f32], like: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let values = Distinct::new(values, f32::to_bits);
        let x: Vec<f32> = values.table.iter().map(|v| v.min(LARGEST_VALUE)).collect();
        let h = ops::relu(&self.linear1.forward(&column(&x, like)?, mode)?)?;
        let h = self.norm.forward(&self.linear2.forward(&h, mode)?, mode)?;
        let h = gather(&h, &values.index)?;
        drop_units(h, self.dropout, "value_encoder.dropout", mode)
    }
}

/// Dropout, where training drops units.
pub(super) fn drop_units(x: Tensor, p: f64, name: &str, mode: &Mode<'_>) -> Result<Tensor> {
    match mode.dropout_stream(name).filter(|_| p > 0.0) {
        Some(mut stream) => Ok(ops::dropout(&x, p, &mut stream)?),
        None => Ok(x),
    }
}
