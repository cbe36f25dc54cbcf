use std::sync::Arc;

use candle_core::Tensor;
use sc_data::Csr;
use sc_tensor::likelihood::{self, DispersionRows, Family, Mean};
use sc_tensor::ops;

use crate::Result;

/// The distribution of the counts of each cell, as the decoder gives it.
#[derive(Debug, Clone)]
pub struct Decoded {
    pub(crate) family: Family,
    pub(crate) logits: Tensor,
    pub(crate) softplus: bool,
    pub(crate) log_library: Tensor,
    pub(crate) log_theta: Tensor,
    pub(crate) rows: DispersionRows,
    pub(crate) dropout_logits: Option<Tensor>,
}

impl Decoded {
    /// `log p(x | z)` summed over genes, `[N]`. `N` may be a multiple of the rows of `x`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn log_prob(&self, x: &Arc<Csr>) -> Result<Tensor> {
        let (logits, log_library) = (&self.logits, &self.log_library);
        let mean = if self.softplus {
            Mean::Softplus { logits, log_library }
        } else {
            Mean::Softmax { logits, log_library }
        };
        let dispersion = likelihood::Dispersion { log_theta: &self.log_theta, rows: self.rows.clone() };
        let dispersion = (self.family != Family::Poisson).then_some(&dispersion);
        Ok(likelihood::log_prob(self.family, x, &mean, dispersion, self.dropout_logits.as_ref())?)
    }

    /// Frequencies of genes, `[N, G]`; they sum to 1 over genes unless the model has size factors.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn scale(&self) -> Result<Tensor> {
        Ok(if self.softplus { ops::softplus(&self.logits)? } else { ops::softmax(&self.logits)? })
    }

    /// Expected counts before zero inflation, `[N, G]`.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn rate(&self) -> Result<Tensor> {
        let library = self.log_library.flatten_all()?.unsqueeze(1)?.exp()?;
        Ok(self.scale()?.broadcast_mul(&library)?)
    }

    /// Inverse dispersion (for the normal likelihood: standard deviation), `[N, G]`.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn theta(&self) -> Result<Tensor> {
        let (n, g) = self.logits.dims2()?;
        let r = match &self.rows {
            DispersionRows::PerCell => self.log_theta.clone(),
            DispersionRows::Index(codes) => {
                let codes = Tensor::from_slice(codes, codes.len(), self.log_theta.device())?;
                self.log_theta.index_select(&codes, 0)?
            }
            _ => self.log_theta.flatten_all()?.unsqueeze(0)?.broadcast_as((n, g))?.contiguous()?,
        };
        Ok(r.exp()?)
    }

    /// Probability of an extra zero, `[N, G]`, if the likelihood has them.
    ///
    /// # Errors
    /// If the computation fails.
    pub fn dropout(&self) -> Result<Option<Tensor>> {
        Ok(self.dropout_logits.as_ref().map(ops::sigmoid).transpose()?)
    }
}
