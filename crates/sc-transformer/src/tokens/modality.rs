use std::collections::BTreeSet;

use super::binning::Binner;
use crate::Result;
use crate::vocab::{GeneVocab, SPECIALS};

/// The modality of each column, e.g. RNA or protein.
///
/// Modalities are numbered in alphabetical order; `<pad>`, `<cls>` and `<eoc>` come after them, as in scGPT's multi-omic model.
#[derive(Debug, Clone)]
pub(super) struct Modalities {
    vocab: GeneVocab,
    of_columns: Vec<u32>,
    cls: u32,
}

impl Modalities {
    pub(super) fn new<S: AsRef<str>>(of_columns: &[S]) -> Result<Self> {
        let names: BTreeSet<&str> = of_columns.iter().map(AsRef::as_ref).collect();
        let vocab = GeneVocab::new(names.into_iter().chain(SPECIALS))?;
        let number = |name: &S| vocab.needed(name.as_ref(), "a modality");
        Ok(Self {
            of_columns: of_columns.iter().map(number).collect::<Result<_>>()?,
            cls: vocab.cls()?,
            vocab,
        })
    }

    pub(super) fn vocab(&self) -> &GeneVocab {
        &self.vocab
    }

    /// The number that `<cls>` has.
    pub(super) fn cls(&self) -> u32 {
        self.cls
    }

    /// The number of a column's modality.
    pub(super) fn of(&self, column: u32) -> u32 {
        // Columns are checked when rows are read.
        self.of_columns
            .get(column as usize)
            .copied()
            .unwrap_or(self.cls)
    }

    /// Bins the values of each modality apart, in the order of their numbers.
    pub(super) fn bin(
        &self,
        binner: &Binner,
        key: &[u64],
        columns: &[u32],
        values: &[f32],
    ) -> Vec<f32> {
        let mut out = values.to_vec();
        for modality in 0..self.vocab.len() as u32 {
            let here: Vec<usize> = (0..columns.len())
                .filter(|&i| columns.get(i).is_some_and(|&c| self.of(c) == modality))
                .collect();
            let own: Vec<f32> = here
                .iter()
                .filter_map(|&i| values.get(i).copied())
                .collect();
            let key = [key, &[u64::from(modality)]].concat();
            for (&i, bin) in here.iter().zip(binner.bin(&key, &own)) {
                if let Some(slot) = out.get_mut(i) {
                    *slot = bin;
                }
            }
        }
        out
    }
}
