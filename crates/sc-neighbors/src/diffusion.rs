use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::matrix_free::LinOp;
use faer::matrix_free::eigen::{
    PartialEigenParams, partial_self_adjoint_eigen, partial_self_adjoint_eigen_scratch,
};
use faer::{Col, Mat, MatMut, MatRef, Par, Side};
use ndarray::Array2;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use sc_data::Csr;

use crate::community::check_graph;
use crate::{Error, Result};

/// Up to so many points all eigenvectors are computed at once.
const DENSE: usize = 300;
/// Relative errors of eigenpairs.
const TOLERANCE: f64 = 1e-9;
/// Eigenvalues this close to 1 belong to parts of the graph without a path between them.
const ONE: f64 = 0.9994;

/// Eigenvectors of a random walk on a graph; see [`diffusion_map`].
#[derive(Debug, Clone)]
pub struct DiffusionMap {
    /// The eigenvalues `lambda_k`, descending; the first is 1.
    pub values: Vec<f64>,
    /// The eigenvectors `psi_k` of length 1, one a column, `[n, k]`; the largest entry of each by magnitude is positive.
    pub vectors: Array2<f64>,
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

/// The `n_components` largest eigenpairs by magnitude of a random walk on a weighted symmetric graph, usually that of
/// [`connectivities`](crate::connectivities), in scanpy's form.
///
/// With `q_i = sum_j w_ij`, the density of points is divided out (Coifman and Lafon 2006): `k_ij = w_ij / (q_i q_j)`; with
/// `z_i = sqrt(sum_j k_ij)`, the matrix `t_ij = k_ij / (z_i z_j)` has the eigenvalues of the walk. Fewer pairs are returned
/// if there are fewer points. The seed chooses where the iteration starts; it does not show beyond rounding.
///
/// # Errors
/// [`Error::InvalidGraph`] if the graph is not square and symmetric or a weight is negative or not finite;
/// [`Error::InvalidParameter`] if `n_components` is 0; [`Error::NoConvergence`] if the iteration gives up.
pub fn diffusion_map(graph: &Csr, n_components: usize, seed: u64) -> Result<DiffusionMap> {
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
    let (values, vectors) = if n <= DENSE || 3 * k > n {
        walk.all()?
    } else {
        walk.largest(k, seed)?
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    // The largest by magnitude, then by value.
    order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()));
    order.truncate(k);
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
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
    })
}

/// The matrix `t`.
#[derive(Debug)]
struct Walk<'a> {
    graph: &'a Csr,
    values: Vec<f64>,
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
        let root: Vec<f64> = sums(&values)
            .into_iter()
            .map(|s| inverse(s.sqrt()))
            .collect();
        scale(&mut values, &root);
        Self { graph, values }
    }

    fn all(&self) -> Result<(Vec<f64>, Mat<f64>)> {
        let n = self.graph.n_rows();
        let mut dense = Mat::zeros(n, n);
        for (i, w) in self.graph.indptr().windows(2).enumerate() {
            for p in w[0]..w[1] {
                dense[(i, self.graph.indices()[p] as usize)] = self.values[p];
            }
        }
        let eigen = dense
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| Error::NoConvergence)?;
        let values = eigen.S().column_vector().iter().copied().collect();
        Ok((values, eigen.U().to_owned()))
    }

    fn largest(&self, k: usize, seed: u64) -> Result<(Vec<f64>, Mat<f64>)> {
        let n = self.graph.n_rows();
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let start: Vec<f64> = (0..n).map(|_| StandardNormal.sample(&mut rng)).collect();
        let norm = start.iter().map(|v| v * v).sum::<f64>().sqrt();
        let start = Col::from_fn(n, |i| start[i] / norm);
        let (mut values, mut vectors) = (vec![0.0; k], Mat::zeros(n, k));
        let params = PartialEigenParams::default();
        let scratch = partial_self_adjoint_eigen_scratch::<f64>(self, k, Par::Seq, params);
        let info = partial_self_adjoint_eigen(
            vectors.as_mut(),
            &mut values,
            self,
            start.as_ref(),
            TOLERANCE,
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
            params,
        );
        if info.n_converged_eigen < k {
            return Err(Error::NoConvergence);
        }
        Ok((values, vectors))
    }
}

impl LinOp<f64> for Walk<'_> {
    fn apply_scratch(&self, _: usize, _: Par) -> StackReq {
        StackReq::EMPTY
    }

    fn nrows(&self) -> usize {
        self.graph.n_rows()
    }

    fn ncols(&self) -> usize {
        self.graph.n_rows()
    }

    fn apply(&self, out: MatMut<'_, f64>, rhs: MatRef<'_, f64>, _: Par, _: &mut MemStack) {
        let mut out = out;
        let indptr = self.graph.indptr();
        for c in 0..rhs.ncols() {
            let x: Vec<f64> = rhs.col(c).iter().copied().collect();
            // Each entry is one thread's work.
            let product: Vec<f64> = (0..self.nrows())
                .into_par_iter()
                .with_min_len(1024)
                .map(|i| {
                    let row = indptr[i]..indptr[i + 1];
                    let columns = &self.graph.indices()[row.clone()];
                    let pairs = self.values[row].iter().zip(columns);
                    pairs.map(|(t, &j)| t * x[j as usize]).sum()
                })
                .collect();
            for (to, v) in out.as_mut().col_mut(c).iter_mut().zip(product) {
                *to = v;
            }
        }
    }

    fn conj_apply(
        &self,
        out: MatMut<'_, f64>,
        rhs: MatRef<'_, f64>,
        par: Par,
        stack: &mut MemStack,
    ) {
        self.apply(out, rhs, par, stack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blobs, with_threads};
    use crate::{connectivities, knn};

    fn ring(n: usize) -> Csr {
        let mut m = Array2::zeros((n, n));
        for i in 0..n {
            m[[i, (i + 1) % n]] = 1.0f32;
            m[[(i + 1) % n, i]] = 1.0;
        }
        Csr::from_dense(&m)
    }

    /// On a ring the eigenvalues of the walk are cosines.
    #[test]
    fn a_ring_has_its_known_eigenvalues() {
        for n in [101, 701] {
            let map = diffusion_map(&ring(n), 5, 0).unwrap();
            let tau = std::f64::consts::TAU / n as f64;
            // By magnitude: 1, then pairs near 1 and near -1.
            assert!((map.values[0] - 1.0).abs() < 1e-9);
            for v in &map.values {
                let near = (0..n).map(|k| (v - (tau * k as f64).cos()).abs());
                assert!(near.fold(f64::INFINITY, f64::min) < 1e-8, "{n}: {v}");
            }
        }
    }

    /// The iteration and the decomposition of the whole matrix agree.
    #[test]
    fn both_ways_agree() {
        let (x, _) = blobs(700, 1, 4);
        let graph = connectivities(&knn(x.view(), 14).unwrap()).unwrap();
        let walk = Walk::new(&graph);
        let (all, _) = walk.all().unwrap();
        let map = diffusion_map(&graph, 10, 0).unwrap();
        let mut all: Vec<f64> = all;
        all.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
        all.truncate(10);
        all.sort_by(|a, b| b.total_cmp(a));
        for (a, b) in map.values.iter().zip(&all) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
        for (k, column) in map.vectors.columns().into_iter().enumerate() {
            assert!((column.dot(&column) - 1.0).abs() < 1e-9);
            let image: Vec<f64> = (0..700)
                .map(|i| {
                    let row = graph.indptr()[i]..graph.indptr()[i + 1];
                    row.map(|p| walk.values[p] * column[graph.indices()[p] as usize])
                        .sum()
                })
                .collect();
            for (a, b) in image.iter().zip(column) {
                assert!((a - map.values[k] * b).abs() < 1e-7);
            }
        }
        let run = |t| with_threads(t, || diffusion_map(&graph, 10, 0).unwrap().vectors);
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn pseudotime_grows_along_a_line() {
        let x = Array2::from_shape_fn((400, 1), |(i, _)| i as f32 + 0.1 * ((i * 7) % 5) as f32);
        let graph = connectivities(&knn(x.view(), 10).unwrap()).unwrap();
        let map = diffusion_map(&graph, 15, 0).unwrap();
        let time = map.pseudotime(0).unwrap();
        assert_eq!(time[0], 0.0);
        assert!(time.iter().all(|t| (0.0..=1.0).contains(t)));
        assert!(time[100] < time[200] && time[200] < time[399]);
        assert!(map.pseudotime(400).is_err());
        assert!(diffusion_map(&graph, 0, 0).is_err());
        assert!(diffusion_map(&Csr::zeros(2, 3), 1, 0).is_err());
        // Nothing is connected.
        assert_eq!(
            diffusion_map(&Csr::zeros(3, 3), 2, 0).unwrap().values,
            [0.0, 0.0]
        );
    }
}
