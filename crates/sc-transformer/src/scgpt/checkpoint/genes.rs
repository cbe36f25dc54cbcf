//! The genes of another vocabulary.

use candle_core::Tensor;
use sc_model::Parity;

use super::Checkpoint;
use super::infer::GENES;
use super::tensors::to_tensor;
use crate::scgpt::model::ScGpt;
use crate::{Error, Result};

impl ScGpt {
    /// Takes over the vectors of the tokens that a checkpoint knows, and the norm behind them, into a model whose vocabulary
    /// has others, too: proteins, peaks. Other tokens keep what they have. Says how many were taken over.
    ///
    /// Of the norm, the original takes the scale and forgets the shift: so does a model with [`Parity::Upstream`].
    ///
    /// # Errors
    /// [`Error::Model`] if the checkpoint lacks these tensors or has another width.
    pub fn load_genes(&self, from: &Checkpoint) -> Result<usize> {
        let missing = |name: &str| {
            Error::Model(sc_model::Error::MissingTensor {
                path: from.path().to_owned(),
                name: name.to_owned(),
                what: "the vectors of genes".into(),
            })
        };
        let parameter = |name: &str| self.params.get(name).ok_or_else(|| missing(name));
        let tensor = |name: &str| from.tensor(name).ok_or_else(|| missing(name));
        let table = parameter(GENES)?;
        let there = tensor(GENES)?;
        let width = self.config.d_model;
        let expected = [from.vocab().len(), width];
        if there.shape() != expected {
            return Err(Error::Model(sc_model::Error::WrongShape {
                path: from.path().to_owned(),
                name: GENES.into(),
                found: there.shape().to_vec(),
                expected: expected.to_vec(),
            }));
        }
        let theirs = there.to_f32_vec();
        let mut ours: Vec<f32> = table
            .value()
            .flatten_all()?
            .to_dtype(candle_core::DType::F32)?
            .to_vec1()?;
        let mut taken = 0;
        for (row, token) in ours.chunks_mut(width).zip(self.vocab.tokens()) {
            let Some(id) = from.vocab().id(token).map(|id| id as usize) else {
                continue;
            };
            if let Some(values) = theirs.get(id * width..(id + 1) * width) {
                row.copy_from_slice(values);
                taken += 1;
            }
        }
        let shape = (self.vocab.len(), width);
        table.import(&Tensor::from_vec(ours, shape, self.params.device())?)?;
        let mut norm = vec!["encoder.enc_norm.weight"];
        if self.config.parity == Parity::Correct {
            norm.push("encoder.enc_norm.bias");
        }
        for name in norm {
            parameter(name)?.import(&to_tensor(tensor(name)?, self.params.device())?)?;
        }
        Ok(taken)
    }
}
