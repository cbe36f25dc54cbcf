//! Gradients of every loss.

use candle_core::{DType, Tensor};
use sc_model::Mode;
use sc_tensor::rng::Rng;
use sc_tests::values;
use sc_transformer::scgpt::{Encoded, Input, ScGpt, losses};

use super::folder::{File, Golden, Inputs, mask, tensor};
use super::variants::{batch_dsbn, zero_cls_dab};

/// The name of a parameter here.
fn here(name: &str) -> String {
    name.replace("in_proj_weight", "Wqkv.weight")
        .replace("in_proj_bias", "Wqkv.bias")
}

fn check(file: &File, prefix: &str, model: &ScGpt, loss: &Tensor) -> usize {
    let grads = sc_tensor::backward(loss).unwrap();
    let mut seen = 0;
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    for key in names {
        let Some(name) = key.strip_prefix(prefix) else {
            continue;
        };
        let p = model
            .parameters()
            .get(&here(name))
            .unwrap_or_else(|| panic!("no {name}"));
        let g = grads
            .get(p.var().as_tensor())
            .unwrap_or_else(|| panic!("no gradient of {name}"));
        file.near(&key, g);
        seen += 1;
    }
    // The vector of padding is never trained.
    let table = model.parameters().get("encoder.embedding.weight").unwrap();
    if let Some(g) = grads.get(table.var().as_tensor()) {
        let row = g.narrow(0, model.config().pad_id as usize, 1).unwrap();
        assert!(values(&row).iter().all(|&v| v == 0.0));
    }
    seen
}

/// All terms of a loss, by the names of the references.
pub(super) fn terms(
    model: &ScGpt,
    e: &Encoded,
    target: &Tensor,
    scored: &Tensor,
    mode: &Mode<'_>,
) -> Vec<(&'static str, Tensor, f64)> {
    let mlm = model.decode(e, mode).unwrap();
    let mvc = model.decode_from_cells(e, mode).unwrap();
    let mut all = vec![
        (
            "gep",
            losses::masked_mse(&mlm.value, target, scored).unwrap(),
            1.0,
        ),
        (
            "gepc",
            losses::masked_mse(&mvc.value, target, scored).unwrap(),
            1.0,
        ),
        (
            "ecs",
            losses::elastic_similarity(e.cells(), 0.8).unwrap(),
            10.0,
        ),
    ];
    for (name, p) in [("gep_zero", &mlm), ("gepc_zero", &mvc)] {
        if let Some(l) = &p.nonzero_logit {
            all.push((name, losses::nonzero_nll(l, target, scored).unwrap(), 1.0));
        }
    }
    all
}

pub(super) fn total(terms: &[(&'static str, Tensor, f64)]) -> Tensor {
    let weighted = terms.iter().map(|(_, t, w)| (t * *w).unwrap());
    weighted.reduce(|a, b| (a + b).unwrap()).unwrap()
}

#[test]
fn of_the_plain_model() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let file = golden.file("scgpt/gradients.safetensors");
    let model = golden.variant(DType::F32, None, |_| {});
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0).as_at_inference();
    let cells = inputs.padded("masked_values");
    let run = |chosen: &str| {
        let e = model.encode(&cells, &mode).unwrap();
        let second = model.encode(&cells, &mode).unwrap();
        let scored = mask(&inputs.masked(), e.hidden());
        let target = tensor(&inputs.file.f32s("values"), e.hidden());
        let mut all = terms(&model, &e, &target, &scored, &mode);
        all.push((
            "cce",
            losses::contrastive(e.cells(), second.cells(), 0.5).unwrap(),
            10.0,
        ));
        match chosen {
            "total" => total(&all),
            name => all.into_iter().find(|t| t.0 == name).unwrap().1,
        }
    };
    let mut seen = 0;
    for name in ["gep", "gepc", "ecs", "cce", "total"] {
        let loss = run(name);
        file.near(&format!("loss.{name}"), &loss);
        seen += check(&file, &format!("grad.{name}."), &model, &loss);
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn of_all_heads_and_the_reversal() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/zero_cls_dab";
    let file = golden.file(&format!("{dir}/gradients.safetensors"));
    let model = golden.variant(
        DType::F32,
        Some(&format!("{dir}/overrides.safetensors")),
        zero_cls_dab,
    );
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0).as_at_inference();
    let cells = inputs.padded("masked_values");
    let names = [
        "gep",
        "gep_zero",
        "gepc",
        "gepc_zero",
        "ecs",
        "cls",
        "dab",
        "total",
    ];
    let mut seen = 0;
    for name in names {
        let all = super::training::all_terms(&model, &inputs, &cells, &mode);
        let loss = match name {
            "total" => total(&all),
            name => all.into_iter().find(|t| t.0 == name).unwrap().1,
        };
        file.near(&format!("loss.{name}"), &loss);
        seen += check(&file, &format!("grad.{name}."), &model, &loss);
    }
    assert!(seen > 70, "{seen}");
    // That of the vector of padding, which `check` found to be zero.
    assert_eq!(file.scalar("grad_padrow_absmax"), 0.0);
}

#[test]
fn of_domain_norms_in_training() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/batch_dsbn";
    let file = golden.file(&format!("{dir}/train.safetensors"));
    let model = golden.variant(
        DType::F32,
        Some(&format!("{dir}/overrides.safetensors")),
        batch_dsbn,
    );
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0).without_dropout();
    let masked = inputs.masked();
    for (step, label) in [0u32, 2, 0].into_iter().enumerate() {
        let mut cells = inputs.padded("values");
        if step > 0 {
            for (i, v) in cells.values.iter_mut().enumerate() {
                if inputs.valid[i] && i % 19 != 0 {
                    *v = (*v + 7.0 * step as f32) % 51.0;
                }
            }
        }
        let truth = cells.values.clone();
        for (v, &m) in cells.values.iter_mut().zip(&masked) {
            if m {
                *v = -1.0;
            }
        }
        let labels = [label; 5];
        let e = model
            .encode(Input::with_batches(&cells, &labels), &mode)
            .unwrap();
        file.near(&format!("step{step}.cell_emb"), e.cells());
        let mlm = model.decode(&e, &mode).unwrap().value;
        file.near(&format!("step{step}.mlm_output"), &mlm);
        let (target, scored) = (tensor(&truth, e.hidden()), mask(&masked, e.hidden()));
        let mut all = terms(&model, &e, &target, &scored, &mode);
        let dab = model.batch_logits(e.cells(), 1.0, &mode).unwrap();
        all.push(("dab", losses::cross_entropy(&dab, &labels).unwrap(), 1.0));
        for (name, loss, _) in &all {
            file.near(&format!("step{step}.loss.{name}"), loss);
        }
        let loss = total(&all);
        file.near(&format!("step{step}.loss.total"), &loss);
        if step == 0 {
            let seen = check(&file, "step0.grad.", &model, &loss);
            assert!(seen > 10, "{seen}");
        }
    }
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    for key in names {
        if let Some(name) = key.strip_prefix("final.") {
            let p = model.parameters().get(name).unwrap();
            match name.ends_with("num_batches_tracked") {
                true => assert_eq!(values(p.value()), values(file.get(&key))),
                false => file.near(&key, p.value()),
            }
        }
    }
}
