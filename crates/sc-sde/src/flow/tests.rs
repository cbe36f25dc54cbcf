use candle_core::{DType, Device, Tensor};
use sc_model::Mode;
use sc_model::train::{Checkpoint, ResumeState, StopReason};

use super::*;
use crate::model::{DiffusionKind, DriftKind, ScDiffEq};
use crate::nets::{Activation, NetConfig};
use crate::solve::zoo::{Bifurcation, OrnsteinUhlenbeck};
use crate::solve::{BrownianPath, Schedule, Scheme, Sde, Solve};
use crate::train::tests::{StopAfter, cloud, weights};
use crate::train::{Keep, Snapshots};
use crate::transport::Sinkhorn;

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

/// Normal clouds whose Schroedinger bridge is known (Bunne et al. 2023, "The Schroedinger bridge between Gaussian measures has a
/// closed form"). Of a dimension with the variances `a` and `b` at the ends and the noise `s^2` between them, the covariance of
/// start and end is `c = (sqrt(4 a b + s^4) - s^2) / 2`, and the variance at the share `t` of the way
/// `(1 - t)^2 a + t^2 b + 2 t (1 - t) c + t (1 - t) s^2`. The covariances of pairs by
/// chance (0) and by exact transport (`sqrt(a b)`) are far off.
#[test]
fn a_bridge_between_normal_clouds_is_that_of_the_formula() {
    let (sigma, time) = (0.7, 2.0);
    let (sds, moved) = ([(1.5, 1.0), (1.0, 1.0)], [3.0, 0.0]);
    let scaled = |n: usize, mean: &[f64], end: usize, seed| {
        let sd = sds.map(|s| [s.0, s.1][end] as f32);
        let noise = cloud(n, &[0.0, 0.0], 1.0, seed);
        let noise = noise.broadcast_mul(&Tensor::new(&sd, &Device::Cpu).unwrap());
        let mean = Tensor::new(
            mean.iter().map(|&m| m as f32).collect::<Vec<_>>(),
            &Device::Cpu,
        );
        noise.unwrap().broadcast_add(&mean.unwrap()).unwrap()
    };
    let clouds = [
        (0.0, scaled(1500, &[0.0, 0.0], 0, 11)),
        (time, scaled(1500, &moved, 1, 12)),
    ];
    let cells = Snapshots::from_clouds(&clouds).unwrap();
    let params = Flow::params(&cells).unwrap().sigma(sigma);
    let flow = trained(&cells, params, Coupling::Entropic, 120);
    let start = scaled(4000, &[0.0, 0.0], 0, 13);
    let sde = flow.equation(&Mode::eval()).unwrap();
    let states = run(&sde, &start, &[0.0, 0.5 * time, time], 3);
    for (k, (a, b)) in sds.map(|s| (s.0 * s.0, s.1 * s.1)).into_iter().enumerate() {
        let noise = sigma * sigma * time;
        let c = 0.5 * ((4.0 * a * b + noise * noise).sqrt() - noise);
        let middle = 0.25 * a + 0.25 * b + 0.5 * c + 0.25 * noise;
        let (mean, sd) = moments(&states[1], k);
        assert!((mean - 0.5 * moved[k]).abs() < 0.1, "{k}: {mean}");
        assert!(
            (sd - middle.sqrt()).abs() < 0.1,
            "{k}: {sd}, not {}",
            middle.sqrt()
        );
        let both = (
            (&states[0] + &states[2]).unwrap(),
            (&states[0] - &states[2]).unwrap(),
        );
        let square = |t: &Tensor| moments(t, k).1.powi(2);
        let found = 0.25 * (square(&both.0) - square(&both.1));
        assert!(
            (found - c).abs() < 0.15 * (a * b).sqrt(),
            "{k}: {found}, not {c}"
        );
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
fn a_killed_flow_goes_on_bit_for_bit() {
    let cells = Snapshots::from_clouds(&[
        (0.0, cloud(40, &[0.0, 0.0], 0.5, 1)),
        (1.0, cloud(50, &[1.0, 0.0], 0.5, 2)),
        (2.0, cloud(30, &[2.0, 1.0], 0.5, 3)),
    ])
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.safetensors");
    let net = NetConfig::new([16])
        .activation(Activation::SELU)
        .dropout(0.1);
    for (coupling, keep) in [
        (Coupling::Exact, Keep::Best),
        (Coupling::Entropic, Keep::Average),
        (Coupling::Unbalanced { reach: 2.0 }, Keep::Last),
    ] {
        let new = || {
            let params = Flow::params(&cells).unwrap().net(net.clone());
            let params = params.sigma((coupling == Coupling::Entropic).then_some(0.5));
            let params = params.growth(matches!(coupling, Coupling::Unbalanced { .. }));
            params.check().unwrap().init(&Device::Cpu, 0).unwrap()
        };
        let mut training = FlowTraining {
            coupling,
            keep,
            ..FlowTraining::default()
        };
        training.batch = crate::train::BatchSize::Cells(20);
        training.run.max_epochs = Some(4);
        let mut whole = new();
        let fitted = whole.fit(&cells, &training, &mut ()).unwrap();
        for stop in [1, 3, 7] {
            let saver = Checkpoint::new(&file, std::time::Duration::ZERO);
            let stopped = new().fit(&cells, &training, &mut (StopAfter(stop), saver));
            assert_eq!(stopped.unwrap().stop, StopReason::Interrupted);
            let mut resumed = new();
            let state = ResumeState::load(&file).unwrap();
            let again = resumed.resume(&cells, &training, &state, &mut ()).unwrap();
            assert_eq!(
                weights(resumed.parameters()),
                weights(whole.parameters()),
                "{coupling:?}, {stop}"
            );
            assert_eq!(again.history, fitted.history, "{coupling:?}, {stop}");
        }
        // Other settings are another run.
        training.path_sigma = 0.3;
        let state = ResumeState::load(&file).unwrap();
        let error = new().resume(&cells, &training, &state, &mut ());
        let message = error.unwrap_err().to_string();
        assert!(message.contains("other settings"), "{message}");
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
