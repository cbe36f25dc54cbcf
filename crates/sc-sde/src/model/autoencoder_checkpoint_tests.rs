use sc_io::pytorch::{self, Dict, TorchTensor, Value};

use super::*;
use crate::Result;
use crate::nets::{Activation, AutoencoderConfig, NetConfig};
use candle_core::{DType, Device};

/// The tensors of a model of ours under the original's names.
fn state_of(model: &ScDiffEq) -> Vec<(String, Value)> {
    let named = |p: &sc_model::Param| {
        let values = p.export().unwrap().flatten_all().unwrap();
        let values = values.to_vec1::<f64>().unwrap();
        let t = TorchTensor::from_f64(&p.export_shape(), &values).unwrap();
        (p.name().to_owned(), Value::from(t))
    };
    model.parameters().iter().map(named).collect()
}

fn model(nets: AutoencoderConfig) -> ScDiffEq {
    let net = NetConfig::new([6]);
    let params = ScDiffEq::params(3).mu(net.clone()).sigma(net);
    let params = params.autoencoder(Some(nets)).check().unwrap();
    params.init_with_dtype(&Device::Cpu, DType::F64, 1).unwrap()
}

#[test]
fn nets_around_the_latent_space_are_read() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last.ckpt");
    let mut nets = AutoencoderConfig::new(20);
    (nets.n_hidden, nets.power) = (2, 1.0);
    nets.activation = Activation::Tanh;
    nets.dropout = 0.3;
    let model = model(nets);
    let write = |state: Vec<(String, Value)>| {
        let hyper = Dict::from_pairs([
            ("encoder_activation", Value::from("Tanh")),
            ("encoder_dropout", Value::Float(0.3)),
        ]);
        let top = Dict::from_pairs([
            ("state_dict", Value::from(Dict::ordered(state))),
            ("hyper_parameters", Value::from(hyper)),
        ]);
        pytorch::write(&file, &top.into()).unwrap();
    };
    write(state_of(&model));
    let (again, report) = Checkpoint::open(&file)?.load(&Device::Cpu, DType::F64)?;
    assert!(report.is_complete());
    assert_eq!(again.config(), model.config());
    let x = candle_core::Tensor::ones((4, 20), DType::F64, &Device::Cpu)?;
    let code = |m: &ScDiffEq| {
        let nets = m.autoencoder().unwrap();
        let z = nets.encode(&x, &sc_model::Mode::eval()).unwrap();
        nets.decode(&z, &sc_model::Mode::eval())
            .unwrap()
            .to_vec2::<f64>()
            .unwrap()
    };
    assert_eq!(code(&again), code(&model));

    let half: Vec<_> = state_of(&model)
        .into_iter()
        .filter(|(name, _)| !name.starts_with("Decoder."))
        .collect();
    write(half);
    let error = Checkpoint::open(&file)?.config().unwrap_err().to_string();
    assert!(error.contains("its decoder 0 inputs"), "{error}");
    Ok(())
}
