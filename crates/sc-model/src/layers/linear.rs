use std::sync::Arc;

use candle_core::{DType, Tensor};
use ndarray::ArrayView2;
use sc_data::Csr;
use sc_tensor::Stream;
use sc_tensor::ops::{self, SparseInput};

use crate::{Init, Mode, Param, ParamBuilder, Result};

/// PyTorch's default for a linear layer: uniform on `(-1/sqrt(n_in), 1/sqrt(n_in))`, weights and bias alike.
fn default_init(n_in: usize) -> Init {
    Init::Uniform(1.0 / (n_in.max(1) as f64).sqrt())
}

/// `y = x Wᵀ + b` with `W` of shape `[n_out, n_in]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    /// Makes `weight` and, if asked for, `bias`.
    ///
    /// # Errors
    /// If the names are taken.
    pub fn new(p: &ParamBuilder<'_>, n_in: usize, n_out: usize, bias: bool) -> Result<Self> {
        let init = default_init(n_in);
        Ok(Self {
            weight: p.param("weight", (n_out, n_in), init)?,
            bias: bias.then(|| p.param("bias", n_out, init)).transpose()?,
        })
    }

    /// `[N, n_in] -> [N, n_out]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor> {
        Ok(ops::linear(
            x,
            self.weight.get(mode),
            self.bias.as_ref().map(|b| b.get(mode)),
        )?)
    }

    /// [`Linear::forward`], then a relu, then dropout if there is any, `(p, stream)`, in one pass.
    ///
    /// # Errors
    /// If the shapes do not fit, or `p` is not at least 0 and below 1.
    pub fn forward_relu(
        &self,
        x: &Tensor,
        dropout: Option<(f64, &mut Stream)>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| b.get(mode));
        Ok(ops::linear_relu(x, self.weight.get(mode), bias, dropout)?)
    }

    /// [`Linear::forward`] where the last inputs are one-hots of categories. Without a graph they are added row by row, so that
    /// categories which no row has don't change a bit of the result: a model that was given more of them agrees with the
    /// one it was made from.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward_with(
        &self,
        x: &Tensor,
        one_hots: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let Some(one_hots) = one_hots else {
            return self.forward(x, mode);
        };
        let (n, width) = one_hots.dims2()?;
        if mode.tracks() || x.rank() != 2 {
            return self.forward(&Tensor::cat(&[x, one_hots], 1)?, mode);
        }
        let weight = self.weight.value();
        let lead = x.dim(1)?;
        let y = ops::linear(
            x,
            &weight.narrow(1, 0, lead)?.contiguous()?,
            self.bias.as_ref().map(Param::value),
        )?;
        let dense = one_hots
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let dense = ArrayView2::from_shape((n, width), &dense).map_err(candle_core::Error::wrap)?;
        let sparse = SparseInput::counts(Arc::new(Csr::from_dense_view(dense)));
        let columns = weight.narrow(1, lead, width)?.t()?.contiguous()?;
        Ok((y + ops::csr_linear(&sparse, &columns, None, None)?)?)
    }

    /// The weight, `[n_out, n_in]`.
    pub fn weight(&self) -> &Param {
        &self.weight
    }

    /// The bias, `[n_out]`, if there is one.
    pub fn bias(&self) -> Option<&Param> {
        self.bias.as_ref()
    }
}

/// `y = x Wᵀ + b` for sparse `x`: the first layer of an encoder. The weight is kept input-major, so that each stored
/// count reads one contiguous row, and a minibatch of counts is never made dense.
#[derive(Debug, Clone)]
pub struct SparseLinear {
    weight: Param,
    bias: Option<Param>,
}

impl SparseLinear {
    /// Makes `weight` and, if asked for, `bias`.
    ///
    /// # Errors
    /// If the names are taken.
    pub fn new(p: &ParamBuilder<'_>, n_in: usize, n_out: usize, bias: bool) -> Result<Self> {
        let init = default_init(n_in);
        Ok(Self {
            weight: p.transposed("weight", n_in, n_out, init)?,
            bias: bias.then(|| p.param("bias", n_out, init)).transpose()?,
        })
    }

    /// Sparse `[N, G]`, and dense columns `[N, n_in - G]` that follow them, `-> [N, n_out]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        x: &SparseInput,
        extra: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|b| b.get(mode));
        let frozen = self.weight.frozen_lead();
        let in_part = frozen >= x.n_cols().max(1) && frozen < self.weight.value().dim(0)?;
        match extra {
            Some(extra) if mode.tracks() && in_part => {
                self.forward_tail(x, extra, bias, frozen, mode)
            }
            _ => Ok(ops::csr_linear(x, self.weight.get(mode), bias, extra)?),
        }
    }

    /// The same where the weights of the first `frozen` inputs, the genes among them, are not trained: the gradient of the
    /// weight, which costs more than anything else here, is then that of a few columns.
    fn forward_tail(
        &self,
        x: &SparseInput,
        extra: &Tensor,
        bias: Option<&Tensor>,
        frozen: usize,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        let weight = self.weight.value();
        let known = frozen - x.n_cols();
        let rest = weight.dim(0)? - frozen;
        let head = match known {
            0 => None,
            _ => Some(extra.narrow(1, 0, known)?.contiguous()?),
        };
        let y = ops::csr_linear(x, &weight.narrow(0, 0, frozen)?, bias, head.as_ref())?;
        let tail = self.weight.get(mode).narrow(0, frozen, rest)?;
        let input = extra.narrow(1, known, rest)?.contiguous()?;
        Ok((y + ops::linear(&input, &tail.t()?.contiguous()?, None)?)?)
    }
}
