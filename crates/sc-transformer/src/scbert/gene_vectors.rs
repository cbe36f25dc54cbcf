//! Vectors of genes: gene2vec's table.

use std::path::Path;

use candle_core::{Device, Tensor};
use ndarray::Array2;
use sc_tensor::Rng;

use super::npy;
use crate::{Error, Result};

/// One vector for each gene of a panel, in its order: gene2vec's for the published model (Du et al. 2019), 16,906 x 200.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneVectors {
    values: Array2<f64>,
}

impl GeneVectors {
    /// The rows of a table, one a gene.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if a number is not finite.
    pub fn new(values: Array2<f64>) -> Result<Self> {
        if let Some(((row, column), value)) = values.indexed_iter().find(|v| !v.1.is_finite()) {
            return Err(Error::InvalidSetting {
                name: "gene vectors",
                value: value.to_string(),
                reason: format!("number {} of gene {} is not finite", column + 1, row + 1),
            });
        }
        Ok(Self { values })
    }

    /// Reads `gene2vec_16906.npy`, or any other matrix of numbers that NumPy saved.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, [`Error::Npy`] if it is no such matrix.
    pub fn read_npy(path: impl AsRef<Path>) -> Result<Self> {
        Self::new(npy::read_matrix(path.as_ref())?)
    }

    /// Standard normal vectors, for panels that have no others.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn random(genes: usize, dim: usize, rng: &Rng) -> Result<Self> {
        let mut values = vec![0f64; genes.saturating_mul(dim)];
        rng.stream("init/genes").fill_normal(&mut values);
        let values = Array2::from_shape_vec((genes, dim), values);
        Ok(Self {
            values: values.map_err(candle_core::Error::wrap)?,
        })
    }

    /// The table, `[genes, dim]`.
    pub fn values(&self) -> &Array2<f64> {
        &self.values
    }

    /// Whether they fit a network.
    pub(super) fn check(&self, genes: usize, dim: usize) -> Result<()> {
        match self.values.dim() == (genes, dim) {
            true => Ok(()),
            false => Err(Error::InvalidSetting {
                name: "gene vectors",
                value: format!("{:?}", self.values.shape()),
                reason: format!("the panel has {genes} genes and the network width {dim}"),
            }),
        }
    }

    /// With the vector of the cell's position behind them, which is zero.
    pub(super) fn with_cell(&self, device: &Device) -> Result<Tensor> {
        let (genes, dim) = self.values.dim();
        let mut all: Vec<f64> = self.values.iter().copied().collect();
        all.resize((genes + 1) * dim, 0.0);
        Ok(Tensor::from_vec(all, (genes + 1, dim), device)?)
    }
}
