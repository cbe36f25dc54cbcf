//! The nets of a model, and the equation that they make.

use candle_core::{DType, Tensor};
use sc_model::layers::Linear;
use sc_model::{Init, Mode, Param, ParamBuilder};

use super::{DiffusionKind, DriftKind, ScDiffEqConfig};
use crate::nets::{Autoencoder, BoundNet, TorchNet};
use crate::solve::{At, Calculus, Noise, PriorDrift, Sde};
use crate::{Error, Result};

/// The nets, under the names of the original's checkpoints.
#[derive(Debug, Clone)]
pub(super) struct Nets {
    mu: TorchNet,
    sigma: Option<TorchNet>,
    directions: Option<Param>,
    prior: Option<Linear>,
    pub(super) autoencoder: Option<Autoencoder>,
}

impl Nets {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &ScDiffEqConfig) -> Result<Self> {
        let d = c.n_latent;
        let eq = p.pp("DiffEq");
        let n_out = match c.drift {
            DriftKind::Potential => 1,
            _ => d,
        };
        let mu = TorchNet::new(&eq.pp("mu"), &c.drift_net(), d, n_out)?;
        let n_sigma = match c.diffusion {
            DiffusionKind::General { brownian_dim } => Some(d.saturating_mul(brownian_dim)),
            DiffusionKind::Diagonal => Some(d),
            DiffusionKind::LowRank { rank } => Some(rank),
            _ => None,
        };
        let sigma = n_sigma
            .map(|n| TorchNet::new(&eq.pp("sigma"), &c.sigma, d, n))
            .transpose()?;
        let directions = match c.diffusion {
            DiffusionKind::LowRank { rank } => {
                let init = Init::Normal(1.0 / (rank as f64).sqrt());
                Some(eq.pp("sigma").param("directions", (d, rank), init)?)
            }
            _ => None,
        };
        let prior = match c.drift {
            DriftKind::PriorPotential => {
                let p = eq.pp("potential").pp("psi");
                Some(Linear::new(&p, d, 1, false)?)
            }
            _ => None,
        };
        let autoencoder = match &c.autoencoder {
            Some(c) => Some(Autoencoder::new(p, c, d)?),
            None => None,
        };
        Ok(Self {
            mu,
            sigma,
            directions,
            prior,
            autoencoder,
        })
    }

    pub(super) fn mu(&self) -> &TorchNet {
        &self.mu
    }

    pub(super) fn equation(
        &self,
        config: &ScDiffEqConfig,
        parameters: Vec<Tensor>,
        mode: &Mode<'_>,
    ) -> Result<Equation> {
        let prior = self.prior.as_ref();
        Ok(Equation {
            mu: self.mu.bind(mode)?,
            sigma: match &self.sigma {
                Some(net) => Some(net.bind(mode)?),
                None => None,
            },
            directions: self.directions.as_ref().map(|p| p.get(mode).clone()),
            prior: prior.map(|p| p.weight().get(mode).clone()),
            config: config.clone(),
            parameters,
        })
    }
}

/// The equation `dz = f(z) dt + g(z) dB` of a model in one mode; made by [`ScDiffEq::equation`](super::ScDiffEq::equation).
///
/// It doesn't depend on time. While training, every step of a solver and every stage of a step drops units of its own, the
/// same ones when it is computed again.
#[derive(Debug, Clone)]
pub struct Equation {
    mu: BoundNet,
    sigma: Option<BoundNet>,
    directions: Option<Tensor>,
    prior: Option<Tensor>,
    config: ScDiffEqConfig,
    parameters: Vec<Tensor>,
}

fn counters(at: At) -> [u64; 2] {
    [at.step as u64, at.stage as u64]
}

impl Equation {
    /// `psi(z)`, `[cells]`: the potential whose gradient the drift is, before `coef_drift`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the drift is no gradient.
    pub fn potential(&self, at: At, z: &Tensor) -> Result<Tensor> {
        match self.config.drift {
            DriftKind::Potential => Ok(self.mu.forward(z, &counters(at))?.squeeze(1)?),
            kind => Err(Error::InvalidSetting {
                name: "drift",
                value: format!("{kind:?}"),
                reason: "only DriftKind::Potential has a potential".into(),
            }),
        }
    }

    /// The sigma net's output, or its derivative, in the shape of the diffusion.
    fn shaped(&self, out: &Tensor) -> Result<Tensor> {
        let (n, d) = (out.dim(0)?, self.config.n_latent);
        let g = match (&self.config.diffusion, &self.directions) {
            (DiffusionKind::General { brownian_dim }, _) => out.reshape((n, d, *brownian_dim))?,
            (DiffusionKind::LowRank { rank }, Some(directions)) => {
                let strengths = out.reshape((n, 1, *rank))?;
                strengths.broadcast_mul(&directions.unsqueeze(0)?)?
            }
            _ => out.clone(),
        };
        self.scaled(g, self.config.coef_diffusion)
    }

    fn scaled(&self, t: Tensor, by: f64) -> Result<Tensor> {
        Ok(match by == 1.0 {
            true => t,
            false => (t * by)?,
        })
    }

    fn constant(&self, z: &Tensor) -> Result<Tensor> {
        let g = match &self.config.diffusion {
            DiffusionKind::Isotropic { sigma } => (z.zeros_like()?.detach() + *sigma)?,
            DiffusionKind::Constant { sigma } => {
                let row = Tensor::new(sigma.as_slice(), z.device())?.to_dtype(z.dtype())?;
                row.broadcast_as(z.shape())?.contiguous()?
            }
            _ => z.zeros_like()?.detach(),
        };
        self.scaled(g, self.config.coef_diffusion)
    }
}

impl Sde for Equation {
    fn noise(&self) -> Noise {
        self.config.noise()
    }

    fn calculus(&self) -> Calculus {
        self.config.calculus
    }

    fn drift(&self, at: At, z: &Tensor) -> Result<Tensor> {
        let f = match self.config.drift {
            DriftKind::Potential => self.mu.gradient(z, &counters(at))?,
            _ => self.mu.forward(z, &counters(at))?,
        };
        self.scaled(f, self.config.coef_drift)
    }

    fn diffusion(&self, at: At, z: &Tensor) -> Result<Tensor> {
        match &self.sigma {
            Some(net) => self.shaped(&net.forward(z, &counters(at))?),
            None => self.constant(z),
        }
    }

    fn diffusion_jvp(&self, at: At, z: &Tensor, direction: &Tensor) -> Result<Tensor> {
        match &self.sigma {
            Some(net) => self.shaped(&net.jvp(z, direction, &counters(at))?),
            None => Ok(z.zeros_like()?.detach()),
        }
    }

    fn parameters(&self) -> Vec<Tensor> {
        self.parameters.clone()
    }
}

impl PriorDrift for Equation {
    /// The learned constant vector of [`DriftKind::PriorPotential`]; without one, no drift.
    fn prior_drift(&self, _: At, z: &Tensor) -> Result<Tensor> {
        match &self.prior {
            Some(row) => {
                let row = self.scaled(row.clone(), self.config.coef_prior_drift)?;
                Ok(row.broadcast_as(z.shape())?.contiguous()?)
            }
            None => Ok(z.zeros_like()?.detach()),
        }
    }
}

/// Refuses states that aren't `[cells, D]` of the model's type.
pub(super) fn check_states(z: &Tensor, d: usize, dtype: DType) -> Result<()> {
    if z.rank() != 2 || z.dim(1)? != d {
        return Err(Error::Shape {
            what: "the states of cells",
            found: z.dims().to_vec(),
            expected: format!("[cells, {d}]"),
        });
    }
    match z.dtype() == dtype {
        true => Ok(()),
        false => Err(Error::InvalidSetting {
            name: "states",
            value: format!("{:?}", z.dtype()),
            reason: format!("the model computes in {dtype:?}; convert them with to_dtype"),
        }),
    }
}
