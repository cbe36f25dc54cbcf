use candle_core::{Device, Tensor};

use super::filled;
use crate::solve::{At, Noise, Sde};
use crate::{Error, Result};

/// `dX = theta (mu - X) dt + sigma dB` in each coordinate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OrnsteinUhlenbeck {
    theta: f64,
    mu: f64,
    sigma: f64,
}

impl OrnsteinUhlenbeck {
    /// Pulled to `mu` at rate `theta`, with noise `sigma`.
    pub fn new(theta: f64, mu: f64, sigma: f64) -> Self {
        Self { theta, mu, sigma }
    }

    /// Mean and variance at time `t` from `x0`.
    pub fn moments(&self, x0: f64, t: f64) -> (f64, f64) {
        let decay = (-self.theta * t).exp();
        let variance = match self.theta == 0.0 {
            true => self.sigma * self.sigma * t,
            false => self.sigma * self.sigma * (1.0 - decay * decay) / (2.0 * self.theta),
        };
        (self.mu + (x0 - self.mu) * decay, variance)
    }

    /// Mean and variance of Euler's chain after `n` steps of `h`.
    pub fn euler_moments(&self, x0: f64, h: f64, n: usize) -> (f64, f64) {
        let shrink = 1.0 - self.theta * h;
        let step = |(mean, variance): (f64, f64)| {
            (
                self.mu + (mean - self.mu) * shrink,
                variance * shrink * shrink + self.sigma * self.sigma * h,
            )
        };
        (0..n).fold((x0, 0.0), |moments, _| step(moments))
    }
}

impl Sde for OrnsteinUhlenbeck {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(y.affine(-self.theta, self.theta * self.mu)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        filled(y, self.sigma)
    }
    fn diffusion_jvp(&self, _: At, y: &Tensor, _: &Tensor) -> Result<Tensor> {
        Ok(y.zeros_like()?)
    }
}

/// `dX = a X dt + b X dB` in each coordinate (Ito).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeometricBrownian {
    a: f64,
    b: f64,
}

impl GeometricBrownian {
    /// Growth `a`, noise `b`.
    pub fn new(a: f64, b: f64) -> Self {
        Self { a, b }
    }

    /// Where the path from `x0` is at time `t` if the Brownian motion is at `w` then.
    pub fn exact(&self, x0: f64, t: f64, w: f64) -> f64 {
        x0 * ((self.a - 0.5 * self.b * self.b) * t + self.b * w).exp()
    }

    /// Mean and second moment at time `t`.
    pub fn moments(&self, x0: f64, t: f64) -> (f64, f64) {
        let second = (2.0 * self.a + self.b * self.b) * t;
        (x0 * (self.a * t).exp(), x0 * x0 * second.exp())
    }

    /// Mean and second moment of Euler's chain after `n` steps of `h`.
    pub fn euler_moments(&self, x0: f64, h: f64, n: i32) -> (f64, f64) {
        let grow = 1.0 + self.a * h;
        let square = grow * grow + self.b * self.b * h;
        (x0 * grow.powi(n), x0 * x0 * square.powi(n))
    }
}

impl Sde for GeometricBrownian {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y * self.a)?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y * self.b)?)
    }
    fn diffusion_jvp(&self, _: At, _: &Tensor, direction: &Tensor) -> Result<Tensor> {
        Ok((direction * self.b)?)
    }
}

/// `dX = -a^2 sin X cos^3 X dt + a cos^2 X dB` in each coordinate (Ito): `X = arctan(a B + tan X_0)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arctan {
    a: f64,
}

impl Arctan {
    /// With noise `a`.
    pub fn new(a: f64) -> Self {
        Self { a }
    }

    /// Where the path from `x0` is when the Brownian motion is at `w`.
    pub fn exact(&self, x0: f64, w: f64) -> f64 {
        (self.a * w + x0.tan()).atan()
    }
}

impl Sde for Arctan {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let cos = y.cos()?;
        Ok(((y.sin()? * (cos.sqr()? * cos)?)? * (-self.a * self.a))?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok((y.cos()?.sqr()? * self.a)?)
    }
    fn diffusion_jvp(&self, _: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        Ok((((y.cos()? * y.sin()?)? * direction)? * (-2.0 * self.a))?)
    }
}

/// `dX = A X dt + C X dB` with one Brownian motion for all coordinates: the noise that scDiffEq has by default (Ito).
#[derive(Debug, Clone)]
pub struct RankOneLinear {
    drift: Tensor,
    noise: Tensor,
    dim: usize,
}

impl RankOneLinear {
    /// With the matrices `drift` and `noise`, in rows of `dim` numbers.
    ///
    /// # Errors
    /// If they don't have `dim * dim` numbers.
    pub fn new(drift: &[f64], noise: &[f64], dim: usize) -> Result<Self> {
        let matrix = |what: &'static str, m: &[f64]| match m.len() == dim * dim {
            true => Ok(Tensor::from_slice(m, (dim, dim), &Device::Cpu)?
                .t()?
                .contiguous()?),
            false => Err(Error::Shape {
                what,
                found: vec![m.len()],
                expected: format!("[{}]: {dim} rows of {dim}", dim * dim),
            }),
        };
        Ok(Self {
            drift: matrix("the drift", drift)?,
            noise: matrix("the noise", noise)?,
            dim,
        })
    }

    /// The mean after `n` steps of Euler's chain of `h`, and the second moments (in rows). Small steps give those of the
    /// equation: `E' = A E`, `P' = A P + P A^T + C P C^T`.
    ///
    /// # Errors
    /// If `x0` has another number of coordinates.
    pub fn euler_moments(&self, x0: &[f64], h: f64, n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let d = self.dim;
        let x = Tensor::from_slice(x0, (1, x0.len()), &Device::Cpu)?;
        let mut mean = x.clone();
        let mut second = x.t()?.matmul(&x)?;
        let one = Tensor::eye(d, x.dtype(), x.device())?;
        let step = (one + (&self.drift * h)?)?;
        let turned = |m: &Tensor, p: &Tensor| m.t()?.contiguous()?.matmul(p)?.matmul(m);
        for _ in 0..n {
            mean = mean.matmul(&step)?;
            second = (turned(&step, &second)? + (turned(&self.noise, &second)? * h)?)?;
        }
        Ok((
            mean.flatten_all()?.to_vec1()?,
            second.flatten_all()?.to_vec1()?,
        ))
    }

    /// A row-wise product whose rows don't depend on each other.
    fn product(m: &Tensor, y: &Tensor) -> Result<Tensor> {
        let m = m.to_dtype(y.dtype())?.t()?.contiguous()?;
        Ok(sc_tensor::ops::linear(y, &m, None)?)
    }
}

impl Sde for RankOneLinear {
    fn noise(&self) -> Noise {
        Noise::Scalar
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Self::product(&self.drift, y)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        Ok(Self::product(&self.noise, y)?.unsqueeze(2)?)
    }
    fn diffusion_jvp(&self, _: At, _: &Tensor, direction: &Tensor) -> Result<Tensor> {
        Ok(Self::product(&self.noise, direction)?.unsqueeze(2)?)
    }
}
