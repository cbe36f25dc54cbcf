//! From the values of one modality to one subspace.

use candle_core::Tensor;
use sc_model::layers::{BatchNorm, Linear, SparseLinear};
use sc_model::{Mode, ParamBuilder};
use sc_tensor::ops::{self, SparseInput};

use super::{MOMENTUM, NORM_EPS, SLOPE, STD_FLOOR, block_mode, dropped};
use crate::{ClueConfig, Result};

/// What the encoders of a modality read.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Dense(Tensor),
    Sparse(SparseInput),
}

impl Input {
    fn n_rows(&self) -> Result<usize> {
        match self {
            Self::Dense(x) => Ok(x.dim(0)?),
            Self::Sparse(x) => Ok(x.n_rows()),
        }
    }
}

/// `q(z_t | x_s)`: blocks of linear, leaky ReLU, batch norm and dropout, then a mean and a standard deviation.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    blocks: Vec<Block>,
    loc: Linear,
    std: Linear,
    dropout: f64,
}

#[derive(Debug, Clone)]
struct Block {
    name: String,
    linear: First,
    norm: BatchNorm,
}

#[derive(Debug, Clone)]
enum First {
    Dense(Linear),
    Sparse(SparseLinear),
}

impl Encoder {
    pub(super) fn new(
        p: &ParamBuilder<'_>,
        c: &ClueConfig,
        n_in: usize,
        sparse: bool,
    ) -> Result<Self> {
        let mut width = n_in;
        let blocks = (0..c.encoder_depth).map(|i| {
            let lp = p.pp(format!("linear_{i}"));
            let linear = match i == 0 && sparse {
                true => First::Sparse(SparseLinear::new(&lp, width, c.encoder_dim, true)?),
                false => First::Dense(Linear::new(&lp, width, c.encoder_dim, true)?),
            };
            width = c.encoder_dim;
            Ok(Block {
                name: p.path(&format!("dropout_{i}")),
                linear,
                norm: BatchNorm::new(&p.pp(format!("bn_{i}")), width, MOMENTUM, NORM_EPS)?,
            })
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            blocks,
            loc: Linear::new(&p.pp("loc"), width, c.latent_dim, true)?,
            std: Linear::new(&p.pp("std_lin"), width, c.latent_dim, true)?,
            dropout: c.dropout,
        })
    }

    /// Mean and standard deviation, `[rows, latent_dim]` each.
    pub(super) fn forward(&self, x: &Input, mode: &Mode<'_>) -> Result<(Tensor, Tensor)> {
        let mode = &block_mode(*mode, x.n_rows()?);
        let mut h: Option<Tensor> = None;
        for block in &self.blocks {
            let y = match (&block.linear, &h, x) {
                (First::Dense(l), Some(h), _) => l.forward(h, mode)?,
                (First::Dense(l), None, Input::Dense(x)) => l.forward(x, mode)?,
                (First::Sparse(l), None, Input::Sparse(x)) => l.forward(x, None, mode)?,
                _ => return Err(wrong_kind(x)),
            };
            let y = block.norm.forward(&ops::leaky_relu(&y, SLOPE)?, mode)?;
            h = Some(dropped(&y, self.dropout, &block.name, mode)?);
        }
        let h = match (h, x) {
            (Some(h), _) => h,
            (None, Input::Dense(x)) => x.clone(),
            (None, Input::Sparse(_)) => return Err(wrong_kind(x)),
        };
        let loc = self.loc.forward(&h, mode)?;
        let std = (ops::softplus(&self.std.forward(&h, mode)?)? + STD_FLOOR)?;
        Ok((loc, std))
    }
}

fn wrong_kind(x: &Input) -> crate::Error {
    crate::Error::InvalidSetting {
        name: "encoder input",
        value: match x {
            Input::Dense(_) => "dense",
            Input::Sparse(_) => "sparse",
        }
        .into(),
        reason: "the encoder was made for the other kind".into(),
    }
}
