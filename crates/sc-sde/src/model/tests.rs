use candle_core::{DType, Device, Tensor};
use sc_io::pytorch::{self, Dict, TorchTensor, Value};
use sc_model::Mode;
use sc_tensor::Rng;

use super::*;
use crate::nets::{Activation, AutoencoderConfig, NetConfig};
use crate::solve::{
    BrownianPath, Calculus, Noise, Schedule, Scheme, Sde, Solve, stochastic_adjoint,
};
use crate::{Error, Result};

fn states(n: usize, d: usize) -> Tensor {
    let mut stream = Rng::new(8).stream("states");
    stream.normal((n, d), DType::F64, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn small() -> ScDiffEqParams {
    ScDiffEq::params(3)
        .mu(NetConfig::new([8, 8]))
        .sigma(NetConfig::new([4]))
}

fn diffusions() -> Vec<DiffusionKind> {
    vec![
        DiffusionKind::General { brownian_dim: 1 },
        DiffusionKind::General { brownian_dim: 2 },
        DiffusionKind::General { brownian_dim: 5 },
        DiffusionKind::Diagonal,
        DiffusionKind::LowRank { rank: 1 },
        DiffusionKind::LowRank { rank: 2 },
        DiffusionKind::Isotropic { sigma: 0.3 },
        DiffusionKind::Constant {
            sigma: vec![0.1, 0.2, 0.3],
        },
        DiffusionKind::None,
    ]
}

#[test]
fn the_default_model_is_the_originals() -> Result<()> {
    let model = ScDiffEq::params(50).check()?.init(&Device::Cpu, 0)?;
    let n: usize = model
        .parameters()
        .iter()
        .map(|p| p.value().elem_count())
        .sum();
    assert_eq!(n, 293_618);
    let names: Vec<&str> = model
        .parameters()
        .iter()
        .map(sc_model::Param::name)
        .collect();
    assert_eq!(names[0], "DiffEq.mu.hidden_1.linear.weight");
    assert!(!names.contains(&"DiffEq.mu.output.linear.bias"));
    assert_eq!(model.config().noise(), Noise::Scalar);
    Ok(())
}

/// The example of the specification (11.B): weights from a formula, and the drift and diffusion they give.
#[test]
fn numbers_of_the_specification() -> Result<()> {
    for (drift, f0, g0) in [
        (
            DriftKind::Potential,
            [0.0118414112213, 0.0114889109406, 0.0109975349552],
            [0.59779533741, 0.420606534044, 0.193082011732],
        ),
        (
            DriftKind::Neural,
            [0.0401540811075, 0.078241207288, 0.0979795584042],
            [0.214683447996, -0.223283470831, -0.620112024547],
        ),
    ] {
        let model = small().drift(drift).check()?;
        let model = model.init_with_dtype(&Device::Cpu, DType::F64, 0)?;
        for (l, p) in model.parameters().iter().enumerate() {
            let l = l as f64;
            let value = match *p.value().dims() {
                [o, i] => {
                    let of = |k: usize| {
                        let (o, c) = ((k / i) as f64, (k % i) as f64);
                        (1.0 + 0.37 * o + 0.11 * c + l).sin() / (i as f64).sqrt()
                    };
                    Tensor::from_vec((0..o * i).map(of).collect(), (o, i), &Device::Cpu)?
                }
                _ => {
                    let of = |o: usize| 0.1 * (0.5 * o as f64 + l).cos();
                    let n = p.value().elem_count();
                    Tensor::from_vec((0..n).map(of).collect(), n, &Device::Cpu)?
                }
            };
            p.import(&value)?;
        }
        let x0: Vec<f64> = (0..18)
            .map(|k| (0.9 * f64::from(k / 3) + 0.4 * f64::from(k % 3)).sin())
            .collect();
        let x0 = Tensor::from_vec(x0, (6, 3), &Device::Cpu)?;
        let (f, g) = (flat(&model.drift(&x0)?), flat(&model.diffusion(&x0)?));
        for k in 0..3 {
            assert!((f[k] - f0[k]).abs() < 1e-12, "{f:?}");
            assert!((g[k] - g0[k]).abs() < 1e-11, "{g:?}");
        }
    }
    Ok(())
}

/// Each kind of diffusion: shapes, derivative, solving in every scheme that fits, gradients that agree with the adjoint's.
#[test]
fn every_diffusion_can_be_solved_and_differentiated() -> Result<()> {
    for diffusion in diffusions() {
        let smooth = NetConfig::new([8, 8]).activation(Activation::Tanh);
        let params = small()
            .mu(smooth.clone())
            .sigma(smooth)
            .diffusion(diffusion.clone())
            .check()?;
        let model = params.init_with_dtype(&Device::Cpu, DType::F64, 1)?;
        let m = model.config().brownian_dim();
        let rng = Rng::new(0);
        let equation = model.equation(&Mode::train(&rng, 0))?;
        let z = states(4, 3);
        let path = BrownianPath::new(3, 4, m, 0.0, 0.005)?;
        let schedule = Schedule::grid(&[0.0, 0.25, 0.5], 0.005)?;
        for scheme in Scheme::ALL {
            if scheme.check(equation.noise(), equation.calculus()).is_err() {
                continue;
            }
            let solve = Solve::new(&equation, scheme, &path, &schedule);
            let solution = solve.with_gradients(&z)?;
            let states = solution.states().to_vec();
            let by: Vec<_> = states.iter().map(|s| Some(s.cos().unwrap())).collect();
            let exact = solution.backward(&by)?;
            let adjoint = stochastic_adjoint(&solve, &states, &by)?;
            let all = |g: &crate::solve::Gradients| {
                let parts = std::iter::once(&g.start).chain(&g.parameters);
                parts.flat_map(flat).collect::<Vec<_>>()
            };
            let (a, e) = (all(&adjoint), all(&exact));
            let size = e.iter().map(|v| v * v).sum::<f64>().sqrt();
            let off = a.iter().zip(&e).map(|(a, e)| (a - e).powi(2)).sum::<f64>();
            assert!(off.sqrt() < 0.05 * size, "{diffusion:?} {scheme:?}");
        }
        // The derivative of the diffusion along a direction.
        let at = crate::solve::At {
            t: 0.0,
            step: 0,
            stage: 0,
        };
        if diffusion == DiffusionKind::None {
            continue;
        }
        let v = states(4, 3).cos()?;
        let moved = |by: f64| {
            model
                .diffusion(&(&z + (&v * by).unwrap()).unwrap())
                .unwrap()
        };
        let numeric = flat(&((moved(1e-6) - moved(-1e-6))? * 5e5)?);
        for (n, e) in numeric
            .iter()
            .zip(flat(&equation.diffusion_jvp(at, &z, &v)?))
        {
            assert!((n - e).abs() < 1e-8, "{diffusion:?}");
        }
    }
    Ok(())
}

#[test]
fn dropout_goes_back_through_the_same_units() -> Result<()> {
    let params = small().mu(NetConfig::new([16, 16]).dropout(0.3)).check()?;
    let model = params.init_with_dtype(&Device::Cpu, DType::F64, 1)?;
    let rng = Rng::new(0);
    let equation = model.equation(&Mode::train(&rng, 4))?;
    let path = BrownianPath::new(3, 4, 1, 0.0, 0.1)?;
    let schedule = Schedule::grid(&[0.0, 2.0], 0.1)?;
    let gradients = |keep: usize| -> Result<Vec<f64>> {
        let solve = Solve::new(&equation, Scheme::Euler, &path, &schedule).keep_graphs_of(keep);
        let solution = solve.with_gradients(&states(4, 3))?;
        let found = solution.backward(&[None, Some(states(4, 3))])?;
        Ok(found.parameters.iter().flat_map(flat).collect())
    };
    assert_eq!(gradients(100)?, gradients(0)?);
    Ok(())
}

/// In single precision, with the fast products, neither threads nor the rest of the batch change a bit.
#[test]
fn paths_depend_on_the_cell_alone() -> Result<()> {
    let model = ScDiffEq::params(50).check()?.init(&Device::Cpu, 0)?;
    let equation = model.equation(&Mode::eval())?;
    let schedule = Schedule::grid(&[2.0, 3.0], 0.25)?;
    let z = states(300, 50).to_dtype(DType::F32)?;
    let rng = Rng::new(0);
    let run = |from: usize, to: usize| -> Result<Vec<f32>> {
        let cells = (from as u64..to as u64).collect();
        let path = BrownianPath::of_cells(&rng, cells, 1, 2.0, 0.25)?;
        let start = z.narrow(0, from, to - from)?.contiguous()?;
        let states = Solve::new(&equation, Scheme::Srk, &path, &schedule).run(&start)?;
        Ok(states[1].flatten_all()?.to_vec1()?)
    };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| run(0, 300).unwrap())
    };
    let all = on(1);
    assert_eq!(all, on(3));
    assert_eq!(run(41, 42)?, all[41 * 50..42 * 50]);
    assert_eq!(run(100, 231)?, all[100 * 50..231 * 50]);
    Ok(())
}

#[test]
fn saved_and_opened_it_is_the_same() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    for diffusion in diffusions() {
        let params = small()
            .diffusion(diffusion)
            .autoencoder(Some(AutoencoderConfig::new(6)))
            .calculus(Calculus::Stratonovich)
            .check()?;
        let model = params.init(&Device::Cpu, 7)?;
        model.save(dir.path())?;
        let again = ScDiffEq::load(dir.path(), &Device::Cpu)?;
        assert_eq!(again.config(), model.config());
        let z = states(3, 3).to_dtype(DType::F32)?;
        assert_eq!(flat(&again.drift(&z)?), flat(&model.drift(&z)?));
        let x = states(3, 6).to_dtype(DType::F32)?;
        let autoencoder = again.autoencoder().unwrap();
        let code = autoencoder.encode(&x, &Mode::eval())?;
        assert_eq!(code.dims(), [3, 3]);
        assert!(
            autoencoder
                .reconstruction_loss(&x, &Mode::eval())?
                .to_scalar::<f32>()?
                > 0.0
        );
    }
    Ok(())
}

#[test]
fn prescient_starts_without_drift() -> Result<()> {
    let model = ScDiffEq::prescient(3).check()?.init(&Device::Cpu, 0)?;
    model.start_without_drift()?;
    let z = states(5, 3).to_dtype(DType::F32)?;
    assert!(flat(&model.drift(&z)?).iter().all(|&f| f == 0.0));
    assert!(flat(&model.diffusion(&z)?).iter().all(|&g| g == 0.5));
    assert_eq!(model.potential(&z)?.dims(), [5]);
    let contrast = potential_contrast(&model.potential(&z)?, &model.potential(&z)?, 1e-6, 1.0)?;
    assert_eq!(contrast.to_scalar::<f32>()?, 0.0);
    Ok(())
}

#[test]
fn models_that_cannot_be_are_refused() {
    let refused = |params: ScDiffEqParams, why: &str| {
        let error = params.check().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(ScDiffEq::params(0), "n_latent");
    refused(
        small().diffusion(DiffusionKind::General { brownian_dim: 0 }),
        "brownian_dim",
    );
    refused(
        small().diffusion(DiffusionKind::Isotropic { sigma: -1.0 }),
        "sigma",
    );
    refused(
        small().diffusion(DiffusionKind::Constant { sigma: vec![1.0] }),
        "one for each",
    );
    refused(small().coef_drift(f64::NAN), "coef_drift");
    refused(
        small().autoencoder(Some(AutoencoderConfig::new(2))),
        "fewer",
    );
    let model = small().drift(DriftKind::Neural).check().unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    let z = states(2, 3).to_dtype(DType::F32).unwrap();
    assert!(
        model
            .potential(&z)
            .unwrap_err()
            .to_string()
            .contains("Potential")
    );
    assert!(
        model
            .drift(&states(2, 3))
            .unwrap_err()
            .to_string()
            .contains("F32")
    );
    assert!(model.drift(&z.narrow(1, 0, 2).unwrap()).is_err());
}

/// A `state_dict` as the original's, from a model of ours.
fn state_of(model: &ScDiffEq, prefix: &str) -> Vec<(String, Value)> {
    let named = |p: &sc_model::Param| {
        let t = TorchTensor::from_f64(&p.export_shape(), &flat(&p.export().unwrap())).unwrap();
        let name = p.name().strip_prefix("DiffEq.").unwrap();
        (format!("{prefix}{name}"), Value::from(t))
    };
    model.parameters().iter().map(named).collect()
}

#[test]
fn a_checkpoint_is_read_whole_or_not_at_all() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last.ckpt");
    let mut mu = NetConfig::new([8, 6]).activation(Activation::Softplus);
    mu.n_augment = 2;
    let params = small().mu(mu).coef_drift(2.0).check()?;
    let model = params.init_with_dtype(&Device::Cpu, DType::F64, 1)?;
    let hyper = |activation: &str| {
        Dict::from_pairs([
            ("latent_dim", Value::Int(3)),
            ("mu_activation", Value::from(activation)),
            ("mu_n_augment", Value::Int(2)),
            ("coef_drift", Value::Float(2.0)),
        ])
    };
    let write = |state: Vec<(String, Value)>, activation: &str| {
        let top = Dict::from_pairs([
            ("state_dict", Value::from(Dict::ordered(state))),
            ("hyper_parameters", Value::from(hyper(activation))),
        ]);
        pytorch::write(&file, &top.into()).unwrap();
    };
    write(state_of(&model, "DiffEq."), "Softplus");
    let (again, report) = Checkpoint::open(&file)?.load(&Device::Cpu, DType::F64)?;
    assert_eq!(again.config(), model.config());
    assert!(report.is_complete() && report.loaded.len() == 9);
    let z = states(4, 3);
    assert_eq!(flat(&again.drift(&z)?), flat(&model.drift(&z)?));

    let refused = |why: &str| {
        let opened = Checkpoint::open(&file).and_then(|c| c.load(&Device::Cpu, DType::F32));
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    write(state_of(&model, "DiffEq."), "Mish");
    refused("Mish");
    let mut state = state_of(&model, "DiffEq.");
    state.push(state[0].clone());
    state[9].0 = "DiffEq.mu.extra".into();
    write(state, "Softplus");
    refused("not of the model: DiffEq.mu.extra");
    let mut state = state_of(&model, "DiffEq.");
    state.remove(1);
    write(state, "Softplus");
    refused("missing: DiffEq.mu.hidden_1.linear.bias");
    write(state_of(&model, "other."), "Softplus");
    refused("checkpoint of scDiffEq?");
    write(vec![("x".to_owned(), Value::Int(1))], "Softplus");
    refused("not a tensor");
    std::fs::write(&file, b"no archive").map_err(|source| Error::File {
        path: file.clone(),
        source,
    })?;
    assert!(Checkpoint::open(&file).is_err());
    Ok(())
}
