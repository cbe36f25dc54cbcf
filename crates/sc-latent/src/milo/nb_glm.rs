//! Negative binomial generalised linear models with a log link: one row of counts, `ln mu = X beta + offset`,
//! `Var(y) = mu + phi mu^2`.

use ndarray::ArrayView2;

use super::linear::{cholesky, solve};

const MAX_ITERATIONS: usize = 200;
/// The fit ends when a step would lower the deviance by less than this share of it.
const TOLERANCE: f64 = 1e-12;
/// The smallest damping of a step, as a share of the largest curvature.
const DAMPING: f64 = 1e-9;

/// A fitted model of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fit {
    /// Natural logarithms, one a column of the design.
    pub(super) coefficients: Vec<f64>,
    /// The fitted mean of each sample.
    pub(super) means: Vec<f64>,
    /// The sum of the unit deviances.
    pub(super) deviance: f64,
    /// Whether the last step was small enough.
    pub(super) converged: bool,
}

/// The unit deviance of a negative binomial count,
///
/// `2 [y ln(y / mu) - (y + 1/phi) ln((1 + phi y) / (1 + phi mu))]
///  = 2 [y ln(1 + r / (mu (1 + phi y))) - ln(1 + phi r / (1 + phi mu)) / phi]`, `r = y - mu`,
///
/// which in the second form keeps its digits for every `phi`; the Poisson deviance for `phi = 0`.
pub(super) fn unit_deviance(y: f64, mu: f64, phi: f64) -> f64 {
    let r = y - mu;
    let first = if y > 0.0 {
        y * (r / (mu * (1.0 + phi * y))).ln_1p()
    } else {
        0.0
    };
    let second = if phi > 0.0 {
        (phi * r / (1.0 + phi * mu)).ln_1p() / phi
    } else {
        r
    };
    let deviance = 2.0 * (first - second);
    // Rounding may leave it below 0. A NaN, of a mean that overflowed, stays.
    if deviance < 0.0 { 0.0 } else { deviance }
}

/// The logarithm of the probability of a negative binomial count.
pub(super) fn ln_probability(y: f64, mu: f64, phi: f64) -> f64 {
    let log_mean = if y > 0.0 { y * (phi * mu).ln() } else { 0.0 };
    let (gammas, _) = sc_tensor::math::lgamma_difference(y, 1.0 / phi);
    gammas - sc_tensor::math::lgamma_of(y + 1.0) + log_mean - (y + 1.0 / phi) * (phi * mu).ln_1p()
}

/// A design with room to fit rows in, used again for each row.
pub(super) struct Fitter {
    /// Row-major `[n, p]`.
    design: Vec<f64>,
    n: usize,
    p: usize,
    curvature: Vec<f64>,
    factor: Vec<f64>,
    gradient: Vec<f64>,
    step: Vec<f64>,
    next: Vec<f64>,
    next_means: Vec<f64>,
}

impl Fitter {
    pub(super) fn new(design: ArrayView2<'_, f64>) -> Self {
        let (n, p) = design.dim();
        Self {
            design: design.iter().copied().collect(),
            n,
            p,
            curvature: vec![0.0; p * p],
            factor: vec![0.0; p * p],
            gradient: vec![0.0; p],
            step: vec![0.0; p],
            next: vec![0.0; p],
            next_means: vec![0.0; n],
        }
    }

    /// The maximum of the likelihood for the dispersion `phi`, by Fisher scoring with Levenberg's damping.
    ///
    /// Where a group of samples has no counts its coefficient runs towards minus infinity; the fit ends when its means no
    /// longer matter. `start` are coefficients to begin with.
    pub(super) fn fit(
        &mut self,
        y: &[f64],
        offset: &[f64],
        phi: f64,
        start: Option<&[f64]>,
    ) -> Fit {
        let mut fit = self.begin(y, offset, phi, start);
        let mut damping = 0.0;
        for _ in 0..MAX_ITERATIONS {
            let largest = self.linearise(y, &fit.means, phi);
            if largest <= 0.0 {
                // No mean is left: nothing can change any more.
                fit.converged = true;
                break;
            }
            let Some(gain) = self.try_step(damping * largest) else {
                damping = (damping * 10.0).max(DAMPING);
                continue;
            };
            for (next, (b, s)) in self
                .next
                .iter_mut()
                .zip(fit.coefficients.iter().zip(&self.step))
            {
                *next = b + s;
            }
            let deviance = means_and_deviance(
                (&self.design, self.p),
                (y, offset, phi),
                &self.next,
                &mut self.next_means,
            );
            let slack = 1e-13 * (fit.deviance + 1.0);
            if deviance.is_nan() || deviance > fit.deviance + slack {
                damping = (damping * 10.0).max(DAMPING);
                continue;
            }
            std::mem::swap(&mut fit.coefficients, &mut self.next);
            std::mem::swap(&mut fit.means, &mut self.next_means);
            fit.deviance = deviance;
            if gain <= TOLERANCE * (deviance + 0.1) && damping <= DAMPING {
                fit.converged = true;
                break;
            }
            damping = if damping > DAMPING {
                damping * 0.1
            } else {
                0.0
            };
        }
        fit
    }

    /// The start: the coefficients given, or those of a linear regression of `ln(y + 1/2)`.
    fn begin(&mut self, y: &[f64], offset: &[f64], phi: f64, start: Option<&[f64]>) -> Fit {
        let mut fit = Fit {
            coefficients: vec![0.0; self.p],
            means: vec![0.0; self.n],
            deviance: 0.0,
            converged: false,
        };
        match start {
            Some(start) => fit.coefficients.copy_from_slice(start),
            None => {
                self.normal_equations(|i| (1.0, (y[i] + 0.5).ln() - offset[i]));
                if self.try_step(0.0).is_some() {
                    fit.coefficients.copy_from_slice(&self.step);
                }
            }
        }
        let data = (y, offset, phi);
        fit.deviance = means_and_deviance(
            (&self.design, self.p),
            data,
            &fit.coefficients,
            &mut fit.means,
        );
        fit
    }

    /// The gradient `X' (y - mu) / (1 + phi mu)` and the curvature `X' W X`, `W = mu / (1 + phi mu)`; its largest diagonal
    /// entry.
    fn linearise(&mut self, y: &[f64], means: &[f64], phi: f64) -> f64 {
        self.normal_equations(|i| {
            let scale = 1.0 + phi * means[i];
            (means[i] / scale, (y[i] - means[i]) / scale)
        });
        let p = self.p;
        (0..p)
            .map(|j| self.curvature[j * p + j])
            .fold(0.0, f64::max)
    }

    /// `sum_i w_i x_i x_i'` and `sum_i z_i x_i`, where `terms(i)` is `(w_i, z_i)`.
    fn normal_equations(&mut self, terms: impl Fn(usize) -> (f64, f64)) {
        self.curvature.fill(0.0);
        self.gradient.fill(0.0);
        for (i, x) in self.design.chunks_exact(self.p.max(1)).enumerate() {
            let (w, z) = terms(i);
            for (j, &xj) in x.iter().enumerate() {
                if xj == 0.0 {
                    continue;
                }
                self.gradient[j] += z * xj;
                for (k, &xk) in x[..=j].iter().enumerate() {
                    self.curvature[j * self.p + k] += w * xj * xk;
                }
            }
        }
    }

    /// Solves for the damped step; returns twice the decrease of the deviance it promises.
    fn try_step(&mut self, damping: f64) -> Option<f64> {
        let p = self.p;
        self.factor.copy_from_slice(&self.curvature);
        (0..p).for_each(|j| self.factor[j * p + j] += damping);
        if !cholesky(&mut self.factor, p) {
            return None;
        }
        self.step.copy_from_slice(&self.gradient);
        solve(&self.factor, p, &mut self.step);
        let gain = self
            .step
            .iter()
            .zip(&self.gradient)
            .map(|(s, g)| s * g)
            .sum();
        Some(gain)
    }

    /// The Cox-Reid adjustment `ln |X' W X| / 2` at fitted means; 0 where a mean has vanished and the determinant with it.
    pub(super) fn cox_reid(&mut self, means: &[f64], phi: f64) -> f64 {
        self.normal_equations(|i| (means[i] / (1.0 + phi * means[i]), 0.0));
        self.factor.copy_from_slice(&self.curvature);
        if cholesky(&mut self.factor, self.p) {
            super::linear::half_log_determinant(&self.factor, self.p)
        } else {
            0.0
        }
    }
}

/// Fills in the means for some coefficients and returns the deviance.
fn means_and_deviance(
    (design, p): (&[f64], usize),
    (y, offset, phi): (&[f64], &[f64], f64),
    coefficients: &[f64],
    means: &mut [f64],
) -> f64 {
    let mut deviance = 0.0;
    for (i, mean) in means.iter_mut().enumerate() {
        let x = &design[i * p..(i + 1) * p];
        let eta: f64 = x.iter().zip(coefficients).map(|(x, b)| x * b).sum();
        *mean = (eta + offset[i]).exp();
        deviance += unit_deviance(y[i], *mean, phi);
    }
    deviance
}

/// The one coefficient of a model without covariates, `ln mu_i = beta + offset_i`, by Newton's method; minus infinity
/// for a row without counts.
pub(super) fn one_group(y: &[f64], offset: &[f64], phi: f64) -> f64 {
    let total: f64 = y.iter().sum();
    if total <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let sizes: f64 = offset.iter().map(|o| o.exp()).sum();
    let mut beta = (total / sizes).ln();
    for _ in 0..100 {
        let (mut score, mut information) = (0.0, 0.0);
        for (y, o) in y.iter().zip(offset) {
            let mu = (beta + o).exp();
            let scale = 1.0 + phi * mu;
            score += (y - mu) / scale;
            information += mu / scale;
        }
        let step = score / information;
        beta += step.clamp(-5.0, 5.0);
        if step.abs() < 1e-12 {
            break;
        }
    }
    beta
}

#[cfg(test)]
#[path = "nb_glm_tests.rs"]
mod tests;
