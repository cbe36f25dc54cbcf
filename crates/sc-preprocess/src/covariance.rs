use faer::MatRef;
use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use crate::Result;
use crate::columns::blocks;

/// The covariance matrix `C = (X - 1 mean^T)^T (X - 1 mean^T) / (n - 1)` of a source, known only by its products: neither
/// `C` nor the centred `X` is ever made.
pub(crate) struct Covariance<'a> {
    pub(crate) source: &'a dyn RowSource,
    /// What is subtracted from each column: its mean, or zeros.
    pub(crate) mean: &'a [f64],
}

impl Covariance<'_> {
    /// `C w`, where `w` has one column of genes after the other; the result likewise.
    pub(crate) fn apply(&self, w: &[f64]) -> Result<Vec<f64>> {
        let genes = self.mean.len();
        let width = w.len() / genes;
        let rows = transposed(w, genes);
        let shift = self.shift(&rows, width);
        let mut product = vec![0.0; w.len()];
        let mut total = vec![0.0; width];
        for range in blocks(self.source.n_rows()) {
            let block = self.source.read_range(range)?;
            let scores = project(&block, &rows, &shift, width);
            for row in scores.chunks_exact(width) {
                add(&mut total, 1.0, row);
            }
            // By columns, so that each gene's sum is one thread's work and has one order.
            let columns = block.transpose();
            product
                .par_chunks_mut(width)
                .enumerate()
                .with_min_len(16)
                .for_each(|(g, out)| {
                    let (cells, values) = columns.row(g);
                    for (&i, &v) in cells.iter().zip(values) {
                        let start = i as usize * width;
                        add(out, f64::from(v), &scores[start..start + width]);
                    }
                });
        }
        let scale = 1.0 / (self.source.n_rows() as f64 - 1.0);
        for (out, &mean) in product.chunks_exact_mut(width).zip(self.mean) {
            for (o, t) in out.iter_mut().zip(&total) {
                *o = (*o - mean * t) * scale;
            }
        }
        Ok(transposed(&product, width))
    }

    /// `(X - 1 mean^T) w`, row after row; `w` as in [`Covariance::apply`].
    pub(crate) fn scores(&self, w: &[f64]) -> Result<Vec<f64>> {
        let genes = self.mean.len();
        if genes == 0 {
            return Ok(Vec::new());
        }
        let width = w.len() / genes;
        let rows = transposed(w, genes);
        let shift = self.shift(&rows, width);
        let mut scores = Vec::with_capacity(self.source.n_rows() * width);
        for range in blocks(self.source.n_rows()) {
            let block = self.source.read_range(range)?;
            scores.extend(project(&block, &rows, &shift, width));
        }
        Ok(scores)
    }

    /// `mean^T w`, `w` by rows.
    fn shift(&self, rows: &[f64], width: usize) -> Vec<f64> {
        let mut shift = vec![0.0; width];
        for (row, &mean) in rows.chunks_exact(width).zip(self.mean) {
            add(&mut shift, mean, row);
        }
        shift
    }
}

/// `block w - 1 shift^T`, with `w` by rows; the result by rows too.
pub(crate) fn project(block: &Csr, rows: &[f64], shift: &[f64], width: usize) -> Vec<f64> {
    let mut scores = vec![0.0; block.n_rows() * width];
    scores
        .par_chunks_mut(width)
        .enumerate()
        .with_min_len(16)
        .for_each(|(i, out)| {
            let (genes, values) = block.row(i);
            for (&g, &v) in genes.iter().zip(values) {
                let start = g as usize * width;
                add(out, f64::from(v), &rows[start..start + width]);
            }
            for (o, s) in out.iter_mut().zip(shift) {
                *o -= s;
            }
        });
    scores
}

/// `out += factor * row`.
fn add(out: &mut [f64], factor: f64, row: &[f64]) {
    for (o, r) in out.iter_mut().zip(row) {
        *o += factor * r;
    }
}

/// A matrix with columns of `len` entries, one after the other, as rows one after the other.
pub(crate) fn transposed(columns: &[f64], len: usize) -> Vec<f64> {
    let m = MatRef::from_column_major_slice(columns, len, columns.len() / len);
    let mut out = Vec::with_capacity(columns.len());
    for i in 0..m.nrows() {
        out.extend((0..m.ncols()).map(|j| m[(i, j)]));
    }
    out
}
