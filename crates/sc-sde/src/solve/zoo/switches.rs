use candle_core::Tensor;

use super::{columns, filled};
use crate::Result;
use crate::solve::{At, Noise, Sde};

/// Two genes that repress each other: `du = (alpha / (1 + v^2) - u) dt + sigma sqrt(u) dB_1`, and the same for `v`.
///
/// Bistable if `alpha > 2`, with stable states `(alpha +- sqrt(alpha^2 - 4)) / 2` and a saddle at `u = v`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToggleSwitch {
    alpha: f64,
    sigma: f64,
}

impl ToggleSwitch {
    /// Synthesis `alpha`, noise `sigma`.
    pub fn new(alpha: f64, sigma: f64) -> Self {
        Self { alpha, sigma }
    }

    /// The levels of the gene that is on and of the one that is off in the stable states; none unless bistable.
    pub fn stable_levels(&self) -> Option<(f64, f64)> {
        let root = (self.alpha * self.alpha - 4.0).sqrt();
        (self.alpha > 2.0).then(|| ((self.alpha + root) / 2.0, (self.alpha - root) / 2.0))
    }

    /// The level of both genes at the saddle: `u (1 + u^2) = alpha`.
    pub fn saddle_level(&self) -> f64 {
        let (mut low, mut high) = (0.0, self.alpha.max(1.0));
        for _ in 0..200 {
            let mid = 0.5 * (low + high);
            match mid * (1.0 + mid * mid) < self.alpha {
                true => low = mid,
                false => high = mid,
            }
        }
        0.5 * (low + high)
    }
}

impl Sde for ToggleSwitch {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let [u, v] = columns("a state of the toggle switch", y)?;
        let made =
            |by: &Tensor| -> Result<Tensor> { Ok(((by.sqr()? + 1.0)?.recip()? * self.alpha)?) };
        Ok((Tensor::cat(&[made(&v)?, made(&u)?], 1)? - y)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y.relu()?.sqrt()? * self.sigma)?)
    }
    /// `sigma / (2 sqrt(y))`, 0 where there is nothing left.
    fn diffusion_jvp(&self, _: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        let there = y.gt(0.0)?;
        let root = there.where_cond(&y.relu()?.sqrt()?, &y.ones_like()?)?;
        let slope = (direction / root)?.affine(0.5 * self.sigma, 0.0)?;
        Ok(there.where_cond(&slope, &y.zeros_like()?)?)
    }
}

/// Lorenz's equations (10, 28, 8/3) with noise `sigma` in each coordinate. Chaotic: compare over short times only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lorenz {
    sigma: f64,
}

impl Lorenz {
    /// With noise `sigma`.
    pub fn new(sigma: f64) -> Self {
        Self { sigma }
    }

    /// The divergence of the drift, the same everywhere.
    pub fn divergence(&self) -> f64 {
        -(10.0 + 1.0 + 8.0 / 3.0)
    }
}

impl Sde for Lorenz {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let [x, y, z] = columns("a state of Lorenz's equations", y)?;
        let dx = ((&y - &x)? * 10.0)?;
        let dy = ((&x * (28.0 - &z)?)? - &y)?;
        let dz = ((&x * &y)? - (&z * (8.0 / 3.0))?)?;
        Ok(Tensor::cat(&[dx, dy, dz], 1)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        filled(y, self.sigma)
    }
    fn diffusion_jvp(&self, _: At, y: &Tensor, _: &Tensor) -> Result<Tensor> {
        Ok(y.zeros_like()?)
    }
}
