mod gradients;
mod known;
mod refused;
mod runs;

use candle_core::{DType, Device, Tensor};
use sc_model::train::{Control, Observer, StepEvent};
use sc_model::{LrSchedule, OptimizerKind, Params};
use sc_tensor::Rng;

use super::*;
use crate::model::{ScDiffEq, ScDiffEqParams};
use crate::nets::{Activation, NetConfig};
use crate::solve::{BrownianPath, Schedule, Scheme, Sde, Solve};

/// Paths of `sde` from `start` (`[cells, D]`), other cells at each of the times: snapshots of a system that is known.
fn observed(sde: &dyn Sde, start: &Tensor, m: usize, times: &[f64]) -> Snapshots {
    let n = start.dim(0).unwrap();
    let dt = 0.01;
    let mut clouds = vec![(times[0], start.clone())];
    for (k, &t) in times.iter().enumerate().skip(1) {
        let path = BrownianPath::new(100 + k as u64, n, m, times[0], dt).unwrap();
        let schedule = Schedule::grid(&[times[0], t], dt).unwrap();
        let states = Solve::new(sde, Scheme::Euler, &path, &schedule).run(start);
        clouds.push((t, states.unwrap()[1].clone()));
    }
    Snapshots::from_clouds(&clouds).unwrap()
}

/// `n` cells, normal around `mean` with this standard deviation in each dimension.
pub(crate) fn cloud(n: usize, mean: &[f64], sd: f64, seed: u64) -> Tensor {
    let mut stream = Rng::new(seed).stream("cloud");
    let noise = stream.normal((n, mean.len()), DType::F32, &Device::Cpu);
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let mean = Tensor::new(mean, &Device::Cpu).unwrap();
    (noise.unwrap() * sd).unwrap().broadcast_add(&mean).unwrap()
}

fn small(params: ScDiffEqParams, width: usize) -> ScDiffEqParams {
    let net = |n| NetConfig::new([n, n]).activation(Activation::SiLU);
    params.mu(net(width)).sigma(net(8))
}

fn adam() -> OptimizerKind {
    OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 1e-8,
        weight_decay: 0.0,
    }
}

/// A short training with a fast optimiser.
fn fast(model: &ScDiffEq, epochs: usize, lr: f64) -> SdeTraining {
    let mut training = SdeTraining::new(model.config());
    training.velocity_ratio = None;
    training.batch = BatchSize::Cells(256);
    training.run.optimizer = adam();
    training.run.lr = lr;
    training.run.lr_schedule = LrSchedule::Cosine {
        n_epochs: epochs,
        min_lr: 0.1 * lr,
    };
    training.run.max_epochs = Some(epochs);
    training
}

/// Where the model takes cells by `to`.
fn moved(model: &ScDiffEq, start: &Tensor, from: f64, to: f64) -> Vec<Vec<f32>> {
    let equation = model.equation(&sc_model::Mode::eval()).unwrap();
    let (n, m) = (start.dim(0).unwrap(), model.config().brownian_dim());
    let path = BrownianPath::new(7, n, m, from, 0.05).unwrap();
    let schedule = Schedule::grid(&[from, to], 0.05).unwrap();
    let states = Solve::new(&equation, Scheme::Euler, &path, &schedule).run(start);
    states.unwrap()[1].to_vec2::<f32>().unwrap()
}

fn mean_and_sd(rows: &[Vec<f32>], column: usize) -> (f64, f64) {
    let n = rows.len() as f64;
    let values = rows.iter().map(|r| f64::from(r[column]));
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// The numbers of all parameters.
pub(crate) fn weights(params: &Params) -> Vec<f32> {
    let numbers = params.iter().flat_map(|p| {
        let flat = p.value().flatten_all().unwrap();
        flat.to_vec1::<f32>().unwrap()
    });
    numbers.collect()
}

/// Stops after so many minibatches.
pub(crate) struct StopAfter(pub(crate) usize);

impl Observer for StopAfter {
    fn on_step(&mut self, _: &StepEvent<'_>) -> sc_model::Result<Control> {
        self.0 = self.0.saturating_sub(1);
        Ok(if self.0 == 0 {
            Control::Stop
        } else {
            Control::Continue
        })
    }
}
