use sc_data::Csr;

use super::Groups;

/// Sums and sums of squares of each gene in each group, and in the cells of none.
#[derive(Debug, Clone)]
pub(crate) struct GroupSums {
    n_genes: usize,
    /// `[groups + 1, genes]`: the sum, the sum of squares.
    sums: Vec<[f64; 2]>,
}

/// Of one gene in some cells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    pub(super) n: f64,
    pub(super) mean: f64,
    /// Divided by `n - 1`.
    pub(super) variance: f64,
}

impl Mean {
    fn new(n: usize, [sum, squares]: [f64; 2]) -> Self {
        let n = n as f64;
        let mean = sum / n;
        Self {
            n,
            mean,
            // Never below 0 but for rounding.
            variance: ((squares / n - mean * mean) * n / (n - 1.0)).max(0.0),
        }
    }
}

impl GroupSums {
    pub(crate) fn new(groups: &Groups, n_genes: usize) -> Self {
        Self {
            n_genes,
            sums: vec![[0.0; 2]; (groups.names.len() + 1) * n_genes],
        }
    }

    /// Adds cells whose groups are `of_cell`.
    pub(crate) fn add(&mut self, block: &Csr, of_cell: &[u32]) {
        for (i, &group) in of_cell.iter().enumerate() {
            let start = group as usize * self.n_genes;
            let own = &mut self.sums[start..start + self.n_genes];
            let (genes, values) = block.row(i);
            for (&g, &v) in genes.iter().zip(values) {
                let v = f64::from(v);
                let [sum, squares] = &mut own[g as usize];
                *sum += v;
                *squares += v * v;
            }
        }
    }

    /// Of all cells together. Adding up groups keeps the rest of a group without a gene exactly 0.
    pub(super) fn total(&self) -> Vec<[f64; 2]> {
        let mut total = vec![[0.0; 2]; self.n_genes];
        for own in self.sums.chunks(self.n_genes) {
            for (t, s) in total.iter_mut().zip(own) {
                *t = [t[0] + s[0], t[1] + s[1]];
            }
        }
        total
    }

    /// Each gene in a group of `n` of all `n_cells` cells, and in the rest.
    pub(super) fn against_rest(
        &self,
        group: usize,
        n: usize,
        n_cells: usize,
        total: &[[f64; 2]],
    ) -> Vec<(Mean, Mean)> {
        let start = group * self.n_genes;
        let own = &self.sums[start..start + self.n_genes];
        own.iter()
            .zip(total)
            .map(|(s, t)| {
                let rest = [t[0] - s[0], t[1] - s[1]];
                (Mean::new(n, *s), Mean::new(n_cells - n, rest))
            })
            .collect()
    }
}
