use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use sc_data::Csr;

use crate::community::check_graph;
use crate::{Error, Result};

/// Up to so many points all eigenvectors are computed at once.
const DENSE: usize = 500;
/// The iteration looks after so many steps how good they are.
const LOOK: usize = 40;
/// Eigenvalues this close to 1 belong to parts of the graph without a path between them.
const ONE: f64 = 1.0 - 1e-9;

/// Eigenvectors of a random walk on a graph; see [`diffusion_map`].
#[derive(Debug, Clone)]
pub struct DiffusionMap {
    /// The eigenvalues `lambda_k`, descending; the first is 1.
    pub values: Vec<f64>,
    /// The eigenvectors `psi_k` of length 1, one a column, `[n, k]`; the largest entry of each by magnitude is positive.
    pub vectors: Array2<f64>,
    /// How far the worst pair is from being exact: an estimate of `|T psi - lambda psi|`. At most the tolerance, unless
    /// eigenvalues are so close together that the iteration was given up: then the last pairs are mixtures of true ones.
    pub residual: f64,
}

impl DiffusionMap {
    /// Coordinates whose Euclidean distances are those of diffusion pseudotime (Haghverdi et al., Nat Methods 2016), the
    /// walk being summed over all numbers of steps: `lambda_k / (1 - lambda_k) psi_k`. Eigenvalues of 1 after the first
    /// tell parts without a path between them apart, and keep their eigenvectors as they are.
    pub fn coordinates(&self) -> Array2<f64> {
        let mut out = self.vectors.clone();
        for (mut column, &value) in out.columns_mut().into_iter().zip(&self.values) {
            if value < ONE {
                column.mapv_inplace(|v| v * value / (1.0 - value));
            }
        }
        out
    }

    /// The diffusion pseudotime of each point: its distance from the point `root` in [`coordinates`](Self::coordinates),
    /// as a share of the largest.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] if there is no such point.
    pub fn pseudotime(&self, root: usize) -> Result<Vec<f64>> {
        let n = self.vectors.nrows();
        if root >= n {
            return Err(Error::InvalidParameter {
                name: "the root",
                found: root.to_string(),
                expected: format!("the number of one of the {n} points"),
            });
        }
        let places = self.coordinates();
        let origin = places.row(root);
        let distances: Vec<f64> = places
            .outer_iter()
            .map(|p| {
                let squares = p.iter().zip(origin).map(|(a, b)| (a - b) * (a - b));
                squares.sum::<f64>().sqrt()
            })
            .collect();
        let largest = distances.iter().copied().fold(0.0, f64::max);
        let scale = if largest > 0.0 { largest } else { 1.0 };
        Ok(distances.into_iter().map(|d| d / scale).collect())
    }
}

/// The `n_components` largest eigenpairs of a random walk on a weighted symmetric graph, usually that of
/// [`connectivities`](crate::connectivities), in scanpy's form.
///
/// With `q_i = sum_j w_ij`, the density of points is divided out (Coifman and Lafon 2006): `k_ij = w_ij / (q_i q_j)`; with
/// `z_i = sqrt(sum_j k_ij)`, the matrix `t_ij = k_ij / (z_i z_j)` has the eigenvalues of the walk. Fewer pairs are returned
/// if there are fewer points. `tolerance` is the residual `|t psi - lambda psi|` at which pairs are good enough, 1e-9 for most uses. The seed chooses where the iteration starts; it does not show beyond rounding.
///
/// # Errors
/// [`Error::InvalidGraph`] if the graph is not square and symmetric or a weight is negative or not finite;
/// [`Error::InvalidParameter`] if `n_components` is 0; [`Error::NoConvergence`] if a small dense matrix has no eigenvalues that
/// can be found.
pub fn diffusion_map(
    graph: &Csr,
    n_components: usize,
    tolerance: f64,
    seed: u64,
) -> Result<DiffusionMap> {
    check_graph(graph)?;
    if n_components == 0 {
        return Err(Error::InvalidParameter {
            name: "n_components",
            found: "0".into(),
            expected: "at least 1, usually 15".into(),
        });
    }
    let n = graph.n_rows();
    let k = n_components.min(n);
    let walk = Walk::new(graph);
    let (values, vectors, residual) = if n <= DENSE || 5 * k > n {
        walk.all()?
    } else {
        walk.largest(k, tolerance, seed)?
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(k);
    let mut out = Array2::zeros((n, k));
    for (mut column, &from) in out.columns_mut().into_iter().zip(&order) {
        let source = vectors.col(from);
        let largest = source
            .iter()
            .fold(0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        for (to, &v) in column.iter_mut().zip(source.iter()) {
            *to = sign * v;
        }
    }
    Ok(DiffusionMap {
        values: order.iter().map(|&i| values[i]).collect(),
        vectors: out,
        residual,
    })
}

/// The matrix `t`.
#[derive(Debug)]
struct Walk<'a> {
    graph: &'a Csr,
    values: Vec<f64>,
    /// Its eigenvector for the eigenvalue 1, which is known: `z_i`, of length 1.
    first: Vec<f64>,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a Csr) -> Self {
        let mut values: Vec<f64> = graph.data().iter().map(|&w| f64::from(w)).collect();
        let inverse = |v: f64| if v > 0.0 { 1.0 / v } else { 0.0 };
        let scale = |values: &mut [f64], factors: &[f64]| {
            for (i, w) in graph.indptr().windows(2).enumerate() {
                let columns = &graph.indices()[w[0]..w[1]];
                for (v, &j) in values[w[0]..w[1]].iter_mut().zip(columns) {
                    *v *= factors[i] * factors[j as usize];
                }
            }
        };
        let sums = |values: &[f64]| -> Vec<f64> {
            let rows = graph.indptr().windows(2);
            rows.map(|w| values[w[0]..w[1]].iter().sum()).collect()
        };
        let density: Vec<f64> = sums(&values).into_iter().map(inverse).collect();
        scale(&mut values, &density);
        let roots: Vec<f64> = sums(&values).into_iter().map(f64::sqrt).collect();
        let inverses: Vec<f64> = roots.iter().map(|&z| inverse(z)).collect();
        scale(&mut values, &inverses);
        let length = roots.iter().map(|z| z * z).sum::<f64>().sqrt();
        let first = roots.into_iter().map(|z| z * inverse(length)).collect();
        Self {
            graph,
            values,
            first,
        }
    }

    /// All eigenpairs.
    fn all(&self) -> Result<(Vec<f64>, Mat<f64>, f64)> {
        let n = self.graph.n_rows();
        let mut dense = Mat::zeros(n, n);
        for (i, w) in self.graph.indptr().windows(2).enumerate() {
            for p in w[0]..w[1] {
                dense[(i, self.graph.indices()[p] as usize)] = self.values[p];
            }
        }
        let (values, vectors) = eigen(dense.as_ref())?;
        Ok((values, vectors, 0.0))
    }

    /// The first eigenpair, and the `k - 1` largest of what is left without it by a Lanczos iteration from a random start,
    /// each vector made orthogonal to all before.
    fn largest(&self, k: usize, tolerance: f64, seed: u64) -> Result<(Vec<f64>, Mat<f64>, f64)> {
        let n = self.graph.n_rows();
        let steps = (4 * k + 60).max(300).min(n - 1);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        // The first column is the known vector, to which all others are orthogonal.
        let mut basis = Mat::zeros(n, steps + 1);
        set(&mut basis, 0, &self.first);
        let mut tridiagonal = Mat::<f64>::zeros(steps, steps);
        let mut next: Vec<f64> = (0..n).map(|_| StandardNormal.sample(&mut rng)).collect();
        orthogonalise(&mut next, basis.as_ref().get(.., ..1));
        normalise(&mut next);
        for step in 0..steps {
            set(&mut basis, step + 1, &next);
            let image = self.times(&next);
            tridiagonal[(step, step)] = image.iter().zip(&next).map(|(a, b)| a * b).sum();
            // What two vectors before account for goes first: one pass over the others is then exact enough.
            let (own, before) = (tridiagonal[(step, step)], step.saturating_sub(1));
            let off = if step > 0 {
                tridiagonal[(step, before)]
            } else {
                0.0
            };
            for (i, v) in next.iter_mut().enumerate() {
                *v = image[i] - own * *v - off * basis[(i, before + 1)];
            }
            orthogonalise(&mut next, basis.as_ref().get(.., ..step + 2));
            let mut length = normalise(&mut next);
            let looked = step + 1 >= k && (step + 1).is_multiple_of(LOOK);
            if looked || step + 1 == steps {
                let part = tridiagonal.as_ref().get(..step + 1, ..step + 1);
                let (values, rotation) = eigen(part)?;
                let m = values.len();
                // Ascending: the largest are the last.
                let wanted = (k - 1).min(m);
                let residual = (m - wanted..m)
                    .map(|j| length * rotation[(m - 1, j)].abs())
                    .fold(0.0, f64::max);
                if residual <= tolerance || step + 1 == steps {
                    return Ok(self.assemble(&basis, &values, &rotation, wanted, residual));
                }
            }
            if length < 1e-12 {
                // The space of this start is exhausted.
                next = (0..n).map(|_| StandardNormal.sample(&mut rng)).collect();
                orthogonalise(&mut next, basis.as_ref().get(.., ..step + 2));
                normalise(&mut next);
                length = 0.0;
            }
            if step + 1 < steps {
                tridiagonal[(step + 1, step)] = length;
                tridiagonal[(step, step + 1)] = length;
            }
        }
        Err(Error::NoConvergence)
    }

    /// The first eigenpair and the last `wanted` of those in the basis.
    fn assemble(
        &self,
        basis: &Mat<f64>,
        values: &[f64],
        rotation: &Mat<f64>,
        wanted: usize,
        residual: f64,
    ) -> (Vec<f64>, Mat<f64>, f64) {
        let (n, m) = (basis.nrows(), values.len());
        let mut vectors = Mat::zeros(n, wanted + 1);
        set(&mut vectors, 0, &self.first);
        matmul(
            vectors.as_mut().get_mut(.., 1..),
            Accum::Replace,
            basis.as_ref().get(.., 1..m + 1),
            rotation.as_ref().get(.., m - wanted..),
            1.0,
            Par::Seq,
        );
        // Without edges there is nothing to walk.
        let first = self.first.iter().any(|&f| f != 0.0);
        let mut all = vec![if first { 1.0 } else { 0.0 }];
        all.extend(&values[m - wanted..]);
        (all, vectors, residual)
    }

    /// The product with a vector.
    fn times(&self, x: &[f64]) -> Vec<f64> {
        let indptr = self.graph.indptr();
        // Each entry is one thread's work.
        (0..x.len())
            .into_par_iter()
            .with_min_len(1024)
            .map(|i| {
                let row = indptr[i]..indptr[i + 1];
                let columns = &self.graph.indices()[row.clone()];
                let pairs = self.values[row].iter().zip(columns);
                pairs.map(|(t, &j)| t * x[j as usize]).sum()
            })
            .collect()
    }
}

/// Eigenvalues, ascending, and eigenvectors of a symmetric matrix. On one thread: the bits would depend on their number.
fn eigen(matrix: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    let (mut values, mut vectors) = (Diag::<f64>::zeros(n), Mat::<f64>::zeros(n, n));
    let params = Default::default();
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, params);
    self_adjoint_evd(
        matrix,
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        params,
    )
    .map_err(|_| Error::NoConvergence)?;
    Ok((values.column_vector().iter().copied().collect(), vectors))
}

fn set(matrix: &mut Mat<f64>, column: usize, values: &[f64]) {
    for (to, &v) in matrix.as_mut().col_mut(column).iter_mut().zip(values) {
        *to = v;
    }
}

/// Subtracts from a vector what lies in the span of a basis.
fn orthogonalise(vector: &mut [f64], basis: MatRef<'_, f64>) {
    let mut along = Mat::zeros(basis.ncols(), 1);
    let v = MatRef::from_column_major_slice(vector, basis.nrows(), 1);
    let across = basis.transpose();
    matmul(along.as_mut(), Accum::Replace, across, v, 1.0, Par::Seq);
    let v = MatMut::from_column_major_slice_mut(vector, basis.nrows(), 1);
    matmul(v, Accum::Add, basis, along.as_ref(), -1.0, Par::Seq);
}

/// Brings a vector to length 1 and returns the length that it had.
fn normalise(vector: &mut [f64]) -> f64 {
    let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|v| *v /= length);
    }
    length
}

#[cfg(test)]
#[path = "diffusion_tests.rs"]
mod tests;
