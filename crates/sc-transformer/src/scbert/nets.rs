use candle_core::{DType, Tensor};
use sc_model::layers::Linear;
use sc_model::{Init, Mode, Param, ParamBuilder};
use sc_tensor::ops::{self, Segments, Stabiliser, favor_attention, favor_key_importance};

use super::{GenePanel, ScbertConfig};
use crate::{Error, Result};

/// PyTorch's.
const LAYER_NORM_EPS: f64 = 1e-5;

/// What the last layer predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadKind {
    /// The token of each gene.
    Tokens,
    /// One of so many classes of the cell.
    Classes(usize),
}

/// The network: token and gene vectors, Performer blocks, a norm and a head. Parameters have upstream's names.
#[derive(Debug, Clone)]
pub(super) struct Nets {
    tokens: Param,
    genes: Param,
    /// Forward passes in training since the projections were drawn.
    pub(super) calls: Param,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: LayerNorm,
    pub(super) head: Head,
    heads: usize,
    positions: usize,
}

/// One Performer block: attention, then a feed-forward layer, each behind a layer norm and beside a residual path.
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    pub(super) projection: Param,
    ff_norm: LayerNorm,
    w1: Linear,
    w2: Linear,
}

#[derive(Debug, Clone)]
pub(super) struct LayerNorm {
    pub(super) weight: Param,
    pub(super) bias: Param,
}

#[derive(Debug, Clone)]
pub(super) enum Head {
    Tokens(Linear),
    Classes(Box<Classifier>),
}

/// Scores each position by one vector, and reads the class off the scores of all positions.
#[derive(Debug, Clone)]
pub(super) struct Classifier {
    weight: Param,
    bias: Param,
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
}

/// Which attention the importance of genes is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attended {
    /// That of the forward pass.
    Forward,
    /// A second one, of what the attention layer returned: upstream's.
    AfterResidual,
}

impl LayerNorm {
    fn new(p: &ParamBuilder<'_>, n: usize) -> Result<Self> {
        Ok(Self {
            weight: p.param("weight", n, Init::Const(1.0))?,
            bias: p.param("bias", n, Init::Const(0.0))?,
        })
    }

    fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let (weight, bias) = (self.weight.get(mode), self.bias.get(mode));
        Ok(ops::layer_norm(
            x,
            Some(weight),
            Some(bias),
            LAYER_NORM_EPS,
        )?)
    }
}

impl Block {
    fn new(p: &ParamBuilder<'_>, c: &ScbertConfig) -> Result<Self> {
        let (attention, ff) = (p.pp(0), p.pp(1));
        let (f, w) = (attention.pp("fn"), ff.pp("fn").pp("fn"));
        let (dim, inner, hidden) = (c.dim, c.inner(), c.n_hidden());
        Ok(Self {
            norm: LayerNorm::new(&attention.pp("norm"), dim)?,
            projection: f.pp("fast_attention").buffer(
                "projection_matrix",
                (c.n_features(), c.dim_head),
                0.0,
                f.dtype(),
            )?,
            q: Linear::new(&f.pp("to_q"), dim, inner, false)?,
            k: Linear::new(&f.pp("to_k"), dim, inner, false)?,
            v: Linear::new(&f.pp("to_v"), dim, inner, false)?,
            out: Linear::new(&f.pp("to_out"), inner, dim, true)?,
            ff_norm: LayerNorm::new(&ff.pp("norm"), dim)?,
            w1: Linear::new(&w.pp("w1"), dim, hidden, true)?,
            w2: Linear::new(&w.pp("w2"), hidden, dim, true)?,
        })
    }

    /// `x + attention(x)`.
    pub(super) fn attend(
        &self,
        x: &Tensor,
        heads: usize,
        cells: &Segments,
        stabiliser: Stabiliser,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let h = self.norm.forward(x, mode)?;
        let (q, k) = (self.q.forward(&h, mode)?, self.k.forward(&h, mode)?);
        let v = self.v.forward(&h, mode)?;
        let projection = self.projection.value();
        let y = favor_attention(&q, &k, &v, projection, heads, cells, stabiliser)?;
        Ok((x + self.out.forward(&y, mode)?)?)
    }

    /// `x + feed_forward(x)`.
    pub(super) fn feed(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        let h = self.w1.forward(&self.ff_norm.forward(x, mode)?, mode)?;
        Ok((x + self.w2.forward(&ops::gelu(&h)?, mode)?)?)
    }

    pub(super) fn queries_and_keys(&self, x: &Tensor, mode: &Mode<'_>) -> Result<(Tensor, Tensor)> {
        let h = self.norm.forward(x, mode)?;
        Ok((self.q.forward(&h, mode)?, self.k.forward(&h, mode)?))
    }

    /// The attention that each position gets, `[rows, heads]`.
    fn importance(&self, x: &Tensor, heads: usize, cells: &Segments) -> Result<Tensor> {
        let (q, k) = self.queries_and_keys(x, &Mode::eval())?;
        let projection = self.projection.value();
        let own = Stabiliser::PerSequence;
        Ok(favor_key_importance(&q, &k, projection, heads, cells, own)?)
    }
}

impl Nets {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        c: &ScbertConfig,
        panel: &GenePanel,
        head: HeadKind,
    ) -> Result<Self> {
        let positions = panel.positions();
        let genes = p.pp("pos_emb").pp("emb");
        let shape = (positions, c.dim);
        let tokens =
            (p.pp("token_emb")).param("weight", (c.n_tokens(), c.dim), Init::Normal(1.0))?;
        let genes = match c.learn_genes {
            true => genes.param("weight", shape, Init::Normal(1.0))?,
            false => genes.buffer("weight", shape, 0.0, p.half().unwrap_or(DType::F64))?,
        };
        let performer = p.pp("performer");
        let calls = performer.buffer("calls_since_last_redraw", (), 0.0, DType::I64)?;
        let layers = performer.pp("net").pp("layers");
        Ok(Self {
            tokens,
            genes,
            calls,
            blocks: (0..c.depth)
                .map(|i| Block::new(&layers.pp(i), c))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(&p.pp("norm"), c.dim)?,
            head: Head::new(&p.pp("to_out"), c, positions, head)?,
            heads: c.heads,
            positions,
        })
    }

    /// The vectors of the genes and, last, of the cell: `[positions, dim]`.
    pub(super) fn genes(&self) -> &Param {
        &self.genes
    }

    /// Whole cells behind each other.
    fn cells(&self, tokens: &[u32]) -> Result<Segments> {
        if tokens.is_empty() || !tokens.len().is_multiple_of(self.positions) {
            return Err(Error::InvalidSetting {
                name: "tokens",
                value: format!("{} of them", tokens.len()),
                reason: format!("a cell has {}, and there must be one", self.positions),
            });
        }
        let n = tokens.len() / self.positions;
        Ok(Segments::new(std::iter::repeat_n(self.positions, n))?)
    }

    /// Token vector plus gene vector, summed in the type in which the latter are kept (upstream's are doubles) and rounded
    /// once: `[rows, dim]`.
    pub(super) fn embed(&self, tokens: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        let (table, genes) = (self.tokens.get(mode), self.genes.get(mode));
        let x = ops::embedding_ids(table, tokens)?;
        let genes = match genes.dtype() {
            DType::BF16 | DType::F16 => &genes.to_dtype(x.dtype())?,
            _ => genes,
        };
        let (rows, dim) = x.dims2()?;
        let cells =
            x.to_dtype(genes.dtype())?
                .reshape((rows / self.positions, self.positions, dim))?;
        let sum = cells.broadcast_add(genes)?;
        Ok(sum.to_dtype(x.dtype())?.reshape((rows, dim))?)
    }

    /// The tokens of whole cells to `[rows, dim]`, normalised.
    pub(super) fn encode(
        &self,
        tokens: &[u32],
        stabiliser: Stabiliser,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let cells = self.cells(tokens)?;
        let mut x = self.embed(tokens, mode)?;
        for block in &self.blocks {
            x = block.attend(&x, self.heads, &cells, stabiliser, mode)?;
            x = block.feed(&x, mode)?;
        }
        self.norm.forward(&x, mode)
    }

    /// The attention that each position of the cells gets in each block, averaged over its queries: `depth` times
    /// `[rows, heads]`.
    pub(super) fn importance(&self, tokens: &[u32], attended: Attended) -> Result<Vec<Tensor>> {
        let cells = self.cells(tokens)?;
        let mode = Mode::eval();
        let mut x = self.embed(tokens, &mode)?;
        let mut all = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            if attended == Attended::Forward {
                all.push(block.importance(&x, self.heads, &cells)?);
                if i + 1 == self.blocks.len() {
                    break;
                }
            }
            x = block.attend(&x, self.heads, &cells, Stabiliser::PerSequence, &mode)?;
            if attended == Attended::AfterResidual {
                all.push(block.importance(&x, self.heads, &cells)?);
            }
            x = block.feed(&x, &mode)?;
        }
        Ok(all)
    }
}

impl Head {
    fn new(
        p: &ParamBuilder<'_>,
        c: &ScbertConfig,
        positions: usize,
        kind: HeadKind,
    ) -> Result<Self> {
        let HeadKind::Classes(n) = kind else {
            return Ok(Self::Tokens(Linear::new(p, c.dim, c.n_tokens(), true)?));
        };
        let init = Init::Uniform(1.0 / (c.dim.max(1) as f64).sqrt());
        let conv = p.pp("conv1");
        let [first, second] = c.classifier_hidden;
        Ok(Self::Classes(Box::new(Classifier {
            weight: conv.param("weight", (1, 1, 1, c.dim), init)?,
            bias: conv.param("bias", 1, init)?,
            fc1: Linear::new(&p.pp("fc1"), positions, first, true)?,
            fc2: Linear::new(&p.pp("fc2"), first, second, true)?,
            fc3: Linear::new(&p.pp("fc3"), second, n, true)?,
        })))
    }
}

impl Classifier {
    /// `[rows, dim]` of whole cells to `[cells, classes]`.
    pub(super) fn forward(&self, y: &Tensor, positions: usize, mode: &Mode<'_>) -> Result<Tensor> {
        let (rows, dim) = y.dims2()?;
        let weight = self.weight.get(mode).reshape((1, dim))?;
        let scores = ops::relu(&ops::linear(y, &weight, Some(self.bias.get(mode)))?)?;
        let x = scores.reshape((rows / positions.max(1), positions))?;
        let x = ops::relu(&self.fc1.forward(&x, mode)?)?;
        let x = ops::relu(&self.fc2.forward(&x, mode)?)?;
        Ok(self.fc3.forward(&x, mode)?)
    }
}
