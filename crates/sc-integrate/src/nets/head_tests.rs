#![allow(clippy::print_stderr)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Var};
use ndarray::Array2;
use sc_model::{Params, build_params};
use sc_tensor::rng::Rng;

use super::*;

const ROWS: usize = 5;
const FEATURES: usize = 4;
const BATCHES: usize = 2;

fn head(likelihood: Likelihood, seed: u64) -> (Head, Params) {
    let rng = Rng::new(seed);
    let (head, params) = build_params(&Device::Cpu, DType::F64, &rng, |p| {
        Head::new(p, likelihood, FEATURES, BATCHES)
    })
    .unwrap();
    for p in params.iter() {
        let shape = p.value().shape().clone();
        let mut stream = rng.stream(p.name());
        let t = stream.normal(shape, DType::F64, &Device::Cpu).unwrap();
        p.var().set(&(t * 0.4).unwrap()).unwrap();
    }
    (head, params)
}

fn values(likelihood: Likelihood) -> Arc<Csr> {
    let x = Array2::from_shape_fn((ROWS, FEATURES), |(i, f)| {
        let v = ((i * 3 + f * 5) % 4) as f32;
        match likelihood {
            Likelihood::Bernoulli => v.min(1.0),
            l if l.is_of_counts() => v,
            _ => v * 0.7,
        }
    });
    Arc::new(Csr::from_dense(&x))
}

fn outputs(likelihood: Likelihood, o: &Tensor) -> Outputs {
    let background = (likelihood == Likelihood::NbMixture)
        .then(|| Tensor::cat(&[o, &(o * 0.3).unwrap(), &(o * -0.5).unwrap()], 1).unwrap());
    Outputs {
        loc: o.clone(),
        background,
    }
}

fn library(likelihood: Likelihood) -> Option<Library> {
    let logs: Vec<f64> = (0..ROWS).map(|i| 1.0 + 0.3 * i as f64).collect();
    let logs = Tensor::from_vec(logs, ROWS, &Device::Cpu).unwrap();
    likelihood.has_library().then_some(Library::Log(logs))
}

const BATCH: [u32; ROWS] = [0, 1, 1, 0, 1];

#[test]
fn gradients_are_those_of_finite_differences() {
    for l in Likelihood::ALL {
        let (head, params) = head(l, 3);
        let rng = Rng::new(5);
        let mode = Mode::train(&rng, 0).without_dropout();
        let o = rng
            .stream("o")
            .normal((ROWS, FEATURES), DType::F64, &Device::Cpu)
            .unwrap();
        let x = values(l);
        let o = Var::from_tensor(&o).unwrap();
        let loss = || {
            let out = outputs(l, o.as_tensor());
            head.nll(&out, &x, library(l).as_ref(), &BATCH, &mode)
                .unwrap()
        };
        let grads = sc_tensor::backward(&loss()).unwrap();
        let vars = params
            .iter()
            .map(|p| (p.name().to_owned(), p.var().clone()));
        for (name, var) in vars.chain([("o".to_owned(), o.clone())]) {
            let grad: Vec<f64> = match grads.get(var.as_tensor()) {
                Some(g) => g.flatten_all().unwrap().to_vec1().unwrap(),
                None => panic!("{l}: {name} has no gradient"),
            };
            let shape = var.shape().clone();
            let at: Vec<f64> = var.flatten_all().unwrap().to_vec1().unwrap();
            for i in 0..at.len() {
                let score = |step: f64| -> f64 {
                    let mut moved = at.clone();
                    moved[i] += step;
                    let t = Tensor::from_vec(moved, shape.clone(), &Device::Cpu).unwrap();
                    var.set(&t).unwrap();
                    loss().to_scalar().unwrap()
                };
                let numeric = (score(1e-5) - score(-1e-5)) / 2e-5;
                score(0.0);
                let error = (grad[i] - numeric).abs();
                assert!(
                    error < 1e-7 * numeric.abs().max(1.0),
                    "{l}, {name} {i}: {} {numeric}",
                    grad[i]
                );
            }
        }
    }
}

/// Means and variances against many draws.
#[test]
fn draws_have_the_moments() {
    const DRAWS: usize = 4000;
    for l in Likelihood::ALL {
        let (head, _) = head(l, 1);
        let rng = Rng::new(2);
        let o = rng
            .stream("o")
            .normal((ROWS, FEATURES), DType::F64, &Device::Cpu)
            .unwrap();
        let out = outputs(l, &(o * 0.5).unwrap());
        let lib = library(l);
        let numbers = |t: Tensor| -> Vec<f64> {
            t.to_dtype(DType::F64)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap()
        };
        let mean = numbers(head.mean(&out, lib.as_ref(), &BATCH).unwrap());
        let var = numbers(head.variance(&out, lib.as_ref(), &BATCH).unwrap());
        let mut stream = rng.stream("draws");
        let mut sums = vec![(0.0, 0.0); mean.len()];
        for _ in 0..DRAWS {
            let x = head
                .sample(&out, lib.as_ref(), &BATCH, &mut stream)
                .unwrap();
            for ((s, q), v) in sums.iter_mut().zip(numbers(x)) {
                *s += v / DRAWS as f64;
                *q += v * v / DRAWS as f64;
            }
        }
        for (i, (s, q)) in sums.into_iter().enumerate() {
            let error = 6.0 * (var[i] / DRAWS as f64).sqrt() + 1e-6;
            assert!(
                (s - mean[i]).abs() <= error,
                "{l}, mean {i}: {s}, not {}",
                mean[i]
            );
            let found = q - s * s;
            let tolerance = 0.35 * var[i] + 1e-6;
            assert!(
                (found - var[i]).abs() <= tolerance,
                "{l}, variance {i}: {found}, not {}",
                var[i]
            );
        }
    }
}

/// scglue's numbers, if they are there.
fn golden() -> Option<HashMap<String, Tensor>> {
    let Some(dir) = std::env::var_os("SC_SHARED") else {
        eprintln!("skipped: SC_SHARED is not set");
        return None;
    };
    let file = PathBuf::from(dir).join("golden/integrate/likelihoods.safetensors");
    Some(candle_core::safetensors::load(file, &Device::Cpu).unwrap())
}

#[test]
fn golden_log_densities_and_gradients() {
    let Some(golden) = golden() else { return };
    let double = |name: &str| golden[name].to_dtype(DType::F64).unwrap();
    let vector = |t: &Tensor| -> Vec<f64> {
        t.to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    };
    let near = |name: &str, found: &Tensor| {
        let (found, expected) = (vector(found), vector(&golden[name]));
        assert_eq!(found.len(), expected.len(), "{name}");
        for (f, e) in found.iter().zip(&expected) {
            assert!(
                (f - e).abs() <= 2e-6 + 1e-8 * e.abs(),
                "{name}: {f}, not {e}"
            );
        }
    };
    let batch: Vec<u32> = golden["batch"]
        .to_dtype(DType::U32)
        .unwrap()
        .to_vec1()
        .unwrap();
    for (name, l, x) in [
        ("NB", Likelihood::Nb, "x.counts"),
        ("ZINB", Likelihood::Zinb, "x.counts"),
        ("Bernoulli", Likelihood::Bernoulli, "x.bernoulli"),
        ("Normal", Likelihood::Normal, "x.normal"),
        ("ZIN", Likelihood::Zin, "x.zin"),
        ("ZILN", Likelihood::Ziln, "x.ziln"),
        ("MSE", Likelihood::Mse, "x.normal"),
        ("RMSE", Likelihood::Rmse, "x.normal"),
    ] {
        let rng = Rng::new(0);
        let (head, params) =
            build_params(&Device::Cpu, DType::F64, &rng, |p| Head::new(p, l, 9, 2)).unwrap();
        for p in params.iter() {
            p.import(&golden[p.name()]).unwrap();
        }
        let mode = Mode::train(&rng, 0).without_dropout();
        let o = Var::from_tensor(&double("o")).unwrap();
        let out = outputs(l, o.as_tensor());
        let size = double("l").reshape(((), 1)).unwrap();
        let size = l.has_library().then_some(Library::Size(size));
        let values: Vec<f32> = golden[x].flatten_all().unwrap().to_vec1().unwrap();
        let dense = Array2::from_shape_vec((12, 9), values).unwrap();
        let csr = Arc::new(Csr::from_dense(&dense));
        let nll = head.nll(&out, &csr, size.as_ref(), &batch, &mode).unwrap();
        near(&format!("{name}.nll_mean"), &nll);
        if !matches!(l, Likelihood::Zin | Likelihood::Ziln | Likelihood::Zinb) {
            let mean = head.mean(&out, size.as_ref(), &batch).unwrap();
            near(&format!("{name}.mean"), &mean);
        }
        if matches!(l, Likelihood::Mse | Likelihood::Rmse) {
            let grads = sc_tensor::backward(&nll.neg().unwrap()).unwrap();
            near(&format!("{name}.grad_o"), grads.get(o.as_tensor()).unwrap());
            continue;
        }
        if l.has_library() {
            // One number a row: a cell at a time would be needed for other cotangents.
            let rows = head
                .log_density(&out, &csr, size.as_ref(), &batch, &mode)
                .unwrap();
            let expected = golden[&format!("{name}.log_prob")].sum(1).unwrap();
            for (f, e) in vector(&rows).iter().zip(vector(&expected)) {
                assert!(
                    (f - e).abs() <= 1e-5 + 1e-7 * e.abs(),
                    "{name}: {f}, not {e}"
                );
            }
            continue;
        }
        let x = SparseInput::counts(Arc::clone(&csr))
            .to_dense(DType::F64, &Device::Cpu)
            .unwrap();
        let entries = head.continuous(&out, &x, &batch, &mode).unwrap();
        near(&format!("{name}.log_prob"), &entries);
        let loss = (entries * double("cot")).unwrap().sum_all().unwrap();
        let grads = sc_tensor::backward(&loss).unwrap();
        near(&format!("{name}.grad_o"), grads.get(o.as_tensor()).unwrap());
        for p in params.iter() {
            let g = grads.get(p.var().as_tensor()).unwrap().t().unwrap();
            near(&format!("{name}.grad_{}", p.name()), &g);
        }
    }
}
