//! Nets: values and gradients, of every kind of the original.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::{Mode, Params, load_params};
use sc_sde::model::{Checkpoint, RatioMethod};
use sc_sde::model::{DiffusionKind, DriftKind, ScDiffEq, ScDiffEqConfig, VelocityRatio};
use sc_sde::nets::{Activation, Autoencoder, AutoencoderConfig, NetConfig};
use sc_sde::solve::{At, PriorDrift, Sde};
use sc_tensor::{Rng, backward};
use sc_tests::shared;
use serde_json::Value;

use crate::golden::{Golden, cast};

const HERE: At = At {
    t: 0.0,
    step: 0,
    stage: 0,
};

/// The settings that the manifest tells of a net.
pub(crate) fn config(about: &Value, d: usize) -> ScDiffEqConfig {
    let widths = |v: &Value| -> Vec<usize> {
        let all = v.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().map(|w| w.as_u64().unwrap() as usize).collect()
    };
    let activations = |v: &Value| -> Vec<Activation> {
        let parse = |v: &Value| v.as_str().unwrap().parse().unwrap();
        match v {
            Value::Null => vec![Activation::LeakyReLU],
            Value::Array(all) => all.iter().map(parse).collect(),
            one => vec![parse(one)],
        }
    };
    let net = |name: &str| NetConfig {
        activation: activations(&about[format!("{name}_activation")]),
        bias: about[format!("{name}_bias")].as_bool().unwrap_or(true),
        output_bias: about[format!("{name}_output_bias")]
            .as_bool()
            .unwrap_or(true),
        ..NetConfig::new(widths(&about[format!("{name}_hidden")]))
    };
    let class = about["cls"].as_str().unwrap();
    let m = about["brownian_dim"].as_u64().or(about["m"].as_u64());
    let mut c = ScDiffEqConfig::new(d);
    c.mu = net("mu");
    c.sigma = net("sigma");
    c.drift = match class {
        "PotentialSDE" | "PotentialODE" => DriftKind::Potential,
        "LatentPotentialSDE" => DriftKind::PriorPotential,
        _ => DriftKind::Neural,
    };
    c.diffusion = match class.ends_with("ODE") {
        true => DiffusionKind::None,
        false => DiffusionKind::General {
            brownian_dim: m.unwrap() as usize,
        },
    };
    let coef = |name: &str| about[name].as_f64().unwrap_or(1.0);
    c.coef_drift = coef("coef_drift");
    c.coef_diffusion = coef("coef_diffusion");
    c.coef_prior_drift = coef("coef_prior_drift");
    c
}

/// A model with weights under the original's names, without the prefix.
pub(crate) fn model(
    config: ScDiffEqConfig,
    weights: &HashMap<String, Tensor>,
    dtype: DType,
) -> ScDiffEq {
    let params = sc_sde::model::ScDiffEqParams::from(config).check().unwrap();
    let model = params.init_with_dtype(&Device::Cpu, dtype, 0).unwrap();
    let n = model.parameters().iter().count();
    assert_eq!(n, weights.len(), "{:?}", weights.keys());
    for p in model.parameters().iter() {
        let name = p.name().strip_prefix("DiffEq.").unwrap();
        let value = weights.get(name).unwrap_or_else(|| panic!("no {name}"));
        p.import(value).unwrap();
    }
    model
}

fn gradient(p: &sc_model::Param, grads: &sc_tensor::GradStore) -> Tensor {
    match grads.get(p.var().as_tensor()) {
        Some(g) => g.clone(),
        None => p.value().zeros_like().unwrap(),
    }
}

#[test]
fn values_and_gradients() {
    let Some(golden) = Golden::open("nets_outputs.safetensors") else {
        return;
    };
    let nets = golden.meta().as_object().unwrap().clone();
    assert_eq!(nets.len(), 13);
    for (name, about) in &nets {
        let weights = Golden::open(&format!("net_{name}.safetensors")).unwrap();
        for dtype in [DType::F64, DType::F32] {
            let model = model(config(about, 10), &weights.below(""), dtype);
            let z = cast(&golden.get("z"), dtype);
            let rng = Rng::new(0);
            let equation = model.equation(&Mode::train(&rng, 0)).unwrap();
            let f = equation.drift(HERE, &z).unwrap();
            golden.check(&format!("{name}.f"), &f);
            let mut loss = (&f * cast(&golden.get("cot_f"), dtype))
                .unwrap()
                .sum_all()
                .unwrap();
            if golden.has(&format!("{name}.g")) {
                let g = equation.diffusion(HERE, &z).unwrap();
                golden.check(&format!("{name}.g"), &g);
                let by = cast(&golden.get(&format!("{name}.cot_g")), dtype);
                loss = (loss + (g * by).unwrap().sum_all().unwrap()).unwrap();
            }
            if golden.has(&format!("{name}.psi")) {
                golden.check(&format!("{name}.psi"), &model.potential(&z).unwrap());
                let drift = model.drift(&z).unwrap();
                let slope = (drift / model.config().coef_drift).unwrap();
                golden.check(&format!("{name}.grad_psi"), &slope);
            }
            if golden.has(&format!("{name}.h")) {
                golden.check(
                    &format!("{name}.h"),
                    &equation.prior_drift(HERE, &z).unwrap(),
                );
            }
            let grads = backward(&loss).unwrap();
            for p in model.parameters().iter() {
                let key = p.name().replacen("DiffEq", &format!("{name}.dparam"), 1);
                golden.check(&key, &gradient(p, &grads));
            }
        }
    }
}

/// The same weights as files of PyTorch: bare dictionaries of tensors, whose shapes say which model they are of.
#[test]
fn state_dicts() {
    let Some(golden) = Golden::open("nets_outputs.safetensors") else {
        return;
    };
    let dir = shared().unwrap().join("golden/sde");
    for (name, about) in golden.meta().as_object().unwrap() {
        let checkpoint = Checkpoint::open(dir.join(format!("net_{name}.pt"))).unwrap();
        let expected = config(about, 10);
        let mut found = checkpoint.config().unwrap();
        assert_eq!(
            (
                found.drift,
                &found.diffusion,
                &found.mu.hidden,
                found.mu.bias
            ),
            (
                expected.drift,
                &expected.diffusion,
                &expected.mu.hidden,
                expected.mu.bias
            ),
            "{name}"
        );
        // What tensors don't say.
        found.mu.activation.clone_from(&expected.mu.activation);
        found
            .sigma
            .activation
            .clone_from(&expected.sigma.activation);
        found.coef_drift = expected.coef_drift;
        found.coef_diffusion = expected.coef_diffusion;
        let (model, report) = checkpoint.load_as(found, &Device::Cpu, DType::F64).unwrap();
        assert!(report.is_complete());
        let z = cast(&golden.get("z"), DType::F64);
        golden.check(&format!("{name}.f"), &model.drift(&z).unwrap());
    }
}

#[test]
fn encoder_and_decoder() {
    let Some(golden) = Golden::open("nets_outputs.safetensors") else {
        return;
    };
    let mut tensors = HashMap::new();
    for part in ["Encoder", "Decoder"] {
        let file = format!("net_{}.safetensors", part.to_lowercase());
        for (name, t) in Golden::open(&file).unwrap().below("") {
            tensors.insert(format!("{part}.{name}"), t);
        }
    }
    for dtype in [DType::F64, DType::F32] {
        let (nets, params): (Autoencoder, Params) =
            load_params(&Device::Cpu, dtype, Path::new("golden"), &tensors, |p| {
                Autoencoder::new(p, &AutoencoderConfig::new(30), 5)
            })
            .unwrap();
        assert_eq!(params.iter().count(), tensors.len());
        let eval = Mode::eval();
        let input = |part: &str| cast(&golden.get(&format!("{part}.input")), dtype);
        golden.check(
            "encoder.output",
            &nets.encode(&input("encoder"), &eval).unwrap(),
        );
        golden.check(
            "decoder.output",
            &nets.decode(&input("decoder"), &eval).unwrap(),
        );
    }
}

#[test]
fn velocity_ratio() {
    let Some(golden) = Golden::open("velocity_ratio.safetensors") else {
        return;
    };
    for (target, enforce) in [(2.5, 100.0), (1.0, 10.0)] {
        for (method, name) in [(RatioMethod::Square, "square"), (RatioMethod::Abs, "abs")] {
            let ratio = VelocityRatio {
                target,
                enforce,
                method,
                dt: 0.1,
            };
            let terms: Vec<_> = (0..3)
                .map(|k| {
                    let at = |what: &str| cast(&golden.get(what).get(k).unwrap(), DType::F64);
                    ratio.term(&at("f"), &at("g")).unwrap()
                })
                .collect();
            let stack = |of: fn(&sc_sde::model::RatioTerm) -> Tensor| {
                Tensor::stack(&terms.iter().map(of).collect::<Vec<_>>(), 0).unwrap()
            };
            golden.check("r_f", &stack(|t| t.drift.clone()));
            golden.check("r_g", &stack(|t| t.diffusion.clone()));
            let key = format!("loss_{name}_target{target:?}_enforce{enforce:?}");
            golden.check(&key, &stack(|t| t.loss.clone()));
        }
    }
}
