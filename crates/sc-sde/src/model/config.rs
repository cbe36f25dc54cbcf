use serde::{Deserialize, Serialize};

use crate::Result;
use crate::nets::{Activation, AutoencoderConfig, NetConfig};
use crate::solve::{Calculus, Noise};

/// What the drift is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DriftKind {
    /// `f = mu(z)`: any vector field.
    Neural,
    /// `f = + grad psi(z)`, with `psi` a net of one output ("fixed potential"): the default. Cells climb `psi`.
    Potential,
    /// `f = mu(z)` beside a prior drift `h`, the gradient of a linear potential: a learned constant vector.
    PriorPotential,
}

/// What the diffusion is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DiffusionKind {
    /// A net with `D * brownian_dim` outputs. With one Brownian motion, the default, it moves all coordinates along a
    /// learned direction.
    General {
        /// Brownian motions of each cell.
        brownian_dim: usize,
    },
    /// A net with `D` outputs: each coordinate has a Brownian motion of its own.
    Diagonal,
    /// `g(z) = U diag(s(z))`: `rank` learned directions, the same everywhere, and a net of `rank` strengths.
    LowRank {
        /// Directions, and Brownian motions.
        rank: usize,
    },
    /// The same constant noise in every coordinate, each with its own Brownian motion: PRESCIENT's, and the ablation of a
    /// diffusion that depends on the state.
    Isotropic {
        /// Its standard deviation per square root of time.
        sigma: f64,
    },
    /// Constant noise of each coordinate.
    Constant {
        /// Standard deviations per square root of time, one for each coordinate.
        sigma: Vec<f64>,
    },
    /// None: an ordinary differential equation.
    None,
}

/// The settings of a model. Defaults are scDiffEq's, but for dropout, which the published models don't use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScDiffEqConfig {
    /// `D`, the dimensions in which cells move.
    pub n_latent: usize,
    /// What the drift is made of; a potential.
    pub drift: DriftKind,
    /// What the diffusion is made of; a net with one Brownian motion.
    pub diffusion: DiffusionKind,
    /// The net of the drift; two layers of 512. Only [`DriftKind::Neural`] has a bias in its last layer.
    pub mu: NetConfig,
    /// The net of the diffusion; two layers of 32.
    pub sigma: NetConfig,
    /// What the drift is multiplied by; 1.
    pub coef_drift: f64,
    /// What the diffusion is multiplied by; 1.
    pub coef_diffusion: f64,
    /// What the prior drift is multiplied by; 1.
    pub coef_prior_drift: f64,
    /// How the noise is read; Ito's way.
    pub calculus: Calculus,
    /// Nets between the data and the space in which cells move; none.
    pub autoencoder: Option<AutoencoderConfig>,
}

impl ScDiffEqConfig {
    /// The defaults for this many dimensions.
    pub fn new(n_latent: usize) -> Self {
        Self {
            n_latent,
            drift: DriftKind::Potential,
            diffusion: DiffusionKind::General { brownian_dim: 1 },
            mu: NetConfig::new([512, 512]),
            sigma: NetConfig::new([32, 32]),
            coef_drift: 1.0,
            coef_diffusion: 1.0,
            coef_prior_drift: 1.0,
            calculus: Calculus::Ito,
            autoencoder: None,
        }
    }

    /// PRESCIENT's model: a potential of one layer of softplus units and constant noise in each coordinate.
    pub fn prescient(n_latent: usize) -> Self {
        Self {
            diffusion: DiffusionKind::Isotropic { sigma: 0.5 },
            mu: NetConfig::new([500]).activation(Activation::Softplus),
            ..Self::new(n_latent)
        }
    }

    /// Makes sure that such a model can exist.
    ///
    /// # Errors
    /// [`crate::Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(&self) -> Result<()> {
        let invalid = |name: &'static str, value: String, reason: &str| {
            Err(crate::error::invalid(name, value, reason))
        };
        if self.n_latent == 0 || self.n_latent > 1 << 16 {
            return invalid(
                "n_latent",
                self.n_latent.to_string(),
                "between 1 and 65,536 dimensions",
            );
        }
        self.mu.check("mu")?;
        self.sigma.check("sigma")?;
        for (name, value) in [
            ("coef_drift", self.coef_drift),
            ("coef_diffusion", self.coef_diffusion),
            ("coef_prior_drift", self.coef_prior_drift),
        ] {
            if !value.is_finite() {
                return invalid(name, value.to_string(), "a finite number");
            }
        }
        let sigma_is_possible = |s: f64| s.is_finite() && s >= 0.0;
        match &self.diffusion {
            DiffusionKind::General { brownian_dim: m } | DiffusionKind::LowRank { rank: m }
                if *m == 0 || *m > 1 << 12 =>
            {
                return invalid("brownian_dim", m.to_string(), "between 1 and 4,096");
            }
            DiffusionKind::Isotropic { sigma } if !sigma_is_possible(*sigma) => {
                return invalid("sigma", sigma.to_string(), "a number that is not negative");
            }
            DiffusionKind::Constant { sigma } if sigma.len() != self.n_latent => {
                return invalid(
                    "sigma",
                    format!("{} numbers", sigma.len()),
                    "one for each dimension",
                );
            }
            DiffusionKind::Constant { sigma } => {
                if let Some(s) = sigma.iter().find(|s| !sigma_is_possible(**s)) {
                    return invalid("sigma", s.to_string(), "a number that is not negative");
                }
            }
            _ => {}
        }
        match &self.autoencoder {
            Some(c) => c.check(self.n_latent),
            None => Ok(()),
        }
    }

    /// How the noise enters the equation.
    pub fn noise(&self) -> Noise {
        match self.diffusion {
            DiffusionKind::General { brownian_dim: 1 } | DiffusionKind::LowRank { rank: 1 } => {
                Noise::Scalar
            }
            DiffusionKind::General { .. } | DiffusionKind::LowRank { .. } => Noise::General,
            DiffusionKind::Diagonal => Noise::Coordinatewise,
            DiffusionKind::Isotropic { .. } | DiffusionKind::Constant { .. } => Noise::Diagonal,
            DiffusionKind::None => Noise::Absent,
        }
    }

    /// Brownian motions of each cell: what a [`BrownianPath`](crate::solve::BrownianPath) is made with.
    pub fn brownian_dim(&self) -> usize {
        match &self.diffusion {
            DiffusionKind::General { brownian_dim: m } | DiffusionKind::LowRank { rank: m } => *m,
            DiffusionKind::None => 0,
            _ => self.n_latent,
        }
    }

    /// The net of the drift as it is built: only that of a plain vector field has a bias in its last layer.
    pub(super) fn drift_net(&self) -> NetConfig {
        let mut mu = self.mu.clone();
        mu.output_bias &= self.drift == DriftKind::Neural;
        mu
    }
}
