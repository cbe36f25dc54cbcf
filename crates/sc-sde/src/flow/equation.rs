//! The nets of a flow, and the equation that they make.

use candle_core::Tensor;
use sc_model::{Mode, ParamBuilder};

use super::FlowConfig;
use crate::nets::{BoundNet, TorchNet};
use crate::solve::{At, Noise, Sde};
use crate::{Error, Result};

/// Each reads the states and, as a last column, the time.
#[derive(Debug, Clone)]
pub(super) struct Nets {
    velocity: TorchNet,
    score: Option<TorchNet>,
    growth: Option<TorchNet>,
}

impl Nets {
    pub(super) fn new(p: &ParamBuilder<'_>, c: &FlowConfig) -> Result<Self> {
        let net = |name: &str, n_out| TorchNet::new(&p.pp(name), &c.net, c.n_latent + 1, n_out);
        Ok(Self {
            velocity: net("velocity", c.n_latent)?,
            score: match c.sigma {
                Some(_) => Some(net("score", c.n_latent)?),
                None => None,
            },
            growth: match c.growth {
                true => Some(net("growth", 1)?),
                false => None,
            },
        })
    }

    pub(super) fn equation(
        &self,
        config: &FlowConfig,
        parameters: Vec<Tensor>,
        noisy: bool,
        mode: &Mode<'_>,
    ) -> Result<FlowEquation> {
        let bind = |net: &Option<TorchNet>| match net {
            Some(net) => net.bind(mode).map(Some),
            None => Ok(None),
        };
        Ok(FlowEquation {
            velocity: self.velocity.bind(mode)?,
            score: bind(&self.score)?,
            growth: bind(&self.growth)?,
            sigma: config.sigma.filter(|_| noisy),
            config: config.clone(),
            parameters,
        })
    }
}

/// The equation of a [`Flow`](super::Flow) in one mode. It depends on time; before the first and after the last time of the
/// data it extrapolates.
#[derive(Debug, Clone)]
pub struct FlowEquation {
    velocity: BoundNet,
    score: Option<BoundNet>,
    growth: Option<BoundNet>,
    /// None for the ODE.
    sigma: Option<f64>,
    config: FlowConfig,
    parameters: Vec<Tensor>,
}

/// What the nets say of some points, in units in which the data has size 1 and lasts for 1.
pub(super) struct Said {
    pub(super) velocity: Tensor,
    /// `sigma^2 / 2` times the score.
    pub(super) score: Option<Tensor>,
    /// `[N, 1]`.
    pub(super) growth: Option<Tensor>,
}

impl FlowEquation {
    /// The velocity, `[cells, D]`.
    ///
    /// # Errors
    /// If the states don't fit.
    pub fn velocity(&self, z: &Tensor, t: f64) -> Result<Tensor> {
        let input = self.input(z, t)?;
        self.per_time(self.velocity.forward(&input, &[])?)
    }

    /// What the score adds to the drift, `sigma^2 / 2 grad log p`, `[cells, D]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the flow is an ODE, or the states don't fit.
    pub fn score_drift(&self, z: &Tensor, t: f64) -> Result<Tensor> {
        let Some(net) = &self.score else {
            return missing("sigma", "a net of the score");
        };
        self.per_time(net.forward(&self.input(z, t)?, &[])?)
    }

    /// Rates of growth, `[cells]`.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the flow has no net of growth, or the states don't fit.
    pub fn growth(&self, z: &Tensor, t: f64) -> Result<Tensor> {
        let Some(net) = &self.growth else {
            return missing("growth", "a net of growth");
        };
        let rate = net.forward(&self.input(z, t)?, &[])?.squeeze(1)?;
        Ok((rate * (1.0 / self.config.span))?)
    }

    /// Everything at once, for points with times of their own (`[N, 1]`).
    pub(super) fn say(&self, z: &Tensor, t: &Tensor) -> Result<Said> {
        let input = self.join(z, t)?;
        let of = |net: &Option<BoundNet>| match net {
            Some(net) => net.forward(&input, &[]).map(Some),
            None => Ok(None),
        };
        Ok(Said {
            velocity: self.velocity.forward(&input, &[])?,
            score: of(&self.score)?,
            growth: of(&self.growth)?,
        })
    }

    fn input(&self, z: &Tensor, t: f64) -> Result<Tensor> {
        if z.rank() != 2 || z.dim(1)? != self.config.n_latent {
            return Err(Error::Shape {
                what: "the states of cells",
                found: z.dims().to_vec(),
                expected: format!("[cells, {}]", self.config.n_latent),
            });
        }
        let t = Tensor::full(t, (z.dim(0)?, 1), z.device())?.to_dtype(z.dtype())?;
        self.join(z, &t)
    }

    fn join(&self, z: &Tensor, t: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let t = t.affine(1.0 / c.span, -c.origin / c.span)?;
        Ok(Tensor::cat(&[&(z * (1.0 / c.scale))?, &t], 1)?)
    }

    /// From units of the nets to those of the data.
    fn per_time(&self, v: Tensor) -> Result<Tensor> {
        Ok((v * (self.config.scale / self.config.span))?)
    }
}

fn missing<T>(name: &'static str, what: &str) -> Result<T> {
    Err(Error::InvalidSetting {
        name,
        value: "none".into(),
        reason: format!("the flow was made without {what}"),
    })
}

impl Sde for FlowEquation {
    fn noise(&self) -> Noise {
        match self.sigma {
            Some(_) => Noise::Diagonal,
            None => Noise::Absent,
        }
    }

    fn drift(&self, at: At, z: &Tensor) -> Result<Tensor> {
        let v = self.velocity(z, at.t)?;
        match self.sigma {
            Some(_) => Ok((v + self.score_drift(z, at.t)?)?),
            None => Ok(v),
        }
    }

    fn diffusion(&self, _: At, z: &Tensor) -> Result<Tensor> {
        Ok((z.zeros_like()?.detach() + self.sigma.unwrap_or_default())?)
    }

    fn diffusion_jvp(&self, _: At, z: &Tensor, _: &Tensor) -> Result<Tensor> {
        Ok(z.zeros_like()?.detach())
    }

    fn parameters(&self) -> Vec<Tensor> {
        self.parameters.clone()
    }
}
