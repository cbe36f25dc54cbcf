//! The perturbation model.

use candle_core::{DType, Device};
use ndarray::Array2;
use sc_model::{Mode, Parity};
use sc_tensor::rng::Rng;
use sc_transformer::scgpt::{
    Activation, Allow, GenesIncluded, MvcStyle, PerturbConfig, PredictOptions, ScGptPerturb, losses,
};
use sc_transformer::tokens::{Binner, Binning, TokenBatch};

use super::folder::{File, Golden, mask, padded, tensor};

fn model(
    golden: &Golden,
    dtype: DType,
    overrides: &[&str],
    change: impl FnOnce(&mut PerturbConfig),
) -> ScGptPerturb {
    let base = golden.checkpoint("scgpt");
    let mut config = PerturbConfig::default();
    config.base = base.config().unwrap();
    config.base.mvc = Some(MvcStyle::InnerProduct);
    config.base.generative = false;
    config.base.pad_value = 0.0;
    config.base.classes = vec!["0".into()];
    config.flag_pad = 2;
    change(&mut config);
    let model = ScGptPerturb::init_with_dtype(base.vocab().clone(), config, &Device::Cpu, dtype, 0);
    let model = model.unwrap();
    model.load_weights(&base, &Allow::fine_tuning()).unwrap();
    for name in overrides {
        let file = golden.file(&format!("perturbation/{name}.safetensors"));
        for name in file.names() {
            let p = model
                .parameters()
                .get(name)
                .unwrap_or_else(|| panic!("no {name}"));
            p.import(file.get(name)).unwrap();
        }
    }
    model
}

fn cells(file: &File, prefix: &str) -> TokenBatch {
    let ids = file.u32s(&format!("{prefix}gene_ids"));
    let valid: Vec<bool> = match prefix {
        "" => vec![true; ids.len()],
        _ => file.u32s("padded_mask").iter().map(|&m| m == 0).collect(),
    };
    let mut b = padded(ids, file.f32s(&format!("{prefix}values")), &valid, 5);
    b.flags = Some(file.u32s(&format!("{prefix}pert_flags")));
    b.has_cls = false;
    b
}

#[test]
fn flags_and_the_affine_decoder() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("perturbation/inputs.safetensors");
    let mode = Mode::eval();
    for (dtype, name) in [(DType::F32, "expected"), (DType::F64, "expected_f64")] {
        let file = golden.file(&format!("perturbation/{name}.safetensors"));
        let m = model(&golden, dtype, &["overrides"], |_| {});
        let batch = cells(&inputs, "");
        let made = m.forward(&batch, &mode).unwrap();
        file.near("mlm_output", &made.expression.value);
        file.near("coeff", &made.expression.slope);
        file.near("bias", &made.expression.shift);
        let mvc = m.decode_from_cells(&batch, &made, &mode).unwrap();
        file.near("mvc_output", &mvc.value);
        let target = tensor(&inputs.f32s("target_values"), &made.hidden);
        let all = target.ones_like().unwrap();
        let loss = losses::masked_mse(&made.expression.value, &target, &all).unwrap();
        file.near("loss.pert_gep", &loss);
        if dtype == DType::F64 {
            continue;
        }
        file.near("transformer_output", &made.hidden);
        file.near("cls_output", &m.class_logits(&made.cells, &mode).unwrap());
        file.near(
            "loss_ecs",
            &losses::elastic_similarity(&made.cells, 0.3).unwrap(),
        );
        let batch = cells(&inputs, "padded_");
        let valid: Vec<bool> = inputs.u32s("padded_mask").iter().map(|&m| m == 0).collect();
        let made = m.forward(&batch, &mode).unwrap();
        file.near_where("padded.mlm_output", &made.expression.value, Some(&valid));
        let mvc = m.decode_from_cells(&batch, &made, &mode).unwrap();
        file.near("padded.mvc_output", &mvc.value);
    }
}

#[test]
fn activations_adaptive_shifts_zeros_and_bins() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("perturbation/inputs.safetensors");
    let file = golden.file("perturbation/expected.safetensors");
    let mode = Mode::eval();
    type Change = fn(&mut PerturbConfig);
    let cases: [(&str, Change); 3] = [
        ("adaptive_bias", |c| c.adaptive_bias = true),
        ("activation_ReLU", |c| c.activation = Activation::Relu),
        ("activation_Tanh_adaptive", |c| {
            c.activation = Activation::Tanh;
            c.adaptive_bias = true;
        }),
    ];
    for (name, change) in cases {
        let m = model(&golden, DType::F32, &["overrides"], change);
        let made = m.forward(&cells(&inputs, ""), &mode).unwrap();
        file.near(&format!("{name}.mlm_output"), &made.expression.value);
    }
    let m = model(
        &golden,
        DType::F32,
        &["overrides", "zero_prob_overrides"],
        |c| {
            c.base.nonzero_prob = true;
        },
    );
    let batch = cells(&inputs, "");
    let made = m.forward(&batch, &mode).unwrap();
    file.near("zero_prob.mlm_output", &made.expression.value);
    let p = sc_tensor::ops::sigmoid(made.expression.nonzero_logit.as_ref().unwrap()).unwrap();
    file.near("zero_prob.mlm_zero_probs", &p);
    let mvc = m.decode_from_cells(&batch, &made, &mode).unwrap();
    file.near("zero_prob.mvc_output", &mvc.value);
    file.near(
        "zero_prob.mvc_zero_probs",
        &mvc.nonzero_prob().unwrap().unwrap(),
    );
    let file = golden.file("perturbation/input_bins.safetensors");
    let m = model(&golden, DType::F32, &["overrides"], |c| {
        c.n_input_bins = Some(51);
    });
    let mut batch = cells(&inputs, "");
    batch.values = file.f32s("values_distinct");
    let made = m.forward(&batch, &mode).unwrap();
    file.near("n_input_bins_51.mlm_output", &made.expression.value);
    let binner = Binner::new(Binning::default()).unwrap();
    let rows = batch.values.chunks(24);
    let bins: Vec<f32> = rows.flat_map(|row| binner.bin(&[], row)).collect();
    assert_eq!(bins, file.f32s("binned"));
}

#[test]
fn gradients_and_the_flag_without_one() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("perturbation/inputs.safetensors");
    let file = golden.file("perturbation/expected.safetensors");
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0).as_at_inference();
    for (pad, prefix) in [(2, "grad."), (0, "pert_pad_id_0.grad.")] {
        let m = model(&golden, DType::F32, &["overrides"], |c| c.flag_pad = pad);
        let made = m.forward(&cells(&inputs, ""), &mode).unwrap();
        let target = tensor(&inputs.f32s("target_values"), &made.hidden);
        let all = mask(&[true; 120], &target);
        let loss = losses::masked_mse(&made.expression.value, &target, &all).unwrap();
        let grads = sc_tensor::backward(&loss).unwrap();
        let mut seen = 0;
        for key in file.names().filter(|n| n.starts_with(prefix)) {
            let p = m.parameters().get(&key[prefix.len()..]).unwrap();
            file.near(key, grads.get(p.var().as_tensor()).unwrap());
            seen += 1;
        }
        assert_eq!(seen, if pad == 2 { 6 } else { 1 });
    }
}

#[test]
fn predictions_for_all_genes_and_for_those_expressed() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("perturbation/inputs.safetensors");
    let ids = inputs.u32s("pp_gene_vocab_ids");
    let controls = inputs.get("pp_control_values").dims2().unwrap();
    let controls = Array2::from_shape_vec(controls, inputs.f32s("pp_control_values")).unwrap();
    let flags = inputs.u32s("pp_flags");
    let of_cell = |c: usize| (0..64).filter(|&g| flags[c * 64 + g] == 1).collect();
    let hit: Vec<Vec<usize>> = (0..3).map(of_cell).collect();
    let flagged = hit.iter().position(|h| h.contains(&5)).unwrap();
    for (dtype, name) in [(DType::F32, "expected"), (DType::F64, "expected_f64")] {
        let file = golden.file(&format!("perturbation/{name}.safetensors"));
        let m = model(&golden, dtype, &["overrides"], |_| {});
        let mut options = PredictOptions::default();
        options.parity = Parity::Upstream;
        let numbers = |m: Array2<f32>| -> Vec<f64> { m.iter().map(|&v| f64::from(v)).collect() };
        let all = m.predict(controls.view(), &ids, &hit, &options).unwrap();
        if dtype == DType::F64 {
            // Given as f32.
            for (a, b) in numbers(all)
                .iter()
                .zip(sc_tests::values(file.get("pred_perturb.all")))
            {
                assert!((a - b).abs() < 1e-6);
            }
            continue;
        }
        file.near_values("pred_perturb.all", &numbers(all.clone()), None);
        options.genes = GenesIncluded::Expressed;
        let some = m.predict(controls.view(), &ids, &hit, &options).unwrap();
        file.near_values("pred_perturb.batch-wise", &numbers(some), None);
        // Ours keeps the flag of a gene that no cell expresses.
        options.parity = Parity::Correct;
        let ours = m.predict(controls.view(), &ids, &hit, &options).unwrap();
        assert!(ours[(flagged, 5)] != 0.0);
        options.genes = GenesIncluded::All;
        assert_eq!(
            m.predict(controls.view(), &ids, &hit, &options).unwrap(),
            all
        );
    }
}
