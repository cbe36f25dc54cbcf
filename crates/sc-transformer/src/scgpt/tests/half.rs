//! Weights in half precision.

use candle_core::DType;
use ndarray::Array2;
use sc_io::pytorch::{self, Dict, TorchTensor, Value};
use sc_model::train::fit;
use sc_model::{Embed, Mode, Parity};

use super::*;

const HALVES: [DType; 2] = [DType::BF16, DType::F16];

fn whole() -> ScGpt {
    let p = small(&vocab())
        .d_model(32)
        .n_layers(4)
        .classes(vec!["a".into(), "b".into()]);
    model(
        p.batches(vec!["x".into()])
            .adversary(true)
            .nonzero_prob(true),
    )
}

fn counts(cells: usize) -> Array2<f32> {
    Array2::from_shape_fn((cells, GENES), |(c, g)| ((c * 5 + g * g) % 7) as f32)
}

fn embed(m: &ScGpt) -> Array2<f32> {
    let tokens = tokenizer(m.vocab(), TokenizerOptions::default());
    m.embed(&CellSource::new(&counts(20), &tokens)).unwrap()
}

fn off(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
    (a - b).fold(0.0, |m, v| m.max(v.abs()))
}

#[test]
fn matrices_take_half_the_memory_and_results_are_near() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole();
    whole.save(folder.path()).unwrap();
    let expected = embed(&whole);
    let mut errors = Vec::new();
    for dtype in HALVES {
        let half = ScGpt::load_with_dtype(folder.path(), &Device::Cpu, dtype).unwrap();
        let params = half.parameters();
        assert_eq!((params.half(), params.dtype()), (Some(dtype), DType::F32));
        let bytes = (params.bytes() as f64, whole.parameters().bytes() as f64);
        assert!(bytes.0 < 0.56 * bytes.1, "{bytes:?}");
        assert_eq!(half.estimate_memory(9, 1).weights, params.bytes());
        errors.push(off(&embed(&half), &expected));
        // It is the model with rounded weights, computed with as exactly as any other.
        let again = folder.path().join("again");
        half.save(&again).unwrap();
        let rounded = ScGpt::load(&again, &Device::Cpu).unwrap();
        assert_eq!(embed(&rounded), embed(&half));
        let same = ScGpt::load_with_dtype(&again, &Device::Cpu, dtype).unwrap();
        assert_eq!(embed(&same), embed(&half));
    }
    // bf16 has 8 bits of a number, f16 has 11.
    assert!(errors[0] > 0.0 && errors[0] < 2e-2, "{errors:?}");
    assert!(errors[1] > 0.0 && errors[1] < errors[0] / 3.0, "{errors:?}");
}

#[test]
fn every_head_computes() {
    let folder = tempfile::tempdir().unwrap();
    whole().save(folder.path()).unwrap();
    let mode = Mode::eval();
    let run = |dtype: DType| {
        let m = ScGpt::load_with_dtype(folder.path(), &Device::Cpu, dtype).unwrap();
        let tokens = tokenizer(m.vocab(), TokenizerOptions::default());
        let batch = tokens.batch(&counts(3), &[0, 1, 2], 0).unwrap();
        let e = m.encode(&batch, &mode).unwrap();
        let known = m.decode(&e, &mode).unwrap();
        let of_cells = m.decode_from_cells(&e, &mode).unwrap();
        let unknown = m.encode_generative(&batch, None, &mode).unwrap();
        let all = [
            unknown.cells().clone(),
            known.value,
            known.nonzero_logit.unwrap(),
            of_cells.value,
            m.class_logits(e.cells(), &mode).unwrap(),
            m.batch_logits(e.cells(), 1.0, &mode).unwrap(),
            m.gene_vectors(&[0, 3], &mode).unwrap(),
            m.value_vectors(&[0.0, 4.0], &mode).unwrap(),
        ];
        all.map(|t| {
            assert_eq!(t.dtype(), DType::F32);
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        })
    };
    let expected = run(DType::F32);
    for dtype in HALVES {
        for (found, expected) in run(dtype).iter().zip(&expected) {
            let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() < 4e-2 * scale, "{dtype:?}: {f} {e}");
            }
        }
    }
}

#[test]
fn they_are_not_trained() {
    let folder = tempfile::tempdir().unwrap();
    whole().save(folder.path()).unwrap();
    let half = ScGpt::load_with_dtype(folder.path(), &Device::Cpu, DType::BF16).unwrap();
    let recipe = Recipe::annotation(1, Parity::Correct);
    let tokens = tokenizer(half.vocab(), recipe.tokens.clone());
    let (counts, labels) = (counts(8), [0, 1, 0, 1, 0, 1, 0, 1]);
    let source = CellSource::new(&counts, &tokens);
    let data = LabelledCells::new(source, Some(&labels), &recipe).unwrap();
    let task = FineTune::new(&half, recipe.objectives).unwrap();
    let said = refusal(fit(&task, &data, &recipe.train, &mut ()));
    assert!(
        said.contains("dtype = bf16") && said.contains("f32"),
        "{said}"
    );
}

#[test]
fn checkpoints_in_half_precision_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole();
    whole.export(folder.path(), Layout::Flash).unwrap();
    let expected = embed(&whole);
    let path = folder.path().join(WEIGHTS);
    let state = pytorch::read(&path).unwrap();
    let halve = |value: &Value, kind: pytorch::DType| -> Value {
        let t = value.as_tensor().unwrap();
        let values = candle_core::Tensor::new(t.to_f32_vec(), &Device::Cpu).unwrap();
        let (half, mut bytes) = match kind {
            pytorch::DType::F16 => (DType::F16, Vec::new()),
            _ => (DType::BF16, Vec::new()),
        };
        values
            .to_dtype(half)
            .unwrap()
            .write_bytes(&mut bytes)
            .unwrap();
        Value::from(TorchTensor::from_bytes(kind, t.shape(), bytes).unwrap())
    };
    for (kind, allowed) in [(pytorch::DType::BF16, 2e-2), (pytorch::DType::F16, 4e-3)] {
        let all = state.as_dict().unwrap().iter_str();
        let all: Vec<(&str, Value)> = all.map(|(name, v)| (name, halve(v, kind))).collect();
        pytorch::write(&path, &Dict::ordered(all).into()).unwrap();
        let read = ScGpt::from_checkpoint(folder.path(), &Device::Cpu).unwrap();
        assert_eq!(read.parameters().half(), None);
        let error = off(&embed(&read), &expected);
        assert!(error > 0.0 && error < allowed, "{kind:?}: {error}");
    }
}

/// The numbers in docs/transformer.md.
#[test]
#[ignore = "a model of the released size: some seconds"]
fn errors_at_full_size() {
    let names: Vec<String> = (0..2000).map(|g| format!("G{g}")).collect();
    let vocab = GeneVocab::from_genes(&names, &SPECIALS, SpecialsAt::Last).unwrap();
    let counts = Array2::from_shape_fn((8, 2000), |(c, g)| {
        ((c * 7919 + g * 104_729) % 13) as f32 * ((c + g) % 2) as f32
    });
    let genes = vocab.match_genes(&names, GeneCase::Exact).unwrap();
    let tokens = Tokenizer::new(&vocab, &genes, TokenizerOptions::default()).unwrap();
    let source = CellSource::new(&counts, &tokens);
    let folder = tempfile::tempdir().unwrap();
    let whole = model(ScGpt::params(&vocab).unwrap());
    whole.save(folder.path()).unwrap();
    let start = std::time::Instant::now();
    let expected = whole.embed(&source).unwrap();
    eprintln!(
        "f32: {} MB, {:.2?}",
        whole.parameters().bytes() / 1_000_000,
        start.elapsed()
    );
    for dtype in HALVES {
        let half = ScGpt::load_with_dtype(folder.path(), &Device::Cpu, dtype).unwrap();
        let start = std::time::Instant::now();
        let found = half.embed(&source).unwrap();
        let took = start.elapsed();
        let cosines = (&found * &expected).sum_axis(ndarray::Axis(1));
        let least = cosines.fold(1.0f32, |m, &c| m.min(c));
        eprintln!(
            "{dtype:?}: {} MB, {took:.2?}; vectors of length 1 are off by at most {:.1e}; 1 - cosine at most {:.1e}",
            half.parameters().bytes() / 1_000_000,
            off(&found, &expected),
            1.0 - least
        );
        assert!(least > 0.999, "{least}");
    }
}
