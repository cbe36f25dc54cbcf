//! The covariance matrix itself, where there are few enough genes (or cells) to hold it: one reading of the data, and the
//! iteration that follows does not touch them again.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;
use sc_data::RowSource;

use crate::Result;
use crate::columns::{Block, blocks};
use crate::covariance::{Panels, project};
use crate::lanczos::{self, Eigen, Reading};
use crate::pca::Decomposition;
use crate::values::Check;

/// Share of stored entries above which a block is multiplied as a dense one.
const DENSE: f64 = 0.25;
/// Rows of a dense block that are multiplied at once.
const DENSE_ROWS: usize = 512;
/// Columns that one thread takes at a time of a dense product. Fixed, because the order of sums depends on it.
const STRIP: usize = 128;

/// Rows and columns that are mirrored at once.
const TILE: usize = 32;

/// The smallest eigenvalue, as a share of the largest, whose vector of genes can be had from that of cells.
const SMALLEST: f64 = 1e-10;

/// A symmetric matrix of genes x genes and what else is known after reading.
pub(crate) struct Gram {
    /// `(X - 1 mean^T)^T (X - 1 mean^T) / (n - 1)`, all entries.
    matrix: Symmetric,
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
        for block in blocks(source) {
            let block = block?;
            Check::Finite.block(&block)?;
            for (&g, &v) in block.indices().iter().zip(block.data()) {
                sum[g as usize] += f64::from(v);
            }
            add_products(&mut upper, &block);
        }
        let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
        let variance = (0..genes)
            .map(|g| ((upper[g * genes + g] - n * mean[g] * mean[g]) / (n - 1.0)).max(0.0))
            .collect();
        let matrix = Symmetric::from_upper(upper, genes, |i, j, v| {
            let shift = if center { n * mean[i] * mean[j] } else { 0.0 };
            (v - shift) / (n - 1.0)
        });
        Ok(Self {
            matrix,
            mean,
            variance,
        })
    }

    /// The product with `w`, which has one column of genes after the other; the result likewise.
    pub(crate) fn apply(&self, w: &[f64]) -> Vec<f64> {
        self.matrix.apply(w)
    }
}

/// The largest eigenpairs of a source of one block, its means and variances, by way of the matrix of cells x cells
/// `(X - 1 mean^T) (X - 1 mean^T)^T / (n - 1)`, whose eigenvalues are the same. `None` if one of the pairs is too small to
/// tell its direction: the data have fewer.
pub(crate) fn by_cells(
    source: &dyn RowSource,
    k: usize,
    seed: u64,
    center: bool,
) -> Result<Option<Decomposition>> {
    let cells = source.n_rows();
    let n = cells as f64;
    let block = Block::read(source, 0..cells)?;
    Check::Finite.block(&block)?;
    let by_gene = block.matrix().transpose();
    let (mean, variance): (Vec<f64>, Vec<f64>) = (0..by_gene.n_rows())
        .map(|g| {
            let values = by_gene.row(g).1.iter().map(|&v| f64::from(v));
            let (sum, squares) = values.fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
            let mean = sum / n;
            (mean, ((squares - n * mean * mean) / (n - 1.0)).max(0.0))
        })
        .unzip();
    let shift = if center {
        mean.clone()
    } else {
        vec![0.0; mean.len()]
    };
    let mut upper = vec![0.0; cells * cells];
    let genes = Block::read(&by_gene, 0..by_gene.n_rows())?;
    add_products(&mut upper, &genes);
    // (x_i - m)(x_j - m) = x_i x_j - x_i m - x_j m + m m
    let along: Vec<f64> = (0..cells)
        .map(|i| {
            let (genes, values) = block.row(i);
            let each = genes.iter().zip(values);
            each.map(|(&g, &v)| f64::from(v) * shift[g as usize]).sum()
        })
        .collect();
    let square: f64 = shift.iter().map(|m| m * m).sum();
    let matrix = Symmetric::from_upper(upper, cells, |i, j, v| {
        (v - along[i] - along[j] + square) / (n - 1.0)
    });
    let found = lanczos::largest(cells, k, seed, Reading::Cheap, |w| Ok(matrix.apply(w)))?;
    let largest = found.values.first().copied().unwrap_or(0.0);
    let least = found.values.last().copied().unwrap_or(0.0);
    if least <= SMALLEST * largest {
        return Ok(None);
    }
    // v = X^T u, of length 1.
    let u = Panels::new(&found.vectors, cells);
    let product = project(&genes, &u, &u.along(&vec![0.0; cells]));
    let totals = found
        .vectors
        .chunks_exact(cells)
        .map(|u| u.iter().sum::<f64>());
    let mut vectors = vec![0.0; product.len()];
    let each = vectors.chunks_exact_mut(mean.len()).zip(totals).enumerate();
    for (j, (vector, total)) in each {
        let column = product.iter().skip(j).step_by(k);
        for ((v, p), m) in vector.iter_mut().zip(column).zip(&shift) {
            *v = p - m * total;
        }
    }
    for vector in vectors.chunks_exact_mut(mean.len()) {
        let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|v| *v /= length);
    }
    let eigen = Eigen {
        // What is left over of u is at most so much longer in terms of v.
        residual: found.residual * (largest / least).sqrt(),
        values: found.values,
        vectors,
    };
    Ok(Some(Decomposition {
        eigen,
        mean: shift,
        variance,
    }))
}

/// A symmetric matrix, all entries.
struct Symmetric {
    entries: Vec<f64>,
    size: usize,
}

impl Symmetric {
    /// From the entries at and above the diagonal, each changed by `f(i, j, entry)`.
    fn from_upper(
        mut entries: Vec<f64>,
        size: usize,
        f: impl Fn(usize, usize, f64) -> f64,
    ) -> Self {
        // In tiles, because one of the two places is far from the one before.
        let tile = |start: usize| start..(start + TILE).min(size);
        for rows in (0..size).step_by(TILE).map(tile) {
            for columns in (rows.start..size).step_by(TILE).map(tile) {
                for i in rows.clone() {
                    for j in columns.start.max(i)..columns.end {
                        let value = f(i, j, entries[i * size + j]);
                        entries[i * size + j] = value;
                        entries[j * size + i] = value;
                    }
                }
            }
        }
        Self { entries, size }
    }

    fn apply(&self, w: &[f64]) -> Vec<f64> {
        let size = self.size;
        let width = w.len() / size;
        let w = MatRef::from_column_major_slice(w, size, width);
        let strips: Vec<Mat<f64>> = self
            .entries
            .par_chunks(STRIP * size)
            .map(|rows| {
                let rows = MatRef::from_row_major_slice(rows, rows.len() / size, size);
                let mut out = Mat::zeros(rows.nrows(), width);
                matmul(out.as_mut(), Accum::Replace, rows, w, 1.0, Par::Seq);
                out
            })
            .collect();
        let mut product = Vec::with_capacity(size * width);
        for j in 0..width {
            for strip in &strips {
                product.extend((0..strip.nrows()).map(|i| strip[(i, j)]));
            }
        }
        product
    }
}

/// Adds `X^T X` at and above the diagonal.
fn add_products(upper: &mut [f64], block: &Block<'_>) {
    if block.n_cols() == 0 {
    } else if block.density() > DENSE {
        add_dense(upper, block);
    } else {
        add_sparse(upper, block);
    }
}

/// For each gene, the rest of every row that has it.
fn add_sparse(upper: &mut [f64], block: &Block<'_>) {
    let genes = block.n_cols();
    // For each gene the places of its entries among all, in the order of rows.
    let mut starts = vec![0usize; genes + 1];
    for &g in block.indices() {
        starts[g as usize + 1] += 1;
    }
    for g in 0..genes {
        starts[g + 1] += starts[g];
    }
    let mut places = vec![(0u32, 0u32); block.data().len()];
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
fn add_dense(upper: &mut [f64], block: &Block<'_>) {
    let genes = block.n_cols();
    let mut dense = vec![0.0; DENSE_ROWS.min(block.n_rows()) * genes];
    for start in (0..block.n_rows()).step_by(DENSE_ROWS) {
        let rows = DENSE_ROWS.min(block.n_rows() - start);
        let used = &mut dense[..rows * genes];
        used.par_chunks_exact_mut(genes)
            .enumerate()
            .with_min_len(16)
            .for_each(|(i, row)| {
                row.fill(0.0);
                let (columns, values) = block.row(start + i);
                for (&c, &v) in columns.iter().zip(values) {
                    row[c as usize] = f64::from(v);
                }
            });
        let x = MatRef::from_row_major_slice(used, rows, genes);
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
                    x.subcols(first, n).transpose(),
                    x.subcols(first, genes - first),
                    1.0,
                    Par::Seq,
                );
            });
    }
}
