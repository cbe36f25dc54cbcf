//! Moments of logarithms of F ratios whose tails are pulled in.

use super::special::{Tail, f_ln_density, f_quantile};

/// The shares of residuals that are pulled in at the lower and the upper end.
pub(super) const TAILS: (f64, f64) = (0.05, 0.1);
/// Nodes of the integrals.
const NODES: usize = 128;

/// Gauss-Legendre quadrature on 0..=1.
pub(super) struct Integral {
    nodes: Vec<f64>,
    weights: Vec<f64>,
}

impl Integral {
    /// The roots of the Legendre polynomial, by Newton's method from their asymptotic places.
    pub(super) fn new() -> Self {
        let n = NODES as f64;
        let (nodes, weights) = (0..NODES)
            .map(|k| {
                let mut x = (std::f64::consts::PI * (k as f64 + 0.75) / (n + 0.5)).cos();
                let mut slope = 1.0;
                for _ in 0..100 {
                    let (mut last, mut value) = (1.0, x);
                    for j in 2..=NODES {
                        let j = j as f64;
                        (last, value) =
                            (value, ((2.0 * j - 1.0) * x * value - (j - 1.0) * last) / j);
                    }
                    slope = n * (x * value - last) / (x * x - 1.0);
                    let step = value / slope;
                    x -= step;
                    if step.abs() < 1e-15 {
                        break;
                    }
                }
                (f64::midpoint(1.0, x), 1.0 / ((1.0 - x * x) * slope * slope))
            })
            .unzip();
        Self { nodes, weights }
    }

    /// Mean and variance of `ln F`, `F ~ F(df, d0)`, with its tails pulled in to their quantiles. Integrated over `F / (1 + F)`.
    pub(super) fn winsorised_moments(&self, df: f64, d0: f64) -> (f64, f64) {
        let low = f_quantile(Tail::Lower(TAILS.0), df, d0);
        let high = f_quantile(Tail::Upper(TAILS.1), df, d0);
        let (a, b) = (low / (1.0 + low), high / (1.0 + high));
        let points: Vec<(f64, f64)> = self
            .nodes
            .iter()
            .zip(&self.weights)
            .map(|(node, weight)| {
                let u = a + (b - a) * node;
                let f = u / (1.0 - u);
                let density = f_ln_density(f, df, d0).exp() / (1.0 - u).powi(2);
                (f.ln(), (b - a) * weight * density)
            })
            .collect();
        let expectation = |g: &dyn Fn(f64) -> f64| {
            let inner: f64 = points.iter().map(|&(z, w)| w * g(z)).sum();
            inner + TAILS.0 * g(low.ln()) + TAILS.1 * g(high.ln())
        };
        let mean = expectation(&|z| z);
        (mean, expectation(&|z| (z - mean).powi(2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milo::special::trigamma;

    #[test]
    fn quadrature_integrates_polynomials() {
        let q = Integral::new();
        let of = |power: i32| -> f64 {
            q.nodes
                .iter()
                .zip(&q.weights)
                .map(|(x, w)| w * x.powi(power))
                .sum()
        };
        for power in [0, 1, 5, 60, 200] {
            assert!(
                (of(power) - 1.0 / f64::from(power + 1)).abs() < 1e-13,
                "{power}"
            );
        }
    }

    /// Reference: simple sums over 2 million quantiles of `scipy.stats.f`.
    #[test]
    fn winsorised_moments_agree_with_scipy() {
        let q = Integral::new();
        for (df, d0, mean, variance) in SCIPY {
            let (m, v) = q.winsorised_moments(df, d0);
            assert!(
                (m - mean).abs() < 1e-6 && (v - variance).abs() < 1e-6,
                "{m} {mean} {v} {variance}"
            );
        }
        // Winsorising lowers the variance trigamma(df / 2) + trigamma(d0 / 2).
        assert!(q.winsorised_moments(5.0, 10.0).1 < trigamma(2.5) + trigamma(5.0));
    }
    const SCIPY: [(f64, f64, f64, f64); 3] = [
        (
            5.0,
            10.0,
            -0.122_899_790_712_563_85,
            0.524_581_355_396_640_5,
        ),
        (3.0, 4.5, -0.152_429_177_942_878, 1.064_517_902_903_029),
        (
            12.0,
            200.0,
            -0.085_496_193_220_096_15,
            0.145_193_150_657_857_07,
        ),
    ];
}
