use ndarray::Array2;
use rayon::prelude::*;
use sc_tensor::math::Float;
use sc_tensor::pairs::{Cost, Points, Weights, cost_gradients, cost_sums, log_sums};
use sc_tensor::{DType, Tensor};

use super::cloud::{Cloud, centre, same_dim};
use super::envelope::{Sides, dtype, tensor_like, with_gradients};
use crate::{Error, Result};

/// How alike two points are.
#[derive(Debug, Clone, PartialEq)]
pub enum Kernel {
    /// The mean of `exp(-|x - y|^2 / (2 s^2))` over some bandwidths `s`.
    Rbf(Vec<f64>),
    /// `-|x - y|`: the square of the discrepancy is the energy distance.
    Energy,
}

/// The maximum mean discrepancy: how far the mean similarities within two clouds are from those between them.
///
/// `MMD^2 = sum a a' k(x, x') + sum b b' k(y, y') - 2 sum a b k(x, y)`, with weights brought to 1 and each point also
/// compared with itself (the biased estimate, which is never negative). Gretton et al., "A kernel two-sample test" (2012);
/// Szekely and Rizzo, "Energy statistics" (2013).
///
/// ```
/// use ndarray::array;
/// use sc_sde::transport::{Cloud, Kernel, Mmd};
/// # fn main() -> Result<(), sc_sde::Error> {
/// let (x, y) = (array![[0.0], [2.0]], array![[5.0]]);
/// let (x, y) = (Cloud::new(x.view())?, Cloud::new(y.view())?);
/// // 2 E|x - y| - E|x - x'| - E|y - y'| = 8 - 1 - 0.
/// assert!((Mmd::new(Kernel::Energy)?.squared(&x, &y)? - 7.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Mmd {
    kernel: Kernel,
}

/// The value for two clouds and, where wanted, the gradients by their points.
struct Parts {
    value: f64,
    x: Option<Array2<f64>>,
    y: Option<Array2<f64>>,
}

impl Mmd {
    /// With this kernel.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] without bandwidths, or if one isn't a positive number.
    pub fn new(kernel: Kernel) -> Result<Self> {
        if let Kernel::Rbf(bandwidths) = &kernel {
            let bad = bandwidths.iter().find(|s| !(**s > 0.0 && s.is_finite()));
            if bandwidths.is_empty() || bad.is_some() {
                return Err(Error::InvalidSetting {
                    name: "bandwidths",
                    value: format!("{bandwidths:?}"),
                    reason: "positive numbers are needed, at least one; distances between typical points are a good start".into(),
                });
            }
        }
        Ok(Self { kernel })
    }

    /// The square of the discrepancy.
    ///
    /// # Errors
    /// [`Error::Shape`] if the clouds have different coordinates.
    pub fn squared<T: Float>(&self, x: &Cloud<'_, T>, y: &Cloud<'_, T>) -> Result<f64> {
        Ok(self.parts(x, y, (false, false))?.value)
    }

    /// The square of the discrepancy, and its gradients by the points of both clouds.
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    pub fn gradients<T: Float>(
        &self,
        x: &Cloud<'_, T>,
        y: &Cloud<'_, T>,
    ) -> Result<(f64, Array2<f64>, Array2<f64>)> {
        let parts = self.parts(x, y, (true, true))?;
        let of = |g: Option<Array2<f64>>, c: &Cloud<'_, T>| {
            g.unwrap_or_else(|| Array2::zeros((c.n_points(), c.dim())))
        };
        Ok((parts.value, of(parts.x, x), of(parts.y, y)))
    }

    /// The square of the discrepancy as a loss: `[n, d]` and `[m, d]` give a scalar, `[batch, n, d]` and `[batch, m, d]`
    /// one number for each of the batch. All points weigh the same. Gradients reach both clouds.
    ///
    /// # Errors
    /// If shapes or types don't fit, or a number isn't finite.
    pub fn loss(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        match dtype(x, y)? {
            DType::F64 => self.typed::<f64>(x, y),
            _ => self.typed::<f32>(x, y),
        }
    }

    fn typed<T: Float>(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let sides = Sides::<T>::new(x, None, y, None)?;
        let pairs: Vec<_> = sides
            .x
            .clouds()?
            .into_iter()
            .zip(sides.y.clouds()?)
            .collect();
        let wanted = (x.track_op(), y.track_op());
        let parts = pairs
            .par_iter()
            .map(|(x, y)| self.parts(x, y, wanted))
            .collect::<Result<Vec<_>>>()?;
        let shape: Vec<usize> = sides.x.batch.into_iter().collect();
        let value = tensor_like(parts.iter().map(|p| p.value).collect(), &shape, x)?;
        let mut gradients = Vec::new();
        type Of = fn(&Parts) -> Option<&Array2<f64>>;
        let of: [(&Tensor, Of); 2] = [(x, |p| p.x.as_ref()), (y, |p| p.y.as_ref())];
        for (tensor, of) in of {
            if tensor.track_op() {
                let all = parts.iter().filter_map(of).flatten().copied().collect();
                gradients.push((tensor, tensor_like(all, tensor.dims(), tensor)?));
            }
        }
        with_gradients(value, &gradients, sides.x.batch.is_some())
    }

    fn parts<T: Float>(
        &self,
        x: &Cloud<'_, T>,
        y: &Cloud<'_, T>,
        wanted: (bool, bool),
    ) -> Result<Parts> {
        same_dim(x, y)?;
        let origin = centre(x, y);
        let points = |c: &Cloud<'_, T>| Points::new(&c.coordinates(), c.dim(), &origin);
        let (px, py) = (points(x)?, points(y)?);
        let share = |c: &Cloud<'_, T>| -> Vec<f64> {
            let mass = c.mass();
            c.weights().iter().map(|w| w / mass).collect()
        };
        let (a, b) = (share(x), share(y));
        let mut total = 0.0;
        let (mut gx, mut gy) = (
            vec![0.0; wanted_len(wanted.0, x)],
            vec![0.0; wanted_len(wanted.1, y)],
        );
        for similarity in self.similarities() {
            let (own_x, own_y) = (
                similarity.means(&px, &px, &a)?,
                similarity.means(&py, &py, &b)?,
            );
            let between = similarity.means(&px, &py, &b)?;
            let dot =
                |w: &[f64], v: &Means| -> f64 { w.iter().zip(&v.values).map(|(w, v)| w * v).sum() };
            total += dot(&a, &own_x) + dot(&b, &own_y) - 2.0 * dot(&a, &between);
            if wanted.0 {
                similarity.add_gradient(&px, &px, &a, &a, 2.0, &own_x, &mut gx)?;
                similarity.add_gradient(&px, &py, &a, &b, -2.0, &between, &mut gx)?;
            }
            if wanted.1 {
                let between = similarity.means(&py, &px, &a)?;
                similarity.add_gradient(&py, &py, &b, &b, 2.0, &own_y, &mut gy)?;
                similarity.add_gradient(&py, &px, &b, &a, -2.0, &between, &mut gy)?;
            }
        }
        let matrix = |wanted: bool, g: Vec<f64>, c: &Cloud<'_, T>| {
            let found = vec![g.len()];
            wanted
                .then(|| Array2::from_shape_vec((c.n_points(), c.dim()), g))
                .transpose()
                .map_err(|_| Error::Shape {
                    what: "a gradient",
                    found,
                    expected: format!("{} x {} numbers", c.n_points(), c.dim()),
                })
        };
        Ok(Parts {
            value: total,
            x: matrix(wanted.0, gx, x)?,
            y: matrix(wanted.1, gy, y)?,
        })
    }

    fn similarities(&self) -> Vec<Similarity> {
        match &self.kernel {
            Kernel::Energy => vec![Similarity::MinusDistance],
            Kernel::Rbf(bandwidths) => bandwidths
                .iter()
                .map(|s| Similarity::Rbf {
                    epsilon: s * s,
                    share: 1.0 / bandwidths.len() as f64,
                })
                .collect(),
        }
    }
}

fn wanted_len<T: Float>(wanted: bool, c: &Cloud<'_, T>) -> usize {
    if wanted { c.n_points() * c.dim() } else { 0 }
}

/// Mean similarities of some points, and their logarithms where these are needed: far away, a mean underflows.
struct Means {
    values: Vec<f64>,
    logarithms: Vec<f64>,
}

/// One part of a kernel.
enum Similarity {
    /// `share exp(-C / epsilon)` with C half of the squared distance.
    Rbf {
        epsilon: f64,
        share: f64,
    },
    MinusDistance,
}

impl Similarity {
    /// The mean similarity of each point of `x` with those of `y`.
    fn means(&self, x: &Points, y: &Points, weights: &[f64]) -> Result<Means> {
        Ok(match *self {
            Self::MinusDistance => {
                let sums = cost_sums(x, y, Cost::Distance, weights)?;
                Means {
                    values: sums.iter().map(|v| -v).collect(),
                    logarithms: Vec::new(),
                }
            }
            Self::Rbf { epsilon, share } => {
                let sums = log_sums(x, y, Cost::HalfSquared, epsilon, &logarithms(weights))?;
                Means {
                    values: sums.iter().map(|v| share * v.exp()).collect(),
                    logarithms: sums,
                }
            }
        })
    }

    /// Adds `factor w_i d means_i / d x_i` for the points of `x`, whose means are known.
    fn add_gradient(
        &self,
        x: &Points,
        y: &Points,
        of_x: &[f64],
        of_y: &[f64],
        factor: f64,
        means: &Means,
        out: &mut [f64],
    ) -> Result<()> {
        let (slopes, scales): (Vec<f64>, Vec<f64>) = match *self {
            Self::MinusDistance => (
                cost_gradients(x, y, Cost::Distance, Weights::Each(of_y))?,
                vec![-factor; x.n_points()],
            ),
            Self::Rbf { epsilon, .. } => {
                let terms = logarithms(of_y);
                let softmax = Weights::Softmax {
                    epsilon,
                    terms: &terms,
                    log_sums: &means.logarithms,
                };
                let scale = |m: &f64| -factor * m / epsilon;
                (
                    cost_gradients(x, y, Cost::HalfSquared, softmax)?,
                    means.values.iter().map(scale).collect(),
                )
            }
        };
        for (((out, slope), scale), w) in out
            .chunks_exact_mut(x.dim())
            .zip(slopes.chunks_exact(x.dim()))
            .zip(scales)
            .zip(of_x)
        {
            for (out, s) in out.iter_mut().zip(slope) {
                *out += scale * w * s;
            }
        }
        Ok(())
    }
}

fn logarithms(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w.ln()).collect()
}

#[cfg(test)]
#[path = "mmd_tests.rs"]
mod tests;
