//! Checkpoints in all layouts, whole and defective.

use candle_core::{DType, Device};
use sc_model::Mode;
use sc_tests::values;
use sc_transformer::Error;
use sc_transformer::scgpt::{Allow, Checkpoint, Layout, ScGpt, ScGptConfig};
use sc_transformer::vocab::GeneVocab;

use super::folder::{Golden, Inputs};

fn bits(model: &ScGpt, inputs: &Inputs) -> Vec<u64> {
    let e = model
        .encode(&inputs.packed("values"), &Mode::eval())
        .unwrap();
    values(e.hidden()).iter().map(|v| v.to_bits()).collect()
}

#[test]
fn layouts_give_the_same_bits() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let torch = golden.checkpoint("scgpt").load(&Device::Cpu).unwrap();
    let flash = golden.checkpoint("scgpt_flash").load(&Device::Cpu).unwrap();
    let expected = bits(&torch, &inputs);
    assert_eq!(expected, bits(&flash, &inputs));
    for layout in [Layout::Flash, Layout::FlashWrapper, Layout::Torch] {
        let dir = tempfile::tempdir().unwrap();
        torch.export(dir.path(), layout).unwrap();
        let again = ScGpt::from_checkpoint(dir.path(), &Device::Cpu).unwrap();
        assert_eq!(again.config(), torch.config());
        assert_eq!(expected, bits(&again, &inputs), "{layout:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    torch.save(dir.path()).unwrap();
    let again = ScGpt::load(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(again.vocab(), torch.vocab());
    assert_eq!(expected, bits(&again, &inputs));
}

fn alone(golden: &Golden, name: &str) -> Checkpoint {
    let base = golden.checkpoint("scgpt");
    let path = golden.dir.join("key_layouts").join(name);
    Checkpoint::open_weights(path, base.args().clone(), base.vocab().clone()).unwrap()
}

#[test]
fn a_prefixed_wrapper_is_read() {
    let Some(golden) = Golden::open() else { return };
    let inputs = Inputs::new(&golden);
    let model = alone(&golden, "ddp_flash2_wrapper.pt")
        .load(&Device::Cpu)
        .unwrap();
    assert_eq!(model.config().n_layers, 1);
    let e = model
        .encode(&inputs.packed("values"), &Mode::eval())
        .unwrap();
    let rows = super::folder::unpack(e.hidden(), &inputs.valid);
    let expected = golden.file("scgpt/expected.safetensors");
    expected.near_values("layer0.output", &rows, Some(&inputs.valid));
}

#[test]
fn what_does_not_fit_is_listed() {
    let Some(golden) = Golden::open() else { return };
    let file = alone(&golden, "defective.pt");
    let wanted = golden.json("key_layouts/README.json");
    let wanted = &wanted["expected_report_defective"];
    let list = |key: &str| -> Vec<String> {
        let names = wanted[key].as_array().unwrap().iter();
        names.map(|n| n.as_str().unwrap().to_owned()).collect()
    };
    let Err(Error::Incompatible { report, .. }) = file.load(&Device::Cpu) else {
        panic!("it was loaded");
    };
    assert_eq!(report.missing, list("missing"));
    assert_eq!(report.unexpected, list("unexpected"));
    let shapes: Vec<String> = report.mismatched.iter().map(|m| m.name.clone()).collect();
    assert_eq!(shapes, list("shape_mismatch"));
    // Allowed by name, and only so.
    let allow = Allow::default()
        .unexpected("extra.*")
        .mismatched("mvc_decoder.W.weight");
    assert!(file.load_with(&Device::Cpu, DType::F32, &allow).is_err());
    let allow = allow.missing("transformer_encoder.layers.0.linear1.*");
    let (_, report) = file.load_with(&Device::Cpu, DType::F32, &allow).unwrap();
    assert_eq!(report.missing.len(), 2);
}

#[test]
fn published_sizes() {
    let Some(golden) = Golden::open() else { return };
    let counts = golden.json("param_counts.json");
    let vocab = GeneVocab::new((0..60_697).map(|i| match i {
        60_694 => "<pad>".to_owned(),
        60_695 => "<cls>".to_owned(),
        60_696 => "<eoc>".to_owned(),
        i => format!("gene {i}"),
    }));
    let vocab = vocab.unwrap();
    let model = ScGpt::params(&vocab).unwrap().check().unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    let total = |m: &ScGpt| {
        let weights = m.parameters().iter().filter(|p| !p.is_buffer());
        weights.map(|p| p.value().elem_count() as u64).sum::<u64>()
    };
    assert_eq!(counts["scgpt_pretraining_whole_human"], total(&model));
    for (name, shape) in counts["scgpt_pretraining_keys"].as_object().unwrap() {
        let p = model
            .parameters()
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"));
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
        assert_eq!(p.export_shape(), shape, "{name}");
    }
    let layer = model
        .parameters()
        .iter()
        .filter(|p| p.name().starts_with("transformer_encoder.layers.7."));
    let layer: u64 = layer.map(|p| p.value().elem_count() as u64).sum();
    assert_eq!(counts["scgpt_encoder_layer"], layer);
    drop(model);
    let classes = (0..18).map(|i| i.to_string()).collect();
    let config = ScGptConfig::default();
    assert_eq!((config.d_model, config.n_layers), (512, 12));
    let model = ScGpt::params(&vocab)
        .unwrap()
        .classes(classes)
        .mvc(None)
        .generative(false);
    let model = model
        .input_norm(sc_transformer::scgpt::InputNorm::Batch)
        .check()
        .unwrap();
    let model = model.init(&Device::Cpu, 0).unwrap();
    assert_eq!(
        counts["scgpt_annotation_18_classes_batchnorm_no_mvc"],
        total(&model)
    );
}

#[test]
fn a_vocabulary_of_another_size_is_refused() {
    let Some(golden) = Golden::open() else { return };
    let base = golden.checkpoint("scgpt");
    let vocab = GeneVocab::new(["A", "<pad>", "<cls>"]).unwrap();
    let file = Checkpoint::open_weights(base.path(), base.args().clone(), vocab).unwrap();
    let e = file.load(&Device::Cpu).unwrap_err().to_string();
    assert!(e.contains("3 tokens") && e.contains("63"), "{e}");
    let vocab = GeneVocab::new((0..63).map(|i| format!("g{i}"))).unwrap();
    let file = Checkpoint::open_weights(base.path(), base.args().clone(), vocab).unwrap();
    let e = file.load(&Device::Cpu).unwrap_err().to_string();
    assert!(e.contains("<pad>"), "{e}");
}

#[test]
fn genes_of_another_vocabulary_are_taken_over() {
    let Some(golden) = Golden::open() else { return };
    let file = golden.checkpoint("scgpt");
    let vocab = GeneVocab::new(["p_CD3", "LYZ", "<cls>", "<pad>", "GAPDH"]).unwrap();
    let model = ScGpt::params(&vocab)
        .unwrap()
        .d_model(32)
        .n_heads(4)
        .n_layers(1)
        .check();
    let model = model.unwrap().init(&Device::Cpu, 0).unwrap();
    let row = |m: &ScGpt, token: &str| {
        let id = m.vocab().id(token).unwrap();
        values(&m.gene_vectors(&[id], &Mode::eval()).unwrap())
    };
    let before = row(&model, "p_CD3");
    assert_eq!(model.load_genes(&file).unwrap(), 4);
    let whole = file.load(&Device::Cpu).unwrap();
    for token in ["LYZ", "GAPDH", "<cls>"] {
        assert_eq!(row(&model, token), row(&whole, token));
    }
    // The norm is the checkpoint's, too.
    assert!(row(&model, "p_CD3") != before);
    let other = ScGpt::params(&vocab)
        .unwrap()
        .d_model(16)
        .n_heads(2)
        .n_layers(1)
        .check();
    assert!(
        other
            .unwrap()
            .init(&Device::Cpu, 0)
            .unwrap()
            .load_genes(&file)
            .is_err()
    );
}
