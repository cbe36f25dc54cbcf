//! Models with other parts: probabilities of zeros, classes, adversary, batches, norms, categories, modalities, MVC styles.

use candle_core::{DType, Tensor};
use sc_model::{Mode, Parity};
use sc_tensor::rng::Rng;
use sc_transformer::scgpt::{
    Encoded, Input, InputNorm, Predicted, ScGpt, ScGptConfig, ValueInput, losses,
};

use super::folder::{File, Golden, Inputs, mask, tensor};

pub(super) fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}

/// What `zero_cls_dab` adds to the plain model.
pub(super) fn zero_cls_dab(c: &mut ScGptConfig) {
    c.nonzero_prob = true;
    c.adversary = true;
    c.batches = names(3);
    c.classes = names(5);
    c.generative = false;
}

/// What `batch_dsbn` adds.
pub(super) fn batch_dsbn(c: &mut ScGptConfig) {
    zero_cls_dab(c);
    c.classes = Vec::new();
    c.use_batch_labels = true;
    c.input_norm = InputNorm::DomainSpecific;
}

pub(super) fn nonzero(p: &Predicted) -> Tensor {
    p.nonzero_prob().unwrap().unwrap()
}

fn decoders(
    file: &File,
    prefix: &str,
    model: &ScGpt,
    e: &Encoded,
    mode: &Mode<'_>,
    valid: Option<&[bool]>,
) {
    let mlm = model.decode(e, mode).unwrap();
    file.near_where(&format!("{prefix}mlm_output"), &mlm.value, valid);
    file.near_where(&format!("{prefix}mlm_zero_probs"), &nonzero(&mlm), valid);
    let mvc = model.decode_from_cells(e, mode).unwrap();
    file.near(&format!("{prefix}mvc_output"), &mvc.value);
    file.near(&format!("{prefix}mvc_zero_probs"), &nonzero(&mvc));
    file.near(&format!("{prefix}cell_emb"), e.cells());
    let dab = model.batch_logits(e.cells(), 1.0, mode).unwrap();
    file.near(&format!("{prefix}dab_output"), &dab);
    let ecs = losses::elastic_similarity(e.cells(), 0.8).unwrap();
    file.near(&format!("{prefix}loss_ecs"), &ecs);
}

#[test]
fn zeros_classes_and_adversary() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/zero_cls_dab";
    let model = golden.variant(
        DType::F32,
        Some(&format!("{dir}/overrides.safetensors")),
        zero_cls_dab,
    );
    let expected = golden.file(&format!("{dir}/expected.safetensors"));
    let mode = Mode::eval();
    for values in ["values", "masked_values"] {
        let e = model.encode(&inputs.padded(values), &mode).unwrap();
        decoders(&expected, &format!("{values}."), &model, &e, &mode, None);
        let classes = model.class_logits(e.cells(), &mode).unwrap();
        expected.near(&format!("{values}.cls_output"), &classes);
        let cce = losses::contrastive(e.cells(), e.cells(), 0.5).unwrap();
        expected.near(&format!("{values}.loss_cce"), &cce);
    }
}

#[test]
fn batches_and_their_norms() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/batch_dsbn";
    let overrides = format!("{dir}/overrides.safetensors");
    let model = golden.variant(DType::F32, Some(&overrides), batch_dsbn);
    let expected = golden.file(&format!("{dir}/expected.safetensors"));
    let (mode, cells) = (Mode::eval(), inputs.padded("values"));
    for label in 0..3u32 {
        let labels = [label; 5];
        let e = model
            .encode(Input::with_batches(&cells, &labels), &mode)
            .unwrap();
        decoders(
            &expected,
            &format!("label{label}."),
            &model,
            &e,
            &mode,
            None,
        );
        if label == 0 {
            expected.near_where("label0.transformer_output", e.hidden(), Some(&inputs.valid));
        }
    }
    let prompt = inputs.file.get("cell_prompt");
    let made = model.decode_prompt(Input::with_batches(&cells, &[1; 5]), prompt, true, &mode);
    expected.near_where("label1.generate", &made.unwrap().value, Some(&inputs.valid));
    // Cells of several batches: the original normalises all by the first one's statistics.
    let labels = inputs.file.u32s("batch_labels");
    let upstream = golden.variant(DType::F32, Some(&overrides), |c| {
        batch_dsbn(c);
        c.parity = Parity::Upstream;
    });
    let e = upstream
        .encode(Input::with_batches(&cells, &labels), &mode)
        .unwrap();
    expected.near("mixed.cell_emb", e.cells());
    let mlm = upstream.decode(&e, &mode).unwrap().value;
    expected.near_where("mixed.mlm_output", &mlm, Some(&inputs.valid));
    let mvc = upstream.decode_from_cells(&e, &mode).unwrap().value;
    expected.near("mixed.mvc_output", &mvc);
    // Ours gives each cell what it gets among its own.
    let e = model
        .encode(Input::with_batches(&cells, &labels), &mode)
        .unwrap();
    for (cell, &label) in labels.iter().enumerate() {
        let own = model
            .encode(Input::with_batches(&cells, &[label; 5]), &mode)
            .unwrap();
        let row = |t: &Tensor| t.narrow(0, cell, 1).unwrap().to_vec2::<f32>().unwrap();
        for (a, b) in row(e.cells())[0].iter().zip(&row(own.cells())[0]) {
            assert!((a - b).abs() < 2e-6, "{a} {b}");
        }
    }
    let error = model.encode(&cells, &mode).unwrap_err().to_string();
    assert!(error.contains("batch"), "{error}");
    let error = model
        .encode(Input::with_batches(&cells, &[7; 5]), &mode)
        .unwrap_err();
    assert!(error.to_string().contains("7"), "{error}");
}

#[test]
fn a_norm_over_all_rows() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/batchnorm";
    let model = golden.variant(
        DType::F32,
        Some(&format!("{dir}/overrides.safetensors")),
        |c| {
            c.input_norm = InputNorm::Batch;
            c.classes = names(5);
            c.mvc = None;
        },
    );
    let expected = golden.file(&format!("{dir}/expected.safetensors"));
    let (mode, cells) = (Mode::eval(), inputs.padded("values"));
    let e = model.encode(&cells, &mode).unwrap();
    expected.near("eval.cell_emb", e.cells());
    expected.near(
        "eval.cls_output",
        &model.class_logits(e.cells(), &mode).unwrap(),
    );
    let mlm = model.decode(&e, &mode).unwrap().value;
    expected.near_where("eval.mlm_output", &mlm, Some(&inputs.valid));
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0).without_dropout();
    let e = model.encode(&cells, &mode).unwrap();
    let logits = model.class_logits(e.cells(), &mode).unwrap();
    expected.near("train.cls_output", &logits);
    let loss = losses::cross_entropy(&logits, &inputs.file.u32s("celltype_labels")).unwrap();
    expected.near("train.loss_cls", &loss);
    let grads = sc_tensor::backward(&loss).unwrap();
    let keys: Vec<String> = expected.names().map(str::to_owned).collect();
    for key in keys {
        if let Some(name) = key.strip_prefix("train.grad.") {
            let p = model.parameters().get(name).unwrap();
            expected.near(&key, grads.get(p.var().as_tensor()).unwrap());
        } else if let Some(name) = key.strip_prefix("train.bn.") {
            let p = model.parameters().get(&format!("bn.{name}")).unwrap();
            match name {
                "num_batches_tracked" => {
                    assert_eq!(expected.scalar(&key), super::folder::number(p.value()));
                }
                _ => expected.near(&key, p.value()),
            }
        }
    }
}

#[test]
fn values_as_categories_and_scales() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let mode = Mode::eval();
    let dir = "variants/category";
    let model = golden.variant(
        DType::F32,
        Some(&format!("{dir}/overrides.safetensors")),
        |c| {
            c.value_input = ValueInput::Category { n: 53 };
            (c.pad_value, c.mask_value) = (51.0, 52.0);
        },
    );
    let expected = golden.file(&format!("{dir}/expected.safetensors"));
    let mut cells = inputs.padded("values");
    cells.values = expected.f32s("category_values");
    let v = model.value_vectors(&cells.values[..38], &mode).unwrap();
    expected.near("value_emb_cells01", &v);
    let e = model.encode(&cells, &mode).unwrap();
    expected.near("cell_emb", e.cells());
    let mlm = model.decode(&e, &mode).unwrap().value;
    expected.near_where("mlm_output", &mlm, Some(&inputs.valid));
    expected.near(
        "mvc_output",
        &model.decode_from_cells(&e, &mode).unwrap().value,
    );
    let model = golden.variant(DType::F32, None, |c| c.value_input = ValueInput::Scaling);
    let expected = golden.file("variants/scaling/expected.safetensors");
    let mut cells = inputs.padded("values");
    cells.values.iter_mut().for_each(|v| *v /= 50.0);
    let e = model.encode(&cells, &mode).unwrap();
    expected.near("cell_emb", e.cells());
    let mlm = model.decode(&e, &mode).unwrap().value;
    expected.near_where("mlm_output", &mlm, Some(&inputs.valid));
    expected.near(
        "mvc_output",
        &model.decode_from_cells(&e, &mode).unwrap().value,
    );
}

#[test]
fn modalities() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let dir = "variants/multiomic";
    let expected = golden.file(&format!("{dir}/expected.safetensors"));
    let overrides = golden.file(&format!("{dir}/overrides.safetensors"));
    let modalities = ["Protein", "RNA", "<pad>", "<cls>", "<eoc>"].map(str::to_owned);
    let mode = Mode::eval();
    for with_batches in [false, true] {
        let model = golden.variant(DType::F32, None, |c| {
            zero_cls_dab(c);
            c.classes = Vec::new();
            c.use_batch_labels = with_batches;
            c.modalities = modalities.to_vec();
        });
        for name in overrides.names() {
            if let Some(p) = model.parameters().get(name) {
                p.import(overrides.get(name)).unwrap();
            }
        }
        let mut cells = inputs.padded("masked_values");
        cells.modality = Some(expected.u32s("mod_types"));
        let labels = inputs.file.u32s("batch_labels");
        let input = match with_batches {
            true => Input::with_batches(&cells, &labels),
            false => Input::from(&cells),
        };
        let e = model.encode(input, &mode).unwrap();
        let prefix = if with_batches {
            "mod_batch."
        } else {
            "mod_only."
        };
        decoders(&expected, prefix, &model, &e, &mode, Some(&inputs.valid));
        let scored = mask(&inputs.masked(), e.hidden());
        let target = tensor(&inputs.file.f32s("values"), e.hidden());
        for (p, name) in [
            (model.decode(&e, &mode), "gep"),
            (model.decode_from_cells(&e, &mode), "gepc"),
        ] {
            let p = p.unwrap();
            let mse = losses::masked_mse(&p.value, &target, &scored).unwrap();
            expected.near(&format!("{prefix}loss.{name}"), &mse);
            let nll = losses::nonzero_nll(p.nonzero_logit.as_ref().unwrap(), &target, &scored);
            expected.near(&format!("{prefix}loss.{name}_zero"), &nll.unwrap());
        }
        let dab = model.batch_logits(e.cells(), 1.0, &mode).unwrap();
        let dab = losses::cross_entropy(&dab, &labels).unwrap();
        expected.near(&format!("{prefix}loss.dab"), &dab);
        let ecs = losses::elastic_similarity(e.cells(), 0.8).unwrap();
        expected.near(&format!("{prefix}loss.ecs"), &ecs);
        let error = model.encode(&inputs.padded("values"), &mode).unwrap_err();
        assert!(
            with_batches || error.to_string().contains("modalit"),
            "{error}"
        );
    }
}
