use sc_model::Parity;
use sc_tensor::pairs::Cost;

use super::Sinkhorn;
use crate::Result;
use crate::error::invalid;

/// When the potentials are good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stop {
    /// After one update for each epsilon of the schedule and a last one, as geomloss does. Fast, and what models were
    /// published with, but not converged: with `scaling` 0.5 the value can be off by a tenth.
    Schedule,
    /// After that, update until no potential changes by more than `tolerance` times epsilon.
    Converged {
        /// The largest change, relative to epsilon.
        tolerance: f64,
        /// Give up after so many updates.
        max_updates: usize,
    },
}

/// From which diameter epsilon starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Diameter {
    /// That of all clouds of a batch together, as geomloss does.
    Shared,
    /// That of each pair of clouds.
    Each,
    /// This one.
    Fixed(f64),
}

/// The settings of [`Sinkhorn`].
#[derive(Debug, Clone, PartialEq)]
pub struct SinkhornParams {
    pub(super) p: u32,
    pub(super) blur: f64,
    pub(super) scaling: f64,
    pub(super) reach: Option<f64>,
    pub(super) debias: bool,
    pub(super) diameter: Diameter,
    pub(super) stop: Stop,
    pub(super) parity: Parity,
}

impl Default for SinkhornParams {
    fn default() -> Self {
        Self {
            p: 2,
            blur: 0.05,
            scaling: 0.5,
            reach: None,
            debias: true,
            diameter: Diameter::Shared,
            stop: Stop::Schedule,
            parity: Parity::Correct,
        }
    }
}

impl SinkhornParams {
    /// The cost: 2 for half of the squared distance, 1 for the distance.
    #[must_use]
    pub fn p(mut self, p: u32) -> Self {
        self.p = p;
        self
    }

    /// The length below which clouds aren't told apart, in the units of the coordinates. The last epsilon is `blur^p`.
    #[must_use]
    pub fn blur(mut self, blur: f64) -> Self {
        self.blur = blur;
        self
    }

    /// What the length is multiplied with from one epsilon to the next; the nearer to 1, the slower and the more exact.
    #[must_use]
    pub fn scaling(mut self, scaling: f64) -> Self {
        self.scaling = scaling;
        self
    }

    /// Mass further away than about this need not be transported, but may be created or destroyed: unbalanced transport,
    /// with `reach^p` times the Kullback-Leibler divergence of the marginals as the price. `None`: all mass is transported.
    #[must_use]
    pub fn reach(mut self, reach: impl Into<Option<f64>>) -> Self {
        self.reach = reach.into();
        self
    }

    /// Whether the transport of each cloud to itself is taken away. Without, even equal clouds are apart.
    #[must_use]
    pub fn debias(mut self, debias: bool) -> Self {
        self.debias = debias;
        self
    }

    /// From which diameter epsilon starts.
    #[must_use]
    pub fn diameter(mut self, diameter: Diameter) -> Self {
        self.diameter = diameter;
        self
    }

    /// When to stop.
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// Which gradients an unbalanced divergence has. [`Parity::Upstream`] repeats geomloss, whose gradients come out too small
    /// there: by the factor `(rho + epsilon / 2) / (rho + epsilon)` with `rho = reach^p`, because the scaling that was
    /// meant for the way back is never applied. Values and balanced gradients are the same.
    #[must_use]
    pub fn parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// Updates until the potentials are converged; short for [`Stop::Converged`] with at most 100,000 updates.
    #[must_use]
    pub fn converged(self, tolerance: f64) -> Self {
        self.stop(Stop::Converged {
            tolerance,
            max_updates: 100_000,
        })
    }

    /// The divergence with these settings.
    ///
    /// # Errors
    /// [`crate::Error::InvalidSetting`] names the setting that can't be.
    pub fn check(self) -> Result<Sinkhorn> {
        let positive = |name, v: f64| match v > 0.0 && v.is_finite() {
            true => Ok(()),
            false => Err(invalid(name, v, "a positive number is needed")),
        };
        if !matches!(self.p, 1 | 2) {
            return Err(invalid(
                "p",
                self.p,
                "1 (distance) or 2 (half of the squared distance)",
            ));
        }
        positive("blur", self.blur)?;
        if !(self.scaling > 0.0 && self.scaling < 1.0) {
            return Err(invalid(
                "scaling",
                self.scaling,
                "a number between 0 and 1 is needed, e.g. 0.5 (fast) or 0.9 (exact)",
            ));
        }
        if let Some(reach) = self.reach {
            positive("reach", reach)?;
        }
        if let Diameter::Fixed(d) = self.diameter {
            positive("diameter", d)?;
        }
        if let Stop::Converged {
            tolerance,
            max_updates,
        } = self.stop
        {
            positive("tolerance", tolerance)?;
            if max_updates == 0 {
                return Err(invalid(
                    "max_updates",
                    max_updates,
                    "at least one is needed",
                ));
            }
        }
        Ok(Sinkhorn { params: self })
    }

    pub(super) fn cost(&self) -> Cost {
        match self.p {
            1 => Cost::Distance,
            _ => Cost::HalfSquared,
        }
    }

    /// The last epsilon.
    pub(super) fn epsilon(&self) -> f64 {
        self.power(self.blur)
    }

    /// The price of a unit of mass that is created or destroyed.
    pub(super) fn rho(&self) -> Option<f64> {
        self.reach.map(|r| self.power(r))
    }

    /// What a soft minimum is multiplied with: less than 1 where mass may be created or destroyed.
    pub(super) fn damping(&self, epsilon: f64) -> f64 {
        self.rho().map_or(1.0, |rho| 1.0 / (1.0 + epsilon / rho))
    }

    pub(super) fn power(&self, length: f64) -> f64 {
        length.powi(if self.p == 1 { 1 } else { 2 })
    }
}
