use candle_core::{DType, Device, Tensor};
use sc_model::{Mode, Params, build_params};
use sc_tensor::{Rng, backward, gradcheck};

use super::*;
use crate::Result;

fn net(config: &NetConfig, n_in: usize, n_out: usize) -> (TorchNet, Params) {
    let build = |p: &sc_model::ParamBuilder<'_>| TorchNet::new(p, config, n_in, n_out);
    build_params::<_, crate::Error>(&Device::Cpu, DType::F64, &Rng::new(3), build).unwrap()
}

fn states(n: usize, d: usize) -> Tensor {
    let mut stream = Rng::new(8).stream("states");
    stream.normal((n, d), DType::F64, &Device::Cpu).unwrap()
}

fn largest(t: &Tensor) -> f64 {
    let t = t.abs().unwrap().max_all().unwrap();
    t.to_scalar::<f64>().unwrap()
}

fn kinds() -> Vec<NetConfig> {
    let mut mixed = NetConfig::new([7, 6, 5]);
    mixed.activation = vec![Activation::LeakyReLU, Activation::Tanh];
    mixed.n_augment = 2;
    vec![
        NetConfig::new([]),
        NetConfig::new([9]),
        NetConfig::new([9, 7]),
        NetConfig::new([9, 7]).activation(Activation::Softplus),
        NetConfig::new([8, 8]).activation(Activation::SiLU),
        mixed,
    ]
}

#[test]
fn a_potentials_gradient_is_that_of_its_values() -> Result<()> {
    for config in kinds() {
        let (net, _) = net(&config, 4, 1);
        let x = candle_core::Var::from_tensor(&states(6, 4))?;
        let psi = net.forward(&x, &Mode::eval())?;
        let expected = backward(&psi.sum_all()?)?;
        let found = net.bind(&Mode::eval())?.gradient(&x, &[])?;
        let expected = expected.get(x.as_tensor()).unwrap();
        assert!(largest(&(found - expected)?) < 1e-14, "{config:?}");
    }
    Ok(())
}

#[test]
fn the_gradient_and_the_jvp_have_right_gradients() {
    for config in kinds() {
        let (potential, _) = net(&config, 4, 1);
        let (field, _) = net(&config, 4, 3);
        let (potential, field) = (
            potential.bind(&Mode::eval()).unwrap(),
            field.bind(&Mode::eval()).unwrap(),
        );
        let x = states(3, 4);
        // With piecewise linear activations the gradient is constant, and its own derivative 0, which is not tracked.
        if !config.activation[0].is_piecewise_linear() {
            let f = |x: &[Tensor]| Ok(potential.gradient(&x[0], &[]).unwrap());
            gradcheck(f, std::slice::from_ref(&x), 1e-6, 1e-7).unwrap();
        }
        let v = states(3, 4);
        let f = |x: &[Tensor]| Ok(field.jvp(&x[0], &x[1], &[]).unwrap());
        if !config.hidden.is_empty() && !config.activation[0].is_piecewise_linear() {
            gradcheck(f, &[x.clone(), v.clone()], 1e-6, 1e-7).unwrap();
        }
        // The Jacobian times v is what the values change by.
        let h = 1e-6;
        let moved = |by: f64| {
            field
                .forward(&(&x + (&v * by).unwrap()).unwrap(), &[])
                .unwrap()
        };
        let numeric = ((moved(h) - moved(-h)).unwrap() * (0.5 / h)).unwrap();
        let exact = field.jvp(&x, &v, &[]).unwrap();
        assert!(largest(&(numeric - exact).unwrap()) < 1e-8, "{config:?}");
    }
}

/// The gradient of a loss of the drift in every weight, against central differences.
#[test]
fn weights_of_a_potential_get_their_gradients() -> Result<()> {
    for config in [
        NetConfig::new([6, 5]),
        NetConfig::new([6, 5]).activation(Activation::Softplus),
    ] {
        let (net, params) = net(&config, 3, 1);
        let (x, by) = (states(4, 3), states(4, 3).cos()?);
        let rng = Rng::new(0);
        let loss = |mode: &Mode<'_>| -> Result<Tensor> {
            Ok((net.bind(mode)?.gradient(&x, &[])? * &by)?.sum_all()?)
        };
        let grads = backward(&loss(&Mode::train(&rng, 0))?)?;
        let value = || loss(&Mode::eval()).unwrap().to_scalar::<f64>().unwrap();
        for p in params.iter() {
            let grad = match grads.get(p.var().as_tensor()) {
                Some(g) => g.flatten_all()?.to_vec1::<f64>()?,
                None => vec![0.0; p.value().elem_count()],
            };
            let before = p.value().copy()?;
            let flat = before.flatten_all()?.to_vec1::<f64>()?;
            for i in 0..flat.len() {
                let at = |by: f64| {
                    let mut moved = flat.clone();
                    moved[i] += by;
                    let t = Tensor::from_vec(moved, before.shape(), &Device::Cpu).unwrap();
                    p.import(&t).unwrap();
                    value()
                };
                let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((numeric - grad[i]).abs() < 1e-8, "{} {i}", p.name());
            }
            p.import(&before)?;
        }
    }
    Ok(())
}

#[test]
fn dropout_is_the_same_for_the_same_counters() -> Result<()> {
    let (net, _) = net(&NetConfig::new([50, 50]).dropout(0.5), 4, 1);
    let (x, rng) = (states(3, 4), Rng::new(2));
    let bound = net.bind(&Mode::train(&rng, 5))?;
    let bits = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let a = bits(bound.gradient(&x, &[1, 0])?);
    assert_eq!(a, bits(bound.gradient(&x, &[1, 0])?));
    assert_ne!(a, bits(bound.gradient(&x, &[1, 1])?));
    // The gradient drops the units that the value drops.
    let var = candle_core::Var::from_tensor(&x)?;
    let psi = bound.forward(&var, &[1, 0])?;
    let expected = backward(&psi.sum_all()?)?;
    let expected = expected.get(var.as_tensor()).unwrap();
    let found = bound.gradient(&x, &[1, 0])?;
    assert!(largest(&(found - expected)?) < 1e-14);
    Ok(())
}

#[test]
fn nets_that_cannot_be_are_refused() {
    let refused = |config: NetConfig, why: &str| {
        let error = config.check("mu").unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(NetConfig::new([5, 0]), "units");
    refused(NetConfig::new([5]).dropout(1.0), "dropout");
    refused(NetConfig::new([5]).dropout(f64::NAN), "dropout");
    refused(NetConfig::new([usize::MAX]), "units");
    let build = |p: &sc_model::ParamBuilder<'_>| {
        TorchNet::new(p, &NetConfig::new([1 << 20]), usize::MAX, 2)
    };
    let huge = build_params::<_, crate::Error>(&Device::Cpu, DType::F64, &Rng::new(3), build);
    assert!(huge.unwrap_err().to_string().contains("at most"));
    let (net, _) = net(&NetConfig::new([5]), 4, 2);
    assert!(net.forward(&states(3, 5), &Mode::eval()).is_err());
    let bound = net.bind(&Mode::eval()).unwrap();
    let error = bound.gradient(&states(3, 4), &[]).unwrap_err().to_string();
    assert!(error.contains("potential"), "{error}");
}
