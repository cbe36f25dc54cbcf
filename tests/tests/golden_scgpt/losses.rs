//! Loss functions on fixed numbers.

use candle_core::{DType, Tensor, Var};
use sc_transformer::scgpt::losses;

use super::folder::Golden;

#[test]
fn losses_and_their_gradients() {
    let Some(golden) = Golden::open() else { return };
    let file = golden.file("losses/losses.safetensors");
    let var = |name: &str| Var::from_tensor(file.get(name)).unwrap();
    let mask = file.get("mask").to_dtype(DType::F32).unwrap();
    let target = file.get("target");
    let check = |name: &str, loss: &Tensor, inputs: &[(&str, &Var)]| {
        file.near(name, loss);
        let grads = sc_tensor::backward(loss).unwrap();
        for (input, v) in inputs {
            file.near(&format!("{name}.grad.{input}"), grads.get(v).unwrap());
        }
    };
    let pred = var("pred");
    let loss = losses::masked_mse(&pred, target, &mask).unwrap();
    check("masked_mse", &loss, &[("pred", &pred)]);
    let probs = var("probs");
    let loss = losses::nonzero_nll_of_probs(&probs, target, &mask).unwrap();
    check("zero_nll", &loss, &[("probs", &probs)]);
    let positive = target.gt(0f64).unwrap().to_dtype(DType::F32).unwrap();
    let some = (&mask * positive).unwrap();
    let loss = losses::mean_relative_error(&pred, target, &some).unwrap();
    check("mre", &loss, &[("pred", &pred)]);
    let loss = losses::mean_relative_error(&pred, target, &mask).unwrap();
    file.near("mre_with_zeros", &loss);
    let (cells, second) = (var("cell_emb"), var("cell_emb2"));
    for beta in ["0.3", "0.6", "0.8"] {
        let loss = losses::elastic_similarity(&cells, beta.parse().unwrap()).unwrap();
        check(&format!("ecs_beta{beta}"), &loss, &[("cell_emb", &cells)]);
    }
    let logits = losses::contrastive_logits(&cells, &second, losses::TEMPERATURE).unwrap();
    file.near("cce_logits", &logits);
    let loss = losses::contrastive(&cells, &second, losses::TEMPERATURE).unwrap();
    check(
        "cce",
        &loss,
        &[("cell_emb", &cells), ("cell_emb2", &second)],
    );
    let logits = var("logits");
    let loss = losses::cross_entropy(&logits, &file.u32s("labels")).unwrap();
    check("cross_entropy", &loss, &[("logits", &logits)]);
}

#[test]
fn certain_probabilities_and_empty_masks() {
    let Some(golden) = Golden::open() else { return };
    let file = golden.file("losses/losses.safetensors");
    for (dtype, name) in [
        (DType::F32, "zero_nll_extreme_f32"),
        (DType::F64, "zero_nll_extreme_f64"),
    ] {
        let get = |name: &str| file.get(name).to_dtype(dtype).unwrap();
        let (p, t) = (get("probs_extreme"), get("target_extreme"));
        let all = p.ones_like().unwrap();
        let loss = losses::nonzero_nll_of_probs(&p, &t, &all).unwrap();
        file.near(name, &loss);
        let none = p.zeros_like().unwrap();
        for loss in [
            losses::nonzero_nll_of_probs(&p, &t, &none),
            losses::masked_mse(&p, &t, &none),
        ] {
            let loss = loss.unwrap().to_dtype(DType::F64).unwrap();
            assert!(loss.to_scalar::<f64>().unwrap().is_nan());
        }
    }
}
