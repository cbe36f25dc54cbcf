//! What the raw counts of a group of cells say, with or without the counts.

use super::statistics::{GeneAdder, GeneSums};
use super::stored_statistics::{Grouping, StoredStatistics};
use crate::{Cells, Result};

/// Where numbers about raw counts come from, and how far to trust them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum StatisticsOrigin {
    /// The counts.
    Counts,
    /// Sums that were kept of exactly these cells.
    Stored,
    /// Sums that were kept of larger groups: the cells are taken for average members of their category.
    Approximate {
        /// The share of the cells whose categories are in the group as a whole, and therefore exact.
        exact_share: f64,
    },
}

impl StatisticsOrigin {
    /// Whether the numbers are those of the counts.
    pub fn is_exact(self) -> bool {
        !matches!(self, Self::Approximate { .. })
    }
}

/// Means over the raw counts of a group of cells, one number a gene.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStatistics {
    /// Number of cells.
    pub n_cells: usize,
    /// Mean count.
    pub mean: Vec<f64>,
    /// Share of the cells with a count above zero.
    pub nonzero: Vec<f64>,
    /// Mean of the counts of each cell scaled to 10,000 in all.
    pub scaled_mean: Vec<f64>,
    /// Where these numbers come from.
    pub origin: StatisticsOrigin,
}

impl GroupStatistics {
    /// The weighted sum of groups, as means over `n_cells`.
    fn new(
        n_cells: usize,
        n_genes: usize,
        parts: &[(f64, &GeneSums, usize)],
        origin: StatisticsOrigin,
    ) -> Self {
        let (mut mean, mut nonzero, mut scaled_mean) =
            (vec![0.0; n_genes], vec![0.0; n_genes], vec![0.0; n_genes]);
        let n = n_cells.max(1) as f64;
        for &(weight, sums, group) in parts {
            for (to, from) in [
                (&mut mean, &sums.sum),
                (&mut nonzero, &sums.nonzero),
                (&mut scaled_mean, &sums.scaled),
            ] {
                to.iter_mut()
                    .zip(from.row(group))
                    .for_each(|(t, f)| *t += weight * f / n);
            }
        }
        Self {
            n_cells,
            mean,
            nonzero,
            scaled_mean,
            origin,
        }
    }
}

impl Cells<'_> {
    /// Sums of counts by gene over the cells of each group: `groups` has the group of each cell, or `None`. One pass over the
    /// counts.
    ///
    /// # Errors
    /// [`NeedsCounts`](crate::Error::NeedsCounts) if the cells are minified without their counts.
    pub fn gene_sums(&self, groups: &[Option<u32>], n_groups: usize) -> Result<GeneSums> {
        const ROWS_AT_ONCE: usize = 4096;
        self.require_counts("summing counts by gene")?;
        if groups.len() != self.n_cells() {
            return Err(sc_data::Error::LengthMismatch {
                what: "the group of each cell".into(),
                found: groups.len(),
                expected: self.n_cells(),
            }
            .into());
        }
        let mut sums = GeneAdder::new(n_groups, self.registry().n_genes());
        if let Some(counts) = self.counts().in_memory() {
            sums.add(counts, 0..self.n_cells(), |cell| groups[cell]);
            return Ok(sums.finish());
        }
        for start in (0..self.n_cells()).step_by(ROWS_AT_ONCE) {
            let end = (start + ROWS_AT_ONCE).min(self.n_cells());
            if groups[start..end].iter().any(Option::is_some) {
                let counts = self.counts().read_range(start..end)?;
                sums.add(&counts, 0..end - start, |row| groups[start + row]);
            }
        }
        Ok(sums.finish())
    }

    /// What the raw counts of some cells say about each gene: from the counts if they are there, else from the sums that
    /// were kept when the cells were minified ([`Cells::stored_statistics`]). Those are exact for all cells and for any
    /// union of whole categories of one of their columns, and say so; for other groups every cell stands for the average of
    /// its category. `None` if there are neither counts nor sums.
    ///
    /// For many groups of cells with counts, [`Cells::gene_sums`] reads them once.
    ///
    /// ```
    /// use sc_latent::{Cells, minify::StatisticsOrigin};
    ///
    /// let counts = ndarray::array![[1.0f32, 0.0], [3.0, 4.0], [0.0, 9.0]];
    /// let cells = Cells::plain(&counts);
    /// let group = cells.gene_statistics(&[0, 1])?.ok_or("neither counts nor sums")?;
    /// assert_eq!((group.mean, group.nonzero), (vec![2.0, 2.0], vec![1.0, 0.5]));
    /// assert_eq!(group.origin, StatisticsOrigin::Counts);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If a cell does not exist, or the counts can't be read.
    pub fn gene_statistics(&self, rows: &[usize]) -> Result<Option<GroupStatistics>> {
        const ROWS_AT_ONCE: usize = 4096;
        let len = self.n_cells();
        if let Some(&index) = rows.iter().find(|&&r| r >= len) {
            let what = "cell";
            return Err(sc_data::Error::OutOfRange { what, index, len }.into());
        }
        if !self.has_counts() {
            return Ok(self.stored_statistics().map(|s| s.of_rows(rows)));
        }
        let mut sums = GeneAdder::new(1, self.registry().n_genes());
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let counts = self.counts().read_rows(rows)?;
            sums.add(&counts, 0..rows.len(), |_| Some(0));
        }
        let sums = sums.finish();
        let parts = [(1.0, &sums, 0)];
        let origin = StatisticsOrigin::Counts;
        let n_genes = sums.n_genes();
        Ok(Some(GroupStatistics::new(
            rows.len(),
            n_genes,
            &parts,
            origin,
        )))
    }
}

impl StoredStatistics {
    /// See [`Cells::gene_statistics`]. The rows exist.
    fn of_rows(&self, rows: &[usize]) -> GroupStatistics {
        let n_cells = self.groupings.first().map_or(0, |g| g.codes.len());
        let mut seen = vec![false; n_cells];
        let distinct = rows.iter().all(|&r| !std::mem::replace(&mut seen[r], true));
        let candidates = self.groupings.iter().map(|g| g.cover(rows, distinct));
        // The most cells in whole groups; among equals the finest grouping, which is a better average.
        let best = candidates.max_by_key(|c| (c.exact_cells, c.grouping.categories.len()));
        match best {
            Some(cover) => cover.statistics(rows.len(), self.groupings.first()),
            None => GroupStatistics::new(rows.len(), 0, &[], StatisticsOrigin::Stored),
        }
    }
}

/// How the categories of a grouping make up a set of cells.
struct Cover<'a> {
    grouping: &'a Grouping,
    /// How many of the cells are in each group.
    wanted: Vec<usize>,
    exact_cells: usize,
}

impl Grouping {
    fn cover(&self, rows: &[usize], distinct: bool) -> Cover<'_> {
        let mut wanted = vec![0; self.sums.n_groups()];
        rows.iter()
            .for_each(|&r| wanted[self.codes[r] as usize] += 1);
        let whole = |k: usize| distinct && self.is_whole[k] && wanted[k] == self.sums.n_cells[k];
        let exact_cells = (0..wanted.len())
            .filter(|&k| whole(k))
            .map(|k| wanted[k])
            .sum();
        Cover {
            grouping: self,
            wanted,
            exact_cells,
        }
    }
}

impl Cover<'_> {
    fn statistics(&self, n_cells: usize, all: Option<&Grouping>) -> GroupStatistics {
        let sums = &self.grouping.sums;
        let parts: Vec<_> = self
            .wanted
            .iter()
            .enumerate()
            .filter(|(_, m)| **m > 0)
            .filter_map(|(k, &m)| match (sums.n_cells[k], all) {
                (0, Some(all)) => {
                    let n = *all.sums.n_cells.first()?;
                    Some((m as f64 / n.max(1) as f64, &all.sums, 0))
                }
                (n, _) => Some((m as f64 / n.max(1) as f64, sums, k)),
            })
            .collect();
        let origin = if self.exact_cells == n_cells {
            StatisticsOrigin::Stored
        } else {
            StatisticsOrigin::Approximate {
                exact_share: self.exact_cells as f64 / n_cells.max(1) as f64,
            }
        };
        GroupStatistics::new(n_cells, sums.n_genes(), &parts, origin)
    }
}
