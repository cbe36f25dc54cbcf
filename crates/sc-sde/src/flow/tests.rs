use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_tensor::Rng;

use super::*;
use crate::model::{DiffusionKind, DriftKind, ScDiffEq};
use crate::nets::{Activation, NetConfig};
use crate::solve::zoo::{Bifurcation, OrnsteinUhlenbeck};
use crate::solve::{BrownianPath, Schedule, Scheme, Sde, Solve};
use crate::train::Snapshots;
use crate::transport::Sinkhorn;

fn cloud(n: usize, mean: &[f64], sd: f64, seed: u64) -> Tensor {
    let mut stream = Rng::new(seed).stream("cloud");
    let noise = stream.normal((n, mean.len()), DType::F32, &Device::Cpu);
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let mean = Tensor::new(mean, &Device::Cpu).unwrap();
    (noise.unwrap() * sd).unwrap().broadcast_add(&mean).unwrap()
}

fn run(sde: &dyn Sde, start: &Tensor, times: &[f64], seed: u64) -> Vec<Tensor> {
    let (n, d) = start.dims2().unwrap();
    let m = match sde.noise() {
        crate::solve::Noise::Absent => 0,
        _ => d,
    };
    let path = BrownianPath::new(seed, n, m, times[0], 0.02).unwrap();
    let schedule = Schedule::grid(times, 0.02).unwrap();
    Solve::new(sde, Scheme::Euler, &path, &schedule)
        .run(start)
        .unwrap()
}

/// Other cells at each time.
fn observed(sde: &dyn Sde, start: &Tensor, times: &[f64]) -> Snapshots {
    let later = times.iter().enumerate().skip(1).map(|(k, &t)| {
        let states = run(sde, start, &[times[0], t], 50 + k as u64);
        (t, states[1].clone())
    });
    let clouds: Vec<_> = std::iter::once((times[0], start.clone()))
        .chain(later)
        .collect();
    Snapshots::from_clouds(&clouds).unwrap()
}

fn trained(cells: &Snapshots, params: FlowParams, coupling: Coupling, epochs: usize) -> Flow {
    let mut flow = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
    let mut training = FlowTraining {
        coupling,
        ..FlowTraining::default()
    };
    training.batch = crate::train::BatchSize::Cells(128);
    training.run.max_epochs = Some(epochs);
    training.run.lr = 3e-3;
    let fitted = flow.fit(cells, &training, &mut ()).unwrap();
    assert_eq!(fitted.history.values("validation_loss").len(), epochs);
    flow
}

fn divergence(a: &Tensor, b: &Tensor) -> f64 {
    let loss = Sinkhorn::params().check().unwrap().loss(a, b).unwrap();
    f64::from(loss.to_scalar::<f32>().unwrap())
}

fn moments(cells: &Tensor, column: usize) -> (f64, f64) {
    let rows = cells.to_vec2::<f32>().unwrap();
    let n = rows.len() as f64;
    let values = rows.iter().map(|r| f64::from(r[column]));
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// An ODE through the snapshots of a valley that splits.
#[test]
fn an_ode_follows_the_branches() {
    let start = cloud(400, &[0.0, 0.0], 0.2, 5);
    let times = [0.0, 1.0, 2.0, 3.0];
    let cells = observed(&Bifurcation::default(), &start, &times);
    let flow = trained(&cells, Flow::params(&cells).unwrap(), Coupling::Exact, 80);
    let equation = flow.equation(&Mode::eval()).unwrap();
    let states = run(&equation, &cloud(400, &[0.0, 0.0], 0.2, 6), &times, 1);
    for k in 1..4 {
        let there = cells
            .rows(cells.cells_at(k), DType::F32, &Device::Cpu)
            .unwrap();
        let (off, far) = (
            divergence(&states[k], &there),
            divergence(&states[0], &there),
        );
        assert!(off < 0.1 * far, "time {k}: {off}, where none moved {far}");
    }
}

/// A Schroedinger bridge with the true noise: its SDE and its ODE have the marginals of the data.
#[test]
fn a_bridge_has_the_marginals() {
    let truth = OrnsteinUhlenbeck::new(1.0, 0.0, 0.5);
    let start = cloud(500, &[2.0], 0.3, 1);
    let cells = observed(&truth, &start, &[0.0, 1.0, 2.0]);
    let params = Flow::params(&cells).unwrap().sigma(0.5);
    let flow = trained(&cells, params, Coupling::Entropic, 200);
    let (sde, ode) = (
        flow.equation(&Mode::eval()).unwrap(),
        flow.probability_flow(&Mode::eval()).unwrap(),
    );
    let start = cloud(3000, &[2.0], 0.3, 2);
    for equation in [&sde as &dyn Sde, &ode] {
        let states = run(equation, &start, &[0.0, 1.0, 2.0], 3);
        for (k, t) in [(1, 1.0), (2, 2.0)] {
            let (mean, variance) = truth.moments(2.0, t);
            let sd = (variance + (0.3 * (-t).exp()).powi(2)).sqrt();
            let found = moments(&states[k], 0);
            assert!((found.0 - mean).abs() < 0.1, "{found:?}, not {mean}");
            assert!((found.1 - sd).abs() < 0.1, "{found:?}, not {sd}");
        }
    }
}

/// One of two groups triples while neither moves.
#[test]
fn growth_is_learned() {
    let groups = |left, right, seed| {
        let (a, b) = (
            cloud(left, &[-2.0, 0.0], 0.2, seed),
            cloud(right, &[2.0, 0.0], 0.2, seed + 1),
        );
        Tensor::cat(&[&a, &b], 0).unwrap()
    };
    let clouds = [(0.0, groups(200, 200, 1)), (2.0, groups(100, 300, 3))];
    let cells = Snapshots::from_clouds(&clouds).unwrap();
    let params = Flow::params(&cells).unwrap().growth(true);
    let flow = trained(&cells, params, Coupling::Unbalanced { reach: 1.0 }, 80);
    let at = |x: f32| {
        let z = Tensor::new(&[[x, 0f32]], &Device::Cpu).unwrap();
        let rate = flow.growth(&z, 1.0).unwrap().to_vec1::<f32>().unwrap()[0];
        let v = flow.velocity(&z, 1.0).unwrap().to_vec2::<f32>().unwrap()[0][0];
        (f64::from(rate), f64::from(v))
    };
    let ((left, v_left), (right, v_right)) = (at(-2.0), at(2.0));
    // Three times as many after two days.
    let expected = 3f64.ln() / 2.0;
    assert!((right - left - expected).abs() < 0.15, "{left} {right}");
    assert!(
        v_left.abs() < 0.2 && v_right.abs() < 0.2,
        "{v_left} {v_right}"
    );
}

/// Pretraining gives a drift that goes to the right place, in a fraction of the time.
#[test]
fn a_pretrained_drift_points_the_right_way() {
    let clouds = [
        (0.0, cloud(300, &[0.0, 0.0], 0.3, 1)),
        (2.0, cloud(300, &[3.0, 1.0], 0.3, 2)),
    ];
    let cells = Snapshots::from_clouds(&clouds).unwrap();
    for drift in [DriftKind::Potential, DriftKind::Neural] {
        let mu = NetConfig::new([32, 32]).activation(Activation::SiLU);
        let params = ScDiffEq::params(2).drift(drift).mu(mu);
        let params = params.diffusion(DiffusionKind::None);
        let mut model = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
        let mut training = FlowTraining {
            batch: crate::train::BatchSize::Cells(64),
            ..FlowTraining::default()
        };
        training.run.max_epochs = Some(40);
        training.run.lr = 5e-3;
        model.pretrain_drift(&cells, &training, &mut ()).unwrap();
        let equation = model.equation(&Mode::eval()).unwrap();
        let states = run(&equation, &clouds[0].1, &[0.0, 2.0], 1);
        let (x, y) = (moments(&states[1], 0).0, moments(&states[1], 1).0);
        assert!((x - 3.0).abs() < 0.3 && (y - 1.0).abs() < 0.3, "{x} {y}");
    }
}

#[test]
fn a_saved_flow_is_the_same() {
    let cells = Snapshots::from_clouds(&[
        (0.0, cloud(20, &[0.0, 0.0], 1.0, 1)),
        (1.0, cloud(20, &[1.0, 0.0], 1.0, 2)),
    ])
    .unwrap();
    let params = Flow::params(&cells).unwrap().sigma(0.3).growth(true);
    let flow = params.check().unwrap().init(&Device::Cpu, 3).unwrap();
    let dir = tempfile::tempdir().unwrap();
    flow.save(dir.path()).unwrap();
    let again = Flow::load(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(again.config(), flow.config());
    let v = |f: &Flow| {
        f.velocity(cells.states(), 0.5)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    assert_eq!(v(&again), v(&flow));
    let other = ScDiffEq::load(dir.path(), &Device::Cpu).unwrap_err();
    assert!(other.to_string().contains("\"flow\""), "{other}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let cells = Snapshots::from_clouds(&[
        (0.0, cloud(20, &[0.0, 0.0], 1.0, 1)),
        (1.0, cloud(20, &[1.0, 0.0], 1.0, 2)),
    ])
    .unwrap();
    let params = || Flow::params(&cells).unwrap();
    let refused = |params: FlowParams, coupling| {
        let mut flow = params.check().unwrap().init(&Device::Cpu, 0).unwrap();
        let training = FlowTraining {
            coupling,
            ..FlowTraining::default()
        };
        let error = flow.fit(&cells, &training, &mut ()).unwrap_err();
        error.to_string()
    };
    assert!(refused(params(), Coupling::Entropic).contains("sigma"));
    assert!(refused(params(), Coupling::Unbalanced { reach: 1.0 }).contains("growth"));
    assert!(refused(params().growth(true), Coupling::Exact).contains("growth"));
    assert!(params().sigma(-1.0).check().is_err());
    let flow = params().check().unwrap().init(&Device::Cpu, 0).unwrap();
    let error = flow.growth(cells.states(), 0.0).unwrap_err();
    assert!(error.to_string().contains("without a net of growth"));
}
