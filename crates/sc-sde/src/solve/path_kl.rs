use candle_core::Tensor;

use super::project::least_squares;
use super::{At, Calculus, Noise, Sde};
use crate::Result;

/// An equation with a second drift, of a prior.
pub trait PriorDrift {
    /// `h(t, y)`, `[cells, D]`.
    ///
    /// # Errors
    /// If it can't be computed.
    fn prior_drift(&self, at: At, y: &Tensor) -> Result<Tensor>;
}

impl<P: PriorDrift + ?Sized> PriorDrift for &P {
    fn prior_drift(&self, at: At, y: &Tensor) -> Result<Tensor> {
        (**self).prior_drift(at, y)
    }
}

/// An equation whose last coordinate is the Kullback-Leibler divergence of its path from that of a prior with the drift `h`
/// and the same diffusion, so far: `dq = 1/2 |u|^2 dt` with `u = g^+ (f - h)`.
///
/// `g^+` is the division by `g` where each coordinate has its own noise (with `g` kept away from 0 by 1e-7), else the pseudo-inverse.
/// Solve it from states with a column of zeros ([`PathKl::start`]); the differences of the last column from one output to
/// the next are the divergences between them.
#[derive(Debug, Clone, Copy)]
pub struct PathKl<S>(pub S);

/// Diffusions nearer to 0 than this are moved there.
const LEAST: f64 = 1e-7;

impl<S: Sde + PriorDrift> PathKl<S> {
    /// The start with the divergence 0 beside it, `[cells, D + 1]`.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn start(y: &Tensor) -> Result<Tensor> {
        append_zeros(y)
    }

    /// Splits a state into that of the equation and the divergence, `[cells, D]` and `[cells]`.
    ///
    /// # Errors
    /// If the state has no columns.
    pub fn split(y: &Tensor) -> Result<(Tensor, Tensor)> {
        let d = y.dim(1)?.saturating_sub(1);
        Ok((
            y.narrow(1, 0, d)?.contiguous()?,
            y.narrow(1, d, 1)?.squeeze(1)?.contiguous()?,
        ))
    }
}

impl<S: Sde + PriorDrift> Sde for PathKl<S> {
    fn noise(&self) -> Noise {
        self.0.noise()
    }

    fn calculus(&self) -> Calculus {
        self.0.calculus()
    }

    fn drift(&self, at: At, y: &Tensor) -> Result<Tensor> {
        let (y, _) = Self::split(y)?;
        let f = self.0.drift(at, &y)?;
        let g = self.0.diffusion(at, &y)?;
        let apart = (&f - self.0.prior_drift(at, &y)?)?;
        let u = match self.0.noise() {
            noise if noise.is_by_coordinate() => (apart / away_from_zero(&g)?)?,
            _ => least_squares(&g, &apart)?,
        };
        let rate = (u.sqr()?.sum_keepdim(1)? * 0.5)?;
        Ok(Tensor::cat(&[&f, &rate], 1)?)
    }

    fn diffusion(&self, at: At, y: &Tensor) -> Result<Tensor> {
        append_zeros(&self.0.diffusion(at, &Self::split(y)?.0)?)
    }

    fn diffusion_jvp(&self, at: At, y: &Tensor, direction: &Tensor) -> Result<Tensor> {
        let (y, direction) = (Self::split(y)?.0, Self::split(direction)?.0);
        append_zeros(&self.0.diffusion_jvp(at, &y, &direction)?)
    }

    fn parameters(&self) -> Vec<Tensor> {
        self.0.parameters()
    }
}

/// One more entry of zeros along the second dimension.
fn append_zeros(t: &Tensor) -> Result<Tensor> {
    let zeros = t.narrow(1, 0, 1)?.zeros_like()?;
    Ok(Tensor::cat(&[t, &zeros], 1)?)
}

/// `g`, where it is nearer to 0 than [`LEAST`] that far from it on its side.
fn away_from_zero(g: &Tensor) -> Result<Tensor> {
    let near = g.abs()?.lt(LEAST)?;
    let negative = g.lt(0.0)?;
    let floor = (g.ones_like()? * LEAST)?;
    let floor = negative.where_cond(&floor.neg()?, &floor)?;
    Ok(near.where_cond(&floor, g)?)
}
