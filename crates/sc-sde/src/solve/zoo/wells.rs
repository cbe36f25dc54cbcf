use candle_core::Tensor;

use super::{columns, filled};
use crate::Result;
use crate::solve::{At, Noise, Sde};

/// `dX = -V'(X) dt + sigma dB` with `V(x) = depth (x^2 - 1)^2`, in each coordinate: wells at -1 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DoubleWell {
    depth: f64,
    sigma: f64,
}

/// Intervals of Simpson's rule.
const INTERVALS: usize = 2000;

impl DoubleWell {
    /// Wells of this depth, noise `sigma`.
    pub fn new(depth: f64, sigma: f64) -> Self {
        Self { depth, sigma }
    }

    /// `V(x)`.
    pub fn potential(&self, x: f64) -> f64 {
        let s = x * x - 1.0;
        self.depth * s * s
    }

    /// The stationary density, up to a factor: `exp(-2 V / sigma^2)`.
    pub fn stationary_weight(&self, x: f64) -> f64 {
        (-2.0 * self.potential(x) / (self.sigma * self.sigma)).exp()
    }

    /// The mean of `f` over the stationary distribution.
    pub fn stationary_mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        let weighted = simpson(|x| f(x) * self.stationary_weight(x), -4.0, 4.0);
        weighted / simpson(|x| self.stationary_weight(x), -4.0, 4.0)
    }

    /// The probability that a path from `x` reaches `high` before `low`: the committor, a fate probability.
    pub fn committor(&self, x: f64, low: f64, high: f64) -> f64 {
        let scale = |x: f64| (2.0 * self.potential(x) / (self.sigma * self.sigma)).exp();
        if x <= low {
            return 0.0;
        }
        if x >= high {
            return 1.0;
        }
        simpson(scale, low, x) / simpson(scale, low, high)
    }

    /// The rate at which paths leave a well if it is deep (Kramers 1940):
    /// `sqrt(V''(1) |V''(0)|) / (2 pi) exp(-2 (V(0) - V(1)) / sigma^2)`.
    pub fn kramers_rate(&self) -> f64 {
        let (at_well, at_top) = (8.0 * self.depth, 4.0 * self.depth);
        let rate = (at_well * at_top).sqrt() / std::f64::consts::TAU;
        rate * (-2.0 * self.depth / (self.sigma * self.sigma)).exp()
    }
}

fn simpson(f: impl Fn(f64) -> f64, a: f64, b: f64) -> f64 {
    let h = (b - a) / INTERVALS as f64;
    let weight = |i: usize| match i {
        0 | INTERVALS => 1.0,
        i if i % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let terms = (0..=INTERVALS).map(|i| weight(i) * f(a + h * i as f64));
    terms.sum::<f64>() * h / 3.0
}

impl Sde for DoubleWell {
    fn noise(&self) -> Noise {
        Noise::Diagonal
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let cube = (y.sqr()? * y)?;
        Ok(((y - cube)? * (4.0 * self.depth))?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        filled(y, self.sigma)
    }
    fn diffusion_jvp(&self, _: At, y: &Tensor, _: &Tensor) -> Result<Tensor> {
        Ok(y.zeros_like()?)
    }
}

/// Waddington's valley in two coordinates: `dx = v dt + s dB_1` and `dy = ((x - x_c) y - y^3 + tilt) dt + sigma(x) dB_2`, where
/// the valley splits at `x_c` and the noise is strongest there: `sigma(x) = s + peak exp(-(x - x_c)^2 / 2 w^2)`.
///
/// Without tilt both branches are taken with probability 1/2, and far behind the split they lie at `+-sqrt(x - x_c)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bifurcation {
    /// Speed along `x`.
    pub speed: f64,
    /// Where the valley splits.
    pub split: f64,
    /// The push to one side.
    pub tilt: f64,
    /// The noise away from the split.
    pub noise: f64,
    /// How much stronger it is at the split.
    pub peak: f64,
    /// How far around the split.
    pub width: f64,
}

impl Default for Bifurcation {
    fn default() -> Self {
        Self {
            speed: 1.0,
            split: 1.0,
            tilt: 0.0,
            noise: 0.05,
            peak: 0.3,
            width: 0.4,
        }
    }
}

impl Bifurcation {
    /// The branches at `x` in order, without noise: one before the split, two stable ones and the ridge between after it. For
    /// no tilt only.
    pub fn branches(&self, x: f64) -> Vec<f64> {
        let m = x - self.split;
        match m > 0.0 {
            true => vec![-m.sqrt(), 0.0, m.sqrt()],
            false => vec![0.0],
        }
    }

    fn sigma(&self, x: &Tensor) -> Result<Tensor> {
        let off = ((x - self.split)?.sqr()? * (-0.5 / (self.width * self.width)))?;
        Ok(off.exp()?.affine(self.peak, self.noise)?)
    }
}

impl Sde for Bifurcation {
    // The noise of y depends on x.
    fn noise(&self) -> Noise {
        Noise::Coordinatewise
    }
    fn drift(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let [x, y] = columns("a state of the bifurcation", y)?;
        let side = (((&x - self.split)? * &y)? - (y.sqr()? * &y)?)?;
        Ok(Tensor::cat(
            &[filled(&x, self.speed)?, (side + self.tilt)?],
            1,
        )?)
    }
    fn diffusion(&self, _: At, y: &Tensor) -> Result<Tensor> {
        let [x, _] = columns("a state of the bifurcation", y)?;
        Ok(Tensor::cat(&[filled(&x, self.noise)?, self.sigma(&x)?], 1)?)
    }
}
