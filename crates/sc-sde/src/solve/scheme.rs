use candle_core::Tensor;

use super::sde::noise_product;
use super::srk::{additive, diagonal_or_scalar};
use super::{At, Calculus, Increment, Interval, Noise, Sde};
use crate::{Error, Result};

/// How a solver gets from one time to the next. With `f` the drift, `g` the diffusion, `h` the length of the step and `I` the
/// increment of the Brownian motion:
///
/// | scheme | calculus | noise | step | strong / weak order |
/// |---|---|---|---|---|
/// | `Euler` | Ito | any | `y + f h + g I` | 0.5 (1 if additive) / 1 |
/// | `Milstein` | both | diagonal, scalar, additive | Euler's `+ 1/2 (g dg/dy)(I^2 - h)`; Stratonovich: `I^2` | 1 / 1 |
/// | `MilsteinGradFree` | both | as Milstein | the derivative as a difference over `sqrt(h)` | 1 / 1; Stratonovich 0.5 / 0.5 |
/// | `Srk` | Ito | diagonal, scalar (SRID2), additive (SRA1) | Roessler 2010 | 1.5 / 1.5 (2 if additive) |
/// | `EulerHeun` | Stratonovich | any | `y' = y + g I; y + f h + (g + g') I / 2` | 1 (0.5 in general) / 1 |
/// | `Heun` | Stratonovich | any | `y' = y + f h + g I; y + (f + f') h / 2 + (g + g') I / 2` | the same |
/// | `Midpoint` | Stratonovich | any | `y' = y + f h / 2 + g I / 2; y + f' h + g' I` | the same |
/// | `ReversibleHeun` | Stratonovich | any | keeps a second state; Kidger et al. 2021 | 0.5 (1 if additive) / 1 |
///
/// With additive noise both calculi are the same, and every scheme may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Scheme {
    /// Euler and Maruyama's.
    Euler,
    /// Milstein's, with the derivative of the diffusion ([`Sde::diffusion_jvp`]).
    Milstein,
    /// Milstein's without derivatives.
    MilsteinGradFree,
    /// Roessler's stochastic Runge-Kutta schemes.
    Srk,
    /// Euler's drift with Heun's noise.
    EulerHeun,
    /// Heun's.
    Heun,
    /// The explicit midpoint rule.
    Midpoint,
    /// Heun's, made reversible.
    ReversibleHeun,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Euler,
        Self::Milstein,
        Self::MilsteinGradFree,
        Self::Srk,
        Self::EulerHeun,
        Self::Heun,
        Self::Midpoint,
        Self::ReversibleHeun,
    ];

    /// Whether a step needs the area of the Brownian motion.
    pub fn needs_area(self) -> bool {
        self == Self::Srk
    }

    /// How many evaluations of the nets follow on each other in a step: what a graph through it grows by.
    pub(super) fn depth(self) -> usize {
        match self {
            Self::Euler => 1,
            Self::Milstein | Self::MilsteinGradFree => 2,
            Self::EulerHeun | Self::Heun | Self::Midpoint | Self::ReversibleHeun => 2,
            Self::Srk => 4,
        }
    }

    /// Whether the scheme solves this equation.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] says why not.
    pub fn check(self, noise: Noise, calculus: Calculus) -> Result<()> {
        let refuse = |reason: &str| {
            Err(Error::InvalidSetting {
                name: "scheme",
                value: format!("{self:?}"),
                reason: reason.into(),
            })
        };
        let own = match self {
            Self::Euler | Self::Srk => Some(Calculus::Ito),
            Self::Milstein | Self::MilsteinGradFree => None,
            _ => Some(Calculus::Stratonovich),
        };
        if matches!(noise, Noise::General | Noise::Coordinatewise)
            && matches!(self, Self::Milstein | Self::MilsteinGradFree | Self::Srk)
        {
            return refuse(
                "it is for diagonal, scalar and additive noise; general noise takes Euler (Ito), or Heun, EulerHeun, Midpoint or ReversibleHeun (Stratonovich)",
            );
        }
        match (noise, own, calculus) {
            (noise, ..) if noise.is_additive() => Ok(()),
            (_, None, _) => Ok(()),
            (_, Some(own), calculus) if own == calculus => Ok(()),
            (_, Some(Calculus::Ito), _) => refuse(
                "it solves Ito equations and this one is Stratonovich's; take Heun, EulerHeun, Midpoint, Milstein or ReversibleHeun",
            ),
            _ => refuse(
                "it solves Stratonovich equations and this one is Ito's; take Euler, Milstein or Srk",
            ),
        }
    }
}

/// A state of a path.
#[derive(Debug, Clone)]
pub struct State {
    /// The time.
    pub t: f64,
    /// Steps taken so far.
    pub step: usize,
    /// `[cells, D]`.
    pub y: Tensor,
    /// What a scheme remembers besides.
    pub(super) memory: Option<Memory>,
}

/// The second state of the reversible scheme, with the drift and the diffusion there.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) z: Tensor,
    pub(super) f: Tensor,
    pub(super) g: Tensor,
}

impl State {
    pub(super) fn start(t: f64, y: Tensor) -> Self {
        Self {
            t,
            step: 0,
            y,
            memory: None,
        }
    }
}

/// One step of an equation: what all schemes are written with.
pub(super) struct Step<'a> {
    pub(super) sde: &'a dyn Sde,
    pub(super) noise: Noise,
    pub(super) interval: Interval,
    pub(super) h: f64,
    pub(super) increment: &'a Increment,
}

impl<'a> Step<'a> {
    pub(super) fn new(sde: &'a dyn Sde, interval: Interval, increment: &'a Increment) -> Self {
        Self {
            sde,
            noise: sde.noise(),
            interval,
            h: interval.length(),
            increment,
        }
    }

    /// The point `share` of the way through the step.
    fn at(&self, share: f64, stage: usize) -> At {
        let t = match share {
            1.0 => self.interval.end,
            _ => self.interval.start + share * self.h,
        };
        At {
            t,
            step: self.interval.index,
            stage,
        }
    }

    pub(super) fn drift(&self, share: f64, stage: usize, y: &Tensor) -> Result<Tensor> {
        self.sde.drift(self.at(share, stage), y)
    }

    pub(super) fn diffusion(&self, share: f64, stage: usize, y: &Tensor) -> Result<Tensor> {
        match self.noise {
            Noise::Absent => Ok(y.zeros_like()?),
            _ => self.sde.diffusion(self.at(share, stage), y),
        }
    }

    /// `g v`.
    pub(super) fn times(&self, g: &Tensor, v: &Tensor) -> Result<Tensor> {
        noise_product(self.noise, g, v)
    }

    /// The state after the step.
    pub(super) fn take(&self, scheme: Scheme, state: &State) -> Result<State> {
        let y = &state.y;
        let mut memory = None;
        let y = match scheme {
            Scheme::Euler => self.euler(y)?,
            Scheme::Milstein => self.milstein(y)?,
            Scheme::MilsteinGradFree => self.milstein_grad_free(y)?,
            Scheme::Srk => match self.noise {
                noise if noise.is_additive() => additive(self, y)?,
                _ => diagonal_or_scalar(self, y)?,
            },
            Scheme::EulerHeun => self.euler_heun(y)?,
            Scheme::Heun => self.heun(y)?,
            Scheme::Midpoint => self.midpoint(y)?,
            Scheme::ReversibleHeun => {
                let (y, next) = self.reversible_heun(y, state.memory.as_ref())?;
                memory = Some(next);
                y
            }
        };
        Ok(State {
            t: self.interval.end,
            step: state.step + 1,
            y,
            memory,
        })
    }

    fn euler(&self, y: &Tensor) -> Result<Tensor> {
        let (f, g) = (self.drift(0.0, 0, y)?, self.diffusion(0.0, 0, y)?);
        Ok(((y + (f * self.h)?)? + self.times(&g, &self.increment.w)?)?)
    }

    /// What Milstein's correction is multiplied by: `I^2 - h` for Ito, `I^2` for Stratonovich.
    fn squared_increment(&self) -> Result<Tensor> {
        let square = self.increment.w.sqr()?;
        Ok(match self.sde.calculus() {
            Calculus::Ito => (square - self.h)?,
            Calculus::Stratonovich => square,
        })
    }

    fn milstein(&self, y: &Tensor) -> Result<Tensor> {
        let (f, g) = (self.drift(0.0, 0, y)?, self.diffusion(0.0, 0, y)?);
        let euler = ((y + (f * self.h)?)? + self.times(&g, &self.increment.w)?)?;
        if self.noise.is_additive() {
            return Ok(euler);
        }
        let v = self.squared_increment()?;
        let moved = self
            .sde
            .diffusion_jvp(self.at(0.0, 0), y, &self.column(&g)?)?;
        Ok((euler + (self.times(&moved, &v)? * 0.5)?)?)
    }

    fn milstein_grad_free(&self, y: &Tensor) -> Result<Tensor> {
        let (f, g) = (self.drift(0.0, 0, y)?, self.diffusion(0.0, 0, y)?);
        let drifted = (y + (f * self.h)?)?;
        let euler = (&drifted + self.times(&g, &self.increment.w)?)?;
        if self.noise.is_additive() {
            return Ok(euler);
        }
        let root = self.h.sqrt();
        let from = match self.sde.calculus() {
            Calculus::Ito => &drifted,
            Calculus::Stratonovich => y,
        };
        let support = (from + (self.column(&g)? * root)?)?;
        let change = (self.diffusion(0.0, 1, &support)? - g)?;
        let v = self.squared_increment()?;
        Ok((euler + (self.times(&change, &v)? * (0.5 / root))?)?)
    }

    /// The diffusion as a direction in space: of scalar noise its only column.
    pub(super) fn column(&self, g: &Tensor) -> Result<Tensor> {
        Ok(match self.noise {
            Noise::Scalar => g.squeeze(2)?,
            _ => g.clone(),
        })
    }

    fn euler_heun(&self, y: &Tensor) -> Result<Tensor> {
        let (f, g) = (self.drift(0.0, 0, y)?, self.diffusion(0.0, 0, y)?);
        let noise = self.times(&g, &self.increment.w)?;
        let g_end = self.diffusion(1.0, 1, &(y + &noise)?)?;
        let noise = ((noise + self.times(&g_end, &self.increment.w)?)? * 0.5)?;
        Ok(((y + (f * self.h)?)? + noise)?)
    }

    fn heun(&self, y: &Tensor) -> Result<Tensor> {
        let (f, g) = (self.drift(0.0, 0, y)?, self.diffusion(0.0, 0, y)?);
        let move_by = |f: &Tensor, g: &Tensor| -> Result<Tensor> {
            Ok(((f * self.h)? + self.times(g, &self.increment.w)?)?)
        };
        let first = move_by(&f, &g)?;
        let end = (y + &first)?;
        let second = move_by(&self.drift(1.0, 1, &end)?, &self.diffusion(1.0, 1, &end)?)?;
        Ok((y + ((first + second)? * 0.5)?)?)
    }

    fn midpoint(&self, y: &Tensor) -> Result<Tensor> {
        let (f, g) = (self.drift(0.0, 0, y)?, self.diffusion(0.0, 0, y)?);
        let half = (((f * self.h)? + self.times(&g, &self.increment.w)?)? * 0.5)?;
        let mid = (y + half)?;
        let (f, g) = (self.drift(0.5, 1, &mid)?, self.diffusion(0.5, 1, &mid)?);
        Ok(((y + (f * self.h)?)? + self.times(&g, &self.increment.w)?)?)
    }

    fn reversible_heun(&self, y: &Tensor, memory: Option<&Memory>) -> Result<(Tensor, Memory)> {
        let Memory { z, f, g } = match memory {
            Some(memory) => memory.clone(),
            None => Memory {
                z: y.clone(),
                f: self.drift(0.0, 0, y)?,
                g: self.diffusion(0.0, 0, y)?,
            },
        };
        let noise = self.times(&g, &self.increment.w)?;
        let z = ((((y * 2.0)? - z)? + (&f * self.h)?)? + &noise)?;
        let (f_end, g_end) = (self.drift(1.0, 1, &z)?, self.diffusion(1.0, 1, &z)?);
        let noise = ((noise + self.times(&g_end, &self.increment.w)?)? * 0.5)?;
        let y = ((y + ((f + &f_end)? * (0.5 * self.h))?)? + noise)?;
        let memory = Memory {
            z,
            f: f_end,
            g: g_end,
        };
        Ok((y, memory))
    }
}
