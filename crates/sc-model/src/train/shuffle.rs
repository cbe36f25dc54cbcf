use sc_tensor::rng::Stream;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// In which order the training cells come, anew in every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Shuffle {
    /// Every order of all cells is as likely as any other.
    #[default]
    Cells,
    /// For cells on a disk, where single ones are slow to read: runs of neighbouring cells are drawn in a random order, and the
    /// cells of several runs are mixed. A source that can ([`sc_data::RowSource::read_ahead`]) fetches the next runs while
    /// these are trained on.
    ///
    /// A minibatch then has cells of `at_once` places of the file. If neighbours in the file are alike (a file sorted by
    /// donor), it is less varied than one of all cells: its gradient has the same mean and a larger variance, the less so
    /// the larger `at_once`. Memory holds `rows * at_once` cells.
    Blocks {
        /// Training cells of a run. Files are read by chunks, so that runs shorter than a chunk read more than they use.
        rows: usize,
        /// Runs that are mixed. Together they have a multiple of a minibatch's cells.
        at_once: usize,
    },
}

impl Shuffle {
    pub(super) fn check(self, batch_size: usize) -> Result<()> {
        let Self::Blocks { rows, at_once } = self else {
            return Ok(());
        };
        let together = rows.checked_mul(at_once);
        match together {
            Some(n) if n > 0 && n.is_multiple_of(batch_size) => Ok(()),
            _ => Err(Error::InvalidSetting {
                name: "shuffle",
                value: format!("{at_once} runs of {rows} cells"),
                reason: format!("together they must be a multiple of batch_size, {batch_size}"),
            }),
        }
    }

    /// The cells in groups, each of which is to be shuffled by itself; one group if there are no runs.
    pub(super) fn windows(self, cells: &[usize], stream: &mut Stream) -> Vec<Vec<usize>> {
        let Self::Blocks { rows, at_once } = self else {
            return vec![cells.to_vec()];
        };
        let mut sorted = cells.to_vec();
        sorted.sort_unstable();
        let mut runs: Vec<&[usize]> = sorted.chunks(rows.max(1)).collect();
        // A shorter run stays at the end, so that only the last minibatch can be short.
        let rest = runs.pop_if(|r| r.len() < rows);
        let order = stream.permutation(runs.len());
        let drawn: Vec<&[usize]> = order
            .into_iter()
            .filter_map(|i| runs.get(i).copied())
            .chain(rest)
            .collect();
        drawn.chunks(at_once.max(1)).map(<[_]>::concat).collect()
    }

    /// Cells that are only looked at, in the order in which they are read best.
    pub(super) fn in_turn(self, cells: &[usize]) -> Vec<usize> {
        let mut cells = cells.to_vec();
        if self != Self::Cells {
            cells.sort_unstable();
        }
        cells
    }
}

/// The minibatches of an epoch, and which cells are read together.
#[derive(Default)]
pub(super) struct Schedule {
    pub(super) batches: Vec<Vec<usize>>,
    /// The first minibatch and the cells of each part of the epoch.
    pub(super) windows: Vec<(usize, Vec<usize>)>,
}

impl Schedule {
    /// The cells to be read ahead before minibatch `k`: those of the next part where a part begins, at the start those of the
    /// present part as well. None if the epoch has one part.
    pub(super) fn soon(&self, k: usize, at_start: bool) -> impl Iterator<Item = &[usize]> {
        let several = self.windows.len() > 1;
        let at = self.windows.partition_point(|w| w.0 <= k);
        let begins = self.windows.iter().any(|w| w.0 == k);
        let present = (several && at_start).then(|| at.checked_sub(1)).flatten();
        let next = (several && (begins || at_start)).then_some(at);
        let cells = |w: usize| self.windows.get(w).map(|w| w.1.as_slice());
        present.into_iter().chain(next).filter_map(cells)
    }
}

#[cfg(test)]
mod tests {
    use sc_tensor::rng::Rng;

    use super::*;

    #[test]
    fn windows_hold_each_cell_once_and_neighbours_together() {
        let cells: Vec<usize> = (0..1000).rev().filter(|c| c % 7 != 0).collect();
        let shuffle = Shuffle::Blocks {
            rows: 32,
            at_once: 4,
        };
        assert!(shuffle.check(64).is_ok() && shuffle.check(48).is_err());
        let mut stream = Rng::new(1).stream("t");
        let first = shuffle.windows(&cells, &mut stream);
        let second = shuffle.windows(&cells, &mut stream);
        assert_ne!(first, second);
        for windows in [&first, &second] {
            let mut all = windows.concat();
            all.sort_unstable();
            assert_eq!(all, shuffle.in_turn(&cells));
            let (last, full) = windows.split_last().unwrap();
            assert!(full.iter().all(|w| w.len() == 128) && last.len() <= 128);
            // Four runs, so at most four gaps of more than two within a window.
            let gaps = |w: &Vec<usize>| w.windows(2).filter(|p| p[1].abs_diff(p[0]) > 2).count();
            assert!(windows.iter().all(|w| gaps(w) <= 4));
        }
        let mut schedule = Schedule::default();
        for (k, cells) in first.iter().enumerate() {
            schedule.windows.push((2 * k, cells.clone()));
            schedule.batches.extend([Vec::new(), Vec::new()]);
        }
        let soon = |k, at_start| schedule.soon(k, at_start).collect::<Vec<_>>();
        assert_eq!(soon(0, true), [&first[0][..], &first[1]]);
        assert_eq!(soon(2, false), [&first[2][..]]);
        assert_eq!(soon(5, true), [&first[2][..], &first[3]]);
        assert!(soon(3, false).is_empty());
        let whole = Shuffle::Cells.windows(&cells, &mut stream);
        assert_eq!(whole, std::slice::from_ref(&cells));
    }
}
