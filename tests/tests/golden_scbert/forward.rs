//! Files, and what the network makes of cells.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use sc_model::Parity;
use sc_tests::{json, values};
use sc_transformer::scbert::{Scbert, Stabiliser};

use crate::folder::*;

#[test]
fn logits() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("inputs.safetensors");
    for (file, dtype) in [
        ("expected.safetensors", DType::F32),
        ("expected_f64.safetensors", DType::F64),
    ] {
        let expected = golden.file(file);
        let (model, tuned) = (
            golden.model(PRETRAINED, dtype),
            golden.model(FINE_TUNED, dtype),
        );
        let kinds = [
            ("per_cell", Stabiliser::PerSequence),
            ("batch3", Stabiliser::Batch),
        ];
        let mut seen = 0;
        for (kind, stabiliser) in kinds {
            let mut check = |name: &str, found: &dyn Fn() -> Tensor| {
                let name = name.replace('*', kind);
                if expected.tensors.contains_key(&name) {
                    expected.check(&name, &values(&found()));
                    seen += 1;
                }
            };
            let (tokens, masked) = (inputs.tokens("tokens"), inputs.tokens("masked_tokens"));
            check("tokens.*.encodings", &|| {
                model.encode(&tokens, stabiliser).unwrap()
            });
            check("tokens.*.logits", &|| {
                model.token_logits(&tokens, stabiliser).unwrap()
            });
            check("masked.*.logits", &|| {
                model.token_logits(&masked, stabiliser).unwrap()
            });
            check("finetuned.*.class_logits", &|| {
                tuned.class_logits(&tokens, stabiliser).unwrap()
            });
        }
        assert_eq!(seen, if dtype == DType::F32 { 8 } else { 5 });
        if dtype == DType::F32 {
            let tokens = inputs.tokens("tokens");
            let logits = tuned
                .class_logits(&tokens, Stabiliser::PerSequence)
                .unwrap();
            let probabilities = sc_tensor::ops::softmax(&logits).unwrap();
            expected.check("finetuned.per_cell.probabilities", &values(&probabilities));
            let first = tuned
                .encode(&tokens[..101], Stabiliser::PerSequence)
                .unwrap();
            expected.check("finetuned.per_cell.encodings_cell0", &values(&first));
        }
    }
}

#[test]
fn parameter_counts() {
    let Some(golden) = Golden::open() else { return };
    let counts = json(&golden.dir.join("../param_counts.json"));
    let valid = Scbert::params(panel(16_906)).check().unwrap();
    let model = valid.init(&Device::Cpu, 0).unwrap();
    let expected = |name: &str| counts[name].as_u64().unwrap() as usize;
    assert_eq!(
        model.parameters().n_trainable(),
        expected("scbert_pretraining_trainable")
    );
    let genes = model.parameters().get("pos_emb.emb.weight").unwrap();
    assert_eq!(
        genes.value().elem_count(),
        expected("scbert_gene2vec_frozen")
    );
    let keys = counts["scbert_keys"].as_object().unwrap();
    for p in model.parameters().iter() {
        // The file lists the first block alone.
        let name = p.name().to_owned();
        if (1..6).any(|i| name.contains(&format!(".layers.{i}."))) {
            continue;
        }
        let shape: Vec<usize> = serde_json::from_value(keys[&name][0].clone()).unwrap();
        assert_eq!(p.export_shape(), shape, "{name}");
        let dtype = format!(
            "torch.{}",
            match p.value().dtype() {
                DType::F64 => "float64",
                DType::I64 => "int64",
                _ => "float32",
            }
        );
        assert_eq!(keys[&name][1].as_str(), Some(dtype.as_str()), "{name}");
    }
}

#[test]
fn checkpoints_there_and_back() {
    let Some(golden) = Golden::open() else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in [PRETRAINED, FINE_TUNED] {
        let model = golden.model(name, DType::F32);
        let path = dir.path().join(name);
        model.save_scbert(&path).unwrap();
        let again = read(&path, DType::F32);
        model.save(dir.path().join("own")).unwrap();
        let own = Scbert::load(dir.path().join("own"), &Device::Cpu).unwrap();
        assert_eq!(own.panel(), model.panel());
        assert_eq!(own.labels(), model.labels());
        for p in model.parameters().iter() {
            for other in [&again, &own] {
                let q = other.parameters().get(p.name()).unwrap();
                assert_eq!(p.value().dtype(), q.value().dtype());
                assert_eq!(values(p.value()), values(q.value()), "{}", p.name());
            }
        }
        // Upstream's own dictionary, tensor by tensor.
        let state = |path: &Path| {
            let root = sc_io::pytorch::read(path).unwrap();
            root.at(&["model_state_dict"])
                .unwrap()
                .as_dict()
                .unwrap()
                .clone()
        };
        let (ours, theirs) = (state(&path), state(&golden.dir.join(name)));
        assert_eq!(ours.len(), theirs.len());
        for ((name, ours), (other, theirs)) in ours.iter_str().zip(theirs.iter_str()) {
            assert_eq!((name, ours.as_tensor()), (other, theirs.as_tensor()));
        }
    }
}

#[test]
fn importance_of_genes() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("inputs.safetensors");
    let cell = inputs.tokens("tokens")[..101].to_vec();
    for (file, dtype) in [
        ("expected.safetensors", DType::F32),
        ("expected_f64.safetensors", DType::F64),
    ] {
        let (model, expected) = (golden.model(PRETRAINED, dtype), golden.file(file));
        for (name, parity) in [("natural", Parity::Correct), ("upstream", Parity::Upstream)] {
            let found = model.position_importance(&cell, parity).unwrap();
            expected.check(&format!("importance.{name}"), &found);
        }
    }
}
