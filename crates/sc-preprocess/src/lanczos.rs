//! Block Lanczos iteration with full reorthogonalisation, started from random columns: the largest eigenpairs of a
//! symmetric matrix that is known only by its products. Golub and Underwood 1977; with a random start block it is the
//! randomised block Krylov method of Musco and Musco, NIPS 2015, which finds singular values to high accuracy in few
//! passes over the data.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::simd::{Kernel, dispatch, multiply_add};
use crate::{Error, Result};

/// More columns than eigenpairs are iterated, which speeds up the last pairs.
const EXTRA: usize = 10;
/// Columns of a block, unless it has to be wider.
const NARROW: usize = 16;
/// Wide blocks in the basis before it is restarted from its best vectors.
const MAX_BLOCKS: usize = 12;
/// Rows that one thread takes at a time. Fixed, because the order of sums depends on it.
const STRIP: usize = 512;
/// Restarts before what was found is returned as it is.
const MAX_RESTARTS: usize = 8;
/// The residual `|C v - lambda v| / lambda` at which a pair counts as found.
const TOLERANCE: f64 = 1e-6;

/// The `k` largest eigenpairs.
pub(crate) struct Eigen {
    /// Descending.
    pub(crate) values: Vec<f64>,
    /// The vectors, one after the other.
    pub(crate) vectors: Vec<f64>,
    /// The largest relative residual among them.
    pub(crate) residual: f64,
}

/// What it takes to go over the data for a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Little: they lie in memory. Narrow blocks find the pairs with the fewest products of single columns.
    Cheap,
    /// More than the product itself: blocks as wide as there are pairs find them in the fewest readings.
    Dear,
}

/// The `k` largest eigenpairs of the symmetric positive semidefinite matrix of size `n` with the products `apply`.
pub(crate) fn largest(
    n: usize,
    k: usize,
    seed: u64,
    reading: Reading,
    apply: impl Fn(&[f64]) -> Result<Vec<f64>>,
) -> Result<Eigen> {
    let wide = (k + EXTRA).min(n);
    let mut narrow = reading == Reading::Cheap && NARROW < wide;
    let mut block = gaussian(n * if narrow { NARROW } else { wide }, seed);
    let mut restarts = 0;
    loop {
        let mut basis = Basis::new(n);
        let mut next = basis.orthonormalise(block);
        // Columns at which the pairs are looked at.
        let mut due = match restarts {
            0 if narrow => 3 * wide,
            0 => 6 * wide,
            _ => 0,
        };
        loop {
            let image = apply(&next)?;
            let remainder = basis.extend(&next, image);
            next = basis.orthonormalise(remainder.clone());
            if narrow && next.is_empty() {
                // Nothing leads out of this space, but it may be small, or lack vectors whose eigenvalues are the same.
                narrow = false;
                next = basis.orthonormalise(gaussian(n * wide, seed.wrapping_add(1)));
            }
            let exhausted = next.is_empty();
            let full = basis.len() >= MAX_BLOCKS * wide;
            if !(exhausted || full || basis.len() >= due) {
                continue;
            }
            due = basis.len() + basis.len() / 4;
            let (values, coefficients) = basis.ritz()?;
            let residual = basis.residual(&remainder, &values, &coefficients, k);
            let found = exhausted || residual <= TOLERANCE;
            if found || (full && restarts == MAX_RESTARTS) {
                return Ok(Eigen {
                    values: values.iter().take(k).map(|v| v.max(0.0)).collect(),
                    vectors: basis.combine(&coefficients, k),
                    residual: if exhausted { 0.0 } else { residual },
                });
            }
            if full {
                block = basis.combine(&coefficients, wide);
                narrow = false;
                restarts += 1;
                break;
            }
        }
    }
}

/// The `k` largest eigenpairs by subspace iteration: `power` times, a random block of `k + oversample` columns is multiplied
/// with the matrix and made orthonormal; then the pairs are those of the matrix within the space that it spans. Halko,
/// Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011, algorithm 4.4 for `X` with `C = X^T X`.
pub(crate) fn randomized(
    n: usize,
    k: usize,
    seed: u64,
    (oversample, power): (usize, usize),
    apply: impl Fn(&[f64]) -> Result<Vec<f64>>,
) -> Result<Eigen> {
    let width = (k + oversample).min(n);
    let mut basis = Basis::new(n);
    let mut block = basis.orthonormalise(gaussian(n * width, seed));
    for _ in 0..power {
        let next = basis.orthonormalise(apply(&block)?);
        if next.len() < k * n {
            // The matrix has fewer directions than were asked for; the rest are any.
            break;
        }
        block = next;
    }
    let image = apply(&block)?;
    let remainder = basis.extend(&block, image);
    let (values, coefficients) = basis.ritz()?;
    Ok(Eigen {
        values: values.iter().take(k).map(|v| v.max(0.0)).collect(),
        vectors: basis.combine(&coefficients, k),
        residual: basis.residual(&remainder, &values, &coefficients, k),
    })
}

fn gaussian(len: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| StandardNormal.sample(&mut rng)).collect()
}

/// An orthonormal basis `V` that grows by blocks of columns, and the projection `V^T C V`.
struct Basis {
    n: usize,
    /// The columns of `V`, one after the other.
    columns: Vec<f64>,
    /// For each block `W` of `V`: `V^T C W`, where `V` ends with that block.
    blocks: Vec<Mat<f64>>,
}

impl Basis {
    fn new(n: usize) -> Self {
        Self {
            n,
            columns: Vec::new(),
            blocks: Vec::new(),
        }
    }

    fn len(&self) -> usize {
        self.columns.len() / self.n
    }

    fn matrix(&self) -> MatRef<'_, f64> {
        MatRef::from_column_major_slice(&self.columns, self.n, self.len())
    }

    /// Adds the block `w`, whose product `C w` is given, and returns what of that lies outside the basis.
    fn extend(&mut self, w: &[f64], mut remainder: Vec<f64>) -> Vec<f64> {
        self.columns.extend_from_slice(w);
        let mut projection = self.remove_projection(&mut remainder);
        // Once more, because rounding left a little behind.
        projection += self.remove_projection(&mut remainder);
        self.blocks.push(projection);
        remainder
    }

    /// `w -= V V^T w`; returns `V^T w`.
    fn remove_projection(&self, w: &mut [f64]) -> Mat<f64> {
        let v = self.matrix();
        let width = w.len() / self.n;
        let mut projection = Mat::zeros(v.ncols(), width);
        if v.ncols() == 0 || width == 0 {
            return projection;
        }
        // Strips of rows, whose sums are added in their order.
        let strips: Vec<(usize, usize)> = (0..self.n)
            .step_by(STRIP)
            .map(|start| (start, STRIP.min(self.n - start)))
            .collect();
        let columns = MatRef::from_column_major_slice(w, self.n, width);
        let parts: Vec<Mat<f64>> = strips
            .par_iter()
            .map(|&(start, len)| {
                let mut part = Mat::zeros(v.ncols(), width);
                let across = v.subrows(start, len).transpose();
                let columns = columns.subrows(start, len);
                matmul(
                    part.as_mut(),
                    Accum::Replace,
                    across,
                    columns,
                    1.0,
                    Par::Seq,
                );
                part
            })
            .collect();
        parts.iter().for_each(|part| projection += part);
        let along: Vec<Mat<f64>> = strips
            .par_iter()
            .map(|&(start, len)| {
                let mut part = Mat::zeros(len, width);
                let v = v.subrows(start, len);
                let p = projection.as_ref();
                matmul(part.as_mut(), Accum::Replace, v, p, 1.0, Par::Seq);
                part
            })
            .collect();
        w.par_chunks_exact_mut(self.n)
            .enumerate()
            .for_each(|(j, column)| {
                for (column, part) in column.chunks_mut(STRIP).zip(&along) {
                    let part = part.col(j).iter();
                    column.iter_mut().zip(part).for_each(|(c, p)| *c -= p);
                }
            });
        projection
    }

    /// An orthonormal basis of what the columns of `w` span outside `V`. Columns that vanish are dropped.
    fn orthonormalise(&self, mut w: Vec<f64>) -> Vec<f64> {
        let scale = w.chunks_exact(self.n).map(norm).fold(0.0, f64::max);
        let scale = scale.max(self.scale());
        self.remove_projection(&mut w);
        let mut kept: Vec<f64> = Vec::with_capacity(w.len());
        for column in w.chunks_exact_mut(self.n) {
            for _ in 0..2 {
                let column = &mut *column;
                dispatch(Orthogonalise { column, to: &kept });
            }
            let length = norm(column);
            if length > 1e-12 * scale && self.len() + kept.len() / self.n < self.n {
                kept.extend(column.iter().map(|v| v / length));
            }
        }
        // Normalising what was nearly within the basis magnified the rounding errors of the projection.
        self.remove_projection(&mut kept);
        for column in kept.chunks_exact_mut(self.n) {
            let length = norm(column);
            column.iter_mut().for_each(|v| *v /= length);
        }
        kept
    }

    /// The largest diagonal element of the projection: a lower bound of the largest eigenvalue.
    fn scale(&self) -> f64 {
        let mut scale = 0f64;
        for block in &self.blocks {
            let first = block.nrows() - block.ncols();
            for j in 0..block.ncols() {
                scale = scale.max(block[(first + j, j)]);
            }
        }
        scale
    }

    /// The eigenvalues of `V^T C V`, descending, and the coefficients of their vectors in the basis.
    fn ritz(&self) -> Result<(Vec<f64>, Mat<f64>)> {
        let m = self.len();
        let mut projected = Mat::<f64>::zeros(m, m);
        let mut start = 0;
        for block in &self.blocks {
            for j in 0..block.ncols() {
                for i in 0..=start + j {
                    projected[(start + j, i)] = block[(i, j)];
                    projected[(i, start + j)] = block[(i, j)];
                }
            }
            start += block.ncols();
        }
        let mut values = Diag::<f64>::zeros(m);
        let mut vectors = Mat::<f64>::zeros(m, m);
        let scratch = self_adjoint_evd_scratch::<f64>(
            m,
            ComputeEigenvectors::Yes,
            Par::Seq,
            Default::default(),
        );
        self_adjoint_evd(
            projected.as_ref(),
            values.as_mut(),
            Some(vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            Default::default(),
        )
        .map_err(|_| Error::NoConvergence {
            what: "the eigenvalues of the projected covariance",
        })?;
        let descending = (0..m).rev().map(|i| values[i]).collect();
        Ok((
            descending,
            Mat::from_fn(m, m, |i, j| vectors[(i, m - 1 - j)]),
        ))
    }

    /// The largest `|C u - lambda u| / lambda` of the first `k` Ritz pairs: what sticks out of the basis is the remainder
    /// of the last block times the last coefficients of the pair.
    fn residual(&self, remainder: &[f64], values: &[f64], s: &Mat<f64>, k: usize) -> f64 {
        let width = remainder.len() / self.n;
        let r = MatRef::from_column_major_slice(remainder, self.n, width);
        let mut gram = Mat::<f64>::zeros(width, width);
        matmul(
            gram.as_mut(),
            Accum::Replace,
            r.transpose(),
            r,
            1.0,
            Par::Seq,
        );
        let first = self.len() - width;
        let floor = values.first().map_or(0.0, |v| v * 1e-10);
        let mut worst = 0f64;
        for (j, &value) in values.iter().enumerate().take(k) {
            let mut square = 0.0;
            for a in 0..width {
                for b in 0..width {
                    square += s[(first + a, j)] * gram[(a, b)] * s[(first + b, j)];
                }
            }
            worst = worst.max(square.max(0.0).sqrt() / value.max(floor).max(f64::MIN_POSITIVE));
        }
        worst
    }

    /// The first `k` Ritz vectors.
    fn combine(&self, coefficients: &Mat<f64>, k: usize) -> Vec<f64> {
        let mut vectors = vec![0.0; self.n * k];
        let out = faer::MatMut::from_column_major_slice_mut(&mut vectors, self.n, k);
        let s = coefficients.as_ref().subcols(0, k);
        matmul(out, Accum::Replace, self.matrix(), s, 1.0, Par::Seq);
        vectors
    }
}

/// Takes out of a column what lies along vectors of length 1 that are orthogonal to each other.
struct Orthogonalise<'a> {
    column: &'a mut [f64],
    to: &'a [f64],
}

impl Kernel for Orthogonalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for earlier in self.to.chunks_exact(self.column.len()) {
            let along = dot::<FMA>(earlier, self.column);
            for (x, y) in self.column.iter_mut().zip(earlier) {
                *x = multiply_add::<FMA>(-along, *y, *x);
            }
        }
    }
}

/// In sums side by side, which the processor adds at once.
#[inline(always)]
fn dot<const FMA: bool>(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 32;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in a.iter().zip(b) {
        for l in 0..LANES {
            sums[l] = multiply_add::<FMA>(x[l], y[l], sums[l]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

fn norm(a: &[f64]) -> f64 {
    dot::<false>(a, a).sqrt()
}
