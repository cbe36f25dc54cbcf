//! Canonical correlations.

use faer::{Mat, MatRef};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::Result;

/// Directions of two sets of coordinates whose projections are correlated most, with a ridge of a share of the mean variance.
pub(crate) struct Cca {
    x: Half,
    y: Half,
}

struct Half {
    mean: Array1<f64>,
    weights: Array2<f64>,
}

/// Of the mean variance.
const RIDGE: f64 = 0.1;

impl Cca {
    /// From paired rows.
    pub(crate) fn fit(x: ArrayView2<'_, f32>, y: ArrayView2<'_, f32>, dim: usize) -> Result<Self> {
        let (mx, x) = centred(x);
        let (my, y) = centred(y);
        let n = x.nrows() as f64;
        let (wx, wy) = (
            whitening(&(x.t().dot(&x) / n))?,
            whitening(&(y.t().dot(&y) / n))?,
        );
        let between = wx.t().dot(&(x.t().dot(&y) / n)).dot(&wy);
        let svd = to_faer(&between).thin_svd().map_err(|e| format!("{e:?}"))?;
        let dim = dim.min(between.nrows()).min(between.ncols());
        // Projections are scaled by their correlation, so that what is not shared counts less.
        let scaled = |u: MatRef<'_, f64>| {
            Array2::from_shape_fn((u.nrows(), dim), |(i, j)| u[(i, j)] * svd.S()[j])
        };
        Ok(Self {
            x: Half {
                mean: mx,
                weights: wx.dot(&scaled(svd.U())),
            },
            y: Half {
                mean: my,
                weights: wy.dot(&scaled(svd.V())),
            },
        })
    }

    pub(crate) fn first(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        self.x.project(x)
    }

    pub(crate) fn second(&self, y: ArrayView2<'_, f32>) -> Array2<f32> {
        self.y.project(y)
    }
}

impl Half {
    fn project(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        (x.mapv(f64::from) - &self.mean)
            .dot(&self.weights)
            .mapv(|v| v as f32)
    }
}

fn centred(x: ArrayView2<'_, f32>) -> (Array1<f64>, Array2<f64>) {
    let x = x.mapv(f64::from);
    let mean = x.mean_axis(Axis(0)).unwrap_or_default();
    let centred = &x - &mean;
    (mean, centred)
}

fn to_faer(a: &Array2<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[[i, j]])
}

/// `(C + ridge)^-1/2`
fn whitening(covariance: &Array2<f64>) -> Result<Array2<f64>> {
    let n = covariance.nrows();
    let ridge = RIDGE * covariance.diag().mean().unwrap_or(1.0);
    let e = to_faer(covariance)
        .self_adjoint_eigen(faer::Side::Lower)
        .map_err(|e| format!("{e:?}"))?;
    let (u, s) = (e.U(), e.S());
    let vectors = Array2::from_shape_fn((n, n), |(i, j)| u[(i, j)]);
    let scaled = Array2::from_shape_fn((n, n), |(i, j)| u[(i, j)] / (s[j].max(0.0) + ridge).sqrt());
    Ok(scaled.dot(&vectors.t()))
}

/// `Y` from `X` by ridge regression with a penalty of a share of the mean variance; both with means taken off and put back.
pub(crate) fn ridge(
    x: ArrayView2<'_, f32>,
    y: ArrayView2<'_, f32>,
    new: ArrayView2<'_, f32>,
    penalty: f64,
) -> Result<Array2<f32>> {
    use faer::prelude::Solve;

    let (mx, x) = centred(x);
    let (my, y) = centred(y);
    let mut gram = x.t().dot(&x);
    let add = penalty * gram.diag().mean().unwrap_or(1.0);
    gram.diag_mut().mapv_inplace(|v| v + add);
    let llt = to_faer(&gram)
        .llt(faer::Side::Lower)
        .map_err(|e| format!("{e:?}"))?;
    let w = llt.solve(&to_faer(&x.t().dot(&y)));
    let w = Array2::from_shape_fn((w.nrows(), w.ncols()), |(i, j)| w[(i, j)]);
    let guess = (new.mapv(f64::from) - &mx).dot(&w) + &my;
    Ok(guess.mapv(|v| v as f32))
}
