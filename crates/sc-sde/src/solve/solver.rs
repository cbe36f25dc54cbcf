use candle_core::{DType, Tensor};

use super::scheme::Step;
use super::{Interval, Motion, Scheme, Sde, State};
use crate::{Error, Result};

/// A solver that is moved by hand, a step at a time: for steps of one's own choosing, for events, for dense output.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use sc_sde::solve::{BrownianPath, Scheme, Solver, zoo::OrnsteinUhlenbeck};
///
/// let sde = OrnsteinUhlenbeck::new(1.0, 0.0, 0.3);
/// let path = BrownianPath::new(1, 5, 2, 0.0, 0.1)?;
/// let start = Tensor::ones((5, 2), sc_tensor::DType::F64, &Device::Cpu)?;
/// let mut solver = Solver::new(&sde, Scheme::Srk, &path, 0.0, start)?;
/// for _ in 0..10 {
///     solver.step(0.1)?;
/// }
/// let between = solver.at(0.95)?; // on the same Brownian path
/// assert_eq!(between.dims(), [5, 2]);
/// # Ok::<(), sc_sde::Error>(())
/// ```
pub struct Solver<'a> {
    sde: &'a dyn Sde,
    scheme: Scheme,
    motion: &'a dyn Motion,
    state: State,
    before: Option<State>,
}

impl<'a> Solver<'a> {
    /// A solver at `y` (`[cells, D]`) and time `t`.
    ///
    /// # Errors
    /// If the scheme doesn't solve such an equation, the start isn't finite, or the motion is of other cells.
    pub fn new(
        sde: &'a dyn Sde,
        scheme: Scheme,
        motion: &'a dyn Motion,
        t: f64,
        y: Tensor,
    ) -> Result<Self> {
        check_start(sde, scheme, motion, &y)?;
        Ok(Self {
            sde,
            scheme,
            motion,
            state: State::start(t, y),
            before: None,
        })
    }

    /// Where it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where it was before the last step.
    pub fn before(&self) -> Option<&State> {
        self.before.as_ref()
    }

    /// Moves by `h`.
    ///
    /// # Errors
    /// [`Error::Times`] unless `h` is above 0, [`Error::Diverged`] if the new state isn't finite.
    pub fn step(&mut self, h: f64) -> Result<&State> {
        if !(h.is_finite() && h > 0.0) {
            return Err(Error::Times {
                reason: format!("a step of {h}; it must be a number above 0"),
            });
        }
        self.step_to(self.state.t + h)
    }

    /// Moves to time `t` in one step.
    ///
    /// # Errors
    /// As [`Solver::step`].
    pub fn step_to(&mut self, t: f64) -> Result<&State> {
        let next = self.moved(&self.state, t)?;
        check_finite(&self.state, &next)?;
        self.before = Some(std::mem::replace(&mut self.state, next));
        Ok(&self.state)
    }

    /// The state at a time within the last step, on the same Brownian path: a shorter step of the same scheme from where
    /// that one began. The motion must know times within steps, as [`BrownianPath`](super::BrownianPath) does.
    ///
    /// # Errors
    /// [`Error::Times`] if the time isn't within the last step.
    pub fn at(&self, t: f64) -> Result<Tensor> {
        if t == self.state.t {
            return Ok(self.state.y.clone());
        }
        let before = self.within(t)?;
        if t == before.t {
            return Ok(before.y.clone());
        }
        Ok(self.moved(before, t)?.y)
    }

    /// The state at a time within the last step, interpolated linearly between its ends: smoother than the path is.
    ///
    /// # Errors
    /// As [`Solver::at`].
    pub fn interpolate(&self, t: f64) -> Result<Tensor> {
        if t == self.state.t {
            return Ok(self.state.y.clone());
        }
        let before = self.within(t)?;
        let weight = (t - before.t) / (self.state.t - before.t);
        interpolate(&before.y, &self.state.y, weight)
    }

    fn within(&self, t: f64) -> Result<&State> {
        let (from, to) = (self.before.as_ref(), self.state.t);
        match from {
            Some(before) if before.t <= t && t <= to => Ok(before),
            _ => Err(Error::Times {
                reason: format!(
                    "{t} is outside of the last step, from {} to {to}",
                    from.map_or(to, |b| b.t)
                ),
            }),
        }
    }

    fn moved(&self, from: &State, t: f64) -> Result<State> {
        if t.is_nan() || t <= from.t {
            return Err(Error::Times {
                reason: format!("a step from {} to {t}; time goes forward", from.t),
            });
        }
        let interval = Interval {
            index: from.step,
            start: from.t,
            end: t,
        };
        advance(self.sde, self.scheme, self.motion, interval, from)
    }
}

/// One step, without a check of where it leads.
pub(super) fn advance(
    sde: &dyn Sde,
    scheme: Scheme,
    motion: &dyn Motion,
    interval: Interval,
    from: &State,
) -> Result<State> {
    let (dtype, device) = (from.y.dtype(), from.y.device());
    let increment = motion.increment(interval, scheme.needs_area(), dtype, device)?;
    Step::new(sde, interval, &increment).take(scheme, from)
}

/// `a + weight (b - a)`.
pub(super) fn interpolate(a: &Tensor, b: &Tensor, weight: f64) -> Result<Tensor> {
    if weight == 1.0 {
        return Ok(b.clone());
    }
    Ok((a + ((b - a)? * weight)?)?)
}

/// Refuses what can't be solved.
pub(super) fn check_start(
    sde: &dyn Sde,
    scheme: Scheme,
    motion: &dyn Motion,
    y: &Tensor,
) -> Result<()> {
    scheme.check(sde.noise(), sde.calculus())?;
    let Ok((n, d)) = y.dims2() else {
        return Err(Error::Shape {
            what: "the start",
            found: y.dims().to_vec(),
            expected: "[cells, dimensions]".into(),
        });
    };
    if n == 0 || d == 0 {
        return Err(Error::Empty {
            what: "the start",
            found: vec![n, d],
        });
    }
    let (cells, m) = motion.dims();
    if cells != n {
        return Err(Error::Shape {
            what: "the Brownian motion",
            found: vec![cells, m],
            expected: format!("[{n}, motions]: one row for each of the {n} cells of the start"),
        });
    }
    let Some(row) = first_bad_row(y)? else {
        return Ok(());
    };
    let values = y.get(row)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let column = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
    Err(Error::NotFinite {
        what: "the start",
        row,
        column,
        value: values.get(column).copied().unwrap_or(f64::NAN),
    })
}

/// The first row that holds a NaN or an infinity.
fn first_bad_row(y: &Tensor) -> Result<Option<usize>> {
    // 0 times a finite number is 0, anything else NaN. The rows are looked at only if the sum over all is.
    let nothing = (y.detach() * 0.0)?;
    let total = nothing.sum_all()?.to_dtype(DType::F64)?;
    if total.to_scalar::<f64>()? == 0.0 {
        return Ok(None);
    }
    let rows = nothing.sum(1)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    Ok(rows.iter().position(|&s| s != 0.0))
}

/// [`Error::Diverged`] if the next state isn't finite.
pub(super) fn check_finite(from: &State, next: &State) -> Result<()> {
    let Some(cell) = first_bad_row(&next.y)? else {
        return Ok(());
    };
    let before = from
        .y
        .detach()
        .get(cell)?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    Err(Error::Diverged {
        time: from.t,
        step: from.step,
        cell,
        norm: before.iter().fold(0.0, |norm: f64, &v| norm.hypot(v)),
    })
}
