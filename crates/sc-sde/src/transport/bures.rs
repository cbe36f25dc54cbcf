use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par};
use ndarray::{Array1, Array2};
use sc_tensor::math::Float;

use super::Cloud;
use crate::{Error, Result};

/// A normal distribution, for the optimal transport between such, which is known in closed form: the Bures metric.
///
/// ```
/// use ndarray::array;
/// use sc_sde::transport::Gaussian;
/// let narrow = Gaussian::new(array![0.0], array![[1.0]])?;
/// let wide = Gaussian::new(array![3.0], array![[25.0]])?;
/// // sqrt((0 - 3)^2 + (1 - 5)^2)
/// assert!((narrow.wasserstein(&wide)? - 5.0).abs() < 1e-12);
/// # Ok::<(), sc_sde::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    mean: Array1<f64>,
    covariance: Array2<f64>,
}

impl Gaussian {
    /// With this mean and covariance, of which the symmetric part counts.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the covariance is square and of the dimension of the mean, [`Error::NotFinite`] if a number
    /// is NaN or infinite, [`Error::InvalidSetting`] if a variance in some direction is negative.
    pub fn new(mean: Array1<f64>, covariance: Array2<f64>) -> Result<Self> {
        let n = mean.len();
        if n == 0 || covariance.dim() != (n, n) {
            return Err(Error::Shape {
                what: "a covariance",
                found: covariance.shape().to_vec(),
                expected: format!("[{n}, {n}] for a mean of {n} coordinates, at least one"),
            });
        }
        let mean_entries = mean.iter().enumerate().map(|(j, v)| ((0, j), v));
        for ((row, column), &value) in mean_entries.chain(covariance.indexed_iter()) {
            if !value.is_finite() {
                return Err(Error::NotFinite {
                    what: "the mean or the covariance of a Gaussian",
                    row,
                    column,
                    value,
                });
            }
        }
        let new = Self { mean, covariance };
        let (values, _) = eigen(&new.matrix())?;
        let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        match values.iter().find(|v| **v < -1e-9 * largest) {
            Some(v) => Err(Error::InvalidSetting {
                name: "a covariance",
                value: format!("with the eigenvalue {v}"),
                reason: "variances are not negative".into(),
            }),
            None => Ok(new),
        }
    }

    /// The weighted mean and covariance of a cloud (divided by the mass, not by one less than the number of points).
    ///
    /// # Errors
    /// None for a cloud whose squares don't overflow.
    pub fn fit<T: Float>(cloud: &Cloud<'_, T>) -> Result<Self> {
        let (mass, d) = (cloud.mass(), cloud.dim());
        let points = cloud.points();
        let rows = || points.rows().into_iter().zip(cloud.weights());
        let mut mean = Array1::zeros(d);
        for (row, w) in rows() {
            for (m, v) in mean.iter_mut().zip(row) {
                *m += w / mass * v.wide();
            }
        }
        let mut covariance = Array2::zeros((d, d));
        for (row, w) in rows() {
            let centred: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| v.wide() - m).collect();
            for (mut out, x) in covariance.rows_mut().into_iter().zip(&centred) {
                for (out, y) in out.iter_mut().zip(&centred) {
                    *out += w / mass * x * y;
                }
            }
        }
        Self::new(mean, covariance)
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> &Array1<f64> {
        &self.mean
    }

    /// The covariance.
    #[must_use]
    pub fn covariance(&self) -> &Array2<f64> {
        &self.covariance
    }

    /// The Wasserstein distance of order 2: `|m - m'|^2 + tr(S + S' - 2 (S^(1/2) S' S^(1/2))^(1/2))`, and the root of that.
    ///
    /// # Errors
    /// [`Error::Shape`] if the dimensions differ.
    pub fn wasserstein(&self, other: &Self) -> Result<f64> {
        if self.mean.len() != other.mean.len() {
            return Err(Error::Shape {
                what: "the second Gaussian",
                found: vec![other.mean.len()],
                expected: format!("[{}], as the first", self.mean.len()),
            });
        }
        let shift: f64 = (&self.mean - &other.mean).mapv(|v| v * v).sum();
        let root = self.root()?;
        let inner = &(&root * other.matrix()) * &root;
        let (values, _) = eigen(&inner)?;
        let overlap: f64 = values.iter().map(|v| v.max(0.0).sqrt()).sum();
        let trace = self.covariance.diag().sum() + other.covariance.diag().sum();
        Ok((shift + (trace - 2.0 * overlap).max(0.0)).sqrt())
    }

    /// The symmetric part of the covariance.
    fn matrix(&self) -> Mat<f64> {
        let c = &self.covariance;
        Mat::from_fn(c.nrows(), c.ncols(), |i, j| 0.5 * (c[(i, j)] + c[(j, i)]))
    }

    /// The symmetric square root of the covariance.
    fn root(&self) -> Result<Mat<f64>> {
        let (values, vectors) = eigen(&self.matrix())?;
        let n = values.len();
        let scaled = Mat::from_fn(n, n, |i, k| vectors[(i, k)] * values[k].max(0.0).sqrt());
        Ok(&scaled * vectors.transpose())
    }
}

/// Eigenvalues and vectors of a symmetric matrix, on one thread.
fn eigen(a: &Mat<f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = a.nrows();
    let (mut values, mut vectors) = (Diag::<f64>::zeros(n), Mat::<f64>::zeros(n, n));
    let scratch =
        self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    self_adjoint_evd(
        a.as_ref(),
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|e| Error::InvalidSetting {
        name: "a covariance",
        value: format!("of {n} x {n}"),
        reason: format!("has no eigenvalues: {e:?}"),
    })?;
    let values = values.column_vector().iter().copied().collect();
    Ok((values, vectors))
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn diagonal_covariances_need_no_roots() {
        let a = Gaussian::new(array![1.0, 2.0], array![[4.0, 0.0], [0.0, 0.0]]).unwrap();
        let b = Gaussian::new(array![1.0, 0.0], array![[1.0, 0.0], [0.0, 9.0]]).unwrap();
        let expected = (4.0f64 + 1.0 + 9.0).sqrt();
        assert!((a.wasserstein(&b).unwrap() - expected).abs() < 1e-12);
        assert!((b.wasserstein(&a).unwrap() - expected).abs() < 1e-12);
        assert!(a.wasserstein(&a).unwrap() < 1e-7);
    }

    #[test]
    fn two_dimensions_in_closed_form() {
        // tr (S^(1/2) S' S^(1/2))^(1/2) = sqrt(tr(S S') + 2 sqrt(det S det S'))
        let (s, t) = (
            array![[2.0, 0.7], [0.7, 1.0]],
            array![[1.5, -0.4], [-0.4, 3.0]],
        );
        let det = |m: &Array2<f64>| m[(0, 0)] * m[(1, 1)] - m[(0, 1)] * m[(1, 0)];
        let overlap = (s.dot(&t).diag().sum() + 2.0 * (det(&s) * det(&t)).sqrt()).sqrt();
        let expected = (3.0 + 4.5 - 2.0 * overlap).sqrt();
        let zero = || Array1::zeros(2);
        let a = Gaussian::new(zero(), s).unwrap();
        let b = Gaussian::new(zero(), t).unwrap();
        assert!((a.wasserstein(&b).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn weights_of_a_cloud_count() {
        let points = array![[0.0f32, 1.0], [2.0, 1.0], [5.0, 9.0]];
        let cloud = Cloud::new(points.view()).unwrap();
        let cloud = cloud.with_weights(array![3.0f64, 1.0, 0.0].view()).unwrap();
        let g = Gaussian::fit(&cloud).unwrap();
        assert!((g.mean()[0] - 0.5).abs() < 1e-12 && (g.mean()[1] - 1.0).abs() < 1e-12);
        assert!((g.covariance()[(0, 0)] - 0.75).abs() < 1e-12);
        assert!(g.covariance()[(1, 1)].abs() < 1e-12);
    }

    #[test]
    fn bad_input() {
        assert!(Gaussian::new(array![0.0], array![[-1.0]]).is_err());
        assert!(Gaussian::new(array![0.0, 1.0], array![[1.0]]).is_err());
        assert!(Gaussian::new(array![f64::NAN], array![[1.0]]).is_err());
        assert!(Gaussian::new(Array1::zeros(0), Array2::zeros((0, 0))).is_err());
        let a = Gaussian::new(array![0.0], array![[1.0]]).unwrap();
        let b = Gaussian::new(array![0.0, 0.0], Array2::eye(2)).unwrap();
        assert!(a.wasserstein(&b).is_err());
    }
}
