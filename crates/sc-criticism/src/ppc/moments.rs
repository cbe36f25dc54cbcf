//! Mean, variance and number of zeros of each gene, from blocks of cells.

use sc_data::Csr;

/// Of each gene over the cells seen so far.
///
/// Blocks are merged by the update of Chan, Golub and LeVeque (1979), in `f64`, in their order.
#[derive(Debug, Clone)]
pub(super) struct GeneMoments {
    n: u64,
    mean: Vec<f64>,
    /// Sum of the squared deviations from the mean.
    m2: Vec<f64>,
    nonzero: Vec<u64>,
    // Of the block.
    sum: Vec<f64>,
    squares: Vec<f64>,
    stored: Vec<u32>,
}

impl GeneMoments {
    pub(super) fn new(n_genes: usize) -> Self {
        Self {
            n: 0,
            mean: vec![0.0; n_genes],
            m2: vec![0.0; n_genes],
            nonzero: vec![0; n_genes],
            sum: vec![0.0; n_genes],
            squares: vec![0.0; n_genes],
            stored: vec![0; n_genes],
        }
    }

    /// Adds cells. Entries that are not stored are zeros.
    pub(super) fn add(&mut self, block: &Csr) {
        let rows = block.n_rows() as u64;
        if rows == 0 {
            return;
        }
        self.sum.fill(0.0);
        self.squares.fill(0.0);
        self.stored.fill(0);
        let entries = || block.indices().iter().zip(block.data());
        for (&g, &v) in entries() {
            let g = g as usize;
            self.sum[g] += f64::from(v);
            self.stored[g] += 1;
            self.nonzero[g] += u64::from(v != 0.0);
        }
        let n = rows as f64;
        self.sum.iter_mut().for_each(|s| *s /= n);
        for (&g, &v) in entries() {
            let g = g as usize;
            let d = f64::from(v) - self.sum[g];
            self.squares[g] += d * d;
        }
        let before = self.n as f64;
        self.n += rows;
        let all = self.n as f64;
        for g in 0..self.mean.len() {
            let mean = self.sum[g];
            let zeros = n - f64::from(self.stored[g]);
            let m2 = self.squares[g] + zeros * mean * mean;
            let apart = mean - self.mean[g];
            self.mean[g] += apart * (n / all);
            self.m2[g] += m2 + apart * apart * (before * n / all);
        }
    }

    /// The mean of each gene.
    pub(super) fn means(&self) -> &[f64] {
        &self.mean
    }

    /// The variance of each gene, divided by the number of cells.
    pub(super) fn variances(&self) -> Vec<f64> {
        self.m2.iter().map(|m| m / self.n as f64).collect()
    }

    /// The share of cells without the gene.
    pub(super) fn zero_fractions(&self) -> Vec<f64> {
        let n = self.n as f64;
        let zeros = self.nonzero.iter().map(|&k| (self.n - k) as f64 / n);
        zeros.collect()
    }

    /// Standard deviation over mean; NaN for genes whose mean is 0.
    pub(super) fn cv(&self) -> Vec<f64> {
        let both = self.mean.iter().zip(self.variances());
        both.map(|(&mean, variance)| cv(mean, variance)).collect()
    }
}

/// Of one cell over its genes: the sum, and the coefficient of variation (NaN if the mean is 0).
pub(super) fn of_cell(values: &[f32], n_genes: usize) -> (f64, f64) {
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    let n = n_genes as f64;
    let mean = sum / n;
    let stored: f64 = values
        .iter()
        .map(|&v| {
            let d = f64::from(v) - mean;
            d * d
        })
        .sum();
    let squares = stored + (n - values.len() as f64) * mean * mean;
    (sum, cv(mean, squares / n))
}

fn cv(mean: f64, variance: f64) -> f64 {
    if mean == 0.0 {
        f64::NAN
    } else {
        variance.sqrt() / mean
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Axis};

    use super::*;

    #[test]
    fn blocks_give_what_all_cells_give() {
        let x = Array2::from_shape_fn((50, 7), |(i, g)| ((i * 7 + g * 3) % (g + 2)) as f32 * 0.37);
        let mut moments = GeneMoments::new(7);
        for part in x.axis_chunks_iter(Axis(0), 13) {
            moments.add(&Csr::from_dense_view(part));
        }
        moments.add(&Csr::zeros(0, 7));
        let x = x.mapv(f64::from);
        let (mean, sd) = (x.mean_axis(Axis(0)).unwrap(), x.std_axis(Axis(0), 0.0));
        let zeros = x.map_axis(Axis(0), |c| c.iter().filter(|v| **v == 0.0).count());
        for g in 0..7 {
            assert!((moments.means()[g] - mean[g]).abs() < 1e-14);
            assert!((moments.variances()[g] - sd[g] * sd[g]).abs() < 1e-13);
            assert_eq!(moments.zero_fractions()[g], zeros[g] as f64 / 50.0);
            assert!((moments.cv()[g] - sd[g] / mean[g]).abs() < 1e-12);
        }
    }

    #[test]
    fn stored_zeros_are_zeros() {
        let block = Csr::new(2, 2, vec![0, 2, 3], vec![0, 1, 0], vec![0.0, 2.0, 4.0]).unwrap();
        let mut moments = GeneMoments::new(2);
        moments.add(&block);
        assert_eq!(moments.zero_fractions(), [0.5, 0.5]);
        assert_eq!(moments.means(), [2.0, 1.0]);
        assert_eq!(moments.variances(), [4.0, 1.0]);
        let (sum, cv) = of_cell(&[0.0, 2.0], 4);
        assert_eq!(sum, 2.0);
        assert!((cv - 0.75f64.sqrt() / 0.5).abs() < 1e-12);
        assert!(of_cell(&[], 4).1.is_nan());
    }
}
