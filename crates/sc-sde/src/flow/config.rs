use sc_model::train::TrainConfig;
use sc_model::{KlWarmup, LrSchedule, OptimizerKind};
use serde::{Deserialize, Serialize};

use super::Coupling;
use crate::nets::{Activation, NetConfig};
use crate::train::{BatchSize, Keep, Snapshots, Validation};
use crate::{Error, Result};

/// The settings of a [`Flow`](super::Flow).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowConfig {
    /// `D`, the dimensions in which cells move.
    pub n_latent: usize,
    /// The nets of velocity, score and growth, each of states and time; three layers of 64 SELU units.
    pub net: NetConfig,
    /// The noise of a Schroedinger bridge, per square root of time, the same in each dimension; `None` is an ODE.
    pub sigma: Option<f64>,
    /// Whether there is a net of growth.
    pub growth: bool,
    /// The first time of the data.
    pub origin: f64,
    /// The time between the first and the last.
    pub span: f64,
    /// The size of the states: nets see states divided by it.
    pub scale: f64,
}

impl FlowConfig {
    fn check(&self) -> Result<()> {
        let invalid = |name: &'static str, value: String, reason: &str| {
            Err(crate::error::invalid(name, value, reason))
        };
        if self.n_latent == 0 || self.n_latent > 1 << 16 {
            let value = self.n_latent.to_string();
            return invalid("n_latent", value, "between 1 and 65,536 dimensions");
        }
        self.net.check("net")?;
        if let Some(s) = self.sigma.filter(|s| !(s.is_finite() && *s > 0.0)) {
            let reason = "noise above 0; None for an ODE";
            return invalid("sigma", s.to_string(), reason);
        }
        for (name, value) in [("span", self.span), ("scale", self.scale)] {
            if !(value.is_finite() && value > 0.0) {
                return invalid(name, value.to_string(), "a number above 0");
            }
        }
        match self.origin.is_finite() {
            true => Ok(()),
            false => invalid("origin", self.origin.to_string(), "a finite time"),
        }
    }
}

/// Settings of a flow that is to be made. Start from [`Flow::params`](super::Flow::params).
#[derive(Debug, Clone)]
#[must_use]
pub struct FlowParams(FlowConfig);

impl FlowParams {
    /// For cells like these: as many dimensions, as large, over the same times.
    pub(super) fn of(data: &Snapshots) -> Result<Self> {
        let states = data.states();
        let mean = states.mean_keepdim(0)?;
        let squares = states.broadcast_sub(&mean)?.sqr()?.mean_all()?;
        let variance = squares
            .to_dtype(candle_core::DType::F64)?
            .to_scalar::<f64>()?;
        let times = data.times();
        let (first, last) = (times.first(), times.last());
        let origin = first.copied().unwrap_or_default();
        Ok(Self(FlowConfig {
            n_latent: data.dim(),
            net: NetConfig::new([64, 64, 64]).activation(Activation::SELU),
            sigma: None,
            growth: false,
            origin,
            span: last.copied().unwrap_or_default() - origin,
            // Cells that are all at one place have no size; then the unit is as good as any.
            scale: if variance > 0.0 { variance.sqrt() } else { 1.0 },
        }))
    }

    /// The nets; three layers of 64 SELU units.
    pub fn net(mut self, net: NetConfig) -> Self {
        self.0.net = net;
        self
    }

    /// The noise of a Schroedinger bridge, per square root of time; none.
    pub fn sigma(mut self, sigma: impl Into<Option<f64>>) -> Self {
        self.0.sigma = sigma.into();
        self
    }

    /// Whether there is a net of growth, for [`Coupling::Unbalanced`]; no.
    pub fn growth(mut self, growth: bool) -> Self {
        self.0.growth = growth;
        self
    }

    /// Makes sure that such a flow can exist.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(self) -> Result<FlowValidParams> {
        self.0.check()?;
        Ok(FlowValidParams(self.0))
    }
}

impl From<FlowConfig> for FlowParams {
    fn from(config: FlowConfig) -> Self {
        Self(config)
    }
}

/// Settings that passed [`FlowParams::check`].
#[derive(Debug, Clone)]
pub struct FlowValidParams(FlowConfig);

impl FlowValidParams {
    /// The settings.
    pub fn config(&self) -> &FlowConfig {
        &self.0
    }
}

/// How a flow is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlowTraining {
    /// How cells of neighbouring times are paired; by exact transport.
    pub coupling: Coupling,
    /// The width of straight bridges, where the flow is an ODE; 0.1.
    pub path_sigma: f64,
    /// Cells of each time in a minibatch; 256.
    pub batch: BatchSize,
    /// Which cells validate.
    pub validation: Validation,
    /// Which weights the flow ends with; those of the lowest validation loss.
    pub keep: Keep,
    /// Epochs, optimiser, learning rate, seed. Its batch size isn't used, and its split only if it is given.
    pub run: TrainConfig,
}

impl Default for FlowTraining {
    fn default() -> Self {
        let mut run = TrainConfig::default();
        run.optimizer = OptimizerKind::AdamW {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.01,
        };
        run.lr = 1e-3;
        run.kl_warmup = KlWarmup::constant(1.0);
        run.lr_schedule = LrSchedule::Constant;
        run.max_epochs = Some(200);
        run.validate_every = Some(1);
        Self {
            coupling: Coupling::Exact,
            path_sigma: 0.1,
            batch: BatchSize::Cells(256),
            validation: Validation::default(),
            keep: Keep::Best,
            run,
        }
    }
}

impl FlowTraining {
    /// Makes sure that flows can be trained so.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(&self) -> Result<()> {
        self.coupling.check()?;
        self.batch.check()?;
        self.validation.check()?;
        match self.path_sigma.is_finite() && self.path_sigma >= 0.0 {
            true => Ok(()),
            false => Err(Error::InvalidSetting {
                name: "path_sigma",
                value: self.path_sigma.to_string(),
                reason: "a width that is not negative".into(),
            }),
        }
    }
}
