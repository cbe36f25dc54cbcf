//! The layers of the transformer.

use candle_core::Tensor;
use sc_model::layers::Linear;
use sc_model::{Mode, ParamBuilder};
use sc_tensor::Stream;
use sc_tensor::ops::{self, Keys, Segments};

use super::config::{NormPlacement, ScGptConfig};
use super::embed::drop_units;
use super::norm::LayerNorm;
use super::rows::gather;
use crate::Result;

/// Which rows attend to which, and which of them pass through the output projection.
#[derive(Debug)]
pub(super) struct Attend<'a> {
    pub(super) segments: &'a Segments,
    /// Rows of genes whose value is to be generated: they attend to the known genes and to themselves, and the released
    /// weights were trained without an output projection for them. `None` in all other uses.
    pub(super) unknown: Option<&'a Unknown>,
}

/// The rows of known and unknown genes.
#[derive(Debug)]
pub(super) struct Unknown {
    known: Vec<u32>,
    unknown: Vec<u32>,
    /// Where each row is in the known rows followed by the unknown.
    back: Vec<u32>,
}

impl Unknown {
    /// Rows behind the keys of their cell are unknown.
    pub(super) fn new(segments: &Segments) -> Self {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for s in segments.iter() {
            let (first, middle, end) = (s.start as u32, s.start + s.keys, s.start + s.rows);
            known.extend(first..middle as u32);
            unknown.extend(middle as u32..end as u32);
        }
        let mut back = vec![0; segments.rows()];
        for (from, &to) in (0u32..).zip(known.iter().chain(&unknown)) {
            if let Some(slot) = back.get_mut(to as usize) {
                *slot = from;
            }
        }
        Self {
            known,
            unknown,
            back,
        }
    }

    pub(super) fn known(&self) -> &[u32] {
        &self.known
    }

    pub(super) fn unknown(&self) -> &[u32] {
        &self.unknown
    }

    /// The rows of both where they came from.
    pub(super) fn put_back(&self, known: &Tensor, unknown: &Tensor) -> Result<Tensor> {
        gather(&Tensor::cat(&[known, unknown], 0)?, &self.back)
    }
}

/// One layer: attention, then a feed-forward network, each with a residual sum.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    name: String,
    pub(super) wqkv: Linear,
    pub(super) out_proj: Linear,
    linear1: Linear,
    linear2: Linear,
    pub(super) norm1: LayerNorm,
    norm2: LayerNorm,
    pub(super) heads: usize,
    dropout: f64,
    pub(super) placement: NormPlacement,
}

impl Layer {
    fn new(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Self> {
        let (d, attention) = (c.d_model, p.pp("self_attn"));
        Ok(Self {
            name: p.path(""),
            wqkv: Linear::new(&attention.pp("Wqkv"), d, 3 * d, true)?,
            out_proj: Linear::new(&attention.pp("out_proj"), d, d, true)?,
            linear1: Linear::new(&p.pp("linear1"), d, c.d_hid, true)?,
            linear2: Linear::new(&p.pp("linear2"), c.d_hid, d, true)?,
            norm1: LayerNorm::new(&p.pp("norm1"), d)?,
            norm2: LayerNorm::new(&p.pp("norm2"), d)?,
            heads: c.n_heads,
            dropout: c.dropout,
            placement: c.norm_placement,
        })
    }

    /// `[rows, D] -> [rows, D]`.
    pub(super) fn forward(&self, h: &Tensor, to: &Attend<'_>, mode: &Mode<'_>) -> Result<Tensor> {
        self.around(h, mode, |x| self.attention(x, to, mode))
    }

    /// The residual sums and norms around an attention. `attention` gets the normalised rows where norms come first.
    pub(super) fn around(
        &self,
        h: &Tensor,
        mode: &Mode<'_>,
        attention: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let drop = |x, name: &str| drop_units(x, self.dropout, &self.path(name), mode);
        match self.placement {
            NormPlacement::Post => {
                let sum = |norm: &LayerNorm, x: &Tensor, branch: &Tensor, name: &str| {
                    let mut stream = self.stream(name, mode);
                    let dropout = stream.as_mut().map(|s| (self.dropout, s));
                    norm.forward_sum(x, branch, dropout, mode)
                };
                let h = sum(&self.norm1, h, &attention(h)?, "dropout1")?;
                let f = self.feed_forward(&h, mode)?;
                sum(&self.norm2, &h, &f, "dropout2")
            }
            NormPlacement::Pre => {
                let a = attention(&self.norm1.forward(h, mode)?)?;
                let h = (h + drop(a, "dropout1")?)?;
                let f = self.feed_forward(&self.norm2.forward(&h, mode)?, mode)?;
                Ok((h + drop(f, "dropout2")?)?)
            }
            NormPlacement::UpstreamPre => {
                let h = self.norm1.forward(h, mode)?;
                let h = (&h + drop(attention(&h)?, "dropout1")?)?;
                let h = self.norm2.forward(&h, mode)?;
                let f = drop(self.feed_forward(&h, mode)?, "dropout2")?;
                Ok((h + f)?)
            }
        }
    }

    fn feed_forward(&self, h: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let mut stream = self.stream("dropout", mode);
        let dropout = stream.as_mut().map(|s| (self.dropout, s));
        let x = self.linear1.forward_relu(h, dropout, mode)?;
        Ok(self.linear2.forward(&x, mode)?)
    }

    fn attention(&self, h: &Tensor, to: &Attend<'_>, mode: &Mode<'_>) -> Result<Tensor> {
        let qkv = self.wqkv.forward(h, mode)?;
        let stream = self.stream("self_attn.dropout", mode);
        let dropout = stream.as_ref().map(|s| (self.dropout, s));
        let keys = match to.unknown {
            Some(_) => Keys::AndSelf,
            None => Keys::Only,
        };
        let context = ops::attention(&qkv, self.heads, to.segments, keys, dropout)?;
        match to.unknown.filter(|u| !u.unknown.is_empty()) {
            None => Ok(self.out_proj.forward(&context, mode)?),
            Some(u) => {
                let known = self.out_proj.forward(&gather(&context, &u.known)?, mode)?;
                u.put_back(&known, &gather(&context, &u.unknown)?)
            }
        }
    }

    /// The numbers that decide what a dropout drops, where training drops units.
    fn stream(&self, name: &str, mode: &Mode<'_>) -> Option<Stream> {
        match self.dropout > 0.0 {
            true => mode.dropout_stream(&self.path(name)),
            false => None,
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.name)
    }
}

/// All layers.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) layers: Vec<Layer>,
    /// Behind the last layer, where norms come first.
    norm: Option<LayerNorm>,
}

impl Stack {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ScGptConfig) -> Result<Self> {
        let p = p.pp("transformer_encoder");
        let layers = (0..c.n_layers)
            .map(|i| Layer::new(&p.pp("layers").pp(i), c))
            .collect::<Result<_>>()?;
        let norm = match c.norm_placement {
            NormPlacement::Pre => Some(LayerNorm::new(&p.pp("norm"), c.d_model)?),
            _ => None,
        };
        Ok(Self { layers, norm })
    }

    pub(super) fn forward(&self, h: Tensor, to: &Attend<'_>, mode: &Mode<'_>) -> Result<Tensor> {
        let mut h = h;
        for layer in &self.layers {
            h = layer.forward(&h, to, mode)?;
        }
        self.last_norm(h, mode)
    }

    pub(super) fn last_norm(&self, h: Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        match &self.norm {
            Some(norm) => norm.forward(&h, mode),
            None => Ok(h),
        }
    }
}
