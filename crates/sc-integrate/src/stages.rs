//! A trained model that takes in new cells: more batches, the same weights.

use candle_core::Tensor;
use sc_model::Param;

use crate::cells::MultiCells;
use crate::model::Clue;
use crate::{ClueParams, Error, Result};

impl Clue {
    /// A model for other cells of the same modalities, which may be of new batches, with the weights of this one: the
    /// second stage of the competition's winners. What belongs to a batch is taken over by name; new batches start fresh.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if modalities or features differ, or only one of the models has batches.
    pub fn extended(&self, cells: &MultiCells<'_>, seed: u64) -> Result<Self> {
        let (old, new) = (&self.registry, cells.registry());
        let wrong = |what: &str| {
            Err(Error::InvalidSetting {
                name: "cells",
                value: format!("of other {what}"),
                reason: format!("a model can only be extended to cells of the same {what}"),
            })
        };
        let same = old.modalities.len() == new.modalities.len()
            && old.modalities.iter().zip(&new.modalities).all(|(a, b)| {
                a.name == b.name
                    && a.features == b.features
                    && a.representation == b.representation
                    && a.likelihood == b.likelihood
            });
        if !same {
            return wrong("modalities, features, likelihoods and representations");
        }
        if old.batches.is_empty() != new.batches.is_empty() {
            return wrong("kind: with batches, or without");
        }
        let mut registry = new.clone();
        registry.labels.clone_from(&old.labels);
        registry.modalities.clone_from(&old.modalities);
        let valid = ClueParams::new(self.config.clone(), registry).check()?;
        let dtype = self.params.dtype();
        let model = valid.init_with_dtype(self.params.device(), dtype, seed)?;
        model.adopt(self)?;
        Ok(model)
    }

    /// Takes over the weights of a model with other batches.
    fn adopt(&self, from: &Self) -> Result<()> {
        let known: Vec<Option<usize>> = self
            .registry
            .batches
            .iter()
            .map(|b| from.registry.batches.iter().position(|o| o == b))
            .collect();
        for param in self.params.iter() {
            let Some(old) = from.params.get(param.name()) else {
                continue;
            };
            match self.has_batch_columns(param) && !known.is_empty() {
                true => param.import(&columns(
                    &param.export()?,
                    &old.export()?,
                    &known,
                    from.registry.n_batches(),
                )?)?,
                false => param.import(&old.export()?)?,
            }
        }
        Ok(())
    }

    /// Whether the last columns of a parameter, as files have it, are those of the batches.
    fn has_batch_columns(&self, param: &Param) -> bool {
        if param.is_buffer() {
            return false;
        }
        let parts: Vec<&str> = param.name().split('.').collect();
        let is_first = |layer: &str| match self.config.adversary_depth {
            0 => layer == "pred",
            _ => layer == "linear_0",
        };
        match (parts.first(), parts.as_slice()) {
            (Some(&"u2x"), [.., layer, "weight"]) => !layer.starts_with("bn_"),
            (Some(&"u2x"), [.., name]) => *name != "bias" && *name != "weight" || parts.len() == 3,
            (Some(&"du"), [_, layer, "weight"]) => {
                self.config.adversary_sees_batch && is_first(layer)
            }
            _ => false,
        }
    }
}

/// `new` with the columns before the batches, and those of batches that `old` knows, from `old`.
fn columns(new: &Tensor, old: &Tensor, known: &[Option<usize>], n_old: usize) -> Result<Tensor> {
    let (total, total_old) = (new.dim(1)?, old.dim(1)?);
    let (core, core_old) = (
        total.saturating_sub(known.len()),
        total_old.saturating_sub(n_old),
    );
    if core != core_old {
        return Err(Error::InvalidSetting {
            name: "weights",
            value: format!("{:?}", old.dims()),
            reason: format!("expected {core} columns before those of the batches"),
        });
    }
    let mut parts = Vec::with_capacity(known.len() + 1);
    if core > 0 {
        parts.push(old.narrow(1, 0, core)?);
    }
    for (i, place) in known.iter().enumerate() {
        parts.push(match place {
            Some(j) => old.narrow(1, core + j, 1)?,
            None => new.narrow(1, core + i, 1)?,
        });
    }
    Ok(Tensor::cat(&parts, 1)?.contiguous()?)
}
