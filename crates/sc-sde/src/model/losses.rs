//! Terms that are added to the loss of the marginals.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::solve::Noise;
use crate::{Error, Result};

/// Keeps the ratio of drift to diffusion near a target: `enforce * (target - r_f / r_g)^2` with
/// `r_f = dt mean |f|` and `r_g = mean |g|` over the cells at one time.
///
/// The drift is multiplied by `dt`, the diffusion by nothing, as in the original; with several Brownian motions `|g|` is the
/// Frobenius norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VelocityRatio {
    /// The ratio wanted; 2.5.
    pub target: f64,
    /// The weight of the term; 100.
    pub enforce: f64,
    /// How the difference is measured; squared.
    pub method: RatioMethod,
    /// The step of the solver; 0.1.
    pub dt: f64,
}

/// How a difference of ratios is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RatioMethod {
    /// Its square.
    Square,
    /// Its absolute value.
    Abs,
}

impl Default for VelocityRatio {
    fn default() -> Self {
        Self {
            target: 2.5,
            enforce: 100.0,
            method: RatioMethod::Square,
            dt: 0.1,
        }
    }
}

/// The term at one time, and what it was computed from; all are numbers (rank 0).
#[derive(Debug, Clone)]
pub struct RatioTerm {
    /// The term.
    pub loss: Tensor,
    /// `dt mean |f|`.
    pub drift: Tensor,
    /// `mean |g|`.
    pub diffusion: Tensor,
}

impl VelocityRatio {
    /// The term at one time, of the drift and the diffusion of the cells there.
    ///
    /// # Errors
    /// If candle refuses.
    pub fn term(&self, drift: &Tensor, diffusion: &Tensor) -> Result<RatioTerm> {
        let drift = (norms(drift)?.mean_all()? * self.dt)?;
        let diffusion = norms(diffusion)?.mean_all()?;
        let off = (&drift / &diffusion)?.affine(-1.0, self.target)?;
        let off = match self.method {
            RatioMethod::Square => off.sqr()?,
            RatioMethod::Abs => off.abs()?,
        };
        Ok(RatioTerm {
            loss: (off * self.enforce)?,
            drift,
            diffusion,
        })
    }
}

/// The Euclidean (Frobenius) norm of each row. Its gradient at 0 is taken as 0.
fn norms(t: &Tensor) -> Result<Tensor> {
    let squares = t.flatten_from(1)?.sqr()?.sum(1)?;
    let there = squares.gt(0.0)?;
    // The root of 0 would have an infinite slope, so it is taken of 1 and not used.
    let safe = there.where_cond(&squares, &squares.ones_like()?)?;
    Ok((safe.sqrt()? * there.to_dtype(t.dtype())?)?)
}

/// `mean |f|^2` over the cells: the energy of the drift (TrajectoryNet, MIOFlow).
///
/// # Errors
/// If candle refuses.
pub fn drift_energy(drift: &Tensor) -> Result<Tensor> {
    Ok(drift.sqr()?.sum(1)?.mean_all()?)
}

/// `mean max(0, floor - |g|)^2` over the cells: keeps the diffusion from dying.
///
/// # Errors
/// If candle refuses.
pub fn diffusion_floor(diffusion: &Tensor, floor: f64) -> Result<Tensor> {
    let short = norms(diffusion)?.affine(-1.0, floor)?.relu()?;
    Ok(short.sqr()?.mean_all()?)
}

/// PRESCIENT's regulariser: `tau (factor sum psi(burn-in) - sum psi(observed))`, which keeps observed cells high on the
/// potential. Both are `[cells]`.
///
/// # Errors
/// If candle refuses.
pub fn potential_contrast(
    observed: &Tensor,
    burn_in: &Tensor,
    tau: f64,
    factor: f64,
) -> Result<Tensor> {
    let contrast = ((burn_in.sum_all()? * factor)? - observed.sum_all()?)?;
    Ok((contrast * tau)?)
}

/// `sum_dt 1/2 |f / sigma|^2 dt` per unit of time, mean over cells: the divergence of a path from a Brownian motion with the
/// same constant noise, as in an entropic bridge.
///
/// # Errors
/// [`Error::InvalidSetting`] unless each dimension has its own noise.
pub fn brownian_divergence(noise: Noise, drift: &Tensor, diffusion: &Tensor) -> Result<Tensor> {
    if diffusion.dims() != drift.dims() {
        return Err(Error::InvalidSetting {
            name: "noise",
            value: format!("{noise:?}"),
            reason: "each dimension must have its own; see PathKl for the others".into(),
        });
    }
    Ok(((drift / diffusion)?.sqr()?.sum(1)?.mean_all()? * 0.5)?)
}

/// Weights of cells that were simulated for `elapsed` since they were observed, from their rates of growth:
/// proportional to `exp(elapsed * rate)`, with sum 1. The cells themselves (`elapsed` 0) all weigh the same.
///
/// # Errors
/// [`Error::NotFinite`] if a rate or a weight isn't finite, [`Error::Empty`] without cells.
pub fn growth_weights(rates: &Tensor, elapsed: f64) -> Result<Tensor> {
    let values = rates
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    if values.is_empty() {
        return Err(Error::Empty {
            what: "the list of growth rates",
            found: vec![0],
        });
    }
    let log: Vec<f64> = values.iter().map(|r| r * elapsed).collect();
    if let Some((row, &value)) = log.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotFinite {
            what: "growth rate times elapsed time",
            row,
            column: 0,
            value,
        });
    }
    let weights = softmax(&log);
    Ok(Tensor::from_vec(weights, rates.shape(), rates.device())?.to_dtype(rates.dtype())?)
}

/// Proportional to the exponentials of these, with sum 1.
pub(crate) fn softmax(logarithms: &[f64]) -> Vec<f64> {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logarithms.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|v| v / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Numbers of the specification.
    #[test]
    fn growth_weights_are_the_originals() {
        let rates = Tensor::new(&[0.1f64, 0.5, -0.2, 0.0, 0.3, 0.05], &Device::Cpu).unwrap();
        let expected = [
            0.143_066_726_8,
            0.318_400_855_9,
            0.078_516_684_38,
            0.117_133_128_9,
            0.213_430_476_4,
            0.129_452_127_6,
        ];
        let found = growth_weights(&rates, 2.0)
            .unwrap()
            .to_vec1::<f64>()
            .unwrap();
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 1e-10, "{f} instead of {e}");
        }
        assert!(growth_weights(&rates, f64::INFINITY).is_err());
    }

    #[test]
    fn no_drift_has_no_infinite_gradient() {
        let f = candle_core::Var::zeros((3, 2), DType::F64, &Device::Cpu).unwrap();
        let g = Tensor::ones((3, 2, 1), DType::F64, &Device::Cpu).unwrap();
        let term = VelocityRatio::default().term(&f, &g).unwrap();
        assert_eq!(term.loss.to_scalar::<f64>().unwrap(), 625.0);
        let grads = term.loss.backward().unwrap();
        let grad = grads.get(&f).unwrap().flatten_all().unwrap();
        assert_eq!(grad.to_vec1::<f64>().unwrap(), [0.0; 6]);
    }

    #[test]
    fn a_diffusion_above_the_floor_costs_nothing() {
        let g = Tensor::new(&[[3.0f64, 4.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        let at = |floor: f64| {
            let t = diffusion_floor(&g, floor).unwrap();
            t.to_scalar::<f64>().unwrap()
        };
        assert_eq!(at(1.0), 0.0);
        assert_eq!(at(3.0), 2.0);
    }
}
