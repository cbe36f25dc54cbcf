use sc_model::train::TrainConfig;
use sc_model::{KlWarmup, LrSchedule, OptimizerKind};
use serde::{Deserialize, Serialize};

use super::{BatchSize, Validation};
use crate::Result;
use crate::model::{DiffusionKind, DriftKind, ScDiffEqConfig, VelocityRatio};
use crate::solve::Scheme;
use crate::transport::{Diameter, Sinkhorn};

/// How a model is trained by simulation. Start from [`SdeTraining::new`] or [`SdeTraining::prescient`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SdeTraining {
    /// How simulated cells are compared with observed ones.
    pub marginals: Marginals,
    /// Whether one path goes through all times, or every time gets paths of its own.
    pub paths: Paths,
    /// Length of a step of the solver, in the units of the times; 0.1.
    pub dt: f64,
    /// How the solver gets from one time to the next; Euler's.
    pub scheme: Scheme,
    /// Keeps the ratio of drift to diffusion near a target; `None` doesn't.
    pub velocity_ratio: Option<VelocityRatio>,
    /// PRESCIENT's regulariser; `None` leaves it out.
    pub contrast: Option<Contrast>,
    /// Weight of the energy of the drift, the mean of `|f|^2`; 0.
    pub drift_energy: f64,
    /// Keeps the diffusion from dying; `None` doesn't.
    pub diffusion_floor: Option<Floor>,
    /// Cells of a minibatch.
    pub batch: BatchSize,
    /// Which cells validate.
    pub validation: Validation,
    /// Which weights the model ends with.
    pub keep: Keep,
    /// Epochs, optimiser, learning rate, seed. Its batch size isn't used, and its split only if it is given.
    pub run: TrainConfig,
}

/// The Sinkhorn divergence of simulated and observed cells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marginals {
    /// The length below which clouds aren't told apart; 0.05.
    pub blur: f64,
    /// What the length shrinks by from one epsilon to the next; 0.5.
    pub scaling: f64,
    /// Mass further away than this may be created or destroyed; `None`: all mass is transported.
    pub reach: Option<f64>,
    /// Whether the divergences of all times start from the same epsilon, that of all cells together; yes, as in scDiffEq.
    /// Otherwise each starts from that of its own cells, and cells of other times can't change it.
    pub shared_diameter: bool,
}

impl Default for Marginals {
    /// What scDiffEq is trained with in effect.
    fn default() -> Self {
        Self {
            blur: 0.05,
            scaling: 0.5,
            reach: None,
            shared_diameter: true,
        }
    }
}

impl Marginals {
    /// The divergence, with the first epsilon from this diameter where there is one.
    pub(super) fn sinkhorn(&self, diameter: Option<f64>) -> Result<Sinkhorn> {
        let params = Sinkhorn::params().blur(self.blur).scaling(self.scaling);
        let params = params.reach(self.reach);
        match diameter {
            Some(d) if d > 0.0 => params.diameter(Diameter::Fixed(d)).check(),
            _ => params.check(),
        }
    }
}

/// How many paths a minibatch takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paths {
    /// One path of each cell goes from the first time through all later ones.
    Through,
    /// For every later time, cells start from the first time again, with other noise (PRESCIENT).
    Fresh,
}

/// PRESCIENT's regulariser: observed cells of the last time should lie higher on the potential than where cells drift to from
/// there; see [`potential_contrast`](crate::model::potential_contrast).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Its weight; 1e-6.
    pub tau: f64,
    /// The weight of the cells that have drifted; 1.
    pub factor: f64,
    /// How many of them there are at most; 2,000.
    pub cells: usize,
    /// For how many steps they drift; 100.
    pub steps: usize,
}

impl Default for Contrast {
    fn default() -> Self {
        Self {
            tau: 1e-6,
            factor: 1.0,
            cells: 2000,
            steps: 100,
        }
    }
}

/// `weight * mean max(0, floor - |g|)^2`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Below this a diffusion costs.
    pub floor: f64,
    /// The weight.
    pub weight: f64,
}

/// Which weights a model ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// Those of the epoch with the lowest validation divergence; without validation, the last.
    Best,
    /// Those after the last epoch.
    Last,
    /// The mean over the ends of all epochs (stochastic weight averaging), as in scDiffEq's published models.
    Average,
}

impl SdeTraining {
    /// scDiffEq's settings for such a model: RMSprop at 1e-4, a tenth of it for the last tenth of 2,500 epochs, gradients
    /// clipped at a norm of 0.5, the velocity ratio at 2.5 if the diffusion is learned.
    pub fn new(model: &ScDiffEqConfig) -> Self {
        let learned = matches!(
            model.diffusion,
            DiffusionKind::General { .. } | DiffusionKind::Diagonal | DiffusionKind::LowRank { .. }
        );
        Self {
            marginals: Marginals::default(),
            paths: Paths::Through,
            dt: 0.1,
            scheme: Scheme::Euler,
            velocity_ratio: learned.then(VelocityRatio::default),
            contrast: None,
            drift_energy: 0.0,
            diffusion_floor: None,
            batch: BatchSize::Cells(2048),
            validation: Validation::default(),
            keep: Keep::Best,
            run: Self::run(2500),
        }
    }

    /// PRESCIENT's settings, for the model of [`ScDiffEq::prescient`](crate::model::ScDiffEq::prescient): blur 0.1, scaling
    /// 0.7, fresh paths for every time from a tenth of the cells, Adam at 0.01, clipping at 0.25, its regulariser.
    pub fn prescient(model: &ScDiffEqConfig) -> Self {
        let mut run = Self::run(2500);
        run.optimizer = OptimizerKind::Adam {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
        };
        run.lr = 0.01;
        run.lr_schedule = LrSchedule::Step {
            size: 100,
            gamma: 0.9,
        };
        run.max_grad_norm = Some(0.25);
        Self {
            marginals: Marginals {
                blur: 0.1,
                scaling: 0.7,
                ..Marginals::default()
            },
            paths: Paths::Fresh,
            velocity_ratio: None,
            contrast: Some(Contrast::default()),
            batch: BatchSize::Share(0.1),
            run,
            ..Self::new(model)
        }
    }

    /// The settings of [`ScDiffEq::pretrain_autoencoder`](crate::model::ScDiffEq::pretrain_autoencoder): Adam at 1e-4 for 500
    /// epochs.
    pub fn pretraining() -> TrainConfig {
        let mut run = Self::run(500);
        run.batch_size = 2048;
        run.optimizer = OptimizerKind::Adam {
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
        };
        run.max_grad_norm = None;
        run
    }

    fn run(epochs: usize) -> TrainConfig {
        let mut run = TrainConfig::default();
        run.optimizer = OptimizerKind::RmsProp {
            alpha: 0.99,
            eps: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
        };
        run.lr = 1e-4;
        run.kl_warmup = KlWarmup::constant(1.0);
        run.max_grad_norm = Some(0.5);
        run.validate_every = Some(1);
        run.max_epochs = Some(epochs);
        run.lr_schedule = LrSchedule::Step {
            size: (epochs - epochs / 10).max(1),
            gamma: 0.1,
        };
        run
    }

    /// Trains for so many epochs, the last tenth of them at a tenth of the learning rate.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.run.max_epochs = Some(epochs);
        if let LrSchedule::Step { size, gamma: 0.1 } = &mut self.run.lr_schedule {
            *size = (epochs - epochs / 10).max(1);
        }
        self
    }

    /// Makes sure that such a model can be trained so.
    ///
    /// # Errors
    /// [`crate::Error::InvalidSetting`] names the first setting that can't be.
    pub fn check(&self, model: &ScDiffEqConfig) -> Result<()> {
        let invalid = |name: &'static str, value: String, reason: &str| {
            Err(crate::error::invalid(name, value, reason))
        };
        self.marginals.sinkhorn(None)?;
        self.batch.check()?;
        self.validation.check()?;
        self.scheme.check(model.noise(), model.calculus)?;
        if !(self.dt.is_finite() && self.dt > 0.0) {
            return invalid("dt", self.dt.to_string(), "a number above 0");
        }
        if !(self.drift_energy.is_finite() && self.drift_energy >= 0.0) {
            let value = self.drift_energy.to_string();
            return invalid("drift_energy", value, "a number that is not negative");
        }
        let no_noise = model.diffusion == DiffusionKind::None;
        if no_noise && (self.velocity_ratio.is_some() || self.diffusion_floor.is_some()) {
            return invalid(
                "velocity_ratio, diffusion_floor",
                "set".into(),
                "the model has no diffusion; set them to None",
            );
        }
        if let Some(ratio) = &self.velocity_ratio
            && ![ratio.target, ratio.enforce, ratio.dt]
                .iter()
                .all(|v| v.is_finite())
        {
            return invalid("velocity_ratio", format!("{ratio:?}"), "finite numbers");
        }
        if let Some(contrast) = &self.contrast {
            if model.drift != DriftKind::Potential || model.autoencoder.is_some() {
                return invalid(
                    "contrast",
                    "set".into(),
                    "it needs a drift that is a potential's, and no autoencoder",
                );
            }
            if !(contrast.tau.is_finite() && contrast.factor.is_finite() && contrast.cells > 0) {
                let value = format!("{contrast:?}");
                return invalid("contrast", value, "finite weights, and at least one cell");
            }
        }
        if self.run.split.given.is_some() && self.validation.redraw {
            return invalid(
                "validation.redraw",
                "true".into(),
                "with a split that is given there is nothing to redraw",
            );
        }
        Ok(())
    }
}
