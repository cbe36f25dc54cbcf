//! Which cells train, and in which order: cells with the same modalities are spread evenly, so that each minibatch has its
//! share of every kind.

use std::collections::BTreeMap;

use sc_model::train::{Split, SplitConfig};
use sc_tensor::Stream;

use super::MultiCells;
use crate::Result;

impl MultiCells<'_> {
    /// The cells by which modalities they have.
    fn by_pattern(&self, cells: &[usize]) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
        for &c in cells {
            groups.entry(self.pattern(c)).or_default().push(c);
        }
        groups.into_values().collect()
    }

    /// Splits the cells of each kind on their own, so that training and validation have all of them.
    pub(crate) fn split(&self, split: &SplitConfig, batch_size: usize, seed: u64) -> Result<Split> {
        let all: Vec<usize> = (0..self.n_cells()).collect();
        Ok(split.split_groups(&self.by_pattern(&all), batch_size, seed)?)
    }

    /// Says that these cells will be asked for soon.
    pub(crate) fn read_ahead(&self, cells: &[usize]) {
        for m in self.modalities.iter().flatten() {
            let rows = cells
                .iter()
                .filter_map(|&c| m.row_of.get(c).copied().flatten());
            m.values
                .read_ahead(&rows.map(|r| r as usize).collect::<Vec<_>>());
        }
    }

    /// The cells in random order, cut into minibatches that have their share of every kind. A last one below `fewest` joins
    /// the one before.
    pub(crate) fn minibatches(
        &self,
        cells: &[usize],
        size: usize,
        fewest: usize,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let mut placed: Vec<(f64, usize)> = Vec::with_capacity(cells.len());
        for group in self.by_pattern(cells) {
            let mut offset = [0f64];
            stream.fill_uniform(0.0, 1.0, &mut offset);
            let n = group.len() as f64;
            let order = stream.permutation(group.len());
            for (i, &at) in order.iter().enumerate() {
                placed.push(((i as f64 + offset[0]) / n, group[at]));
            }
        }
        placed.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let order: Vec<usize> = placed.into_iter().map(|(_, c)| c).collect();
        let mut batches: Vec<Vec<usize>> =
            order.chunks(size.max(1)).map(<[usize]>::to_vec).collect();
        let lonely = batches.last().is_some_and(|b| b.len() < fewest);
        if lonely
            && batches.len() > 1
            && let Some(last) = batches.pop()
            && let Some(before) = batches.last_mut()
        {
            before.extend(last);
        }
        batches
    }
}
