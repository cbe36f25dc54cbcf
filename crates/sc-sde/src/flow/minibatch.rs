//! Points on bridges between cells of neighbouring times.

use candle_core::{DType, Tensor};
use ndarray::Array2;
use sc_tensor::Stream;

use super::bridge::{Bridge, score_weight};
use super::coupling::{Coupling, Side};
use crate::Result;
use crate::model::softmax;
use crate::train::Snapshots;

/// How bridges are drawn.
pub(super) struct Draw {
    pub(super) coupling: Coupling,
    /// The noise of Brownian bridges, per square root of time; straight ones otherwise.
    pub(super) sigma: Option<f64>,
    pub(super) path_sigma: f64,
}

/// Points with what should be learned there, in the units of the data.
pub(super) struct Points {
    /// `[N, D]`.
    pub(super) x: Tensor,
    /// `[N, 1]`.
    pub(super) t: Tensor,
    /// Per unit of time, `[N, D]`.
    pub(super) velocity: Tensor,
    /// How much its error counts, `[N, 1]`. At the ends of Brownian bridges velocities grow like `1 / sqrt(tau)`; a weight that
    /// depends on time alone doesn't change which velocity is best, and `2 sqrt(tau (1 - tau))` bounds the gradients.
    pub(super) weight: Option<Tensor>,
    /// What the score's part of the drift is multiplied by, `[N, 1]`, and minus what it should be then, `[N, D]`.
    pub(super) score: Option<(Tensor, Tensor)>,
    /// Rates, `[N, 1]`.
    pub(super) growth: Option<Tensor>,
}

impl Draw {
    /// As many points between each two neighbouring times as there are cells on the larger side, and `least` at least.
    pub(super) fn points(
        &self,
        data: &Snapshots,
        groups: &[Vec<usize>],
        (least, dtype): (usize, DType),
        stream: &mut Stream,
    ) -> Result<Points> {
        let mut parts = Vec::with_capacity(groups.len());
        for (cells, times) in groups.windows(2).zip(data.times().windows(2)) {
            if let ([early, late], [from, to]) = (cells, times) {
                parts.push(self.between(data, (early, *from), (late, *to), least, stream)?);
            }
        }
        join(&parts, dtype)
    }

    fn between(
        &self,
        data: &Snapshots,
        (early, from): (&[usize], f64),
        (late, to): (&[usize], f64),
        least: usize,
        stream: &mut Stream,
    ) -> Result<Points> {
        let device = data.states().device().clone();
        let rows = |cells: &[usize]| data.rows(cells, DType::F64, &device);
        let (x, y) = (rows(early)?, rows(late)?);
        let (n, length) = (early.len().max(late.len()).max(least), to - from);
        let sigma = self.sigma.map(|s| s * length.sqrt());
        let (a, b) = (array(&x)?, array(&y)?);
        let before = Side {
            points: a.view(),
            weights: data.rates_of(early).map(|r| grown(&r, length)),
        };
        let after = Side {
            points: b.view(),
            weights: None,
        };
        let noise = sigma.unwrap_or(self.path_sigma);
        let found = self.coupling.pairs(&before, &after, (n, noise), stream)?;
        let pick = |t: &Tensor, of: fn(&(usize, usize)) -> usize| -> Result<Tensor> {
            let index: Vec<u32> = found.pairs.iter().map(|p| of(p) as u32).collect();
            Ok(t.index_select(&Tensor::new(index, &device)?, 0)?)
        };
        let (x0, x1) = (pick(&x, |p| p.0)?, pick(&y, |p| p.1)?);
        let n = found.pairs.len();
        let tau = stream.uniform(0.0, 1.0, (n, 1), DType::F64, &device)?;
        let eps = stream.normal((n, data.dim()), DType::F64, &device)?;
        let bridge = match sigma {
            Some(sigma) => Bridge::Schroedinger { sigma },
            None => Bridge::Linear {
                sigma: self.path_sigma,
            },
        };
        let at = bridge.points(&x0, &x1, &tau, &eps)?;
        let weight = match sigma {
            Some(_) => {
                let rest = tau.affine(-1.0, 1.0)?;
                Some(((&tau * rest)?.sqrt()? * 2.0)?)
            }
            None => None,
        };
        let growth = found.log_growth.map(|log| {
            let rate = |p: &(usize, usize)| log.get(p.0).copied().unwrap_or_default() / length;
            let rates: Vec<f64> = found.pairs.iter().map(rate).collect();
            Tensor::from_vec(rates, (n, 1), &device)
        });
        Ok(Points {
            t: tau.affine(length, from)?,
            velocity: (at.velocity * (1.0 / length))?,
            weight,
            score: match sigma {
                // Of the drift per unit of time.
                Some(sigma) => Some(((score_weight(&at.sigma, sigma)? * length)?, eps)),
                None => None,
            },
            x: at.x,
            growth: growth.transpose()?,
        })
    }
}

/// Weights of cells that will have grown for `elapsed`, with sum 1.
fn grown(rates: &[f64], elapsed: f64) -> Vec<f64> {
    let log: Vec<f64> = rates.iter().map(|r| r * elapsed).collect();
    softmax(&log)
}

fn array(t: &Tensor) -> Result<Array2<f64>> {
    let (n, d) = t.dims2()?;
    let numbers = t.flatten_all()?.to_vec1::<f64>()?;
    Array2::from_shape_vec((n, d), numbers).map_err(|_| crate::Error::Shape {
        what: "the states of cells",
        found: vec![n, d],
        expected: "[cells, dimensions]".into(),
    })
}

fn join(parts: &[Points], dtype: DType) -> Result<Points> {
    let cat = |of: &dyn Fn(&Points) -> Option<&Tensor>| -> Result<Option<Tensor>> {
        let all: Vec<&Tensor> = parts.iter().filter_map(of).collect();
        match all.is_empty() {
            true => Ok(None),
            false => Ok(Some(Tensor::cat(&all, 0)?.to_dtype(dtype)?)),
        }
    };
    let needed = |t: Option<Tensor>| {
        t.ok_or(crate::Error::Empty {
            what: "the minibatch",
            found: vec![0],
        })
    };
    let weight = cat(&|p| p.score.as_ref().map(|s| &s.0))?;
    let noise = cat(&|p| p.score.as_ref().map(|s| &s.1))?;
    Ok(Points {
        x: needed(cat(&|p| Some(&p.x))?)?,
        t: needed(cat(&|p| Some(&p.t))?)?,
        velocity: needed(cat(&|p| Some(&p.velocity))?)?,
        weight: cat(&|p| p.weight.as_ref())?,
        score: weight.zip(noise),
        growth: cat(&|p| p.growth.as_ref())?,
    })
}
