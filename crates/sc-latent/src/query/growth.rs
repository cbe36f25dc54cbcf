//! How the categories of a query outgrow those of its reference, and where in a weight they are.

use std::ops::Range;

use super::Query;
use crate::{BatchRepresentation, Parity, Registry, ScviConfig};

/// A column of categories: how many the reference knew, and how many there are with those of the query.
#[derive(Debug, Clone, Copy)]
struct Levels {
    old: usize,
    new: usize,
}

/// Inputs of a network that a category with so many levels takes.
fn width(levels: usize) -> usize {
    if levels > 1 { levels } else { 0 }
}

/// The categories of reference and query, in the order of the one-hots that are the last inputs of a layer.
#[derive(Debug, Clone)]
pub(super) struct Growth {
    batch: Levels,
    one_hots: Vec<Levels>,
}

/// Where a slice of a resized tensor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// These slices of the reference's tensor.
    Reference(Range<usize>),
    /// These slices of a fresh tensor.
    Fresh(Range<usize>),
    /// Zeros: a category that was the only one had no inputs.
    Zero,
    /// The mean of the reference's slices.
    Mean,
}

impl Growth {
    pub(super) fn new(config: &ScviConfig, query: &Query, registry: &Registry) -> Self {
        let batch = Levels {
            old: query.reference_batches,
            new: registry.batches.len(),
        };
        let covariates = query
            .reference_levels
            .iter()
            .zip(&registry.categorical_covariates)
            .map(|(&old, all)| Levels {
                old,
                new: all.len(),
            });
        let is_one_hot = config.batch_representation == BatchRepresentation::OneHot;
        Self {
            batch,
            one_hots: is_one_hot
                .then_some(batch)
                .into_iter()
                .chain(covariates)
                .collect(),
        }
    }

    /// The batches that only the query has.
    pub(super) fn new_batches(&self) -> Range<usize> {
        self.batch.old..self.batch.new
    }

    /// Inputs that all one-hots together take, in the reference and with the query.
    fn widths(&self) -> (usize, usize) {
        let sum = |f: fn(&Levels) -> usize| self.one_hots.iter().map(f).sum();
        (sum(|l| width(l.old)), sum(|l| width(l.new)))
    }

    /// Of a layer with `n_in` inputs, those that are one-hots.
    pub(super) fn one_hot_inputs(&self, n_in: usize) -> Range<usize> {
        n_in.saturating_sub(self.widths().1)..n_in
    }

    /// Of a layer with `n_in` inputs, those of categories that only the query has.
    pub(super) fn new_inputs(&self, n_in: usize) -> Vec<Range<usize>> {
        let mut start = self.one_hot_inputs(n_in).start;
        let mut out = Vec::new();
        for levels in &self.one_hots {
            if width(levels.new) > 0 && levels.new > levels.old {
                out.push(start + levels.old..start + levels.new);
            }
            start += width(levels.new);
        }
        out
    }

    /// For a tensor with one slice for each batch: the new ones are `Fresh`.
    pub(super) fn batch_slices(&self) -> Vec<Source> {
        vec![
            Source::Reference(0..self.batch.old),
            Source::Fresh(self.new_batches()),
        ]
    }

    /// For the dispersion of each batch. A random one would be far off and, as scvi-tools freezes it, stay there: that of a
    /// new batch starts at the mean of the reference's.
    pub(super) fn dispersion_slices(&self, parity: Parity) -> Vec<Source> {
        match parity {
            Parity::Upstream => self.batch_slices(),
            Parity::Correct => {
                let mut out = vec![Source::Reference(0..self.batch.old)];
                out.extend(self.new_batches().map(|_| Source::Mean));
                out
            }
        }
    }

    /// For the inputs of a layer that had `old` inputs and has `new`: one-hots of new categories go behind those of their
    /// own column. scvi-tools puts all of them at the end, so that the columns after the first get weights that are not
    /// theirs. `None` if the numbers don't fit.
    pub(super) fn input_slices(
        &self,
        old: usize,
        new: usize,
        parity: Parity,
    ) -> Option<Vec<Source>> {
        if parity == Parity::Upstream {
            return Some(vec![Source::Reference(0..old), Source::Fresh(old..new)]);
        }
        let (old_width, new_width) = self.widths();
        let lead = old.checked_sub(old_width)?;
        if new.checked_sub(new_width)? != lead {
            return None;
        }
        let mut out = vec![Source::Reference(0..lead)];
        let (mut from, mut to) = (lead, lead);
        for levels in self.one_hots.iter().filter(|l| width(l.new) > 0) {
            if width(levels.old) > 0 {
                out.push(Source::Reference(from..from + levels.old));
            } else {
                out.extend((0..levels.old).map(|_| Source::Zero));
            }
            out.push(Source::Fresh(to + levels.old..to + levels.new));
            from += width(levels.old);
            to += levels.new;
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth() -> Growth {
        let batch = Levels { old: 3, new: 5 };
        let levels = [(1, 1), (2, 3), (1, 2)].map(|(old, new)| Levels { old, new });
        Growth {
            batch,
            one_hots: std::iter::once(batch).chain(levels).collect(),
        }
    }

    #[test]
    fn new_categories_go_behind_their_own() {
        use Source::{Fresh, Reference, Zero};
        let slices = growth()
            .input_slices(10 + 5, 10 + 10, Parity::Correct)
            .unwrap();
        let expected = [
            Reference(0..10),
            Reference(10..13),
            Fresh(13..15),
            Reference(13..15),
            Fresh(17..18),
            Zero,
            Fresh(19..20),
        ];
        assert_eq!(slices, expected);
        assert_eq!(growth().new_inputs(20), [13..15, 17..18, 19..20]);
        assert_eq!(growth().one_hot_inputs(20), 10..20);
        assert_eq!(growth().input_slices(14, 20, Parity::Correct), None);
    }

    #[test]
    fn upstream_appends() {
        let slices = growth().input_slices(15, 20, Parity::Upstream).unwrap();
        assert_eq!(slices, [Source::Reference(0..15), Source::Fresh(15..20)]);
    }
}
