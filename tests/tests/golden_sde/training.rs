//! The training loop: losses, gradient norms and weights of four iterations with given noise.

use candle_core::{DType, Device, Tensor};
use sc_model::optim::global_norm;
use sc_model::{Mode, Optimizer};
use sc_sde::model::{DiffusionKind, DriftKind, ScDiffEq, ScDiffEqConfig, ScDiffEqParams};
use sc_sde::nets::NetConfig;
use sc_sde::solve::{GivenIncrements, Motion};
use sc_sde::train::{Batch, Evaluated, Objective, SdeTraining};
use sc_tensor::{Rng, backward};
use serde_json::json;

use crate::analytic::increments;
use crate::golden::{Golden, cast};
use crate::nets::{config, model};

/// A model in training.
struct Loop {
    model: ScDiffEq,
    objective: Objective,
    optimizer: Optimizer,
    batch: Batch,
}

impl Loop {
    /// scDiffEq's training, at a rate of 1e-3.
    fn new(model: ScDiffEq, dt: f64, batch: Batch) -> Self {
        let mut training = SdeTraining::new(model.config());
        training.dt = dt;
        let optimizer = Optimizer::new(training.run.optimizer, model.parameters());
        assert_eq!(training.run.max_grad_norm, Some(0.5));
        Self {
            objective: Objective::new(&training, &model).unwrap(),
            model,
            optimizer,
            batch,
        }
    }

    /// One iteration: what it cost, and the norm of the gradients before they were clipped.
    fn step(&mut self, motion: &dyn Motion) -> (Evaluated, f64) {
        let rng = Rng::new(0);
        let mode = Mode::train(&rng, 0);
        let found = self
            .objective
            .evaluate(&self.model, &self.batch, motion, &mode)
            .unwrap();
        let grads = backward(&found.loss).unwrap();
        let params = self.model.parameters();
        let norm = global_norm(params, &grads).unwrap();
        self.optimizer
            .step(params, &grads, 1e-3, Some(0.5))
            .unwrap();
        (found, norm)
    }
}

#[test]
fn trace() {
    let Some(golden) = Golden::open("train_trace.safetensors") else {
        return;
    };
    for (net, class) in [("potential_m1", "PotentialSDE"), ("neural_m1", "NeuralSDE")] {
        let about = json!({"cls": class, "m": 1, "mu_hidden": [24, 20], "sigma_hidden": [12, 10]});
        for dtype in [DType::F64, DType::F32] {
            let weights = golden.below(&format!("{net}.weights0."));
            let get = |name: &str| cast(&golden.get(name), dtype);
            let batch = Batch {
                times: vec![2.0, 2.5, 3.0],
                start: get("z0"),
                rates: Some(get("growth_rate")),
                observed: (0..3).map(|k| Some(get(&format!("X_{k}")))).collect(),
                contrast: None,
            };
            let mut run = Loop::new(model(config(&about, 8), &weights, dtype), 0.125, batch);
            let mut rows = Vec::new();
            for i in 0..4 {
                let xi = golden.get("xi").get(i).unwrap();
                let (found, norm) = run.step(&increments(&xi, None, 0.125, dtype));
                let t = &found.terms;
                rows.extend(t.sinkhorn.iter().chain(&t.velocity_ratio).copied());
                rows.extend([t.total(), norm]);
            }
            let rows = Tensor::from_vec(rows, (4, 8), &Device::Cpu).unwrap();
            golden.check(&format!("{net}.trace"), &cast(&rows, dtype));
            for p in run.model.parameters().iter() {
                let key = p.name().replacen("DiffEq", &format!("{net}.weights4"), 1);
                golden.check(&key, &p.export().unwrap());
            }
        }
    }
}

/// The loop of the specification, whose weights, cells and noise are formulas: it needs no files.
struct Formulas {
    drift: DriftKind,
    /// Total and gradient norm of each iteration.
    trace: [[f64; 2]; 4],
    sinkhorn: Option<[[f64; 3]; 4]>,
    /// Sums of each parameter after four updates.
    sums: Option<[f64; 9]>,
}

const D: usize = 3;

fn matrix(n: usize, of: impl Fn(f64, f64) -> f64) -> Tensor {
    let numbers: Vec<f64> = (0..n * D)
        .map(|i| of((i / D) as f64, (i % D) as f64))
        .collect();
    Tensor::from_vec(numbers, (n, D), &Device::Cpu).unwrap()
}

fn formula_model(drift: DriftKind) -> ScDiffEq {
    let mut c = ScDiffEqConfig::new(D);
    c.drift = drift;
    c.diffusion = DiffusionKind::General { brownian_dim: 1 };
    (c.mu, c.sigma) = (NetConfig::new([8, 8]), NetConfig::new([4]));
    let valid = ScDiffEqParams::from(c).check().unwrap();
    let model = valid.init_with_dtype(&Device::Cpu, DType::F64, 0).unwrap();
    for (l, p) in model.parameters().iter().enumerate() {
        let l = l as f64;
        let value = match p.export_shape().as_slice() {
            &[n_out, n_in] => {
                let w = |i: usize| {
                    let (o, i) = ((i / n_in) as f64, (i % n_in) as f64);
                    (1.0 + 0.37 * o + 0.11 * i + l).sin() / (n_in as f64).sqrt()
                };
                Tensor::from_vec(
                    (0..n_out * n_in).map(w).collect(),
                    (n_out, n_in),
                    &Device::Cpu,
                )
            }
            shape => {
                let n = shape[0];
                let b = |o: usize| 0.1 * (0.5 * o as f64 + l).cos();
                Tensor::from_vec((0..n).map(b).collect::<Vec<f64>>(), n, &Device::Cpu)
            }
        };
        p.import(&value.unwrap()).unwrap();
    }
    model
}

impl Formulas {
    fn check(&self) {
        let rates = [0.1, 0.5, -0.2, 0.0, 0.3, 0.05];
        let target = |t: f64| {
            Some(matrix(N_TARGETS, |j, k| {
                (0.5 * j + 0.9 * k + t).cos() + 0.3 * t
            }))
        };
        let times = vec![0.0, 0.5, 1.0];
        let batch = Batch {
            start: matrix(6, |i, k| (0.9 * i + 0.4 * k).sin()),
            rates: Some(Tensor::new(&rates, &Device::Cpu).unwrap()),
            observed: times.iter().map(|&t| target(t)).collect(),
            times,
            contrast: None,
        };
        let increment = |q: usize| {
            let of = |b: usize| 0.1f64.sqrt() * (0.3 * q as f64 + 0.7 * b as f64).cos();
            Tensor::from_vec((0..6).map(of).collect::<Vec<f64>>(), (6, 1), &Device::Cpu).unwrap()
        };
        let motion = GivenIncrements::new((0..10).map(increment).collect()).unwrap();
        let mut run = Loop::new(formula_model(self.drift), 0.1, batch);
        // torchsde's clock makes an eleventh step of 1e-16.
        let near = |found: f64, expected: f64| {
            let allowed = 2e-7 * expected.abs().max(1e-3);
            assert!(
                (found - expected).abs() < allowed,
                "{found}, not {expected}"
            );
        };
        for (i, [total, norm]) in self.trace.into_iter().enumerate() {
            let (found, its_norm) = run.step(&motion);
            for (f, e) in self
                .sinkhorn
                .iter()
                .flat_map(|s| found.terms.sinkhorn.iter().zip(s[i]))
            {
                near(*f, e);
            }
            near(found.terms.total(), total);
            near(its_norm, norm);
        }
        let sums = self.sums.iter().flatten();
        for (p, e) in run.model.parameters().iter().zip(sums) {
            let sum = p.value().sum_all().unwrap().to_scalar::<f64>().unwrap();
            assert!((sum - e).abs() < 1e-7, "{}: {sum}, not {e}", p.name());
        }
    }
}

const N_TARGETS: usize = 6;

#[test]
fn specification_of_a_potential() {
    Formulas {
        drift: DriftKind::Potential,
        trace: [
            [1857.398399912172, 75.850236912809],
            [1863.033932264862, 57.329075022509],
            [1864.253716215911, 48.093463612253],
            [1_864.244_395_158_62, 46.763135822810],
        ],
        sinkhorn: Some([
            [0.648138415313, 1.18419345528, 0.376929790811],
            [0.648137359522, 1.1294209342, 0.385748798749],
            [0.648133710174, 1.10947154244, 0.392496197665],
            [0.648128176912, 1.08361517935, 0.401199895801],
        ]),
        sums: Some([
            6.65406226647,
            -0.339713954874,
            -16.7897519776,
            0.0138201267947,
            -2.38148186789,
            2.16348632483,
            0.191914560767,
            4.11360790737,
            -0.210202159209,
        ]),
    }
    .check();
}

#[test]
fn specification_of_a_field() {
    Formulas {
        drift: DriftKind::Neural,
        trace: [
            [1854.070671569724, 180.517671817785],
            [1847.505070801201, 202.847551400678],
            [1841.871172359905, 222.721096063323],
            [1836.559046323524, 242.076968199430],
        ],
        sinkhorn: None,
        sums: None,
    }
    .check();
}
