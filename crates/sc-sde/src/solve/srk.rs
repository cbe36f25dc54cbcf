//! Roessler's stochastic Runge-Kutta schemes of strong order 1.5 (Roessler 2010, "Runge-Kutta methods for the strong
//! approximation of solutions of stochastic differential equations").

use candle_core::Tensor;

use super::scheme::Step;
use crate::{Error, Result};

/// The tableau of SRID2.
mod srid2 {
    pub(super) const C0: [f64; 4] = [0.0, 1.0, 0.5, 0.0];
    pub(super) const C1: [f64; 4] = [0.0, 0.25, 1.0, 0.25];
    pub(super) const A0: [&[f64]; 4] = [&[], &[1.0], &[0.25, 0.25], &[0.0, 0.0, 0.0]];
    pub(super) const A1: [&[f64]; 4] = [&[], &[0.25], &[1.0, 0.0], &[0.0, 0.0, 0.25]];
    pub(super) const B0: [&[f64]; 4] = [&[], &[0.0], &[1.0, 0.5], &[0.0, 0.0, 0.0]];
    pub(super) const B1: [&[f64]; 4] = [&[], &[-0.5], &[1.0, 0.0], &[2.0, -1.0, 0.5]];
    pub(super) const ALPHA: [f64; 4] = [1.0 / 6.0, 1.0 / 6.0, 2.0 / 3.0, 0.0];
    pub(super) const BETA: [[f64; 4]; 4] = [
        [-1.0, 4.0 / 3.0, 2.0 / 3.0, 0.0],
        [1.0, -4.0 / 3.0, 1.0 / 3.0, 0.0],
        [2.0, -4.0 / 3.0, -2.0 / 3.0, 0.0],
        [-2.0, 5.0 / 3.0, -2.0 / 3.0, 1.0],
    ];
}

fn area<'a>(step: &'a Step<'_>) -> Result<&'a Tensor> {
    step.increment.area.as_ref().ok_or(Error::InvalidSetting {
        name: "scheme",
        value: "Srk".into(),
        reason: "the increments come without areas; give them, or use a BrownianPath".into(),
    })
}

/// A sum of which terms with the weight 0 are left out.
struct Sum(Tensor);

impl Sum {
    fn add(&mut self, weight: f64, term: &Tensor) -> Result<()> {
        if weight != 0.0 {
            self.0 = (&self.0 + (term * weight)?)?;
        }
        Ok(())
    }
}

/// SRID2, for noise that is diagonal or scalar.
pub(super) fn diagonal_or_scalar(step: &Step<'_>, y: &Tensor) -> Result<Tensor> {
    use srid2::{A0, A1, ALPHA, B0, B1, BETA, C0, C1};
    let h = step.h;
    let (root, w) = (h.sqrt(), &step.increment.w);
    // The iterated integrals over sqrt(h), h or h, as the tableau wants them.
    let pairs = ((w.sqr()? - h)? * (0.5 / root))?;
    let area = (area(step)? * (1.0 / h))?;
    let triples = (((w.sqr()? * w)? - (w * (3.0 * h))?)? * (1.0 / (6.0 * h)))?;
    let mut end = Sum(y.clone());
    let (mut fs, mut gs): (Vec<Tensor>, Vec<Tensor>) = (Vec::new(), Vec::new());
    for s in 0..4 {
        let (mut h0, mut h1) = (Sum(y.clone()), Sum(y.clone()));
        for (j, (f, g)) in fs.iter().zip(&gs).enumerate() {
            let weight = |rows: &[&[f64]; 4]| rows[s].get(j).copied().unwrap_or(0.0);
            h0.add(weight(&A0) * h, f)?;
            if weight(&B0) != 0.0 {
                h0.add(weight(&B0), &step.times(g, &area)?)?;
            }
            h1.add(weight(&A1) * h, f)?;
            h1.add(weight(&B1) * root, &step.column(g)?)?;
        }
        let g = step.diffusion(C1[s], s, &h1.0)?;
        let mut by = Sum(w.zeros_like()?);
        for (weights, integral) in BETA.iter().zip([w, &pairs, &area, &triples]) {
            by.add(weights[s], integral)?;
        }
        end.add(1.0, &step.times(&g, &by.0)?)?;
        if s < 3 {
            // The last stage's drift has the weight 0.
            let f = step.drift(C0[s], s, &h0.0)?;
            end.add(ALPHA[s] * h, &f)?;
            fs.push(f);
        }
        gs.push(g);
    }
    Ok(end.0)
}

/// SRA1, for additive noise.
pub(super) fn additive(step: &Step<'_>, y: &Tensor) -> Result<Tensor> {
    let h = step.h;
    let (w, area) = (&step.increment.w, (area(step)? * (1.0 / h))?);
    let (g_start, g_end) = (step.diffusion(0.0, 0, y)?, step.diffusion(1.0, 1, y)?);
    let f0 = step.drift(0.0, 0, y)?;
    let inner = ((y + (&f0 * (0.75 * h))?)? + (step.times(&g_end, &area)? * 1.5)?)?;
    let f1 = step.drift(0.75, 1, &inner)?;
    let drift = ((f0 * (h / 3.0))? + (f1 * (2.0 * h / 3.0))?)?;
    let noise = (step.times(&g_end, &(w - &area)?)? + step.times(&g_start, &area)?)?;
    Ok(((y + drift)? + noise)?)
}
