//! The plain model: embeddings, encoder, decoders, in both precisions.

use candle_core::{DType, Device};
use sc_model::{Mode, Parity};
use sc_transformer::scgpt::{Allow, CellEmbedding, NormPlacement, losses};

use super::folder::{Golden, Inputs, mask, tensor, unpack};

#[test]
fn the_plain_model() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let mode = Mode::eval();
    for (dtype, name) in [(DType::F32, "expected"), (DType::F64, "expected_f64")] {
        let expected = golden.file(&format!("scgpt/{name}.safetensors"));
        let (model, report) = golden
            .checkpoint("scgpt")
            .load_with(&Device::Cpu, dtype, &Allow::default())
            .unwrap();
        assert!(
            report.is_complete() && report.loaded.len() == 43,
            "{report}"
        );
        let padded = inputs.padded("values");
        let e = model.encode(&padded, &mode).unwrap();
        // Padding asks like any token in torch, so that all rows agree.
        expected.near("transformer_output", e.hidden());
        expected.near("cell_emb", e.cells());
        let length = e.cells().sqr().unwrap().sum_keepdim(1).unwrap();
        let unit = e.cells().broadcast_div(&length.sqrt().unwrap()).unwrap();
        expected.near("cell_emb_l2", &unit);
        let mlm = model.decode(&e, &mode).unwrap();
        expected.near("mlm_output", &mlm.value);
        assert!(mlm.nonzero_logit.is_none());
        let mvc = model.decode_from_cells(&e, &mode).unwrap();
        expected.near("mvc_output", &mvc.value);
        for beta in ["0.3", "0.8"] {
            let ecs = losses::elastic_similarity(e.cells(), beta.parse().unwrap()).unwrap();
            expected.near(&format!("loss_ecs_beta{beta}"), &ecs);
        }
        let cce = losses::contrastive(e.cells(), e.cells(), losses::TEMPERATURE).unwrap();
        expected.near("loss_cce", &cce);
        // Without padding it is the same.
        let packed = inputs.packed("values");
        let p = model.encode(&packed, &mode).unwrap();
        let rows = unpack(p.hidden(), &inputs.valid);
        expected.near_values("transformer_output", &rows, Some(&inputs.valid));
        expected.near("cell_emb", p.cells());
        // Masked values.
        let m = model
            .encode(&inputs.padded("masked_values"), &mode)
            .unwrap();
        let scored = mask(&inputs.masked(), e.hidden());
        let target = tensor(&inputs.file.f32s("values"), e.hidden());
        let mlm = model.decode(&m, &mode).unwrap().value;
        let mvc = model.decode_from_cells(&m, &mode).unwrap().value;
        let gep = losses::masked_mse(&mlm, &target, &scored).unwrap();
        let gepc = losses::masked_mse(&mvc, &target, &scored).unwrap();
        expected.near("masked.loss_gep", &gep);
        expected.near("masked.loss_gepc", &gepc);
        let prompt = inputs.file.get("cell_prompt");
        let made = model.decode_prompt(&padded, prompt, true, &mode).unwrap();
        expected.near("generate_values", &made.value);
    }
}

#[test]
fn more_of_the_plain_model() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let mode = Mode::eval();
    let expected = golden.file("scgpt/expected.safetensors");
    let model = golden.checkpoint("scgpt").load(&Device::Cpu).unwrap();
    let ids = inputs.file.u32s("gene_ids");
    expected.near("gene_emb", &model.gene_vectors(&ids, &mode).unwrap());
    for name in ["values", "values_special"] {
        let key = name.replace("values", "value_emb");
        let v = model.value_vectors(&inputs.file.f32s(name), &mode).unwrap();
        expected.near(&key, &v);
    }
    let padded = inputs.padded("values");
    let m = model
        .encode(&inputs.padded("masked_values"), &mode)
        .unwrap();
    expected.near("masked.cell_emb", m.cells());
    let mlm = model.decode(&m, &mode).unwrap().value;
    expected.near("masked.mlm_output", &mlm);
    let mvc = model.decode_from_cells(&m, &mode).unwrap().value;
    expected.near("masked.mvc_output", &mvc);
    let values = inputs.file.f32s("values");
    let scored: Vec<bool> = inputs
        .masked()
        .iter()
        .zip(&values)
        .map(|(m, v)| *m && *v > 0.0)
        .collect();
    let mre = losses::mean_relative_error(&mlm, &tensor(&values, &mlm), &mask(&scored, &mlm));
    expected.near("masked.mre_nonzero", &mre.unwrap());
    let prompt = inputs.file.get("cell_prompt");
    let made = model.decode_prompt(&padded, prompt, false, &mode).unwrap();
    expected.near("generate_no_values", &made.value);
    // No padding mask: padding is a token like any other.
    let mut all = padded.clone();
    all.segments = sc_tensor::ops::Segments::new([19; 5]).unwrap();
    let made = model.decode_prompt(&all, prompt, true, &mode).unwrap();
    expected.near("generate_no_mask", &made.value);
    // What it makes of padding depends on the kind of attention; the rest does not.
    let e = model.encode(&padded, &mode).unwrap();
    expected.near_where("flash.transformer_output", e.hidden(), Some(&inputs.valid));
    let single = super::folder::batch(ids[..19].to_vec(), values[..19].to_vec(), vec![(19, 19)]);
    let e = model.encode(&single, &mode).unwrap();
    expected.near("single.transformer_output", e.hidden());
}

#[test]
fn pooling_as_the_original_does() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let expected = golden.file("scgpt/expected.safetensors");
    for (style, name) in [
        (CellEmbedding::AvgPool, "avg-pool"),
        (CellEmbedding::WPool, "w-pool"),
    ] {
        let model = golden.variant(DType::F32, None, |c| {
            c.cell_embedding = style;
            c.parity = Parity::Upstream;
        });
        let e = model
            .encode(&inputs.padded("values"), &Mode::eval())
            .unwrap();
        expected.near(&format!("cell_emb_{name}"), e.cells());
    }
}

#[test]
fn norms_first_as_the_original_does() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let expected = golden.file("scgpt/expected.safetensors");
    let model = golden.variant(DType::F32, None, |c| {
        c.norm_placement = NormPlacement::UpstreamPre;
    });
    let e = model
        .encode(&inputs.packed("values"), &Mode::eval())
        .unwrap();
    let rows = unpack(e.hidden(), &inputs.valid);
    expected.near_values("prenorm_odd.transformer_output", &rows, Some(&inputs.valid));
}
