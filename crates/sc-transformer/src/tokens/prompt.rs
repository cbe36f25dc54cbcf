//! Cells of which some genes are known and others are asked for.

use sc_tensor::ops::Segments;

use super::TokenBatch;
use crate::{Error, Result};

/// A cell to be generated, for [`ScGpt::generate`](crate::scgpt::ScGpt::generate).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    /// Tokens and their values, `<cls>` first.
    pub known: Vec<(u32, f32)>,
    /// Tokens whose values are asked for.
    pub unknown: Vec<u32>,
}

impl Prompt {
    /// The cells of a batch, of whose genes those are known that `is_known` says, by the number of the cell in the batch and the
    /// token. `<cls>` always is.
    pub fn split(batch: &TokenBatch, is_known: impl Fn(usize, u32) -> bool) -> Vec<Self> {
        let cells = batch.segments.iter().enumerate();
        let one = |(cell, s): (usize, sc_tensor::ops::Segment)| {
            let mut prompt = Self::default();
            for t in s.start..s.start + s.rows {
                let (Some(&id), Some(&value)) = (batch.ids.get(t), batch.values.get(t)) else {
                    continue;
                };
                let cls = batch.has_cls && t == s.start;
                match cls || is_known(cell, id) {
                    true => prompt.known.push((id, value)),
                    false => prompt.unknown.push(id),
                }
            }
            prompt
        };
        cells.map(one).collect()
    }
}

impl TokenBatch {
    /// Cells whose known tokens come first and are the only ones that are attended to. `mask_value` stands for the values that
    /// are asked for.
    ///
    /// # Errors
    /// If there are more tokens than can be counted.
    pub fn of_prompts(prompts: &[Prompt], mask_value: f32) -> Result<Self> {
        let lengths = prompts
            .iter()
            .map(|p| (p.known.len() + p.unknown.len(), p.known.len()));
        let segments = Segments::with_keys(lengths)?;
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        for p in prompts {
            ids.extend(p.known.iter().map(|k| k.0));
            values.extend(p.known.iter().map(|k| k.1));
            ids.extend(&p.unknown);
            values.extend(p.unknown.iter().map(|_| mask_value));
        }
        let cells = (0..prompts.len()).collect();
        Ok(Self::plain(cells, ids, values, true, segments))
    }

    /// The same cells of which nothing is known but the first token, `<cls>` or a vector in its place: all their genes are
    /// asked for, and scored. `mask_value` stands for their values.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`](crate::Error::InvalidSetting) if the cells have no `<cls>`.
    pub fn all_asked(&self, mask_value: f32) -> Result<Self> {
        if !self.has_cls {
            return Err(Error::InvalidSetting {
                name: "batch",
                value: "without <cls>".into(),
                reason: "that token is all there is of a cell of which no gene is known".into(),
            });
        }
        let mut known = vec![false; self.n_tokens()];
        for first in self.first_tokens() {
            if let Some(k) = known.get_mut(first as usize) {
                *k = true;
            }
        }
        let values = known.iter().zip(&self.values);
        let lengths = self.segments.iter().map(|s| (s.rows, s.rows.min(1)));
        Ok(Self {
            values: values
                .map(|(&k, &v)| if k { v } else { mask_value })
                .collect(),
            scored: known.iter().map(|k| !k).collect(),
            segments: Segments::with_keys(lengths)?,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tokens_come_first() {
        let segments = Segments::new([3, 2]).unwrap();
        let values = vec![-2.0, 5.0, 7.0, -2.0, 3.0];
        let batch = TokenBatch::plain(vec![4, 8], vec![9, 1, 2, 9, 1], values, true, segments);
        let prompts = Prompt::split(&batch, |cell, id| cell == 0 && id == 2);
        assert_eq!(prompts[0].known, [(9, -2.0), (2, 7.0)]);
        assert_eq!(
            (prompts[0].unknown.as_slice(), &prompts[1].unknown[..]),
            (&[1][..], &[1][..])
        );
        let packed = TokenBatch::of_prompts(&prompts, -1.0).unwrap();
        assert!(packed.check().is_ok());
        assert_eq!(packed.ids, [9, 2, 1, 9, 1]);
        assert_eq!(packed.values, [-2.0, 7.0, -1.0, -2.0, -1.0]);
        let keys: Vec<usize> = packed.segments.iter().map(|s| s.keys).collect();
        assert_eq!(keys, [2, 1]);
    }

    #[test]
    fn all_genes_can_be_asked_for() {
        let prompts = [
            Prompt {
                known: vec![(9, -2.0), (2, 7.0)],
                unknown: vec![1],
            },
            Prompt {
                known: vec![(9, -2.0), (1, 3.0)],
                unknown: vec![],
            },
        ];
        let mut batch = TokenBatch::of_prompts(&prompts, -1.0).unwrap();
        batch.targets = vec![-2.0, 7.0, 5.0, -2.0, 3.0];
        let asked = batch.all_asked(-1.0).unwrap();
        assert!(asked.check().is_ok());
        assert_eq!(asked.values, [-2.0, -1.0, -1.0, -2.0, -1.0]);
        assert_eq!(asked.scored, [false, true, true, false, true]);
        assert_eq!(
            (&asked.ids, &asked.targets, &asked.cells),
            (&batch.ids, &batch.targets, &batch.cells)
        );
        let keys: Vec<usize> = asked.segments.iter().map(|s| s.keys).collect();
        assert_eq!(keys, [1, 1]);
        batch.has_cls = false;
        assert!(batch.all_asked(-1.0).is_err());
    }
}
