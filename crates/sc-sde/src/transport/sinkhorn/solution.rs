use ndarray::Array2;
use rayon::prelude::*;
use sc_model::Parity;
use sc_tensor::Stream;
use sc_tensor::pairs::{Cost, Points, Weights, cost_gradients};

use super::chains::{Chain, Last};
use super::params::SinkhornParams;
use crate::error::invalid;
use crate::transport::plan::Cumulative;
use crate::{Error, Result};

/// The Sinkhorn divergence of two clouds, with what it was computed from.
///
/// Gradients are those of the envelope theorem: potentials count as constants, which they are to first order at
/// convergence. Without convergence they are what geomloss gives.
pub struct Solution {
    params: SinkhornParams,
    x: Points,
    a: Vec<f64>,
    y: Points,
    b: Vec<f64>,
    pair: Chain,
    /// Of each cloud with itself, if debiased.
    own: Option<(Chain, Chain)>,
    value: f64,
}

impl Solution {
    pub(super) fn new(
        params: SinkhornParams,
        (x, a): (Points, Vec<f64>),
        (y, b): (Points, Vec<f64>),
        pair: Chain,
        own: Option<(Chain, Chain)>,
    ) -> Result<Self> {
        let mut new = Self {
            params,
            x,
            a,
            y,
            b,
            pair,
            own,
            value: 0.0,
        };
        let sum = |weights: &[f64], last: &Last, own: Option<&Last>| -> f64 {
            let duals = difference(last, own, |f| new.dual(f));
            weights.iter().zip(duals).map(|(w, s)| w * s).sum()
        };
        let (own_x, own_y) = new.own_lasts();
        new.value = sum(&new.a, &new.pair.x, own_x) + sum(&new.b, &new.pair.y, own_y);
        match new.value.is_finite() {
            true => Ok(new),
            false => Err(invalid(
                "blur",
                new.params.blur,
                format!("gives a divergence of {}; use a larger one", new.value),
            )),
        }
    }

    /// The divergence. In units of the cost: half of a squared length for p = 2.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The dual potential on the points of the first cloud, less that of the cloud with itself if debiased.
    #[must_use]
    pub fn potential_x(&self) -> Vec<f64> {
        difference(&self.pair.x, self.own_lasts().0, |f| f)
    }

    /// The dual potential on the points of the second cloud.
    #[must_use]
    pub fn potential_y(&self) -> Vec<f64> {
        difference(&self.pair.y, self.own_lasts().1, |f| f)
    }

    /// `d value / d x`, points of the first cloud x coordinates.
    ///
    /// # Errors
    /// [`Error::Tensor`] if sizes disagree, which they don't.
    pub fn gradient_x(&self) -> Result<Array2<f64>> {
        self.gradient(&self.x, &self.y, &self.a, &self.pair.x, self.own_lasts().0)
    }

    /// `d value / d y`, points of the second cloud x coordinates.
    ///
    /// # Errors
    /// As [`Solution::gradient_x`].
    pub fn gradient_y(&self) -> Result<Array2<f64>> {
        self.gradient(&self.y, &self.x, &self.b, &self.pair.y, self.own_lasts().1)
    }

    /// `d value / d weights` of the first cloud; without a reach, up to a constant (all mass must go somewhere).
    #[must_use]
    pub fn gradient_a(&self) -> Vec<f64> {
        difference(&self.pair.x, self.own_lasts().0, |f| self.weight_slope(f))
    }

    /// `d value / d weights` of the second cloud; without a reach, up to a constant.
    #[must_use]
    pub fn gradient_b(&self) -> Vec<f64> {
        difference(&self.pair.y, self.own_lasts().1, |f| self.weight_slope(f))
    }

    /// How far the mass of each point of the first cloud goes on the average, and where to: the mean of `y - x` over its
    /// part of the plan. Points x coordinates.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] unless p is 2.
    pub fn displacement(&self) -> Result<Array2<f64>> {
        if self.params.p != 2 {
            return Err(invalid(
                "p",
                self.params.p,
                "displacements are known for p = 2 only",
            ));
        }
        let last = &self.pair.x;
        let pull = cost_gradients(&self.x, &self.y, Cost::HalfSquared, self.softmax(last))?;
        matrix(pull.iter().map(|v| -v).collect(), &self.x)
    }

    /// How much mass goes from each point of the first cloud (row) to each of the second one (column). This, and nothing
    /// else, takes memory for all pairs.
    ///
    /// Rows sum to the weights of the first cloud (less where mass was destroyed); columns to those of the second one at
    /// convergence.
    #[must_use]
    pub fn plan(&self) -> Array2<f64> {
        let (x, y) = (self.x.coordinates(), self.y.coordinates());
        let mut plan = Array2::zeros((self.x.n_points(), self.y.n_points()));
        plan.outer_iter_mut()
            .into_par_iter()
            .enumerate()
            .for_each(|(i, mut row)| {
                for (out, v) in row.iter_mut().zip(self.row(i, &x, &y)) {
                    *out = v;
                }
            });
        plan
    }

    /// `n` pairs of points, each drawn by its share of the plan, independently. Needs no memory for all pairs.
    #[must_use]
    pub fn sample(&self, n: usize, stream: &mut Stream) -> Vec<(usize, usize)> {
        let (x, y) = (self.x.coordinates(), self.y.coordinates());
        let last = &self.pair.x;
        let masses = last.potential.iter().zip(&last.log_sums).zip(&self.a);
        let masses = masses.map(|((f, l), a)| a * (f / self.params.epsilon() + l).exp());
        let rows = Cumulative::new(masses);
        let mut uniform = vec![0.0; 2 * n];
        stream.fill_uniform(0.0, 1.0, &mut uniform);
        uniform
            .as_chunks::<2>()
            .0
            .par_iter()
            .map(|[u, v]| {
                let i = rows.draw(*u);
                (i, Cumulative::new(self.row(i, &x, &y)).draw(*v))
            })
            .collect()
    }

    /// A row of the plan.
    fn row<'a>(&'a self, i: usize, x: &'a [f64], y: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        let (dim, epsilon, p) = (self.x.dim(), self.params.epsilon(), self.params.p);
        let last = &self.pair.x;
        let (f, a) = (
            last.potential.get(i).copied().unwrap_or_default(),
            self.a.get(i).copied().unwrap_or_default(),
        );
        let x = x.get(i * dim..(i + 1) * dim).unwrap_or_default();
        y.chunks_exact(dim).zip(&last.terms).map(move |(y, term)| {
            let square: f64 = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
            let cost = match p {
                1 => square.max(1e-8).sqrt(),
                _ => 0.5 * square,
            };
            a * (term + (f - cost) / epsilon).exp()
        })
    }

    fn softmax<'a>(&self, last: &'a Last) -> Weights<'a> {
        Weights::Softmax {
            epsilon: self.params.epsilon(),
            terms: &last.terms,
            log_sums: &last.log_sums,
        }
    }

    /// The potentials of each cloud with itself, if debiased.
    fn own_lasts(&self) -> (Option<&Last>, Option<&Last>) {
        match &self.own {
            Some((x, y)) => (Some(&x.x), Some(&y.x)),
            None => (None, None),
        }
    }

    /// What a potential adds to the value, for a weight of 1.
    fn dual(&self, potential: f64) -> f64 {
        match self.params.rho() {
            None => potential,
            Some(rho) => -(rho + 0.5 * self.params.epsilon()) * (-potential / rho).exp_m1(),
        }
    }

    /// The derivative of the value by the weight of a point.
    ///
    /// Unbalanced, the potentials are at the maximum of the dual problem and not of the value's formula, which uses that
    /// all marginals agree there: hence epsilon and not half of it.
    fn weight_slope(&self, potential: f64) -> f64 {
        match (self.params.rho(), self.params.parity) {
            (Some(rho), Parity::Correct) => {
                let epsilon = self.params.epsilon();
                -(rho + epsilon) * (-potential / rho).exp_m1() - 0.5 * epsilon
            }
            _ => self.dual(potential),
        }
    }

    /// What the gradient by a point's place is multiplied with: how much of its mass is transported.
    fn transported(&self, potential: f64) -> f64 {
        let epsilon = self.params.epsilon();
        match self.params.rho() {
            None => 1.0,
            Some(rho) => {
                let kept = (-potential / rho).exp();
                match self.params.parity {
                    Parity::Correct => kept,
                    Parity::Upstream => kept * (rho + 0.5 * epsilon) / (rho + epsilon),
                }
            }
        }
    }

    fn gradient(
        &self,
        points: &Points,
        other: &Points,
        weights: &[f64],
        last: &Last,
        own: Option<&Last>,
    ) -> Result<Array2<f64>> {
        let pull = |other: &Points, last: &Last| -> Result<Vec<f64>> {
            let cost = self.params.cost();
            let mut pull = cost_gradients(points, other, cost, self.softmax(last))?;
            for ((pull, f), w) in pull
                .chunks_exact_mut(points.dim())
                .zip(&last.potential)
                .zip(weights)
            {
                let slope = w * self.transported(*f);
                pull.iter_mut().for_each(|v| *v *= slope);
            }
            Ok(pull)
        };
        let (towards, own) = rayon::join(
            || pull(other, last),
            || own.map(|own| pull(points, own)).transpose(),
        );
        let mut gradient = towards?;
        if let Some(own) = own? {
            for (g, o) in gradient.iter_mut().zip(own) {
                *g -= o;
            }
        }
        matrix(gradient, points)
    }
}

impl std::fmt::Debug for Solution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Solution")
            .field("value", &self.value)
            .field("points", &(self.x.n_points(), self.y.n_points()))
            .field("params", &self.params)
            .finish()
    }
}

/// `f(potential)`, less `f` of the cloud's own.
fn difference(last: &Last, own: Option<&Last>, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let potentials = &last.potential;
    match own {
        None => potentials.iter().map(|&v| f(v)).collect(),
        Some(own) => potentials
            .iter()
            .zip(&own.potential)
            .map(|(&v, &o)| f(v) - f(o))
            .collect(),
    }
}

fn matrix(numbers: Vec<f64>, points: &Points) -> Result<Array2<f64>> {
    let found = vec![numbers.len()];
    Array2::from_shape_vec((points.n_points(), points.dim()), numbers).map_err(|_| Error::Shape {
        what: "a gradient",
        found,
        expected: format!("{} x {} numbers", points.n_points(), points.dim()),
    })
}
