//! A model's settings, read off the shapes of its tensors and the hyper-parameters beside them.

use sc_io::pytorch::{Dict, Value};

use super::{DiffusionKind, DriftKind, ScDiffEqConfig};
use crate::Result;
use crate::nets::{Activation, AutoencoderConfig, NetConfig, power_widths};

/// What the tensors of one net say.
#[derive(Default)]
struct Shapes {
    hidden: Vec<(usize, usize)>,
    bias: bool,
    output: Option<(usize, usize)>,
    output_bias: bool,
}

impl Shapes {
    fn n_in(&self) -> usize {
        let first = self.hidden.first().map(|h| h.1);
        first.or(self.output.map(|o| o.1)).unwrap_or_default()
    }

    fn n_out(&self) -> usize {
        self.output.map_or(0, |o| o.0)
    }

    fn config(&self) -> NetConfig {
        NetConfig {
            bias: self.bias || self.hidden.is_empty(),
            output_bias: self.output_bias,
            ..NetConfig::new(self.hidden.iter().map(|h| h.0).collect::<Vec<_>>())
        }
    }
}

/// The settings that the names and shapes of tensors imply, where `n_augment` inputs of the drift are zeros that are
/// appended; the reason if they are those of no model.
pub(super) fn lengths<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    n_augment: usize,
) -> std::result::Result<ScDiffEqConfig, String> {
    let (mut mu, mut sigma) = (Shapes::default(), Shapes::default());
    let (mut encoder, mut decoder) = (Shapes::default(), Shapes::default());
    let mut has_prior = false;
    for (name, shape) in tensors {
        if name == "DiffEq.potential.psi.weight" {
            has_prior = true;
        } else if let Some(name) = name.strip_prefix("Encoder.") {
            note(&mut encoder, name, shape);
        } else if let Some(name) = name.strip_prefix("Decoder.") {
            note(&mut decoder, name, shape);
        } else if let Some(name) = name.strip_prefix("DiffEq.mu.") {
            note(&mut mu, name, shape);
        } else if let Some(name) = name.strip_prefix("DiffEq.sigma.") {
            note(&mut sigma, name, shape);
        }
    }
    if mu.output.is_none() {
        return Err(
            "has no tensor \"mu.output.linear.weight\"; is it a checkpoint of scDiffEq?".into(),
        );
    }
    let d = mu.n_in().saturating_sub(n_augment);
    let mut config = ScDiffEqConfig::new(d);
    config.drift = match mu.n_out() {
        _ if has_prior => DriftKind::PriorPotential,
        1 if d != 1 || !mu.output_bias => DriftKind::Potential,
        n if n == d => DriftKind::Neural,
        n => {
            return Err(format!(
                "its drift has {n} outputs for {d} inputs; a potential has 1, a vector field {d}"
            ));
        }
    };
    config.mu = mu.config();
    // The others are built without this bias whatever is said here; this is the default.
    config.mu.output_bias |= config.drift != DriftKind::Neural;
    match sigma.output {
        None => config.diffusion = DiffusionKind::None,
        Some((n, _)) if n > 0 && n % d.max(1) == 0 => {
            config.sigma = sigma.config();
            config.diffusion = DiffusionKind::General {
                brownian_dim: n / d.max(1),
            };
        }
        Some((n, _)) => {
            return Err(format!(
                "its diffusion has {n} outputs, no multiple of the {d} dimensions"
            ));
        }
    }
    if encoder.output.is_some() || decoder.output.is_some() {
        config.autoencoder = Some(autoencoder(&encoder, &decoder, d)?);
    }
    Ok(config)
}

/// The nets around the latent space. Their widths follow from their number; whether they are these is seen when the tensors
/// are compared.
fn autoencoder(
    encoder: &Shapes,
    decoder: &Shapes,
    n_latent: usize,
) -> std::result::Result<AutoencoderConfig, String> {
    if encoder.n_out() != n_latent || decoder.n_in() != n_latent {
        return Err(format!(
            "its encoder has {} outputs and its decoder {} inputs, the space in which cells move has {n_latent} dimensions",
            encoder.n_out(),
            decoder.n_in()
        ));
    }
    if encoder.hidden.len() != decoder.hidden.len() {
        return Err(format!(
            "its encoder has {} hidden layers, its decoder {}; only mirrored ones are read",
            encoder.hidden.len(),
            decoder.hidden.len()
        ));
    }
    let mut config = AutoencoderConfig::new(encoder.n_in());
    config.n_hidden = encoder.hidden.len();
    config.bias = encoder.output_bias;
    let widths: Vec<usize> = encoder.hidden.iter().map(|h| h.0).collect();
    let fits = |&power: &f64| power_widths(encoder.n_in(), n_latent, widths.len(), power) == widths;
    // Of the powers that people use, the one that gives these widths; else the original's default.
    if let Some(power) = [2.0, 1.0, 3.0, 4.0, 1.5, 2.5].into_iter().find(fits) {
        config.power = power;
    }
    Ok(config)
}

fn note(net: &mut Shapes, name: &str, shape: &[usize]) {
    match (name, shape) {
        ("output.linear.weight", &[o, i]) => net.output = Some((o, i)),
        ("output.linear.bias", _) => net.output_bias = true,
        (name, shape) if name.starts_with("hidden_") => match shape {
            // Layers come in order.
            &[o, i] => net.hidden.push((o, i)),
            _ => net.bias = true,
        },
        _ => {}
    }
}

/// The zeros that are appended to the input of the drift.
pub(super) fn n_augment(hyper: &Dict) -> usize {
    let n = hyper.get("mu_n_augment").and_then(Value::as_usize);
    n.unwrap_or_default()
}

/// Sets what only the hyper-parameters say.
pub(super) fn fill(config: &mut ScDiffEqConfig, hyper: &Dict) -> Result<()> {
    for (net, prefix) in [(&mut config.mu, "mu"), (&mut config.sigma, "sigma")] {
        let get = |what: &str| hyper.get(&format!("{prefix}_{what}"));
        if let Some(value) = get("activation") {
            let names = items(value).iter().filter_map(name_of).collect::<Vec<_>>();
            let all = names
                .iter()
                .map(|n| n.parse())
                .collect::<Result<Vec<Activation>>>()?;
            if !all.is_empty() {
                net.activation = all;
            }
        }
        if let Some(value) = get("dropout") {
            let all: Vec<f64> = items(value).iter().filter_map(Value::as_f64).collect();
            if !all.is_empty() {
                net.dropout = all;
            }
        }
        if let Some(n) = get("n_augment").and_then(Value::as_usize) {
            net.n_augment = n;
        }
    }
    if let Some(nets) = &mut config.autoencoder {
        if let Some(power) = hyper.get("encoder_power").and_then(Value::as_f64) {
            nets.power = power;
        }
        if let Some(rate) = hyper.get("encoder_dropout").and_then(Value::as_f64) {
            nets.dropout = rate;
        }
        let name = hyper.get("encoder_activation").and_then(name_of);
        if let Some(name) = name {
            nets.activation = name.parse()?;
        }
    }
    for (name, slot) in [
        ("coef_drift", &mut config.coef_drift),
        ("coef_diffusion", &mut config.coef_diffusion),
        ("coef_prior_drift", &mut config.coef_prior_drift),
    ] {
        if let Some(v) = hyper.get(name).and_then(Value::as_f64) {
            *slot = v;
        }
    }
    if hyper.get("sde_type").and_then(Value::as_str) == Some("stratonovich") {
        config.calculus = crate::solve::Calculus::Stratonovich;
    }
    Ok(())
}

/// A list as it is, anything else as a list of one.
fn items(value: &Value) -> &[Value] {
    value.as_slice().unwrap_or(std::slice::from_ref(value))
}

/// The name of an activation: a text, or a class.
fn name_of(value: &Value) -> Option<String> {
    match value.as_str() {
        Some(text) => Some(text.to_owned()),
        None => value.as_opaque().map(|o| o.class.to_string()),
    }
}
