use std::ops::Range;

use rayon::prelude::*;
use sc_data::Csr;

use super::Groups;

/// Rank sums of genes in groups.
///
/// Ranks need all cells of a gene at once: entries that are not 0 are kept until [`RankSums::finish`], and only those of some
/// genes, so that what is held is bounded; the rest of the genes follow in another pass over the same cells.
#[derive(Debug, Clone)]
pub(crate) struct RankSums {
    n_groups: usize,
    n_genes: usize,
    /// `[genes, groups]`.
    sums: Vec<f64>,
    now: Range<usize>,
    /// Of each gene of `now`: value and group of the cells that have it.
    entries: Vec<Vec<(f32, u32)>>,
}

impl RankSums {
    pub(crate) fn new(groups: &Groups, n_genes: usize) -> Self {
        let n_groups = groups.names.len();
        Self {
            n_groups,
            n_genes,
            sums: vec![0.0; n_genes * n_groups],
            now: 0..0,
            entries: Vec::new(),
        }
    }

    /// Begins a pass for these genes.
    pub(crate) fn begin(&mut self, genes: Range<usize>) {
        self.entries = vec![Vec::new(); genes.len()];
        self.now = genes;
    }

    /// Adds cells whose groups are `of_cell`.
    pub(crate) fn add(&mut self, block: &Csr, of_cell: &[u32]) {
        for (i, &group) in of_cell.iter().enumerate() {
            let (genes, values) = block.row(i);
            let first = genes.partition_point(|&g| (g as usize) < self.now.start);
            let last = genes.partition_point(|&g| (g as usize) < self.now.end);
            for (&g, &v) in genes[first..last].iter().zip(&values[first..last]) {
                if v != 0.0 {
                    self.entries[g as usize - self.now.start].push((v, group));
                }
            }
        }
    }

    /// Ends a pass: ranks the cells of each of its genes.
    pub(crate) fn finish(&mut self, groups: &Groups) {
        let entries = std::mem::take(&mut self.entries);
        let width = self.n_groups;
        let sums = &mut self.sums[self.now.start * width..self.now.end * width];
        sums.par_chunks_mut(width.max(1))
            .zip(entries)
            .for_each(|(sums, entries)| rank(entries, groups, sums));
    }

    /// `(R - n (N + 1) / 2) / sqrt(n (N - n) (N + 1) / 12)` of each gene.
    pub(crate) fn scores(&self, group: usize, n: usize, n_cells: usize) -> Vec<f64> {
        let (n, all) = (n as f64, n_cells as f64);
        let expected = n * (all + 1.0) / 2.0;
        let sd = (n * (all - n) * (all + 1.0) / 12.0).sqrt();
        (0..self.n_genes)
            .map(|g| (self.sums[g * self.n_groups + group] - expected) / sd)
            .collect()
    }
}

/// The rank sum of each group; values are positive, cells without an entry are 0 and tied below them.
fn rank(mut entries: Vec<(f32, u32)>, groups: &Groups, sums: &mut [f64]) {
    let zeros = (groups.of_cell.len() - entries.len()) as f64;
    let rank_of_zero = (zeros + 1.0) / 2.0;
    for (sum, &size) in sums.iter_mut().zip(&groups.sizes) {
        *sum = size as f64 * rank_of_zero;
    }
    entries.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = zeros;
    for tied in entries.chunk_by(|a, b| a.0 == b.0) {
        let rank = below + (tied.len() + 1) as f64 / 2.0;
        for &(_, group) in tied {
            if let Some(sum) = sums.get_mut(group as usize) {
                *sum += rank - rank_of_zero;
            }
        }
        below += tied.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use sc_data::Categorical;

    use super::*;
    use crate::ppc::agreement::ranks;

    #[test]
    fn sparse_ranks_are_those_of_all_cells() {
        let x =
            ndarray::Array2::from_shape_fn((30, 5), |(i, g)| ((i * 7 + g * 5) % (g + 3)) as f32);
        let labels: Vec<&str> = (0..30).map(|i| ["a", "b", "c"][i % 3]).collect();
        let groups = Groups::new(&Categorical::from_labels(&labels)).unwrap();
        let mut found = RankSums::new(&groups, 5);
        for genes in [0..2, 2..5] {
            found.begin(genes);
            found.add(&Csr::from_dense(&x), &groups.of_cell);
            found.finish(&groups);
        }
        for g in 0..5 {
            let column: Vec<f64> = x.column(g).iter().map(|&v| f64::from(v)).collect();
            let ranks = ranks(&column);
            for k in 0..3 {
                let expected: f64 = ranks.iter().skip(k).step_by(3).sum();
                assert!((found.sums[g * 3 + k] - expected).abs() < 1e-9);
            }
        }
        assert!(
            (found.scores(0, 10, 30)[0]
                - (found.sums[0] - 155.0) / (10.0 * 20.0 * 31.0 / 12.0f64).sqrt())
            .abs()
                < 1e-12
        );
    }
}
