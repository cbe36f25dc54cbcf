//! Paths between two cells, and their velocities.

use candle_core::Tensor;

use crate::Result;

/// How a point between two cells is drawn: `N(mean(tau), sigma(tau)^2)` for `tau` from 0 to 1, with the velocity that keeps it so.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Bridge {
    /// `(1 - tau) x0 + tau x1`, of the same width everywhere: CFM and OT-CFM. Velocity `x1 - x0`.
    Linear {
        /// The width.
        sigma: f64,
    },
    /// From a normal distribution, whatever `x0` is, to a width `sigma` around `x1` (Lipman et al. 2023):
    /// `sigma(tau) = 1 - (1 - sigma) tau`.
    Target {
        /// The width at the end.
        sigma: f64,
    },
    /// A Brownian bridge: `sigma(tau) = sigma sqrt(tau (1 - tau))`.
    Schroedinger {
        /// The noise of the Brownian motion.
        sigma: f64,
    },
    /// `cos(pi tau / 2) x0 + sin(pi tau / 2) x1` (VP-CFM, Albergo & Vanden-Eijnden 2023).
    Trigonometric {
        /// The width.
        sigma: f64,
    },
}

/// Points on bridges, one a row.
#[derive(Debug, Clone)]
pub struct BridgePoints {
    /// Means, `[N, D]`.
    pub mean: Tensor,
    /// Widths, `[N, 1]`.
    pub sigma: Tensor,
    /// The points, `[N, D]`.
    pub x: Tensor,
    /// Velocities there per unit of `tau`, `[N, D]`. Divide by the time between the two cells.
    pub velocity: Tensor,
}

/// Keeps divisions by the width of a bridge finite at its ends.
const LEAST: f64 = 1e-8;

impl Bridge {
    /// Points at `tau` (`[N, 1]`) between the rows of `x0` and `x1`, away from the mean by `noise` (`[N, D]`, standard normal)
    /// times the width.
    ///
    /// # Errors
    /// If the shapes don't fit.
    pub fn points(
        &self,
        x0: &Tensor,
        x1: &Tensor,
        tau: &Tensor,
        noise: &Tensor,
    ) -> Result<BridgePoints> {
        let rest = tau.affine(-1.0, 1.0)?;
        let (mean, width) = match *self {
            Self::Linear { sigma } => {
                let mean = (x0.broadcast_mul(&rest)? + x1.broadcast_mul(tau)?)?;
                (mean, (tau.zeros_like()? + sigma)?)
            }
            Self::Target { sigma } => (x1.broadcast_mul(tau)?, tau.affine(-(1.0 - sigma), 1.0)?),
            Self::Schroedinger { sigma } => {
                let mean = (x0.broadcast_mul(&rest)? + x1.broadcast_mul(tau)?)?;
                (mean, ((tau * &rest)?.sqrt()? * sigma)?)
            }
            Self::Trigonometric { sigma } => {
                let angle = (tau * std::f64::consts::FRAC_PI_2)?;
                let mean = (x0.broadcast_mul(&angle.cos()?)? + x1.broadcast_mul(&angle.sin()?)?)?;
                (mean, (tau.zeros_like()? + sigma)?)
            }
        };
        let x = (&mean + noise.broadcast_mul(&width)?)?;
        let velocity = match *self {
            Self::Linear { .. } => (x1 - x0)?,
            Self::Target { sigma } => {
                let left = (x1 - (&x * (1.0 - sigma))?)?;
                left.broadcast_div(&width)?
            }
            Self::Schroedinger { .. } => {
                let spread = (tau * &rest)?.affine(2.0, LEAST)?;
                let pull = (tau.affine(-2.0, 1.0)? / spread)?;
                ((&x - &mean)?.broadcast_mul(&pull)? + (x1 - x0)?)?
            }
            Self::Trigonometric { .. } => {
                let angle = (tau * std::f64::consts::FRAC_PI_2)?;
                let along =
                    (x1.broadcast_mul(&angle.cos()?)? - x0.broadcast_mul(&angle.sin()?)?)?;
                (along * std::f64::consts::FRAC_PI_2)?
            }
        };
        Ok(BridgePoints {
            mean,
            sigma: width,
            x,
            velocity,
        })
    }
}

/// `2 sigma(tau) / sigma^2`: what the score's part of the drift is multiplied by before its squared distance from `-noise` is
/// taken (\[SF\]2M), so that all of a bridge counts alike. The part is `sigma^2 / 2` times the score, per unit of `tau`.
///
/// # Errors
/// If candle refuses.
pub fn score_weight(of_bridge: &Tensor, sigma: f64) -> Result<Tensor> {
    Ok((of_bridge * (2.0 / (sigma * sigma + LEAST)))?)
}
