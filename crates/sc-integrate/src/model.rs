use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::save::{WEIGHTS, model_kind, read_model, save_model};
use sc_model::train::{History, Split};
use sc_model::{Mode, Params};
use serde::{Deserialize, Serialize};

use crate::cells::{Minibatch, MultiCells, Part};
use crate::losses::{Learner, Noise, Terms};
use crate::nets::Nets;
use crate::registry::Registry;
use crate::{ClueConfig, ClueParams, Error, Result};

/// CLUE (cross-linked unified embedding): cells of several modalities in one space, in which each modality has a subspace of
/// its own (Tu et al., "Cross-Linked Unified Embedding for cross-modality representation learning", NeurIPS 2022).
///
/// Every modality has an encoder into every subspace, so that any single one gives the whole embedding; but a modality is
/// decoded from its own subspace only. What proteins tell apart and RNA does not thus has a place where RNA can't blur it.
///
/// ```text
/// z = [z_rna; z_adt; ...]           the embedding, latent_dim for each modality
/// q(z_t | x_s)                      an encoder of modality s into the subspace of t
/// p(x_t | z_t, batch)               the decoder of t reads z_t alone
/// ```
#[derive(Debug)]
pub struct Clue {
    pub(crate) config: ClueConfig,
    pub(crate) registry: Registry,
    pub(crate) params: Params,
    pub(crate) nets: Nets,
    pub(crate) training: Option<Training>,
}

/// What is kept of training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Training {
    /// Which cells trained and which validated.
    pub split: Split,
    /// The metrics of each epoch.
    pub history: History,
}

/// `q(z | x)` of rows of one modality, `[rows, embedding]` each.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Posterior {
    /// Means.
    pub loc: Tensor,
    /// Standard deviations.
    pub std: Tensor,
}

/// What a folder holds besides the weights.
#[derive(Serialize, Deserialize)]
struct Saved {
    model: ClueConfig,
    registry: Registry,
    training: Option<Training>,
}

const KIND: &str = "clue";

impl Clue {
    /// scglue's default settings for these cells.
    pub fn params(cells: &MultiCells<'_>) -> ClueParams {
        ClueParams::new(ClueConfig::default(), cells.registry().clone())
    }

    /// Settings that are there already, for these cells.
    pub fn with_config(cells: &MultiCells<'_>, config: ClueConfig) -> ClueParams {
        ClueParams::new(config, cells.registry().clone())
    }

    /// The settings.
    pub fn config(&self) -> &ClueConfig {
        &self.config
    }

    /// Modalities, batches and labels.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Parameters and buffers.
    pub fn parameters(&self) -> &Params {
        &self.params
    }

    /// What is kept of training, if there was any.
    pub fn training(&self) -> Option<&Training> {
        self.training.as_ref()
    }

    /// Dimensions of the whole embedding.
    pub fn n_embedding(&self) -> usize {
        self.config.latent_dim * self.registry.n_modalities()
    }

    /// The columns of the embedding that are the subspace of a modality.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such modality.
    pub fn subspace(&self, modality: &str) -> Result<Range<usize>> {
        let k = self.registry.modality(modality)?;
        Ok(self.config.subspace(k, self.registry.n_modalities()))
    }

    /// `q(z | x)` of some rows of a modality, given by number.
    ///
    /// # Errors
    /// If the rows do not fit the model.
    pub fn encode(&self, modality: usize, part: &Part, mode: &Mode<'_>) -> Result<Posterior> {
        self.known(modality)?;
        let q = self.nets.encode(modality, part, mode)?;
        Ok(Posterior {
            loc: q.loc,
            std: q.std,
        })
    }

    /// All terms of the loss of some cells.
    ///
    /// # Errors
    /// If the cells do not fit the model.
    pub fn losses(&self, batch: &Minibatch, noise: &Noise, mode: &Mode<'_>) -> Result<Terms> {
        self.fits_minibatch(batch)?;
        self.terms(batch, noise, Learner::Rest, mode)
    }

    /// The adversary's cross entropy, of which only the adversary has gradients.
    ///
    /// # Errors
    /// If the cells do not fit the model, or the adversary has no weight.
    pub fn adversary_loss(
        &self,
        batch: &Minibatch,
        noise: &Noise,
        mode: &Mode<'_>,
    ) -> Result<Tensor> {
        self.fits_minibatch(batch)?;
        let terms = self.terms(batch, noise, Learner::Adversary, mode)?;
        terms.adversary.ok_or_else(|| Error::InvalidSetting {
            name: "weights.align",
            value: self.config.weights.align.to_string(),
            reason: "without weight there is no adversary".into(),
        })
    }

    /// Weights of the modalities with mean 1, as the loss takes them.
    pub fn modality_weights(&self) -> Vec<f64> {
        self.registry.weights()
    }

    fn known(&self, modality: usize) -> Result<()> {
        if modality < self.registry.n_modalities() {
            return Ok(());
        }
        Err(sc_data::Error::OutOfRange {
            what: "modality",
            index: modality,
            len: self.registry.n_modalities(),
        }
        .into())
    }

    fn fits_minibatch(&self, batch: &Minibatch) -> Result<()> {
        let (found, expected) = (batch.parts.len(), self.registry.n_modalities());
        let wrong = |what: String, found, expected| {
            Err(sc_data::Error::LengthMismatch {
                what,
                found,
                expected,
            }
            .into())
        };
        if found != expected {
            return wrong("the minibatch's modalities".into(), found, expected);
        }
        for (part, info) in batch.parts.iter().zip(&self.registry.modalities) {
            let Some(part) = part else { continue };
            let n = part.n_rows();
            let name = &info.name;
            for (what, found, expected) in [
                ("features", part.values.n_cols(), info.n_features()),
                ("rows of values", part.values.n_rows(), n),
                ("rows that are real or not", part.real.len(), n),
                ("codes of batches", part.batch.len(), n),
                ("codes of labels", part.labels.len(), n),
            ] {
                if found != expected {
                    return wrong(format!("{what} of modality \"{name}\""), found, expected);
                }
            }
            if let Some(&c) = part.cell.iter().find(|&&c| c as usize >= batch.n_cells) {
                return Err(sc_data::Error::OutOfRange {
                    what: "cell",
                    index: c as usize,
                    len: batch.n_cells,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Whether cells were made for this model: the numbers of modalities, features and batches must mean the same.
    pub(crate) fn fits(&self, cells: &MultiCells<'_>) -> Result<()> {
        let (a, b) = (&self.registry, cells.registry());
        let alike = a.batches == b.batches
            && a.labels == b.labels
            && a.modalities.len() == b.modalities.len()
            && a.modalities.iter().zip(&b.modalities).all(|(x, y)| {
                x.name == y.name
                    && x.features == y.features
                    && x.likelihood == y.likelihood
                    && x.representation == y.representation
            });
        if alike {
            return Ok(());
        }
        Err(Error::InvalidSetting {
            name: "cells",
            value: "made for other modalities, features or batches".into(),
            reason: "make them with MultiCells::for_model(modalities, model.registry()), or extend the model \
                     (Clue::extended)"
                .into(),
        })
    }

    /// Writes `config.json` and `model.safetensors` to a folder.
    ///
    /// # Errors
    /// If the disk refuses; each file is whole or as it was.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let saved = Saved {
            model: self.config.clone(),
            registry: self.registry.clone(),
            training: self.training.clone(),
        };
        Ok(save_model(dir.as_ref(), KIND, &saved, &self.params)?)
    }

    /// Reads a folder that [`Clue::save`] wrote.
    ///
    /// # Errors
    /// If it is not whole, or of another model.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let kind = model_kind(dir)?;
        if kind != KIND {
            return Err(Error::InvalidSetting {
                name: "model",
                value: kind,
                reason: format!("{} holds another model than {KIND}", dir.display()),
            });
        }
        let (_, saved, tensors) = read_model::<Saved>(dir)?;
        let valid = ClueParams::new(saved.model, saved.registry).check()?;
        let mut model = valid.load(device, DType::F32, &dir.join(WEIGHTS), &tensors)?;
        model.training = saved.training;
        Ok(model)
    }
}
