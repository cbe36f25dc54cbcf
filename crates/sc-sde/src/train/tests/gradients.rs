//! Gradients of the loss against finite differences, for the parts that the reference numbers don't have.

use super::*;
use crate::model::{DiffusionKind, DriftKind};
use crate::nets::AutoencoderConfig;
use sc_model::Mode;
use sc_tensor::backward;

/// Two times of 6 and 5 cells in `d` dimensions, in 64 bits.
fn batch(d: usize) -> Batch {
    let cells = |n: usize, off: f64| {
        let numbers: Vec<f64> = (0..n * d).map(|i| (0.9 * i as f64 + off).sin()).collect();
        Tensor::from_vec(numbers, (n, d), &Device::Cpu).unwrap()
    };
    Batch {
        times: vec![0.0, 0.5],
        start: cells(6, 0.0),
        rates: Some(Tensor::new(&[0.1f64, 0.5, -0.2, 0.0, 0.3, 0.05], &Device::Cpu).unwrap()),
        observed: vec![None, Some(cells(5, 0.7))],
        contrast: None,
    }
}

/// Compares the gradient in some numbers of every parameter with a difference of losses.
fn check(
    params: ScDiffEqParams,
    d: usize,
    set: impl Fn(&mut SdeTraining),
    with: impl Fn(&mut Batch),
) {
    let valid = params.check().unwrap();
    let model = valid.init_with_dtype(&Device::Cpu, DType::F64, 4).unwrap();
    let mut training = SdeTraining::new(model.config());
    training.velocity_ratio = None;
    // So wide that the schedule converges: gradients are exact at convergence.
    training.marginals.blur = 2.0;
    training.marginals.scaling = 0.98;
    set(&mut training);
    let objective = Objective::new(&training, &model).unwrap();
    let mut batch = batch(d);
    with(&mut batch);
    let path = BrownianPath::new(3, 6, objective.brownian_dim(&model), 0.0, 0.1).unwrap();
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0);
    let loss = || {
        let found = objective.evaluate(&model, &batch, &path, &mode).unwrap();
        let value = found.loss.detach().to_scalar::<f64>().unwrap();
        assert!((value - found.terms.total()).abs() < 1e-9 * value.abs().max(1.0));
        (value, found.loss)
    };
    let grads = backward(&loss().1).unwrap();
    // Unbalanced potentials lag behind the schedule by some percent.
    let (relative, absolute) = match training.marginals.reach {
        Some(_) => (0.05, 0.02),
        None => (2e-3, 1e-4),
    };
    let mut pairs = Vec::new();
    let h = 1e-5;
    for p in model.parameters().iter() {
        let value = p.value().copy().unwrap();
        let shape = value.shape().clone();
        let flat = value.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let grad = grads.get(p.var().as_tensor());
        let grad = match grad {
            Some(g) => g.flatten_all().unwrap().to_vec1::<f64>().unwrap(),
            None => vec![0.0; flat.len()],
        };
        for i in [0, flat.len() / 2, flat.len() - 1] {
            let at = |by: f64| {
                let mut moved = flat.clone();
                moved[i] += by;
                let moved = Tensor::from_vec(moved, shape.clone(), &Device::Cpu).unwrap();
                p.var().set(&moved).unwrap();
                loss().0
            };
            let slope = (at(h) - at(-h)) / (2.0 * h);
            p.var().set(&value).unwrap();
            pairs.push((format!("{}, {i}", p.name()), grad[i], slope));
        }
    }
    let largest = pairs.iter().map(|p| p.2.abs()).fold(0.0, f64::max);
    assert!(largest > 1e-3);
    for (name, grad, slope) in pairs {
        let allowed = relative * slope.abs() + absolute * largest;
        assert!(
            (grad - slope).abs() < allowed,
            "{name}: {grad}, not {slope}"
        );
    }
}

fn smooth(d: usize) -> ScDiffEqParams {
    let net = NetConfig::new([6, 5]).activation(Activation::Tanh);
    ScDiffEq::params(d).mu(net.clone()).sigma(net)
}

#[test]
fn through_an_autoencoder() {
    let mut nets = AutoencoderConfig::new(5);
    (nets.n_hidden, nets.dropout) = (1, 0.0);
    nets.activation = Activation::Tanh;
    check(smooth(2).autoencoder(Some(nets)), 5, |_| {}, |_| {});
}

#[test]
fn of_the_divergence_from_a_prior() {
    let params = smooth(3)
        .drift(DriftKind::PriorPotential)
        .diffusion(DiffusionKind::Diagonal);
    check(params, 3, |_| {}, |_| {});
}

#[test]
fn of_the_regularisers() {
    let set = |t: &mut SdeTraining| {
        t.velocity_ratio = Some(crate::model::VelocityRatio::default());
        t.drift_energy = 0.3;
        t.diffusion_floor = Some(Floor {
            floor: 2.0,
            weight: 0.7,
        });
        t.contrast = Some(Contrast {
            tau: 0.1,
            ..Contrast::default()
        });
    };
    let with = |b: &mut Batch| {
        let drifted = (&b.start * 0.3).unwrap();
        b.contrast = Some((b.start.clone(), drifted));
    };
    check(smooth(3), 3, set, with);
}

#[test]
fn of_unbalanced_marginals_and_an_ode() {
    let params = smooth(3)
        .drift(DriftKind::Neural)
        .diffusion(DiffusionKind::None);
    check(params, 3, |t| t.marginals.reach = Some(1.0), |_| {});
}

/// Cells of one time change the first epsilon of all others, unless each time has its own.
#[test]
fn a_time_may_have_an_epsilon_of_its_own() {
    let valid = smooth(2).check().unwrap();
    let model = valid.init_with_dtype(&Device::Cpu, DType::F64, 4).unwrap();
    let at_half = |shared: bool, far: f64| {
        let mut training = SdeTraining::new(model.config());
        training.marginals.shared_diameter = shared;
        let objective = Objective::new(&training, &model).unwrap();
        let mut batch = batch(2);
        let later = (batch.observed[1].as_ref().unwrap() * far).unwrap();
        batch.times.push(1.0);
        batch.observed.push(Some(later));
        let path = BrownianPath::new(3, 6, objective.brownian_dim(&model), 0.0, 0.1).unwrap();
        let found = objective.evaluate(&model, &batch, &path, &Mode::eval());
        found.unwrap().terms.sinkhorn[1]
    };
    assert_eq!(at_half(false, 1.0), at_half(false, 30.0));
    assert_ne!(at_half(true, 1.0), at_half(true, 30.0));
}
