//! Known and unknown genes for generative pre-training.

use sc_tensor::ops::{Segment, Segments};
use serde::{Deserialize, Serialize};

use super::TokenBatch;
use super::draws::{Draws, Generator, content_key};
use crate::{Error, Result};

/// How the genes of a cell are split in those that are known and those to be generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerativeOptions {
    /// The shares of unknown genes from which one is drawn.
    pub ratios: Vec<f64>,
    /// The most tokens of a cell, known and unknown, `<cls>` included; `None` keeps all.
    pub max_len: Option<usize>,
    /// What stands in [`TokenBatch::values`] for an unknown value.
    pub mask_value: f32,
    /// Where random numbers come from.
    pub generator: Generator,
}

impl Default for GenerativeOptions {
    /// A quarter, a half, or three quarters of at most 1,200 tokens, as scGPT was pre-trained.
    fn default() -> Self {
        Self {
            ratios: vec![0.25, 0.5, 0.75],
            max_len: Some(1200),
            mask_value: -1.0,
            generator: Generator::default(),
        }
    }
}

/// Splits cells in known and unknown genes.
///
/// In the result the known tokens of a cell come first, `<cls>` among them, and are its
/// [`keys`](sc_tensor::ops::Segment::keys); the unknown ones follow, and are scored.
#[derive(Debug)]
pub struct GenerativeSplit {
    options: GenerativeOptions,
    draws: Draws,
    ratios: Draws,
}

impl GenerativeSplit {
    /// From the start of the random numbers.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] unless there are ratios, all at least 0 and less than 1, and `max_len` is at least 2.
    pub fn new(options: GenerativeOptions) -> Result<Self> {
        let wrong = |name, value: String, reason: &str| {
            Err(Error::InvalidSetting {
                name,
                value,
                reason: reason.into(),
            })
        };
        let fits = |r: &f64| (0.0..1.0).contains(r);
        if options.ratios.is_empty() || !options.ratios.iter().all(fits) {
            let found = format!("{:?}", options.ratios);
            let reason = "at least one share of unknown genes is needed, each from 0 to less than 1; usually 0.25, 0.5, 0.75";
            return wrong("ratios", found, reason);
        }
        match options.max_len {
            Some(n) if n < 2 => wrong("max_len", n.to_string(), "at least 2 tokens are needed"),
            _ => Ok(Self {
                draws: Draws::new(options.generator, "split"),
                // The original draws ratios from another generator than permutations.
                ratios: Draws::new(
                    match options.generator {
                        Generator::Seeded(seed) => Generator::Seeded(seed),
                        Generator::Numpy(seed) | Generator::Torch(seed) => {
                            Generator::Seeded(seed.into())
                        }
                    },
                    "ratio",
                ),
                options,
            }),
        }
    }

    /// A ratio for a whole minibatch, as scGPT draws one for each; `step` counts minibatches.
    pub fn ratio(&self, step: u64) -> f64 {
        self.draw_ratio(&[step])
    }

    /// Splits each cell by a ratio of its own.
    ///
    /// # Errors
    /// As [`GenerativeSplit::split_at`].
    pub fn split(&self, batch: &TokenBatch, pass: u64) -> Result<TokenBatch> {
        self.split_with(batch, pass, |key| self.draw_ratio(key))
    }

    /// Splits all cells by the same ratio. `batch` should have all genes of each cell: those over
    /// [`GenerativeOptions::max_len`] are left out after the split, from both parts.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if values are hidden already, [`Error::Length`] if the batch is not whole.
    pub fn split_at(&self, batch: &TokenBatch, pass: u64, ratio: f64) -> Result<TokenBatch> {
        if !(0.0..1.0).contains(&ratio) {
            return Err(Error::InvalidSetting {
                name: "ratio",
                value: ratio.to_string(),
                reason: "the share of unknown genes is at least 0 and less than 1".into(),
            });
        }
        self.split_with(batch, pass, |_| ratio)
    }

    fn draw_ratio(&self, key: &[u64]) -> f64 {
        let u = self.ratios.uniform(key, 1).first().copied().unwrap_or(0.0);
        let n = self.options.ratios.len();
        let which = ((u * n as f64) as usize).min(n - 1);
        self.options.ratios.get(which).copied().unwrap_or(0.5)
    }

    fn split_with(
        &self,
        batch: &TokenBatch,
        pass: u64,
        ratio: impl Fn(&[u64]) -> f64,
    ) -> Result<TokenBatch> {
        batch.check()?;
        if batch.scored.contains(&true) || batch.segments.iter().any(|s| s.keys != s.rows) {
            return Err(Error::InvalidSetting {
                name: "batch",
                value: "with hidden values".into(),
                reason: "cells can be split once, before values are hidden".into(),
            });
        }
        let cls = usize::from(batch.has_cls);
        let mut order = Vec::with_capacity(batch.n_tokens());
        let mut lengths = Vec::with_capacity(batch.n_cells());
        for segment in batch.segments.iter() {
            let key = [cell_key(batch, segment), pass];
            let (known, unknown) = self.parts(&key, segment.rows.saturating_sub(cls), ratio(&key));
            lengths.push((cls + known.len() + unknown.len(), cls + known.len()));
            order.extend(segment.start..segment.start + cls);
            order.extend(
                known
                    .iter()
                    .chain(&unknown)
                    .map(|g| segment.start + cls + g),
            );
        }
        let mut out = reordered(batch, &order, Segments::with_keys(lengths)?);
        for segment in out.segments.clone().iter() {
            for row in segment.start + segment.keys..segment.start + segment.rows {
                if let (Some(v), Some(s)) = (out.values.get_mut(row), out.scored.get_mut(row)) {
                    *v = self.options.mask_value;
                    *s = true;
                }
            }
        }
        Ok(out)
    }

    /// Known and unknown ones of `n` genes.
    fn parts(&self, key: &[u64], n: usize, ratio: f64) -> (Vec<usize>, Vec<usize>) {
        let mut unknown = self.draws.permutation(key, n);
        let known = unknown.split_off(((n as f64 * ratio) as usize).min(n));
        let Some(max_len) = self.options.max_len.filter(|&m| n + 1 > m) else {
            return (known, unknown);
        };
        // Of `max_len` tokens one is `<cls>`.
        let room = ((max_len - 1) as f64 * ratio) as usize;
        let known = self.limited(key, known, max_len - 1 - room, 0);
        (known, self.limited(key, unknown, room, 1))
    }

    /// Some of the genes, which are in random order already. The original draws once more, all but the first `fixed` ones.
    fn limited(&self, key: &[u64], mut genes: Vec<usize>, room: usize, fixed: usize) -> Vec<usize> {
        if genes.len() <= room {
            return genes;
        }
        if self.draws.is_sequential() {
            let fixed = fixed.min(room);
            let tail = genes.split_off(fixed);
            let drawn = self.draws.choose(key, tail.len(), room - fixed);
            genes.extend(drawn.iter().filter_map(|&i| tail.get(i)));
        }
        genes.truncate(room);
        genes
    }
}

fn cell_key(batch: &TokenBatch, segment: Segment) -> u64 {
    let rows = segment.start..segment.start + segment.rows;
    let ids = batch.ids.get(rows.clone()).unwrap_or_default();
    content_key(ids, batch.values.get(rows).unwrap_or_default())
}

/// Some tokens of a batch in another order.
fn reordered(batch: &TokenBatch, order: &[usize], segments: Segments) -> TokenBatch {
    fn pick<T: Copy>(values: &[T], at: &[usize]) -> Vec<T> {
        at.iter().filter_map(|&i| values.get(i).copied()).collect()
    }
    TokenBatch {
        cells: batch.cells.clone(),
        ids: pick(&batch.ids, order),
        values: pick(&batch.values, order),
        targets: pick(&batch.targets, order),
        scored: pick(&batch.scored, order),
        modality: batch.modality.as_ref().map(|m| pick(m, order)),
        flags: batch.flags.as_ref().map(|f| pick(f, order)),
        has_cls: batch.has_cls,
        segments,
    }
}
