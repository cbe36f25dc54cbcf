//! The covariance matrix itself, where there are few enough genes to hold it: one reading of the data, and the iteration
//! that follows does not touch them again.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;
use sc_data::{Csr, RowSource};

use crate::Result;
use crate::columns::blocks;
use crate::values::Check;

/// Share of stored entries above which a block is multiplied as a dense one.
const DENSE: f64 = 0.25;
/// Rows of a dense block that are multiplied at once.
const DENSE_ROWS: usize = 512;
/// Columns that one thread takes at a time of a dense product. Fixed, because the order of sums depends on it.
const STRIP: usize = 128;

/// A symmetric matrix of genes x genes and what else is known after reading.
pub(crate) struct Gram {
    /// `(X - 1 mean^T)^T (X - 1 mean^T) / (n - 1)`, all entries.
    matrix: Vec<f64>,
    genes: usize,
    /// The mean of each gene.
    pub(crate) mean: Vec<f64>,
    /// The variance of each gene.
    pub(crate) variance: Vec<f64>,
}

impl Gram {
    /// Reads the source once. With `center` unset the mean is not subtracted, but known.
    pub(crate) fn new(source: &dyn RowSource, center: bool) -> Result<Self> {
        let genes = source.n_cols();
        let n = source.n_rows() as f64;
        let mut upper = vec![0.0; genes * genes];
        let mut sum = vec![0.0; genes];
        for rows in blocks(source.n_rows()) {
            let start = rows.start;
            let block = source.read_range(rows)?;
            Check::Finite.block(&block, start)?;
            for (&g, &v) in block.indices().iter().zip(block.data()) {
                sum[g as usize] += f64::from(v);
            }
            if block.n_stored() as f64 > DENSE * (block.n_rows() * genes) as f64 {
                add_dense(&mut upper, &block);
            } else {
                add_sparse(&mut upper, &block);
            }
        }
        let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
        let variance = (0..genes)
            .map(|g| ((upper[g * genes + g] - n * mean[g] * mean[g]) / (n - 1.0)).max(0.0))
            .collect();
        let mut matrix = upper;
        for i in 0..genes {
            for j in i..genes {
                let shift = if center { n * mean[i] * mean[j] } else { 0.0 };
                let value = (matrix[i * genes + j] - shift) / (n - 1.0);
                matrix[i * genes + j] = value;
                matrix[j * genes + i] = value;
            }
        }
        Ok(Self {
            matrix,
            genes,
            mean,
            variance,
        })
    }

    /// The product with `w`, which has one column of genes after the other; the result likewise.
    pub(crate) fn apply(&self, w: &[f64]) -> Vec<f64> {
        let genes = self.genes;
        let width = w.len() / genes;
        let w = MatRef::from_column_major_slice(w, genes, width);
        let strips: Vec<Mat<f64>> = self
            .matrix
            .par_chunks(STRIP * genes)
            .map(|rows| {
                let rows = MatRef::from_row_major_slice(rows, rows.len() / genes, genes);
                let mut out = Mat::zeros(rows.nrows(), width);
                matmul(out.as_mut(), Accum::Replace, rows, w, 1.0, Par::Seq);
                out
            })
            .collect();
        let mut product = Vec::with_capacity(genes * width);
        for j in 0..width {
            for strip in &strips {
                product.extend((0..strip.nrows()).map(|i| strip[(i, j)]));
            }
        }
        product
    }
}

/// Adds `X^T X` at and above the diagonal: for each gene, the rest of every row that has it.
fn add_sparse(upper: &mut [f64], block: &Csr) {
    let genes = block.n_cols();
    if genes == 0 {
        return;
    }
    // For each gene the places of its entries among all, in the order of rows.
    let mut starts = vec![0usize; genes + 1];
    for &g in block.indices() {
        starts[g as usize + 1] += 1;
    }
    for g in 0..genes {
        starts[g + 1] += starts[g];
    }
    let mut places = vec![(0u32, 0u32); block.n_stored()];
    let mut next = starts.clone();
    for i in 0..block.n_rows() {
        for (k, &g) in block.row(i).0.iter().enumerate() {
            let slot = &mut next[g as usize];
            places[*slot] = (i as u32, k as u32);
            *slot += 1;
        }
    }
    upper
        .par_chunks_mut(genes)
        .enumerate()
        .with_max_len(16)
        .for_each(|(g, out)| {
            for &(i, k) in &places[starts[g]..starts[g + 1]] {
                let (columns, values) = block.row(i as usize);
                let (columns, values) = (&columns[k as usize..], &values[k as usize..]);
                let own = values.first().map_or(0.0, |&v| f64::from(v));
                for (&c, &v) in columns.iter().zip(values) {
                    out[c as usize] += own * f64::from(v);
                }
            }
        });
}

/// The same by dense products of strips of columns.
fn add_dense(upper: &mut [f64], block: &Csr) {
    let genes = block.n_cols();
    for start in (0..block.n_rows()).step_by(DENSE_ROWS) {
        let rows = start..(start + DENSE_ROWS).min(block.n_rows());
        let mut x = Mat::<f64>::zeros(rows.len(), genes);
        for (i, r) in rows.enumerate() {
            let (columns, values) = block.row(r);
            for (&c, &v) in columns.iter().zip(values) {
                x[(i, c as usize)] = f64::from(v);
            }
        }
        upper
            .par_chunks_mut(STRIP * genes)
            .enumerate()
            .for_each(|(s, out)| {
                let first = s * STRIP;
                let n = out.len() / genes;
                let out = MatMut::from_row_major_slice_mut(out, n, genes);
                matmul(
                    out.subcols_mut(first, genes - first),
                    Accum::Add,
                    x.as_ref().subcols(first, n).transpose(),
                    x.as_ref().subcols(first, genes - first),
                    1.0,
                    Par::Seq,
                );
            });
    }
}
