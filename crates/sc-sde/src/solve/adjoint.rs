use candle_core::{Tensor, Var};
use sc_tensor::backward;

use super::backprop::{accumulate, check_cotangents, or_zeros};
use super::sde::{half_correction, noise_product};
use super::solver::check_start;
use super::{At, Calculus, Gradients, Interval, Motion, Noise, Solve};
use crate::{Error, Result};

/// The gradient by the stochastic adjoint ("optimise, then discretise"; Li et al. 2020).
///
/// In Stratonovich form, with the drift `f~ = f - 1/2 sum_j (dg_j/dy) g_j` of an Ito equation, the adjoint `a` of the state
/// and the gradient of the parameters follow `da = -a (df~/dy dt + dg/dy o dB)` backwards in time, on the same Brownian path,
/// beside the state itself. Heun's scheme solves all three. Memory doesn't grow with the number of steps; the gradient is
/// that of the continuous equation, so it differs from the exact gradient of the scheme
/// ([`Solve::with_gradients`]) by the order of the step.
///
/// `states` are those that [`Solve::run`] gave; at each of their times the state is set to them, so that errors of going back
/// don't add up.
///
/// # Errors
/// As [`Solve::run`]; [`Error::InvalidSetting`] for an Ito equation without [`Sde::diffusion_jvp`](super::Sde::diffusion_jvp);
/// [`Error::Shape`] if the gradients don't fit the states.
pub fn stochastic_adjoint(
    solve: &Solve<'_>,
    states: &[Tensor],
    of_states: &[Option<Tensor>],
) -> Result<Gradients> {
    check_cotangents(states, of_states)?;
    let schedule = solve.schedule;
    let (Some(start), true) = (states.first(), states.len() == schedule.outputs().len()) else {
        return Err(Error::Shape {
            what: "the list of states",
            found: vec![states.len()],
            expected: format!("[{}], one for each time", schedule.outputs().len()),
        });
    };
    if schedule.outputs().iter().any(|o| o.weight != 1.0) {
        return Err(Error::InvalidSetting {
            name: "schedule",
            value: "outputs within steps".into(),
            reason: "the adjoint goes from output to output; use Schedule::grid".into(),
        });
    }
    check_start(solve.sde, solve.scheme, solve.motion, start)?;
    let parameters = solve.sde.parameters();
    let mut back = Back {
        solve: *solve,
        y: start.detach(),
        a: start.zeros_like()?.detach(),
        parameters: &parameters,
        sums: vec![None; parameters.len()],
    };
    for (i, state) in states.iter().enumerate().rev() {
        back.y = state.detach();
        if let Some(grad) = of_states.get(i).and_then(Option::as_ref) {
            back.a = (back.a + grad.detach())?;
        }
        let end = schedule.outputs().get(i).map_or(0, |o| o.after);
        let begin = match i.checked_sub(1) {
            Some(before) => schedule.outputs().get(before).map_or(0, |o| o.after),
            None => end,
        };
        for &interval in schedule.steps().get(begin..end).unwrap_or(&[]).iter().rev() {
            back.step(interval)?;
        }
    }
    Ok(Gradients {
        start: back.a,
        parameters: or_zeros(back.sums, &parameters)?,
    })
}

struct Back<'a> {
    solve: Solve<'a>,
    y: Tensor,
    a: Tensor,
    parameters: &'a [Tensor],
    sums: Vec<Option<Tensor>>,
}

/// What one evaluation changes.
struct Change {
    y: Tensor,
    a: Tensor,
    parameters: Vec<Option<Tensor>>,
}

impl Back<'_> {
    /// From the end of a step to its start.
    fn step(&mut self, interval: Interval) -> Result<()> {
        let motion: &dyn Motion = self.solve.motion;
        let w = motion
            .increment(interval, false, self.y.dtype(), self.y.device())?
            .w;
        let h = interval.length();
        let at = |t: f64, stage: usize| At {
            t,
            step: interval.index,
            stage,
        };
        let first = self.change(at(interval.end, 0), &self.y, &self.a, h, &w)?;
        let (y, a) = ((&self.y - &first.y)?, (&self.a + &first.a)?);
        let second = self.change(at(interval.start, 1), &y, &a, h, &w)?;
        let half = |a: &Tensor, b: &Tensor| -> Result<Tensor> { Ok(((a + b)? * 0.5)?) };
        self.y = (&self.y - half(&first.y, &second.y)?)?;
        self.a = (&self.a + half(&first.a, &second.a)?)?;
        for change in [first.parameters, second.parameters] {
            for (sum, grad) in self.sums.iter_mut().zip(change) {
                let Some(grad) = grad else { continue };
                let grad = (grad * 0.5)?;
                *sum = Some(match sum.take() {
                    Some(sum) => (sum + grad)?,
                    None => grad,
                });
            }
        }
        Ok(())
    }

    /// `f~ h + g I` at a point, and the gradients of its product with `a`.
    fn change(&self, at: At, y: &Tensor, a: &Tensor, h: f64, w: &Tensor) -> Result<Change> {
        let sde = self.solve.sde;
        let input = Var::from_tensor(&y.detach())?;
        let y = input.as_tensor();
        let mut f = sde.drift(at, y)?;
        let g = match sde.noise() {
            Noise::Absent => y.zeros_like()?,
            _ => sde.diffusion(at, y)?,
        };
        if sde.calculus() == Calculus::Ito {
            f = (f - half_correction(sde, at, y, &g)?)?;
        }
        let moved = ((f * h)? + noise_product(sde.noise(), &g, w)?)?;
        let grads = backward(&(&moved * a)?.sum_all()?)?;
        let mut parameters = vec![None; self.parameters.len()];
        accumulate(&mut parameters, self.parameters, &grads)?;
        Ok(Change {
            y: moved.detach(),
            a: match grads.get(y) {
                Some(grad) => grad.detach(),
                None => y.zeros_like()?.detach(),
            },
            parameters,
        })
    }
}
