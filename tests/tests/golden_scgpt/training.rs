//! Steps of training beside the original's.

use candle_core::{DType, Tensor};
use sc_model::optim::global_norm;
use sc_model::{LrSchedule, Mode, Optimizer, OptimizerKind};
use sc_tensor::rng::Rng;
use sc_transformer::scgpt::{ScGpt, losses};
use sc_transformer::tokens::TokenBatch;

use super::folder::{Golden, Inputs, mask, tensor};
use super::gradients::{terms, total};
use super::variants::zero_cls_dab;

/// The terms of `zero_cls_dab`, cell types and batches among them.
pub(super) fn all_terms(
    model: &ScGpt,
    inputs: &Inputs,
    cells: &TokenBatch,
    mode: &Mode<'_>,
) -> Vec<(&'static str, Tensor, f64)> {
    let e = model.encode(cells, mode).unwrap();
    let scored = mask(&inputs.masked(), e.hidden());
    let target = tensor(&inputs.file.f32s("values"), e.hidden());
    let mut all = terms(model, &e, &target, &scored, mode);
    let logits = model.class_logits(e.cells(), mode).unwrap();
    let labels = inputs.file.u32s("celltype_labels");
    all.push(("cls", losses::cross_entropy(&logits, &labels).unwrap(), 1.0));
    let logits = model.batch_logits(e.cells(), 1.0, mode).unwrap();
    let batches = inputs.file.u32s("batch_labels");
    all.push((
        "dab",
        losses::cross_entropy(&logits, &batches).unwrap(),
        1.0,
    ));
    all
}

#[test]
fn five_steps_of_adam() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/zero_cls_dab";
    let file = golden.file(&format!("{dir}/train5.safetensors"));
    let model = golden.variant(
        DType::F32,
        Some(&format!("{dir}/overrides.safetensors")),
        zero_cls_dab,
    );
    let cells = inputs.padded("masked_values");
    let kind = OptimizerKind::Adam {
        betas: (0.9, 0.999),
        eps: 1e-8,
        weight_decay: 0.0,
    };
    let mut optimizer = Optimizer::new(kind, model.parameters());
    let schedule = LrSchedule::Step {
        size: 1,
        gamma: 0.9,
    };
    let mut state = sc_model::LrState::new(1e-3);
    let (mut seen, mut norms, mut rates) = (vec![], vec![], vec![]);
    let rng = Rng::new(0);
    for step in 0..5 {
        let mode = Mode::train(&rng, step).without_dropout();
        let loss = total(&all_terms(&model, &inputs, &cells, &mode));
        seen.push(f64::from(loss.to_scalar::<f32>().unwrap()));
        let grads = sc_tensor::backward(&loss).unwrap();
        norms.push(global_norm(model.parameters(), &grads).unwrap());
        rates.push(state.lr);
        optimizer
            .step(model.parameters(), &grads, state.lr, Some(1.0))
            .unwrap();
        state.after_epoch(&schedule, 1e-3, step as usize, None);
    }
    file.near_values("loss_per_step", &seen, None);
    file.near_values("grad_norm_before_clip", &norms, None);
    file.near_values("lr_per_step", &rates, None);
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    for key in names {
        if let Some(name) = key.strip_prefix("param.") {
            let name = name
                .replace("in_proj_weight", "Wqkv.weight")
                .replace("in_proj_bias", "Wqkv.bias");
            file.near(&key, model.parameters().get(&name).unwrap().value());
        }
    }
}
