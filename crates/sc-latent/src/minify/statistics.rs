use ndarray::Array2;
use sc_data::Csr;

/// What the counts of a cell are scaled to in [`GeneSums::scaled`].
pub(crate) const SCALED_TO: f64 = 1e4;

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

    /// Adds cells: the counts and the group of each. Cells of no group, and of groups beyond the last, are passed over.
    pub fn add(&mut self, counts: &Csr, groups: impl IntoIterator<Item = Option<u32>>) {
        for (row, group) in (0..counts.n_rows()).zip(groups) {
            let Some(k) = group.map(|g| g as usize).filter(|&k| k < self.n_groups()) else {
                continue;
            };
            let (genes, values) = counts.row(row);
            let size: f64 = values.iter().map(|&v| f64::from(v)).sum();
            let factor = if size > 0.0 { SCALED_TO / size } else { 0.0 };
            self.n_cells[k] += 1;
            let mut sum = self.sum.row_mut(k);
            let mut nonzero = self.nonzero.row_mut(k);
            let mut scaled = self.scaled.row_mut(k);
            for (&gene, &value) in genes.iter().zip(values) {
                let (gene, value) = (gene as usize, f64::from(value));
                sum[gene] += value;
                nonzero[gene] += f64::from(u8::from(value > 0.0));
                scaled[gene] += value * factor;
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
        let mut sums = GeneSums::zeros(2, 3);
        sums.add(&counts, [Some(0), Some(0), Some(1), None]);
        assert_eq!(sums.n_cells, [2, 1]);
        assert_eq!(sums.sum, array![[1.0, 0.0, 3.0], [2.0, 2.0, 0.0]]);
        assert_eq!(sums.nonzero, array![[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]);
        assert_eq!(
            sums.scaled,
            array![[2500.0, 0.0, 7500.0], [5000.0, 5000.0, 0.0]]
        );
    }
}
