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
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} {b}");
    }

    /// Reference: statsmodels 0.15, `GLM(y, X, NegativeBinomial(alpha), offset)`.
    #[test]
    fn fits_agree_with_statsmodels() {
        let design = design();
        let y = [12.0, 0.0, 30.0, 7.0, 55.0, 21.0, 18.0, 3.0];
        let offset: Vec<f64> = (0..8).map(|i| (100.0 + 37.0 * f64::from(i)).ln()).collect();
        let mut fitter = Fitter::new(design.view());
        for (phi, coefficients, deviance, log_likelihood) in STATSMODELS {
            let fit = fitter.fit(&y, &offset, phi, None);
            assert!(fit.converged);
            for (a, b) in fit.coefficients.iter().zip(coefficients) {
                close(*a, b, 1e-7);
            }
            close(fit.deviance, deviance, 1e-9);
            let found: f64 = y
                .iter()
                .zip(&fit.means)
                .map(|(&y, &m)| ln_probability(y, m, phi))
                .sum();
            close(found, log_likelihood, 1e-9);
            // From a start that is far away, too.
            let again = fitter.fit(&y, &offset, phi, Some(&[3.0, -4.0, 5.0]));
            close(again.deviance, fit.deviance, 1e-9);
        }
        let fit = fitter.fit(&y, &offset, 0.0, None);
        for (a, b) in fit.coefficients.iter().zip(POISSON.0) {
            close(*a, b, 1e-7);
        }
        close(fit.deviance, POISSON.1, 1e-9);
    }
    const STATSMODELS: [(f64, [f64; 3], f64, f64); 3] = [
        (
            0.01,
            [
                -1.990_481_434_808_229_8,
                -1.490_827_537_617_050_8,
                0.023_555_089_903_150_25,
            ],
            50.895_614_795_749_7,
            -42.010_789_334_195_25,
        ),
        (
            0.2,
            [
                -2.072_504_153_978_666_6,
                -1.581_874_442_148_598_6,
                0.251_156_667_637_051,
            ],
            16.755_368_838_739_38,
            -29.477_137_876_266,
        ),
        (
            1.5,
            [
                -2.119_039_487_918_184,
                -1.664_874_359_627_554_1,
                0.383_141_880_270_606_75,
            ],
            4.450_631_878_397_694,
            -30.009_507_744_563_82,
        ),
    ];
    const POISSON: ([f64; 3], f64) = (
        [
            -1.976_803_791_731_500_2,
            -1.473_156_524_626_377,
            -0.024_405_005_006_792_78,
        ],
        61.512_063_097_382_416,
    );

    fn design() -> Array2<f64> {
        Array2::from_shape_fn((8, 3), |(i, j)| match j {
            0 => 1.0,
            1 => (i % 2) as f64,
            _ => f64::from(i >= 4),
        })
    }

    #[test]
    fn a_group_without_counts_does_not_stop_the_fit() {
        let design = array![
            [1.0, 0.0],
            [1.0, 0.0],
            [1.0, 0.0],
            [1.0, 1.0],
            [1.0, 1.0],
            [1.0, 1.0]
        ];
        let offset = [0.0; 6];
        let mut fitter = Fitter::new(design.view());
        for y in [
            [4.0, 9.0, 5.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 7.0, 1.0, 4.0],
        ] {
            let fit = fitter.fit(&y, &offset, 0.2, None);
            assert!(fit.converged, "{fit:?}");
            for (y, m) in y.chunks(3).zip(fit.means.chunks(3)) {
                let mean = y.iter().sum::<f64>() / 3.0;
                assert!(m.iter().all(|m| (m - mean).abs() < 1e-5), "{m:?}");
            }
        }
        let fit = fitter.fit(&[0.0; 6], &offset, 0.2, None);
        assert!(fit.converged && fit.means.iter().all(|&m| m < 1e-6) && fit.deviance < 1e-5);
    }

    #[test]
    fn the_deviance_is_smooth_in_the_dispersion() {
        for (y, mu) in [(0.0, 3.0), (7.0, 3.0), (3.0, 3.0), (1e4, 9e3)] {
            let poisson = unit_deviance(y, mu, 0.0);
            close(unit_deviance(y, mu, 1e-13), poisson, 1e-6);
            let phi: f64 = 0.3;
            let log = if y > 0.0 { y * (y / mu).ln() } else { 0.0 };
            let direct = 2.0 * (log - (y + 1.0 / phi) * ((1.0 + phi * y) / (1.0 + phi * mu)).ln());
            close(unit_deviance(y, mu, phi), direct, 1e-9);
        }
        assert_eq!(unit_deviance(0.0, 0.0, 0.5), 0.0);
    }

    #[test]
    fn one_group_is_the_model_with_an_intercept() {
        let y = [3.0, 0.0, 12.0, 5.0];
        let offset = [0.1, 0.5, 2.0, 1.0];
        let design = Array2::ones((4, 1));
        let fit = Fitter::new(design.view()).fit(&y, &offset, 0.05, None);
        close(one_group(&y, &offset, 0.05), fit.coefficients[0], 1e-8);
        assert_eq!(one_group(&[0.0; 4], &offset, 0.05), f64::NEG_INFINITY);
    }
}
