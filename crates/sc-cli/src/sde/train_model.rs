//! The model that is trained, of the options.

use candle_core::Device;
use clap::ValueEnum;
use sc_sde::flow::{Coupling, Flow, FlowTraining};
use sc_sde::model::{DiffusionKind, DriftKind, ScDiffEq, ScDiffEqParams, VelocityRatio};
use sc_sde::nets::{Activation, AutoencoderConfig};
use sc_sde::train::{BatchSize, Keep, SdeTraining, Snapshots};

use crate::error::{Error, Result};
use crate::options::at_least_one;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// scDiffEq: drift and diffusion are nets, trained by simulation
    Scdiffeq,
    /// PRESCIENT: a potential and constant noise, with its own way of training
    Prescient,
    /// Flow matching along optimal transport: an ODE, without simulation
    Flow,
    /// A Schroedinger bridge by score and flow matching: constant noise, without simulation
    Bridge,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Drift {
    /// The gradient of a potential
    Potential,
    /// Any vector field
    Neural,
    /// A vector field beside a constant prior drift
    Prior,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kept {
    /// The epoch with the lowest validation divergence
    Best,
    /// The last
    Last,
    /// The mean over all epochs
    Average,
}

/// A diffusion in words: `general`, `general:3`, `diagonal`, `low-rank:4`, `isotropic:0.5`, `none`.
fn diffusion(text: &str) -> Result<DiffusionKind, String> {
    let (name, number) = match text.split_once(':') {
        Some((name, number)) => (name, Some(number)),
        None => (text, None),
    };
    let whole = |number: Option<&str>, default: Option<usize>| match (number, default) {
        (Some(n), _) => at_least_one(n),
        (None, Some(n)) => Ok(n),
        (None, None) => Err(format!("{name}:N, with how many")),
    };
    match name {
        "general" => Ok(DiffusionKind::General {
            brownian_dim: whole(number, Some(1))?,
        }),
        "diagonal" if number.is_none() => Ok(DiffusionKind::Diagonal),
        "low-rank" => Ok(DiffusionKind::LowRank {
            rank: whole(number, None)?,
        }),
        "isotropic" => {
            let sigma = number.unwrap_or("0.5").parse();
            let sigma = sigma.map_err(|_| "isotropic:SIGMA, with a number".to_owned())?;
            Ok(DiffusionKind::Isotropic { sigma })
        }
        "none" if number.is_none() => Ok(DiffusionKind::None),
        _ => Err("general, general:N, diagonal, low-rank:N, isotropic:SIGMA or none".into()),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Model {
    /// What to train
    #[arg(long, value_enum, default_value = "scdiffeq")]
    pub(super) model: Kind,
    /// What the drift is made of [default: potential]
    #[arg(long, value_enum)]
    drift: Option<Drift>,
    /// What the diffusion is made of: general (a net and one Brownian motion), general:N, diagonal, low-rank:N,
    /// isotropic:SIGMA or none [default: general; of prescient isotropic:0.5]
    #[arg(long, value_name = "KIND", value_parser = diffusion)]
    diffusion: Option<DiffusionKind>,
    /// Widths of the hidden layers of the drift, or of a flow's nets [default: 512,512; 500; 64,64,64]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = at_least_one)]
    hidden: Vec<usize>,
    /// Widths of the hidden layers of the diffusion [default: 32,32]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = at_least_one)]
    sigma_hidden: Vec<usize>,
    /// Activation of the drift's net, or of a flow's [default: LeakyReLU; Softplus; SELU]
    #[arg(long, value_name = "NAME", value_parser = |s: &str| s.parse::<Activation>())]
    activation: Option<Activation>,
    /// Share of hidden units of drift and diffusion that is dropped in training
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
    /// Let cells move in a space of so many dimensions, below the states, with an autoencoder between
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    n_latent: Option<usize>,
    /// The noise of --model bridge, per square root of time
    #[arg(long, value_name = "SIGMA", default_value_t = 0.5)]
    sigma: f64,
}

#[derive(Debug, clap::Args)]
pub(super) struct Training {
    /// Passes over the cells [default: 2500; of flow and bridge 200]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    epochs: Option<usize>,
    /// Begin with so many epochs of flow matching for the drift (or of reconstruction for an autoencoder)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) pretrain_epochs: usize,
    /// Cells of each time in a minibatch [default: 2048; a tenth; 256]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    batch_size: Option<usize>,
    /// Learning rate [default: 1e-4; 0.01; 1e-3]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Length of a step of the solver, in units of the times
    #[arg(long, value_name = "TIME", default_value_t = 0.1)]
    dt: f64,
    /// The ratio of drift to diffusion that is kept [default: 2.5 if the diffusion is learned]
    #[arg(long, value_name = "RATIO")]
    velocity_ratio: Option<f64>,
    /// Don't keep a ratio of drift to diffusion
    #[arg(long, conflicts_with = "velocity_ratio")]
    no_velocity_ratio: bool,
    /// Length below which the Sinkhorn divergence doesn't tell cells apart [default: 0.05; 0.1]
    #[arg(long, value_name = "LENGTH")]
    blur: Option<f64>,
    /// What the length shrinks by in the Sinkhorn divergence [default: 0.5; 0.7]
    #[arg(long, value_name = "FACTOR")]
    scaling: Option<f64>,
    /// Share of the cells of each time that validate; 0 validates nothing
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    validation: f64,
    /// Weights that the model ends with
    #[arg(long, value_enum, default_value = "best")]
    keep: Kept,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

impl Model {
    /// Refuses options of other models.
    pub(super) fn check(&self, training: &Training) -> Result<()> {
        let flows = matches!(self.model, Kind::Flow | Kind::Bridge);
        let refuse = |given: &[(&str, bool)]| match given.iter().find(|g| g.1) {
            Some((name, _)) => Err(Error::Message(format!(
                "{name} has no meaning for --model {}",
                self.name()
            ))),
            None => Ok(()),
        };
        if !flows {
            return refuse(&[(
                "--drift",
                self.model == Kind::Prescient && self.drift.is_some(),
            )]);
        }
        refuse(&[
            ("--drift", self.drift.is_some()),
            ("--diffusion", self.diffusion.is_some()),
            ("--sigma-hidden", !self.sigma_hidden.is_empty()),
            ("--n-latent", self.n_latent.is_some()),
            ("--pretrain-epochs", training.pretrain_epochs > 0),
            ("--velocity-ratio", training.velocity_ratio.is_some()),
            ("--blur", training.blur.is_some()),
            ("--scaling", training.scaling.is_some()),
        ])
    }

    pub(super) fn name(&self) -> &'static str {
        match self.model {
            Kind::Scdiffeq => "scdiffeq",
            Kind::Prescient => "prescient",
            Kind::Flow => "flow",
            Kind::Bridge => "bridge",
        }
    }

    pub(super) fn scdiffeq(&self, cells: &Snapshots, seed: u64) -> Result<ScDiffEq> {
        let d = self.n_latent.unwrap_or(cells.dim());
        let mut config = match self.model {
            Kind::Prescient => ScDiffEq::prescient(d),
            _ => ScDiffEq::params(d),
        }
        .check()?
        .config()
        .clone();
        if let Some(drift) = self.drift {
            config.drift = match drift {
                Drift::Potential => DriftKind::Potential,
                Drift::Neural => DriftKind::Neural,
                Drift::Prior => DriftKind::PriorPotential,
            };
        }
        if let Some(diffusion) = &self.diffusion {
            config.diffusion = diffusion.clone();
        }
        if !self.hidden.is_empty() {
            config.mu.hidden.clone_from(&self.hidden);
        }
        if !self.sigma_hidden.is_empty() {
            config.sigma.hidden.clone_from(&self.sigma_hidden);
        }
        if let Some(activation) = self.activation {
            config.mu.activation = vec![activation];
        }
        config.mu.dropout = vec![self.dropout];
        config.sigma.dropout = vec![self.dropout];
        if self.n_latent.is_some() {
            config.autoencoder = Some(AutoencoderConfig::new(cells.dim()));
        }
        let params = ScDiffEqParams::from(config).check()?;
        let model = params.init(&Device::Cpu, seed)?;
        if self.model == Kind::Prescient {
            model.start_without_drift()?;
        }
        Ok(model)
    }

    pub(super) fn flow(&self, cells: &Snapshots, seed: u64) -> Result<Flow> {
        let mut params = Flow::params(cells)?;
        let mut net = params.clone().check()?.config().net.clone();
        if !self.hidden.is_empty() {
            net.hidden.clone_from(&self.hidden);
        }
        if let Some(activation) = self.activation {
            net.activation = vec![activation];
        }
        net.dropout = vec![self.dropout];
        params = params.net(net);
        if self.model == Kind::Bridge {
            params = params.sigma(self.sigma);
        }
        Ok(params.check()?.init(&Device::Cpu, seed)?)
    }
}

impl Training {
    pub(super) fn sde(&self, kind: Kind, model: &ScDiffEq) -> SdeTraining {
        let mut training = match kind {
            Kind::Prescient => SdeTraining::prescient(model.config()),
            _ => SdeTraining::new(model.config()),
        };
        if let Some(n) = self.epochs {
            training = training.epochs(n);
        }
        if let Some(n) = self.batch_size {
            training.batch = BatchSize::Cells(n);
        }
        training.dt = self.dt;
        if let Some(target) = self.velocity_ratio {
            training.velocity_ratio = Some(VelocityRatio {
                target,
                ..VelocityRatio::default()
            });
        }
        if self.no_velocity_ratio {
            training.velocity_ratio = None;
        }
        // scDiffEq's ratio counts steps of the solver.
        if let Some(ratio) = &mut training.velocity_ratio {
            ratio.dt = self.dt;
        }
        training.marginals.blur = self.blur.unwrap_or(training.marginals.blur);
        training.marginals.scaling = self.scaling.unwrap_or(training.marginals.scaling);
        if model.autoencoder().is_some() {
            training.contrast = None;
        }
        training.validation.share = self.validation;
        training.keep = self.keep();
        training.run.lr = self.lr.unwrap_or(training.run.lr);
        training.run.seed = self.seed;
        training
    }

    pub(super) fn flow(&self, kind: Kind) -> FlowTraining {
        let mut training = FlowTraining::default();
        if kind == Kind::Bridge {
            training.coupling = Coupling::Entropic;
        }
        if let Some(n) = self.batch_size {
            training.batch = BatchSize::Cells(n);
        }
        training.run.max_epochs = self.epochs.or(training.run.max_epochs);
        training.run.lr = self.lr.unwrap_or(training.run.lr);
        training.validation.share = self.validation;
        training.keep = self.keep();
        training.run.seed = self.seed;
        training
    }

    /// Whether some cells validate.
    pub(super) fn validates(&self) -> bool {
        self.validation > 0.0
    }

    fn keep(&self) -> Keep {
        match self.keep {
            Kept::Best => Keep::Best,
            Kept::Last => Keep::Last,
            Kept::Average => Keep::Average,
        }
    }
}
