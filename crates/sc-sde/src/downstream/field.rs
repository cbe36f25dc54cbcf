use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_model::{Mode, Parity};
use sc_neighbors::Neighbors;

use super::arrays::{array, norms, to_array};
use super::smooth::smooth;
use crate::error::invalid;
use crate::model::ScDiffEq;
use crate::solve::{At, Noise, Sde};
use crate::{Error, Result};

/// Cells whose field is computed at a time.
const ROWS: usize = 4096;
/// Quantiles beyond which potentials are cut off before they are normalised.
const QUANTILES: (f64, f64) = (0.05, 0.95);
/// Rounds of smoothing of a potential.
const ROUNDS: usize = 5;

/// Drift and diffusion of cells where they are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CellField {
    /// `f(z)`, `[cells, D]`: in units of the space per unit of time.
    pub drift: Array2<f32>,
    /// Its length.
    pub drift_norm: Vec<f64>,
    /// `g(z)`: `[cells, D]` for one Brownian motion, or one for each coordinate; `[cells, D m]` for `m` of them, a coordinate's
    /// numbers together. The sign of a column of `g` means nothing.
    pub diffusion: Array2<f32>,
    /// Its Frobenius norm.
    pub diffusion_norm: Vec<f64>,
}

/// Drift and diffusion of cells (`[cells, D]`) at time `t`.
///
/// # Errors
/// If the states don't fit.
pub fn field(sde: &dyn Sde, cells: &Tensor, t: f64) -> Result<CellField> {
    let n = cells.dim(0)?;
    let at = At {
        t,
        step: 0,
        stage: 0,
    };
    let (mut drifts, mut diffusions) = (Vec::new(), Vec::new());
    let mut found = CellField {
        drift: Array2::zeros((0, 0)),
        drift_norm: Vec::with_capacity(n),
        diffusion: Array2::zeros((0, 0)),
        diffusion_norm: Vec::with_capacity(n),
    };
    for first in (0..n).step_by(ROWS) {
        let z = cells.narrow(0, first, ROWS.min(n - first))?.contiguous()?;
        let (f, g) = drift_and_diffusion(sde, at, &z)?;
        found.drift_norm.extend(norms(&f)?);
        found.diffusion_norm.extend(norms(&g)?);
        drifts.extend(to_array(&f)?);
        diffusions.extend(to_array(&g.flatten_from(1)?)?);
    }
    found.drift = array((n, drifts.len() / n.max(1)), drifts)?;
    found.diffusion = array((n, diffusions.len() / n.max(1)), diffusions)?;
    Ok(found)
}

/// `f` and `g`; zeros for the diffusion of an equation without noise.
pub(super) fn drift_and_diffusion(sde: &dyn Sde, at: At, z: &Tensor) -> Result<(Tensor, Tensor)> {
    let f = sde.drift(at, z)?.detach();
    let g = match sde.noise() {
        Noise::Absent => z.zeros_like()?,
        _ => sde.diffusion(at, z)?.detach(),
    };
    Ok((f, g))
}

/// The potential `psi` of cells (`[cells, D]`), of which the drift is the gradient: cells climb it. It is known up to a
/// constant.
///
/// # Errors
/// [`Error::InvalidSetting`] if the drift of the model is no gradient, or the states don't fit.
pub fn potential(model: &ScDiffEq, cells: &Tensor) -> Result<Vec<f64>> {
    let equation = model.equation(&Mode::eval())?;
    let n = cells.dim(0)?;
    let at = At {
        t: 0.0,
        step: 0,
        stage: 0,
    };
    let mut all = Vec::with_capacity(n);
    for first in (0..n).step_by(ROWS) {
        let z = cells.narrow(0, first, ROWS.min(n - first))?.contiguous()?;
        let psi = equation.potential(at, &z)?.detach();
        all.extend(psi.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(all)
}

/// A potential as a landscape between 0 and 1, high where cells come from: `-psi`, cut off at its 5 % and 95 % quantiles,
/// smoothed over neighbours five times, and brought to the range.
///
/// The original takes the logarithm before it does so (`Parity::Upstream`). A potential is known up to a constant only, which
/// the logarithm does not forgive: where `-psi` is not above 0 it gives NaN, which is an error here.
///
/// # Errors
/// [`Error::Empty`] without cells, [`Error::NotFinite`] if a potential is NaN or infinite, [`Error::Shape`] unless
/// `near` has each cell; with `Parity::Upstream` [`Error::InvalidSetting`] if there is no logarithm.
pub fn landscape(psi: &[f64], near: &Neighbors, parity: Parity) -> Result<Vec<f64>> {
    if psi.is_empty() {
        return Err(Error::Empty {
            what: "the list of potentials",
            found: vec![0],
        });
    }
    if let Some(row) = psi.iter().position(|v| !v.is_finite()) {
        return Err(Error::NotFinite {
            what: "the potentials",
            row,
            column: 0,
            value: psi.get(row).copied().unwrap_or(f64::NAN),
        });
    }
    let down: Vec<f64> = psi.iter().map(|v| -v).collect();
    let mut sorted = down.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (
        quantile(&sorted, QUANTILES.0),
        quantile(&sorted, QUANTILES.1),
    );
    let cut: Vec<f64> = down.iter().map(|v| v.clamp(low, high)).collect();
    let mut values = smooth(&cut, near, ROUNDS)?;
    if parity == Parity::Upstream {
        if let Some(bad) = values.iter().find(|v| **v <= 0.0) {
            return Err(invalid(
                "parity",
                "Upstream",
                format!(
                    "-psi is {bad} at a cell, which has no logarithm; the model's potential has another constant than the original's formula works for"
                ),
            ));
        }
        values.iter_mut().for_each(|v| *v = v.log10());
    }
    let (least, most) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| {
            (a.min(*v), b.max(*v))
        });
    let range = most - least;
    let share = |v: f64| {
        if range > 0.0 {
            (v - least) / range
        } else {
            0.0
        }
    };
    Ok(values.into_iter().map(share).collect())
}

/// The quantile of sorted values, interpolated linearly.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len().saturating_sub(1)) as f64;
    let below = place.floor();
    let value = |i: f64| sorted.get(i as usize).copied().unwrap_or(f64::NAN);
    let (a, b) = (value(below), value(place.ceil()));
    a + (place - below) * (b - a)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use ndarray::Array2;
    use sc_neighbors::knn;
    use sc_tensor::Rng;

    use super::*;
    use crate::model::DiffusionKind;
    use crate::nets::NetConfig;

    fn cells(n: usize) -> Tensor {
        let mut stream = Rng::new(1).stream("cells");
        stream.normal((n, 3), DType::F32, &Device::Cpu).unwrap()
    }

    fn model(diffusion: DiffusionKind) -> ScDiffEq {
        let params = ScDiffEq::params(3).mu(NetConfig::new([16, 16]));
        let params = params.diffusion(diffusion).check().unwrap();
        params.init(&Device::Cpu, 4).unwrap()
    }

    #[test]
    fn norms_are_those_of_the_vectors() {
        for (diffusion, columns) in [
            (DiffusionKind::General { brownian_dim: 1 }, 3),
            (DiffusionKind::General { brownian_dim: 2 }, 6),
            (DiffusionKind::Diagonal, 3),
            (DiffusionKind::None, 3),
        ] {
            let model = model(diffusion);
            let equation = model.equation(&Mode::eval()).unwrap();
            let found = field(&equation, &cells(5000), 0.0).unwrap();
            assert_eq!(found.drift.dim(), (5000, 3));
            assert_eq!(found.diffusion.dim(), (5000, columns));
            for (rows, norms) in [
                (&found.drift, &found.drift_norm),
                (&found.diffusion, &found.diffusion_norm),
            ] {
                let last = rows.row(4999);
                let square = last.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                assert!((square.sqrt() - norms[4999]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn landscapes_do_not_depend_on_the_constant() {
        let model = model(DiffusionKind::None);
        let z = cells(200);
        let psi = potential(&model, &z).unwrap();
        let places: Array2<f32> = to_array(&z).unwrap();
        let near = knn(places.view(), 10).unwrap();
        let of = |shift: f64, parity| {
            let psi: Vec<f64> = psi.iter().map(|v| v + shift).collect();
            landscape(&psi, &near, parity)
        };
        let one = of(0.0, Parity::Correct).unwrap();
        let other = of(7.0, Parity::Correct).unwrap();
        assert!(one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-9));
        assert!(one.contains(&0.0) && one.contains(&1.0));
        assert!(of(100.0, Parity::Upstream).is_err());
        assert!(of(-100.0, Parity::Upstream).is_ok());
        assert!(landscape(&[], &near, Parity::Correct).is_err());
        assert!(landscape(&[1.0], &near, Parity::Correct).is_err());
        assert!(landscape(&[f64::NAN; 200], &near, Parity::Correct).is_err());
        assert_eq!(
            landscape(&[2.0; 200], &near, Parity::Correct).unwrap()[0],
            0.0
        );
    }
}
