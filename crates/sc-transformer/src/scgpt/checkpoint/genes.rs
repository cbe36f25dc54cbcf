//! The genes of another vocabulary.

use candle_core::{DType, Tensor};
use sc_model::{Param, Parity};

use super::Checkpoint;
use super::infer::GENES;
use super::tensors::to_tensor;
use crate::scgpt::config::ensure;
use crate::scgpt::model::ScGpt;
use crate::vocab::GeneVocab;
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
        let tensor = |name: &str| from.tensor(name).ok_or_else(|| missing(name));
        let there = tensor(GENES)?;
        let expected = [from.vocab().len(), self.config.d_model];
        if there.shape() != expected {
            return Err(Error::Model(sc_model::Error::WrongShape {
                path: from.path().to_owned(),
                name: GENES.into(),
                found: there.shape().to_vec(),
                expected: expected.to_vec(),
            }));
        }
        let norms = self.norms().into_iter();
        let norms = norms
            .map(|name| Ok((name, to_tensor(tensor(name)?, self.params.device())?)))
            .collect::<Result<Vec<_>>>()?;
        self.put_genes(from.vocab(), &there.to_f32_vec(), &norms)
    }

    /// The same from a model in memory.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if it has another width.
    pub fn take_genes(&self, from: &ScGpt) -> Result<usize> {
        let (d, found) = (self.config.d_model, from.config.d_model);
        let reason = format_args!("this model's genes are vectors of {d} numbers");
        ensure(found == d, "d_model of the other model", found, reason)?;
        let theirs = from.genes_parameter(GENES)?.export()?;
        let theirs = theirs.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let norms = self.norms().into_iter();
        let norms = norms
            .map(|name| Ok((name, from.genes_parameter(name)?.export()?)))
            .collect::<Result<Vec<_>>>()?;
        self.put_genes(&from.vocab, &theirs, &norms)
    }

    fn norms(&self) -> Vec<&'static str> {
        let mut norms = vec!["encoder.enc_norm.weight"];
        if self.config.parity == Parity::Correct {
            norms.push("encoder.enc_norm.bias");
        }
        norms
    }

    fn genes_parameter(&self, name: &'static str) -> Result<&Param> {
        self.params.get(name).ok_or_else(|| Error::InvalidSetting {
            name,
            value: "none".into(),
            reason: "every model has it; this one is damaged".into(),
        })
    }

    /// Rows of another table, by the names of the tokens, and norms.
    fn put_genes(
        &self,
        vocab: &GeneVocab,
        theirs: &[f32],
        norms: &[(&'static str, Tensor)],
    ) -> Result<usize> {
        let (table, width) = (self.genes_parameter(GENES)?, self.config.d_model);
        let ours = table.export()?.flatten_all()?.to_dtype(DType::F32)?;
        let mut ours: Vec<f32> = ours.to_vec1()?;
        let mut taken = 0;
        for (row, token) in ours.chunks_mut(width).zip(self.vocab.tokens()) {
            let Some(id) = vocab.id(token).map(|id| id as usize) else {
                continue;
            };
            if let Some(values) = theirs.get(id * width..(id + 1) * width) {
                row.copy_from_slice(values);
                taken += 1;
            }
        }
        let shape = (self.vocab.len(), width);
        table.import(&Tensor::from_vec(ours, shape, self.params.device())?)?;
        for (name, value) in norms {
            self.genes_parameter(name)?.import(value)?;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn model(genes: &[&str], d: usize, seed: u64) -> ScGpt {
        let vocab = GeneVocab::new(genes.iter().copied()).unwrap();
        let params = ScGpt::params(&vocab).unwrap().d_model(d).n_heads(2);
        let params = params.d_hid(8).n_layers(1).check().unwrap();
        params.init(&Device::Cpu, seed).unwrap()
    }

    fn row(model: &ScGpt, token: &str) -> Vec<f32> {
        let table = model.genes_parameter(GENES).unwrap().export().unwrap();
        let id = model.vocab().id(token).unwrap() as usize;
        table.get(id).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn vectors_follow_their_genes() {
        let old = model(&["A", "B", "<pad>", "<cls>"], 8, 1);
        let new = model(&["protein:X", "<cls>", "B", "<pad>"], 8, 2);
        let own = row(&new, "protein:X");
        assert_eq!(new.take_genes(&old).unwrap(), 3);
        for token in ["B", "<pad>", "<cls>"] {
            assert_eq!(row(&new, token), row(&old, token));
        }
        assert_eq!(row(&new, "protein:X"), own);
        assert!(new.take_genes(&model(&["B", "<pad>"], 4, 1)).is_err());
    }
}
