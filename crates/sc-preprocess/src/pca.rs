use ndarray::Array2;
use sc_data::RowSource;

use crate::covariance::Covariance;
use crate::moments::value_moments;
use crate::{Error, Result, lanczos};

/// Principal components of cells x genes.
#[derive(Debug, Clone)]
pub struct Pca {
    /// The coordinates of each cell, `[n_cells, k]`.
    pub scores: Array2<f32>,
    /// The directions, one a row, of length 1, `[k, n_genes]`. The largest entry of each by magnitude is positive.
    pub components: Array2<f32>,
    /// The mean of each gene, which is subtracted before projecting.
    pub mean: Vec<f64>,
    /// The variance of each score (with `n - 1`), descending.
    pub explained_variance: Vec<f64>,
    /// The same as a share of the total variance of all genes.
    pub explained_variance_ratio: Vec<f64>,
    /// How far the worst pair is from being exact: `|C v - lambda v| / lambda` for the covariance matrix `C`. At most
    /// 1e-6, unless the variances are so much alike that the iteration was given up.
    pub residual: f64,
}

/// The `n_components` directions in which the cells vary most.
///
/// With `X` centred, `C = X^T X / (n - 1)` and `C v = lambda v`, the scores are `X v`. The centred matrix is never made:
/// the mean is subtracted from the products, so that sparse data stay sparse, and the source is read block by block,
/// so that it may lie on disk. The eigenpairs come from a block Lanczos iteration with a random start (see
/// Musco and Musco, "Randomized block Krylov methods for stronger and faster approximate singular value decomposition",
/// NIPS 2015), run until they are exact to about single precision. `seed` chooses the start; it does not show in the
/// result beyond rounding. The same seed gives the same bits on any number of threads.
///
/// # Errors
/// Those of the source; [`Error::TooSmall`] with fewer than two cells, [`Error::InvalidParameter`] unless
/// `1 <= n_components <= min(n_cells, n_genes)`, [`Error::InvalidValue`] if a value is not finite.
pub fn pca(source: &dyn RowSource, n_components: usize, seed: u64) -> Result<Pca> {
    let (cells, genes) = (source.n_rows(), source.n_cols());
    if cells < 2 {
        return Err(Error::TooSmall {
            what: "cells",
            found: cells,
            needed: 2,
        });
    }
    if n_components == 0 || n_components > cells.min(genes) {
        return Err(Error::InvalidParameter {
            name: "n_components",
            found: n_components.to_string(),
            expected: format!(
                "1 to {} for {cells} cells x {genes} genes",
                cells.min(genes)
            ),
        });
    }
    let moments = value_moments(source)?;
    let covariance = Covariance {
        source,
        mean: &moments.mean,
    };
    let mut eigen = lanczos::largest(genes, n_components, seed, |w| covariance.apply(w))?;
    for vector in eigen.vectors.chunks_exact_mut(genes) {
        fix_sign(vector);
    }
    let scores = covariance.scores(&eigen.vectors)?;
    let total: f64 = moments.variance.iter().sum();
    let ratio = |v: &f64| if total > 0.0 { v / total } else { 0.0 };
    Ok(Pca {
        scores: matrix(cells, n_components, scores)?,
        components: matrix(
            n_components,
            genes,
            eigen.vectors.iter().map(|&v| v as f32).collect(),
        )?,
        explained_variance_ratio: eigen.values.iter().map(ratio).collect(),
        explained_variance: eigen.values,
        residual: eigen.residual,
        mean: moments.mean,
    })
}

impl Pca {
    /// The coordinates of other cells with the same genes: `(X - mean) components^T`, `[n_cells, k]`.
    ///
    /// # Errors
    /// Those of the source; [`Error::InvalidParameter`] if it has another number of genes.
    pub fn transform(&self, source: &dyn RowSource) -> Result<Array2<f32>> {
        if source.n_cols() != self.mean.len() {
            return Err(Error::InvalidParameter {
                name: "the number of genes",
                found: source.n_cols().to_string(),
                expected: format!(
                    "the {} genes the components were found with",
                    self.mean.len()
                ),
            });
        }
        let covariance = Covariance {
            source,
            mean: &self.mean,
        };
        let vectors: Vec<f64> = self.components.iter().map(|&v| f64::from(v)).collect();
        matrix(
            source.n_rows(),
            self.components.nrows(),
            covariance.scores(&vectors)?,
        )
    }
}

/// Makes the entry of the largest magnitude positive; of equal ones the first.
fn fix_sign(vector: &mut [f64]) {
    let mut largest = 0f64;
    for &v in vector.iter() {
        if v.abs() > largest.abs() {
            largest = v;
        }
    }
    if largest < 0.0 {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
}

fn matrix(rows: usize, cols: usize, values: Vec<f32>) -> Result<Array2<f32>> {
    let found = values.len();
    Array2::from_shape_vec((rows, cols), values).map_err(|_| {
        Error::Data(sc_data::Error::LengthMismatch {
            what: "the result".into(),
            found,
            expected: rows * cols,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::Mat;
    use ndarray::Axis;
    use rand::{Rng, SeedableRng};
    use sc_data::Csr;

    /// Sparse rows with a few strong directions in them.
    fn example(cells: usize, genes: usize) -> Csr {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let dense = Array2::from_shape_fn((cells, genes), |(i, j)| {
            let on = rng.random::<f32>() < 0.3;
            let group = if i % 4 == j % 4 { 3.0 } else { 0.0 };
            let slope = (i as f32 / cells as f32) * (j % 5) as f32;
            if on {
                rng.random::<f32>() + group + slope
            } else {
                0.0
            }
        });
        Csr::from_dense(&dense)
    }

    /// Variances and directions by a dense singular value decomposition of the centred matrix.
    fn exact(x: &Csr) -> (Vec<f64>, Mat<f64>) {
        let d = x.to_dense().mapv(f64::from);
        let d = &d - &d.mean_axis(Axis(0)).unwrap();
        let m = Mat::from_fn(d.nrows(), d.ncols(), |i, j| d[[i, j]]);
        let svd = m.thin_svd().unwrap();
        let s = svd.S().column_vector();
        let n = d.nrows() as f64 - 1.0;
        let values = (0..s.nrows()).map(|i| s[i] * s[i] / n).collect();
        (values, svd.V().to_owned())
    }

    fn check(x: &Csr, k: usize) {
        let p = pca(x, k, 0).unwrap();
        let (values, v) = exact(x);
        let total: f64 = values.iter().sum();
        assert!(p.residual <= 1e-6, "{}", p.residual);
        for j in 0..k {
            assert!(
                (p.explained_variance[j] - values[j]).abs() < 1e-9 * values[0],
                "{j}"
            );
            assert!((p.explained_variance_ratio[j] - values[j] / total).abs() < 1e-9);
            if values[j] < 1e-9 * values[0] {
                continue;
            }
            let along: f64 = (0..x.n_cols())
                .map(|g| f64::from(p.components[[j, g]]) * v[(g, j)])
                .sum();
            assert!((along.abs() - 1.0).abs() < 1e-5, "{j}: {along}");
            let column = p.scores.column(j).mapv(f64::from);
            let variance = column.dot(&column) / (x.n_rows() as f64 - 1.0);
            assert!((variance / values[j] - 1.0).abs() < 1e-5);
            assert!(column.mean().unwrap().abs() < 1e-5);
            let row = p.components.row(j);
            let largest = row
                .iter()
                .fold(0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
            assert!(largest > 0.0);
        }
    }

    #[test]
    fn agrees_with_a_dense_svd() {
        check(&example(300, 120), 10);
        // More genes than cells, and the basis exhausts the space.
        check(&example(40, 200), 40);
        check(&example(50, 12), 12);
        check(&example(30, 1), 1);
    }

    #[test]
    fn restarts_find_what_the_first_basis_does_not() {
        // Noise only: variances close together, many genes, few components.
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let noise = Array2::from_shape_fn((500, 400), |_| rng.random::<f32>());
        check(&Csr::from_dense(&noise), 3);
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads_and_from_blocks() {
        let x = example(5000, 60);
        let run = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| pca(&x, 8, 7).unwrap())
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one.scores, three.scores);
        assert_eq!(one.components, three.components);
        assert_eq!(one.explained_variance, three.explained_variance);
        // The seed shows in the last digits at most.
        let other = pca(&x, 8, 8).unwrap();
        let difference = (&one.scores - &other.scores).mapv(f32::abs);
        assert!(difference.iter().all(|&d| d < 1e-3));
    }

    #[test]
    fn transform_gives_the_scores_again() {
        let x = example(100, 30);
        let p = pca(&x, 5, 0).unwrap();
        let again = p.transform(&x).unwrap();
        assert!((&again - &p.scores).iter().all(|d| d.abs() < 1e-5));
        assert!(p.transform(&example(5, 29)).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let x = example(10, 8);
        assert!(pca(&x, 0, 0).is_err());
        assert!(pca(&x, 9, 0).is_err());
        assert!(pca(&x.select_rows(&[0]).unwrap(), 1, 0).is_err());
        let nan = ndarray::array![[1.0f32, f32::NAN], [0.0, 1.0]];
        assert!(matches!(
            pca(&nan, 1, 0),
            Err(Error::InvalidValue {
                row: 0,
                column: 1,
                ..
            })
        ));
        // Nothing varies.
        let flat = Array2::from_elem((5, 4), 2.0f32);
        let p = pca(&flat, 2, 0).unwrap();
        assert!(p.explained_variance.iter().all(|v| v.abs() < 1e-12));
        assert_eq!(p.explained_variance_ratio, vec![0.0, 0.0]);
    }
}
