use candle_core::Tensor;
use sc_tensor::ops::{self, SparseInput};

use super::{BatchNorm, Linear, SparseLinear};
use crate::{Mode, ParamBuilder, Result};

/// Settings of [`FcLayers`].
#[derive(Debug, Clone)]
pub struct FcConfig {
    /// Inputs without the categorical covariates.
    pub n_in: usize,
    /// Outputs.
    pub n_out: usize,
    /// Width of the blocks between.
    pub n_hidden: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Columns of the one-hot covariates that are appended to the input.
    pub n_covariates: usize,
    /// Append the covariates to the input of every block, not only of the first.
    pub inject_covariates: bool,
    /// Drop this share of the outputs of each block while training.
    pub dropout_rate: f64,
    /// Normalise each block over the minibatch.
    pub batch_norm: bool,
    /// Normalise each block over its features.
    pub layer_norm: bool,
    /// Whether the linear maps have a bias.
    pub bias: bool,
    /// Whether each block ends in a rectifier.
    pub relu: bool,
    /// Whether the first block reads sparse counts.
    pub sparse_input: bool,
}

/// What the first block reads.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// A dense matrix `[N, n_in]`.
    Dense(&'a Tensor),
    /// Sparse counts and the dense columns that follow them, together `n_in` columns.
    Sparse(&'a SparseInput, Option<&'a Tensor>),
}

/// The hidden layers of scVI: blocks of linear, batch norm, layer norm, ReLU, dropout, in that order, with the
/// one-hot covariates appended to the input of the first or of every block.
///
/// Momentum 0.01 and epsilon 1e-3 of the batch norm, epsilon 1e-5 of the layer norm (which has no parameters) are
/// scvi-tools'.
#[derive(Debug, Clone)]
pub struct FcLayers {
    blocks: Vec<Block>,
    inject_covariates: bool,
}

#[derive(Debug, Clone)]
struct Block {
    name: String,
    linear: First,
    batch_norm: Option<BatchNorm>,
    layer_norm: bool,
    relu: bool,
    dropout_rate: f64,
}

#[derive(Debug, Clone)]
enum First {
    Dense(Linear),
    Sparse(SparseLinear),
}

impl FcLayers {
    /// Makes the blocks below `p`, as `fc_layers.Layer 0.0.weight` and so on.
    ///
    /// # Errors
    /// If the names are taken.
    pub fn new(p: &ParamBuilder<'_>, c: &FcConfig) -> Result<Self> {
        let mut blocks = Vec::new();
        for i in 0..c.n_layers {
            let covariates = if i == 0 || c.inject_covariates {
                c.n_covariates
            } else {
                0
            };
            let n_in = covariates.saturating_add(if i == 0 { c.n_in } else { c.n_hidden });
            let n_out = if i + 1 == c.n_layers {
                c.n_out
            } else {
                c.n_hidden
            };
            let p = p.pp("fc_layers").pp(format!("Layer {i}"));
            let linear = if i == 0 && c.sparse_input {
                First::Sparse(SparseLinear::new(&p.pp(0), n_in, n_out, c.bias)?)
            } else {
                First::Dense(Linear::new(&p.pp(0), n_in, n_out, c.bias)?)
            };
            let batch_norm = c
                .batch_norm
                .then(|| BatchNorm::new(&p.pp(1), n_out, 0.01, 1e-3))
                .transpose()?;
            blocks.push(Block {
                name: p.path("dropout"),
                linear,
                batch_norm,
                layer_norm: c.layer_norm,
                relu: c.relu,
                dropout_rate: c.dropout_rate,
            });
        }
        Ok(Self {
            blocks,
            inject_covariates: c.inject_covariates,
        })
    }

    /// `[N, n_in]`, and one-hot covariates `[N, n_covariates]` if there are any, `-> [N, n_out]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        x: Input<'_>,
        covariates: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let mut h: Option<Tensor> = None;
        for (i, block) in self.blocks.iter().enumerate() {
            let covariates = covariates.filter(|_| i == 0 || self.inject_covariates);
            let input = h.as_ref().map_or(x, Input::Dense);
            h = Some(block.forward(input, covariates, mode)?);
        }
        match (h, x) {
            (Some(h), _) => Ok(h),
            (None, Input::Dense(x)) => Ok(x.clone()),
            (None, Input::Sparse(..)) => Err(crate::Error::InvalidSetting {
                name: "n_layers",
                value: "0".into(),
                reason: "sparse input needs at least one layer".into(),
            }),
        }
    }

    /// The linear map and the batch norm of the first block, where it reads dense input.
    pub fn first_dense(&self) -> Option<(&Linear, Option<&BatchNorm>)> {
        match self.blocks.first() {
            Some(Block {
                linear: First::Dense(l),
                batch_norm,
                ..
            }) => Some((l, batch_norm.as_ref())),
            _ => None,
        }
    }
}

impl Block {
    fn forward(
        &self,
        x: Input<'_>,
        covariates: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let mut h = match (&self.linear, x) {
            (First::Dense(l), Input::Dense(x)) => l.forward_with(x, covariates, mode)?,
            (First::Sparse(l), Input::Sparse(x, extra)) => {
                let extra = match (extra, covariates) {
                    (Some(e), c) => Some(append(e, c)?),
                    (None, c) => c.cloned(),
                };
                l.forward(x, extra.as_ref(), mode)?
            }
            (First::Dense(_), Input::Sparse(..)) | (First::Sparse(_), Input::Dense(_)) => {
                return Err(crate::Error::InvalidSetting {
                    name: "input",
                    value: if matches!(x, Input::Dense(_)) {
                        "dense"
                    } else {
                        "sparse"
                    }
                    .into(),
                    reason: "the first layer was made for the other kind".into(),
                });
            }
        };
        let mut dropout = match self.dropout_rate > 0.0 {
            true => mode.dropout_stream(&self.name),
            false => None,
        };
        if let Some(bn) = &self.batch_norm {
            if self.relu && !self.layer_norm {
                let dropout = dropout.as_mut().map(|s| (self.dropout_rate, s));
                return bn.forward_relu(&h, mode, dropout);
            }
            h = bn.forward(&h, mode)?;
        }
        if self.layer_norm {
            h = ops::layer_norm(&h, None, None, 1e-5)?;
        }
        Ok(match (self.relu, &mut dropout) {
            (true, Some(stream)) => ops::relu_dropout(&h, self.dropout_rate, stream)?,
            (true, None) => ops::relu(&h)?,
            (false, Some(stream)) => ops::dropout(&h, self.dropout_rate, stream)?,
            (false, None) => h,
        })
    }
}

fn append(x: &Tensor, covariates: Option<&Tensor>) -> Result<Tensor> {
    Ok(match covariates {
        Some(c) => Tensor::cat(&[x, c], 1)?,
        None => x.clone(),
    })
}
