use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;
use sc_data::Csr;

/// What the counts of a cell are scaled to in [`GeneSums::scaled`].
pub(crate) const SCALED_TO: f64 = 1e4;

/// Rows that are added up together.
const ROWS_AT_ONCE: usize = 512;

/// Sums of counts over the cells of each of some groups, in double precision: exact for counts.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneSums {
    /// Cells in each group.
    pub n_cells: Vec<usize>,
    /// Sum of the counts, `[groups, genes]`.
    pub sum: Array2<f64>,
    /// Number of cells with a count above zero, `[groups, genes]`.
    pub nonzero: Array2<f64>,
    /// Sum of the counts of each cell scaled to 10,000 in all, `[groups, genes]`. A cell without counts adds nothing.
    pub scaled: Array2<f64>,
}

impl GeneSums {
    /// No cells yet.
    pub fn zeros(n_groups: usize, n_genes: usize) -> Self {
        let shape = (n_groups, n_genes);
        Self {
            n_cells: vec![0; n_groups],
            sum: Array2::zeros(shape),
            nonzero: Array2::zeros(shape),
            scaled: Array2::zeros(shape),
        }
    }

    /// Number of groups.
    pub fn n_groups(&self) -> usize {
        self.n_cells.len()
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.sum.ncols()
    }
}

/// Adds up [`GeneSums`] over cells, on all threads.
///
/// Each thread adds up some of the genes, in the order of the cells: the bits are those of one thread.
#[derive(Debug)]
pub(crate) struct GeneAdder {
    n_genes: usize,
    n_cells: Vec<usize>,
    /// Genes of a share.
    width: usize,
    /// `[groups, genes of the share]`: sum, cells above zero, scaled sum, nothing; side by side, so that a count is added to
    /// all of them at once.
    shares: Vec<Vec<[f64; 4]>>,
}

impl GeneAdder {
    /// Goes on from sums.
    pub(crate) fn from_sums(sums: &GeneSums) -> Self {
        let mut out = Self::new(sums.n_groups(), sums.n_genes());
        out.n_cells.clone_from(&sums.n_cells);
        for (k, share) in out.shares.iter_mut().enumerate() {
            let first = k * out.width;
            let width = out.width.min(out.n_genes - first);
            for (i, of_gene) in share.iter_mut().enumerate() {
                let at = (i / width, first + i % width);
                *of_gene = [sums.sum[at], sums.nonzero[at], sums.scaled[at], 0.0];
            }
        }
        out
    }

    pub(crate) fn new(n_groups: usize, n_genes: usize) -> Self {
        let width = n_genes.div_ceil(rayon::current_num_threads()).max(64);
        let starts = (0..n_genes).step_by(width);
        let share = |first: usize| vec![[0.0; 4]; n_groups * width.min(n_genes - first)];
        Self {
            n_genes,
            n_cells: vec![0; n_groups],
            width,
            shares: starts.map(share).collect(),
        }
    }

    /// Adds some rows of a matrix. Cells of no group, and of groups beyond the last, are passed over.
    pub(crate) fn add(
        &mut self,
        counts: &Csr,
        rows: Range<usize>,
        group: impl Fn(usize) -> Option<u32> + Sync,
    ) {
        let n_groups = self.n_cells.len();
        for start in rows.clone().step_by(ROWS_AT_ONCE) {
            let known = |row: usize| {
                let group = group(row).map(|g| g as usize).filter(|&k| k < n_groups)?;
                Some(self.cell(counts, row, group))
            };
            let block = start..rows.end.min(start + ROWS_AT_ONCE);
            let cells: Vec<Cell> = block.into_par_iter().filter_map(known).collect();
            for cell in &cells {
                self.n_cells[cell.group] += 1;
            }
            let shares = self.shares.par_iter_mut().enumerate();
            shares.for_each(|(k, sums)| {
                let first = k * self.width;
                let width = self.width.min(self.n_genes - first);
                for cell in &cells {
                    let of_group = &mut sums[cell.group * width..][..width];
                    cell.add(counts, k, first, of_group);
                }
            });
        }
    }

    /// Reads a row once from its beginning to its end, after which it lies in a near cache.
    fn cell(&self, counts: &Csr, row: usize, group: usize) -> Cell {
        let (genes, values) = counts.row(row);
        let size: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let ends = (1..=self.shares.len()).map(|k| k * self.width);
        let below = |end: usize| genes.iter().filter(|&&g| (g as usize) < end).count();
        Cell {
            row,
            group,
            factor: if size > 0.0 { SCALED_TO / size } else { 0.0 },
            ends: ends.map(below).collect(),
        }
    }

    pub(crate) fn finish(self) -> GeneSums {
        let mut out = GeneSums::zeros(self.n_cells.len(), self.n_genes);
        out.n_cells = self.n_cells;
        for (k, share) in self.shares.iter().enumerate() {
            let first = k * self.width;
            let width = self.width.min(self.n_genes - first);
            for (i, sums) in share.iter().enumerate() {
                let at = (i / width, first + i % width);
                [out.sum[at], out.nonzero[at], out.scaled[at], _] = *sums;
            }
        }
        out
    }
}

/// A cell that is added up.
struct Cell {
    row: usize,
    group: usize,
    /// What its counts are multiplied by to sum to [`SCALED_TO`].
    factor: f64,
    /// Where the genes of each share end among its counts.
    ends: Vec<usize>,
}

impl Cell {
    /// Adds the counts of share `k` of the genes, which begins with gene `first`.
    fn add(&self, counts: &Csr, k: usize, first: usize, sums: &mut [[f64; 4]]) {
        let (genes, values) = counts.row(self.row);
        let start = if k == 0 { 0 } else { self.ends[k - 1] };
        let share = start..self.ends[k];
        for (&gene, &value) in genes[share.clone()].iter().zip(&values[share]) {
            let value = f64::from(value);
            let above = f64::from(u8::from(value > 0.0));
            let terms = [value, above, value * self.factor, 0.0];
            let sum = &mut sums[gene as usize - first];
            for (sum, term) in sum.iter_mut().zip(terms) {
                *sum += term;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn sums_of_two_groups_and_none() {
        let counts = Csr::from_dense(&array![
            [1.0f32, 0.0, 3.0],
            [0.0, 0.0, 0.0],
            [2.0, 2.0, 0.0],
            [9.0, 9.0, 9.0]
        ]);
        let mut sums = GeneAdder::new(2, 3);
        let groups = [Some(0), Some(0), Some(1), None];
        sums.add(&counts, 0..4, |row| groups[row]);
        let sums = sums.finish();
        assert_eq!(sums.n_cells, [2, 1]);
        assert_eq!(sums.sum, array![[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]]);
        assert_eq!(sums.nonzero, array![[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]);
        assert_eq!(
            sums.scaled,
            array![[2500.0, 0.0, 7500.0], [5000.0, 5000.0, 0.0]]
        );
    }
}
