//! Input that cannot be used: what is said, and that what can be used is.

use ndarray::Array2;
use sc_model::{Embed, Mode};

use super::*;
use crate::vocab::{CLS, PAD};

fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "\"{part}\" is not in: {said}");
    }
}

fn without(token: &str) -> GeneVocab {
    let kept = genes().into_iter().chain([PAD, CLS].map(str::to_owned));
    GeneVocab::new(kept.filter(|t| t != token)).unwrap()
}

#[test]
fn a_vocabulary_without_padding_or_cls() {
    let said = refusal(ScGpt::params(&without(PAD)).map(drop));
    says(&said, &["13 tokens", "\"<pad>\"", "with_specials"]);
    let bare = without(CLS);
    // A model needs none; an embedding does.
    model(small(&bare));
    let matched = bare.match_genes(&genes(), GeneCase::Exact).unwrap();
    let said = refusal(Tokenizer::new(&bare, &matched, TokenizerOptions::default()));
    says(&said, &["13 tokens", "\"<cls>\"", "embedding of a cell"]);
    // The vocab.json of a checkpoint must have the padding, too.
    let folder = tempfile::tempdir().unwrap();
    let all = vocab();
    model(small(&all))
        .export(folder.path(), Layout::Torch)
        .unwrap();
    let renamed = all.tokens().iter().map(|t| t.replace(PAD, "<blank>"));
    let renamed = GeneVocab::new(renamed).unwrap();
    renamed.save(folder.path().join(VOCAB)).unwrap();
    let said = refusal(ScGpt::from_checkpoint(folder.path(), &Device::Cpu));
    says(&said, &["15 tokens", "\"<pad>\""]);
}

#[test]
fn no_gene_in_common() {
    let said = refusal(vocab().match_genes(&["ENSG01", "ENSG02"], GeneCase::Exact));
    says(
        &said,
        &["none of the 2 genes", "ENSG01, ENSG02", "G00, G01"],
    );
    says(&said, &["15 tokens", "Ensembl ids"]);
    // One is enough.
    let found = vocab().match_genes(&["ENSG01", "G03"], GeneCase::Exact);
    assert_eq!(found.unwrap().columns(), [1]);
}

#[test]
fn a_checkpoint_of_another_shape() {
    let folder = tempfile::tempdir().unwrap();
    let vocab = vocab();
    let wide = model(small(&vocab).d_model(16));
    wide.export(folder.path(), Layout::Flash).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let narrow = model(small(&vocab));
    let before = narrow.parameters().snapshot().unwrap();
    let said = refusal(narrow.load_weights(&checkpoint, &Allow::default()));
    // The first five, and how many more there are.
    says(
        &said,
        &[
            "best_model.pt",
            "encoder.embedding.weight is [15, 16], the model needs [15, 8]",
        ],
    );
    says(
        &said,
        &[
            "encoder.enc_norm.weight is [16], the model needs [8]",
            " and ",
            " more",
        ],
    );
    for (p, old) in narrow.parameters().iter().zip(&before) {
        let bits = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(p.value()), bits(old), "{}", p.name());
    }
    // With another number of layers: what is missing is named.
    let deep = model(small(&vocab).d_model(16).n_layers(3));
    let said = refusal(deep.load_weights(&checkpoint, &Allow::fine_tuning()));
    says(
        &said,
        &["missing in the file: transformer_encoder.layers.2."],
    );
}

#[test]
fn cells_without_a_count() {
    let vocab = vocab();
    let model = model(small(&vocab));
    let mut counts = Array2::from_shape_fn((4, GENES), |(c, g)| ((c + g) % 3) as f32);
    counts.row_mut(1).fill(0.0);
    counts.row_mut(3).fill(0.0);
    // With <cls> they are that alone, and so the same.
    let tokens = tokenizer(&vocab, TokenizerOptions::default());
    let found = model.embed(&CellSource::new(&counts, &tokens)).unwrap();
    assert!(found.iter().all(|v| v.is_finite()));
    assert_eq!(found.row(1), found.row(3));
    assert_ne!(found.row(0), found.row(1));
    let length: f32 = found.row(1).iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    // Without, nothing is left.
    let options = TokenizerOptions {
        cls: None,
        ..TokenizerOptions::default()
    };
    let tokens = tokenizer(&vocab, options);
    let said = refusal(model.embed(&CellSource::new(&counts, &tokens)));
    says(&said, &["cell 1", "drop such cells", "<cls>"]);
}

#[test]
fn sequences_over_the_limit() {
    let vocab = vocab();
    let counts = Array2::from_elem((3, GENES), 2.0f32);
    let with = |max_len| TokenizerOptions {
        max_len: Some(max_len),
        ..TokenizerOptions::default()
    };
    // They are cut to it, <cls> included.
    let batch = tokenizer(&vocab, with(5)).batch(&counts, &[0, 1, 2], 0);
    let batch = batch.unwrap();
    assert_eq!((batch.longest(), batch.n_tokens()), (5, 15));
    let first = batch.first_tokens();
    assert!(
        first
            .iter()
            .all(|&i| batch.ids[i as usize] == vocab.cls().unwrap())
    );
    let matched = vocab.match_genes(&genes(), GeneCase::Exact).unwrap();
    let said = refusal(Tokenizer::new(&vocab, &matched, with(1)));
    says(&said, &["max_len = 1", "at least 2"]);
    // A cell longer than a minibatch comes alone.
    let tokens = tokenizer(&vocab, TokenizerOptions::default());
    let model = model(small(&vocab));
    let mut source = CellSource::new(&counts, &tokens);
    let all = model.embed(&source).unwrap();
    source.limits.max_tokens = 4;
    assert_eq!(model.embed(&source).unwrap(), all);
    source.limits.max_tokens = 0;
    says(
        &refusal(model.embed(&source)),
        &["max_tokens = 0", "at least 1"],
    );
}

#[test]
fn values_that_are_no_counts() {
    let vocab = vocab();
    let (model, tokens) = (
        model(small(&vocab)),
        tokenizer(&vocab, TokenizerOptions::default()),
    );
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.5, "-0.5")] {
        let mut counts = Array2::from_elem((6, GENES), 1.0f32);
        counts[(4, 7)] = value;
        let said = refusal(model.embed(&CellSource::new(&counts, &tokens)));
        says(
            &said,
            &["cell 4", "\"G07\"", name, "finite and not negative"],
        );
    }
    let mut batch = tokens
        .batch(&Array2::from_elem((1, GENES), 1.0f32), &[0], 0)
        .unwrap();
    batch.values[3] = f32::NAN;
    let said = refusal(model.encode(&batch, &Mode::eval()).map(drop));
    says(&said, &["value = NaN", "token 3"]);
}
