use candle_core::Tensor;
use sc_tensor::ops;

use crate::{Init, Mode, Param, ParamBuilder, Result};

/// One learned vector for each category.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Param,
}

impl Embedding {
    /// `n` vectors of length `dim`, standard normal at the start.
    ///
    /// # Errors
    /// If the name is taken.
    pub fn new(p: &ParamBuilder<'_>, n: usize, dim: usize) -> Result<Self> {
        Ok(Self {
            weight: p.param("weight", (n, dim), Init::Normal(1.0))?,
        })
    }

    /// The vectors of the codes: `[N] -> [N, dim]`.
    ///
    /// # Errors
    /// If a code has no vector.
    pub fn forward(&self, codes: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        Ok(ops::embedding_ids(self.weight.get(mode), codes)?)
    }

    /// All vectors, `[n, dim]`.
    pub fn weight(&self) -> &Param {
        &self.weight
    }
}
