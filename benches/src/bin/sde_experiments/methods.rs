//! What is compared, and how it is trained.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use candle_core::{DType, Device};
use sc_model::Mode;
use sc_model::train::Fitted;
use sc_sde::flow::{Coupling, Flow, FlowTraining};
use sc_sde::model::{DiffusionKind, ScDiffEq, VelocityRatio};
use sc_sde::nets::{Activation, NetConfig};
use sc_sde::solve::Sde;
use sc_sde::train::{BatchSize, SdeTraining};

use crate::Result;
use crate::common::{Common, Training};
use crate::runs;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    /// A potential's drift and a learned diffusion, with one Brownian motion, the ratio of both kept near a number or free.
    Ratio(Option<f64>),
    /// The same drift with constant noise, each coordinate its own.
    Isotropic,
    /// The same drift alone.
    Ode,
    Prescient,
    OtCfm,
    Sf2m,
    /// Regression on places, taught with fates.
    Logistic,
    /// The mean fates of the nearest cells, taught with fates.
    Neighbours,
    /// The mean fates of all cells, taught with fates.
    Frequencies,
    /// Nothing moves: labels of the nearest differentiated cells.
    Nearest,
    /// Guesses at a withheld day.
    Simple,
}

/// Methods without a number in their names.
const NAMED: [(&str, Method); 11] = [
    ("ratio-none", Method::Ratio(None)),
    ("isotropic", Method::Isotropic),
    ("ode", Method::Ode),
    ("prescient", Method::Prescient),
    ("ot-cfm", Method::OtCfm),
    ("sf2m", Method::Sf2m),
    ("logistic", Method::Logistic),
    ("neighbours", Method::Neighbours),
    ("frequencies", Method::Frequencies),
    ("nearest", Method::Nearest),
    ("simple", Method::Simple),
];

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Ratio(Some(target)) = self {
            return write!(f, "ratio-{target}");
        }
        let name = NAMED.iter().find(|n| n.1 == *self);
        f.write_str(name.map_or("", |n| n.0))
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(named) = NAMED.iter().find(|n| n.0 == s) {
            return Ok(named.1);
        }
        let target = s.strip_prefix("ratio-").and_then(|n| n.parse().ok());
        match target.filter(|t: &f64| t.is_finite()) {
            Some(t) => Ok(Self::Ratio(Some(t))),
            None => {
                let names = NAMED.map(|n| n.0).join(", ");
                Err(format!("it is one of ratio-NUMBER, {names}"))
            }
        }
    }
}

impl Method {
    /// Whether it learns how cells move.
    pub(crate) fn is_trained(self) -> bool {
        matches!(
            self,
            Self::Ratio(_)
                | Self::Isotropic
                | Self::Ode
                | Self::Prescient
                | Self::OtCfm
                | Self::Sf2m
        )
    }
}

/// A trained model.
pub(crate) struct Trained {
    model: Model,
    pub(crate) history: serde_json::Value,
    /// Seconds of training, validation included.
    pub(crate) seconds: f64,
}

enum Model {
    Neural(Box<ScDiffEq>),
    Flow(Box<Flow>),
}

impl Trained {
    /// How cells move.
    pub(crate) fn equation(&self) -> Result<Box<dyn Sde + Sync>> {
        let mode = Mode::eval();
        Ok(match &self.model {
            Model::Neural(m) => Box::new(m.equation(&mode)?),
            Model::Flow(m) => Box::new(m.equation(&mode)?),
        })
    }

    pub(crate) fn dtype(&self) -> DType {
        match &self.model {
            Model::Neural(m) => m.parameters().dtype(),
            Model::Flow(m) => m.parameters().dtype(),
        }
    }
}

/// Trains a method on cells that it isn't told the fates of.
pub(crate) fn train(method: Method, cells: &Training, c: &Common, seed: u64) -> Result<Trained> {
    let start = Instant::now();
    let (model, history) = match method {
        Method::OtCfm | Method::Sf2m => flow(method, cells, c, seed)?,
        _ => neural(method, cells, c, seed)?,
    };
    Ok(Trained {
        model,
        history,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn neural(
    method: Method,
    cells: &Training,
    c: &Common,
    seed: u64,
) -> Result<(Model, serde_json::Value)> {
    let d = cells.places.ncols();
    let activation = match c.smooth {
        true => Activation::Softplus,
        false => Activation::LeakyReLU,
    };
    let params = match method {
        Method::Prescient => ScDiffEq::prescient(d),
        _ => ScDiffEq::params(d)
            .mu(NetConfig::new([c.width, c.width]).activation(activation))
            .sigma(NetConfig::new([32, 32]).activation(activation)),
    };
    let params = match method {
        Method::Ode => params.diffusion(DiffusionKind::None),
        Method::Isotropic => params.diffusion(DiffusionKind::Isotropic { sigma: c.noise }),
        _ => params,
    };
    let mut model = params.check()?.init(&Device::Cpu, seed)?;
    let mut training = match method {
        Method::Prescient => {
            model.start_without_drift()?;
            SdeTraining::prescient(model.config())
        }
        _ => SdeTraining::new(model.config()),
    }
    .epochs(c.epochs);
    if method != Method::Prescient {
        training.run.lr = c.lr;
    }
    training.velocity_ratio = match method {
        Method::Ratio(Some(target)) => Some(VelocityRatio {
            target,
            enforce: c.enforce,
            ..VelocityRatio::default()
        }),
        _ => None,
    };
    training.batch = BatchSize::Cells(c.batch);
    (training.marginals.blur, training.marginals.scaling) = (c.blur, c.scaling);
    training.run.seed = seed;
    training.run.split.given = Some(cells.split.clone());
    let mut history = serde_json::json!({});
    if c.pretrain > 0 && method != Method::Prescient {
        let mut first = of_flow(cells, c, seed);
        first.run.max_epochs = Some(c.pretrain);
        let fitted = model.pretrain_drift(&cells.snapshots, &first, &mut ())?;
        history["pretraining"] = runs::history(&fitted.history);
    }
    let fitted = model.fit(&cells.snapshots, &training, &mut ())?;
    note(&mut history, &fitted);
    Ok((Model::Neural(Box::new(model)), history))
}

fn flow(
    method: Method,
    cells: &Training,
    c: &Common,
    seed: u64,
) -> Result<(Model, serde_json::Value)> {
    let bridge = method == Method::Sf2m;
    let net = NetConfig::new([c.width; 3]).activation(Activation::SELU);
    let params = Flow::params(&cells.snapshots)?.net(net);
    let params = params.sigma(bridge.then_some(c.noise)).check()?;
    let mut model = params.init(&Device::Cpu, seed)?;
    let mut training = of_flow(cells, c, seed);
    if bridge {
        training.coupling = Coupling::Entropic;
    }
    let fitted = model.fit(&cells.snapshots, &training, &mut ())?;
    let mut history = serde_json::json!({});
    note(&mut history, &fitted);
    Ok((Model::Flow(Box::new(model)), history))
}

fn of_flow(cells: &Training, c: &Common, seed: u64) -> FlowTraining {
    let mut training = FlowTraining::default();
    training.run.max_epochs = Some(c.flow_epochs);
    training.run.seed = seed;
    training.run.split.given = Some(cells.split.clone());
    training
}

fn note(history: &mut serde_json::Value, fitted: &Fitted) {
    history["training"] = runs::history(&fitted.history);
    history["stop"] = serde_json::json!(format!("{:?}", fitted.stop));
}
