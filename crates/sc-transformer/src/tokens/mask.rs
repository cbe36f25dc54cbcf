//! Hides values that a model shall predict.

use sc_model::Parity;
use sc_tensor::ops::Segment;
use serde::{Deserialize, Serialize};

use super::TokenBatch;
use super::draws::{Draws, Generator, content_key};
use crate::{Error, Result};

/// How many values of a cell are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hide {
    /// This share of its tokens, rounded down: in fine-tuning.
    Share(f64),
    /// Each with this probability: in pre-training.
    Each(f64),
}

/// How values are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MaskOptions {
    /// How many.
    pub hide: Hide,
    /// What the model sees instead of a hidden value.
    pub mask_value: f32,
    /// Whether the value of `<cls>` may be hidden, too, as the original does in fine-tuning. It is then scored like a gene's.
    pub cls: bool,
    /// Where random numbers come from.
    pub generator: Generator,
}

impl MaskOptions {
    /// For fine-tuning: a share of the values (0.4 in scGPT's recipes), hidden as -1.
    pub fn share(share: f64, seed: u64, parity: Parity) -> Self {
        Self {
            hide: Hide::Share(share),
            mask_value: -1.0,
            cls: parity == Parity::Upstream,
            generator: Generator::Seeded(seed),
        }
    }
}

/// Hides values of cells.
#[derive(Debug)]
pub struct Masker {
    options: MaskOptions,
    draws: Draws,
}

impl Masker {
    /// From the start of the random numbers.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] unless the share is at least 0 and at most 1, and the mask value a number.
    pub fn new(options: MaskOptions) -> Result<Self> {
        let (Hide::Share(share) | Hide::Each(share)) = options.hide;
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::InvalidSetting {
                name: "mask ratio",
                value: share.to_string(),
                reason: "it is the share of values that are hidden, from 0 to 1; usually 0.4"
                    .into(),
            });
        }
        if !options.mask_value.is_finite() {
            return Err(Error::InvalidSetting {
                name: "mask value",
                value: options.mask_value.to_string(),
                reason: "it must be a number; -1 for released models".into(),
            });
        }
        Ok(Self {
            draws: Draws::new(options.generator, "mask"),
            options,
        })
    }

    /// Hides values: they become the mask value and are scored. Other values are hidden in another `pass`; the same in the same.
    pub fn mask(&self, batch: &mut TokenBatch, pass: u64) {
        let segments = batch.segments.clone();
        for segment in segments.iter() {
            self.mask_cell(batch, segment, pass);
        }
    }

    fn mask_cell(&self, batch: &mut TokenBatch, segment: Segment, pass: u64) {
        let rows = segment.start..segment.start + segment.rows;
        let (Some(ids), Some(values)) = (batch.ids.get(rows.clone()), batch.values.get(rows))
        else {
            return;
        };
        let key = [content_key(ids, values), pass];
        let first = usize::from(batch.has_cls && !self.options.cls);
        for place in self.hidden(&key, segment.rows.saturating_sub(first)) {
            let row = segment.start + first + place;
            if let Some(value) = batch.values.get_mut(row) {
                *value = self.options.mask_value;
            }
            if let Some(scored) = batch.scored.get_mut(row) {
                *scored = true;
            }
        }
    }

    /// Which of `n` candidates are hidden.
    fn hidden(&self, key: &[u64], n: usize) -> Vec<usize> {
        match self.options.hide {
            Hide::Share(share) => {
                let k = (n as f64 * share) as usize;
                self.draws.choose(key, n, k)
            }
            Hide::Each(p) => {
                let draws = self.draws.uniform(key, n).into_iter().enumerate();
                draws.filter(|(_, u)| *u < p).map(|(i, _)| i).collect()
            }
        }
    }
}
