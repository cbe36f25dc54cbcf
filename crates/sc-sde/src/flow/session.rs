//! Flow matching, as the loop of sc-model sees it.

use candle_core::{DType, Tensor};
use sc_model::train::{Loss, Split, Step, TrainConfig, Trainable};
use sc_model::{Mode, Params};
use sc_tensor::Stream;

use super::minibatch::{Draw, Points};
use super::{Coupling, Flow, FlowTraining};
use crate::model::ScDiffEq;
use crate::solve::{At, Sde};
use crate::train::{BatchSize, Snapshots, minibatches};
use crate::{Error, Result};

/// What learns from points on bridges.
pub(super) enum Learner<'a> {
    Flow(&'a Flow),
    /// The drift of a neural SDE, which doesn't depend on time, and the size of its target.
    Drift(&'a ScDiffEq, f64),
}

/// The fewest points between two times that validate.
const VALIDATION_POINTS: usize = 2048;

pub(super) struct Session<'a> {
    learner: Learner<'a>,
    training: &'a FlowTraining,
    draw: Draw,
}

impl<'a> Session<'a> {
    pub(super) fn of_flow(
        flow: &'a Flow,
        data: &Snapshots,
        training: &'a FlowTraining,
    ) -> Result<Self> {
        let c = flow.config();
        let unbalanced = matches!(training.coupling, Coupling::Unbalanced { .. });
        if c.growth != unbalanced {
            return Err(Error::InvalidSetting {
                name: "coupling",
                value: format!("{:?}", training.coupling),
                reason: "a net of growth is trained by Coupling::Unbalanced, and by nothing else; see FlowParams::growth"
                    .into(),
            });
        }
        if training.coupling == Coupling::Entropic && c.sigma.is_none() {
            return Err(Error::InvalidSetting {
                name: "coupling",
                value: "Entropic".into(),
                reason: "it belongs to a Schroedinger bridge; give the flow a sigma, or use Coupling::Exact".into(),
            });
        }
        Self::new(Learner::Flow(flow), c.n_latent, c.sigma, data, training)
    }

    pub(super) fn new(
        learner: Learner<'a>,
        n_latent: usize,
        sigma: Option<f64>,
        data: &Snapshots,
        training: &'a FlowTraining,
    ) -> Result<Self> {
        training.check()?;
        if training.validation.redraw {
            return Err(Error::InvalidSetting {
                name: "validation.redraw",
                value: "true".into(),
                reason: "only training by simulation redraws the cells that validate".into(),
            });
        }
        if data.dim() != n_latent {
            return Err(Error::Shape {
                what: "the states of cells",
                found: data.states().dims().to_vec(),
                expected: format!("[cells, {n_latent}], the dimensions of the model"),
            });
        }
        let draw = Draw {
            coupling: training.coupling,
            sigma,
            path_sigma: training.path_sigma,
        };
        Ok(Self {
            learner,
            training,
            draw,
        })
    }

    /// The settings of the loop: validation sees all of its cells at once.
    pub(super) fn run(&self, data: &Snapshots) -> TrainConfig {
        let mut run = self.training.run.clone();
        run.batch_size = data.n_cells().max(1);
        run
    }

    fn evaluate(&self, data: &Snapshots, rows: &[usize], step: &Step<'_>) -> Result<Loss> {
        let params = self.params();
        let training = step.mode.is_training();
        let mut groups = data.by_time(rows);
        if let (BatchSize::Cells(n), false) = (self.training.batch, training) {
            // No more than a minibatch has: exact transport takes more than the square of it.
            groups.iter_mut().for_each(|g| g.truncate(n));
        }
        // Validation has the same points in every epoch, so that epochs can be compared, and many: what is learned is a mean,
        // and single points are far from it.
        let (mut stream, least) = match training {
            true => (step.rng.stream("bridges").at(&[step.step]), 1),
            false => (step.rng.stream("validation/bridges"), VALIDATION_POINTS),
        };
        let dtype = (least, params.dtype());
        let points = self.draw.points(data, &groups, dtype, &mut stream)?;
        let points = points.on(params.device())?;
        let n = points.x.dim(0)?;
        let (loss, terms) = match &self.learner {
            Learner::Flow(flow) => of_flow(flow, &points, &step.mode)?,
            Learner::Drift(model, size) => {
                let loss = of_drift(model, *size, &points, &step.mode)?;
                (loss.clone(), vec![("velocity_loss", number(&loss)?)])
            }
        };
        let sums = terms.into_iter().map(|(name, v)| (name, v * n as f64));
        Ok(Loss {
            loss,
            sums: sums.collect(),
            n_cells: n,
        })
    }
}

impl Points {
    fn on(self, device: &candle_core::Device) -> Result<Self> {
        let to = |t: Tensor| t.to_device(device);
        Ok(Self {
            x: to(self.x)?,
            t: to(self.t)?,
            velocity: to(self.velocity)?,
            weight: self.weight.map(to).transpose()?,
            score: match self.score {
                Some((w, eps)) => Some((to(w)?, to(eps)?)),
                None => None,
            },
            growth: self.growth.map(to).transpose()?,
        })
    }
}

/// Squared errors of velocity, score and growth, each a mean over points and dimensions in units of the nets.
fn of_flow(
    flow: &Flow,
    points: &Points,
    mode: &Mode<'_>,
) -> Result<(Tensor, Vec<(&'static str, f64)>)> {
    let c = flow.config();
    let said = flow.equation(mode)?.say(&points.x, &points.t)?;
    let target = (&points.velocity * (c.span / c.scale))?;
    let mut errors = (said.velocity - target)?.sqr()?;
    if let Some(weight) = &points.weight {
        errors = errors.broadcast_mul(weight)?;
    }
    let mut loss = errors.mean_all()?;
    let mut terms = vec![("velocity_loss", number(&loss)?)];
    if let (Some(score), Some((weight, noise))) = (said.score, &points.score) {
        let weighted = (score * (c.scale / c.span))?.broadcast_mul(weight)?;
        let term = (weighted + noise)?.sqr()?.mean_all()?;
        terms.push(("score_loss", number(&term)?));
        loss = (loss + term)?;
    }
    if let (Some(growth), Some(rates)) = (said.growth, &points.growth) {
        let term = (growth - (rates * c.span)?)?.sqr()?.mean_all()?;
        terms.push(("growth_loss", number(&term)?));
        loss = (loss + term)?;
    }
    Ok((loss, terms))
}

/// The squared error of the drift, relative to the size of the velocities.
fn of_drift(model: &ScDiffEq, size: f64, points: &Points, mode: &Mode<'_>) -> Result<Tensor> {
    let at = At {
        t: 0.0,
        step: 0,
        stage: 0,
    };
    let f = model.equation(mode)?.drift(at, &points.x)?;
    let off = ((f - &points.velocity)? * (1.0 / size))?;
    Ok(off.sqr()?.mean_all()?)
}

fn number(t: &Tensor) -> Result<f64> {
    Ok(t.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?)
}

impl Trainable<Snapshots> for Session<'_> {
    fn params(&self) -> &Params {
        match &self.learner {
            Learner::Flow(flow) => flow.parameters(),
            Learner::Drift(model, _) => model.parameters(),
        }
    }

    fn n_cells(&self, data: &Snapshots) -> usize {
        data.n_cells()
    }

    fn split(&self, data: &Snapshots, config: &TrainConfig) -> sc_model::Result<Split> {
        self.training.validation.split_for(data, config)
    }

    /// The loop cuts nothing: a minibatch has cells of every time.
    fn minibatches(
        &self,
        data: &Snapshots,
        cells: &[usize],
        _: usize,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        minibatches(&data.by_time(cells), self.training.batch, stream)
    }

    fn settings(&self) -> String {
        let without_run = FlowTraining {
            run: TrainConfig::default(),
            ..self.training.clone()
        };
        serde_json::to_string(&without_run).unwrap_or_default()
    }

    fn loss(&self, data: &Snapshots, rows: &[usize], step: &Step<'_>) -> sc_model::Result<Loss> {
        self.evaluate(data, rows, step).map_err(|source| {
            sc_model::Error::model(Error::InEpoch {
                epoch: step.epoch,
                minibatch: step.step_in_epoch,
                source: Box::new(source),
            })
        })
    }
}
