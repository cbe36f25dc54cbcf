//! scBERT against the numbers of the original: preprocessing, logits, losses, gradients, importance.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ndarray::Array2;
use sc_data::Csr;
use sc_model::train::{Split, Step, TrainConfig};
use sc_model::{LrState, Mode, Params, Parity};
use sc_tensor::rng::Rng;
use sc_tests::{json, shared, values};
use sc_transformer::scbert::{
    CellsConfig, FinetuneConfig, GenePanel, MaskConfig, Masked, PretrainConfig, Scbert,
    ScbertCells, Stabiliser, UpstreamOptions,
};

/// The folder, and what its manifest says of the tolerances.
struct Golden {
    dir: PathBuf,
    manifest: serde_json::Value,
}

/// A file of tensors with their tolerances.
struct File {
    name: String,
    tensors: HashMap<String, Tensor>,
    about: serde_json::Value,
}

impl Golden {
    fn open() -> Option<Self> {
        let root = shared()?.join("golden/transformer");
        Some(Self {
            manifest: json(&root.join("MANIFEST.json")),
            dir: root.join("scbert"),
        })
    }

    fn file(&self, name: &str) -> File {
        File {
            name: name.to_owned(),
            tensors: candle_core::safetensors::load(self.dir.join(name), &Device::Cpu).unwrap(),
            about: self.manifest["files"][&format!("scbert/{name}")]["tensors"].clone(),
        }
    }

    fn model(&self, name: &str, dtype: DType) -> Scbert {
        read(&self.dir.join(name), dtype)
    }
}

impl File {
    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{name}"))
    }

    fn tokens(&self, name: &str) -> Vec<u32> {
        values(self.get(name)).iter().map(|&v| v as u32).collect()
    }

    /// Within the tolerance of the manifest, number by number.
    fn check(&self, name: &str, found: &[f64]) {
        let expected = values(self.get(name));
        assert_eq!(found.len(), expected.len(), "{name}: lengths differ");
        let about = &self.about[name];
        let of = |key: &str| about[key].as_f64().unwrap();
        let (atol, rtol) = match about["exact"].as_bool() {
            Some(true) => (0.0, 0.0),
            _ => (of("atol"), of("rtol")),
        };
        for (i, (&f, &e)) in found.iter().zip(&expected).enumerate() {
            let error = (f - e).abs();
            assert!(
                error <= atol + rtol * e.abs(),
                "{} {name} [{i}]: {f} instead of {e}, off by {error:e}, allowed {atol:e}",
                self.name
            );
        }
    }
}

fn panel(n: usize) -> GenePanel {
    GenePanel::new((0..n).map(|i| format!("P{i}"))).unwrap()
}

fn read(path: &Path, dtype: DType) -> Scbert {
    let mut options = UpstreamOptions::default();
    options.dtype = dtype;
    Scbert::from_scbert(path, panel(100), &options, &Device::Cpu).unwrap()
}

const PRETRAINED: &str = "panglao_pretrain.pth";
const FINE_TUNED: &str = "finetune_best.pth";

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

fn scalar(t: &Tensor) -> [f64; 1] {
    [t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()]
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

#[test]
fn cells_become_tokens() {
    let Some(golden) = Golden::open() else { return };
    let names = json(&golden.dir.join("preprocess.json"));
    let list = |key: &str| -> Vec<String> { serde_json::from_value(names[key].clone()).unwrap() };
    let (panel, genes) = (GenePanel::new(list("panel")).unwrap(), list("data_genes"));
    let file = golden.file("preprocess.safetensors");
    let counts = values(file.get("counts"))
        .iter()
        .map(|&v| v as f32)
        .collect();
    let counts = Csr::from_dense(&Array2::from_shape_vec((12, genes.len()), counts).unwrap());
    let cells = ScbertCells::new(&counts, &genes, &panel, 5, &CellsConfig::default()).unwrap();
    let kept: Vec<f64> = (0..12)
        .map(|c| f64::from(u8::from(cells.kept().contains(&c))))
        .collect();
    file.check("kept_cells", &kept);
    assert!(cells.dropped().iter().all(|&(_, detected)| detected < 200));
    let alignment = cells.alignment();
    let extra = genes.iter().filter(|g| g.starts_with('X')).count();
    assert_eq!(
        (alignment.duplicated().len(), alignment.n_extra()),
        (1, extra)
    );
    assert_eq!(alignment.n_found() + alignment.missing().len(), panel.len());
    let log2 = cells.expression(&[0, 1, 2]).unwrap().to_dense();
    file.check(
        "log2_first3",
        &log2.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(),
    );
    let all: Vec<usize> = (0..cells.len()).collect();
    let tokens = cells.tokens(&all).unwrap();
    file.check(
        "tokens",
        &tokens.iter().map(|&t| f64::from(t)).collect::<Vec<_>>(),
    );
}

#[test]
fn what_is_hidden() {
    let Some(golden) = Golden::open() else { return };
    let inputs = golden.file("inputs.safetensors");
    let noise =
        |name: &str| -> Vec<f32> { values(inputs.get(name)).iter().map(|&v| v as f32).collect() };
    let (order, keep) = (noise("mask_uniform_topk"), noise("mask_uniform_replace"));
    let mut found = Masked::default();
    for (i, cell) in inputs.tokens("tokens").chunks(101).enumerate() {
        let at = |v: &[f32]| v[101 * i..101 * (i + 1)].to_vec();
        MaskConfig::default().apply(
            cell,
            6,
            &at(&order),
            &at(&keep),
            Parity::Upstream,
            &mut found,
        );
    }
    assert_eq!(found.tokens, inputs.tokens("masked_tokens"));
    let mut labels = vec![6; found.tokens.len()];
    for (&place, &target) in found.places.iter().zip(&found.targets) {
        labels[place as usize] = target;
    }
    assert_eq!(labels, inputs.tokens("mask_labels"));

    let counts = json(&golden.dir.join("mask_counts.json"));
    let differ: HashMap<usize, usize> = (counts["n_where_float32_differs_from_exact"]
        .as_array()
        .unwrap()
        .iter())
    .map(|p| {
        (
            p[0].as_u64().unwrap() as usize,
            p[1].as_u64().unwrap() as usize,
        )
    })
    .collect();
    let mask = MaskConfig::default();
    for n in 0..=3000usize {
        let exact = (n * 15).div_ceil(100);
        assert_eq!(mask.count(n, 16_907, Parity::Correct), exact, "{n}");
        let upstream = differ.get(&n).copied().unwrap_or(exact);
        // The list goes up to 3,000 and has all of them.
        assert_eq!(mask.count(n, 16_907, Parity::Upstream), upstream, "{n}");
    }
    assert_eq!(mask.count(2_000, 101, Parity::Correct), 16);
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
