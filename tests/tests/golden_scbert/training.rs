//! Losses, gradients and learning rates.

use candle_core::{DType, Tensor};
use sc_model::train::{Split, Step, TrainConfig};
use sc_model::{LrState, Mode, Params, Parity};
use sc_tensor::rng::Rng;
use sc_tests::{json, values};
use sc_transformer::scbert::{FinetuneConfig, Masked, PretrainConfig};

use crate::folder::*;

/// A training step, or one of validation without `rng`.
fn step<'a>(rng: &'a Rng, split: &'a Split, training: bool) -> Step<'a> {
    Step {
        mode: if training {
            Mode::train(rng, 0)
        } else {
            Mode::eval()
        },
        epoch: 0,
        step: 0,
        step_in_epoch: 0,
        batch_size: 3,
        split,
        kl_weight: 1.0,
        rng,
    }
}

/// The three masked cells, `n` at a time.
fn masked(inputs: &File, n: usize) -> Vec<Masked> {
    let (tokens, labels) = (inputs.tokens("masked_tokens"), inputs.tokens("mask_labels"));
    let part = |(tokens, labels): (&[u32], &[u32])| {
        let hidden = labels.iter().enumerate().filter(|l| *l.1 != 6);
        Masked {
            tokens: tokens.to_vec(),
            places: hidden.clone().map(|(i, _)| i as u32).collect(),
            targets: hidden.map(|(_, &t)| t).collect(),
        }
    };
    tokens
        .chunks(101 * n)
        .zip(labels.chunks(101 * n))
        .map(part)
        .collect()
}

/// Compares the gradients of which the file has some; gives how many.
fn gradients(expected: &File, prefix: &str, params: &Params, loss: &Tensor) -> usize {
    let grads = sc_tensor::backward(loss).unwrap();
    let mut seen = 0;
    for p in params.iter() {
        let name = format!("{prefix}{}", p.name());
        let grad = grads.get(p.var());
        assert_eq!(grad.is_some(), p.is_trainable(), "{name}");
        if expected.tensors.contains_key(&name) {
            expected.check(&name, &values(grad.unwrap()));
            seen += 1;
        }
    }
    seen
}

#[test]
fn losses_and_gradients_of_pretraining() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("inputs.safetensors");
    let (rng, split) = (Rng::new(0), Split::default());
    let step = step(&rng, &split, true);
    for (file, dtype) in [
        ("expected.safetensors", DType::F32),
        ("expected_f64.safetensors", DType::F64),
    ] {
        let (model, expected) = (golden.model(PRETRAINED, dtype), golden.file(file));
        let mut config = PretrainConfig::default();
        config.parity = Parity::Upstream;
        let task = model.pretraining(&config).unwrap();
        let loss = task.loss_of(&masked(&inputs, 3), &step).unwrap();
        expected.check("masked.batch3.mlm_loss", &scalar(&loss.loss));
        if dtype == DType::F32 {
            assert_eq!(
                gradients(&expected, "mlm_grad.", model.parameters(), &loss.loss),
                7
            );
        }
    }
    let (model, expected) = (
        golden.model(PRETRAINED, DType::F32),
        golden.file("expected.safetensors"),
    );
    let config = PretrainConfig::default();
    let task = model.pretraining(&config).unwrap();
    let cells = masked(&inputs, 1);
    let pooled = task.loss_of(&cells, &step).unwrap().loss;
    expected.check("masked.per_cell.mlm_loss_pooled", &scalar(&pooled));
    let each: Vec<f64> = (cells.chunks(1))
        .map(|c| scalar(&task.loss_of(c, &step).unwrap().loss)[0])
        .collect();
    expected.check("masked.per_cell.mlm_loss", &each);
}

#[test]
fn gradients_in_parts_are_those_of_the_whole() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("inputs.safetensors");
    let (rng, split) = (Rng::new(0), Split::default());
    let step = step(&rng, &split, true);
    let model = golden.model(PRETRAINED, DType::F64);
    let config = PretrainConfig::default();
    let task = model.pretraining(&config).unwrap();
    let of = |n: usize| {
        let loss = task.loss_of(&masked(&inputs, n), &step).unwrap().loss;
        (scalar(&loss)[0], sc_tensor::backward(&loss).unwrap())
    };
    let ((whole, all), (parts, each)) = (of(3), of(1));
    assert!((whole - parts).abs() < 1e-12);
    for p in model.parameters().trainable() {
        let (a, b) = (
            values(all.get(p.var()).unwrap()),
            values(each.get(p.var()).unwrap()),
        );
        let scale = a.iter().fold(0f64, |m, x| m.max(x.abs()));
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= 1e-11 * scale, "{}", p.name());
        }
    }
}

#[test]
fn fine_tuning_trains_what_upstream_trains() {
    let Some(golden) = Golden::open() else { return };
    let (inputs, expected) = (
        golden.file("inputs.safetensors"),
        golden.file("expected.safetensors"),
    );
    let model = golden.model(FINE_TUNED, DType::F32);
    let mut config = FinetuneConfig::default();
    config.parity = Parity::Upstream;
    let task = model.finetuning(&config).unwrap();
    let names: Vec<String> = model
        .parameters()
        .trainable()
        .map(|p| p.name().to_owned())
        .collect();
    let readme = json(&golden.dir.join("README.json"));
    let upstream: Vec<String> =
        serde_json::from_value(readme["trainable_parameters_fine_tuning"].clone()).unwrap();
    assert_eq!(names, upstream);
    let (rng, split) = (Rng::new(0), Split::default());
    let loss = task
        .loss_of(
            &inputs.tokens("tokens"),
            &inputs.tokens("class_labels"),
            &[1.0; 6],
            &step(&rng, &split, true),
        )
        .unwrap();
    expected.check("finetune.loss", &scalar(&loss.loss));
    let wanted = expected
        .tensors
        .keys()
        .filter(|k| k.starts_with("finetune_grad."))
        .count();
    assert_eq!(
        gradients(&expected, "finetune_grad.", model.parameters(), &loss.loss),
        wanted
    );
}

#[test]
fn learning_rates() {
    let Some(golden) = Golden::open() else { return };
    let expected = json(&golden.dir.join("schedule.json"));
    let config: TrainConfig = PretrainConfig::default().train;
    let mut state = LrState::new(config.lr_schedule.first(config.lr));
    for (epoch, rate) in expected["lr_used_in_epoch"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let rate = rate.as_f64().unwrap();
        assert!(
            (state.lr - rate).abs() <= 1e-12 * rate,
            "epoch {epoch}: {} instead of {rate}",
            state.lr
        );
        state.after_epoch(&config.lr_schedule, config.lr, epoch, None);
    }
}
