//! Training and using small models of scGPT.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pretraining;

use candle_core::Device;
use ndarray::Array2;
use sc_model::train::{TrainConfig, fit};
use sc_model::{Classify, Embed, Mode, Parity};
use sc_tensor::rng::Rng;
use sc_transformer::scgpt::{
    CellSource, FineTune, InputNorm, KeepBest, LabelledCells, PerturbConfig, PerturbTask,
    PredictOptions, Recipe, ScGpt, ScGptParams, ScGptPerturb, labels_or_novel,
};
use sc_transformer::tokens::{
    Perturbation, PerturbationOptions, PerturbationTokens, Tokenizer, TokenizerOptions,
};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS, SpecialsAt};

const GENES: usize = 24;

/// Two types of cells that express different genes, in two batches of different depth; type and batch of each.
fn cells(n: usize) -> (Array2<f32>, Vec<u32>, Vec<u32>) {
    let mut draws = vec![0f64; n * GENES];
    Rng::new(5)
        .stream("cells")
        .fill_uniform(0.0, 1.0, &mut draws);
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
    let batches: Vec<u32> = (0..n as u32).map(|i| (i / 2) % 2).collect();
    let counts = Array2::from_shape_fn((n, GENES), |(c, g)| {
        let on = (g < GENES / 2) == (labels[c] == 0);
        let mean = if on { 8.0 } else { 0.6 } * (1.0 + f64::from(batches[c]));
        (mean * 2.0 * draws[c * GENES + g]).floor() as f32
    });
    (counts, labels, batches)
}

fn vocab() -> GeneVocab {
    GeneVocab::from_genes(&genes(), &SPECIALS, SpecialsAt::Last).unwrap()
}

fn genes() -> Vec<String> {
    (0..GENES).map(|g| format!("G{g:02}")).collect()
}

fn small(vocab: &GeneVocab) -> ScGptParams {
    let p = ScGpt::params(vocab).unwrap();
    p.d_model(16).n_heads(2).d_hid(16).n_layers(2).dropout(0.1)
}

fn tokenizer(vocab: &GeneVocab, options: TokenizerOptions) -> Tokenizer {
    let genes = vocab.match_genes(&genes(), GeneCase::Exact).unwrap();
    Tokenizer::new(vocab, &genes, options).unwrap()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("name {i}")).collect()
}

fn short(mut c: TrainConfig, epochs: usize) -> TrainConfig {
    c.max_epochs = Some(epochs);
    c.batch_size = 16;
    c.lr = 3e-3;
    c
}

/// Trains an annotator and gives it with its weights.
fn annotator(threads: usize) -> (ScGpt, Vec<u32>) {
    let run = || {
        let (counts, labels, _) = cells(80);
        let vocab = vocab();
        let recipe = Recipe::annotation(1, Parity::Correct);
        let tokens = tokenizer(&vocab, recipe.tokens.clone());
        let model = small(&vocab).classes(names(2)).check().unwrap();
        let model = model.init(&Device::Cpu, 1).unwrap();
        let source = CellSource::new(&counts, &tokens);
        let data = LabelledCells::new(source, Some(&labels), &recipe).unwrap();
        let task = FineTune::new(&model, recipe.objectives).unwrap();
        let mut best = KeepBest::new(model.parameters());
        let fitted = fit(&task, &data, &short(recipe.train.clone(), 12), &mut best).unwrap();
        assert_eq!(fitted.history.values("validation_loss").len(), 12);
        assert!(best.best().is_some());
        best.restore().unwrap();
        let mut bits = Vec::new();
        for p in model.parameters().iter() {
            let flat = p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            bits.extend(flat.iter().map(|v| v.to_bits()));
        }
        (model, bits)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap().install(run)
}

#[test]
fn an_annotator_learns_and_knows_what_it_does_not_know() {
    let (model, _) = annotator(2);
    let (counts, labels, _) = cells(120);
    let tokens = tokenizer(model.vocab(), TokenizerOptions::default());
    let source = CellSource::new(&counts, &tokens);
    let p = model.classify(&source).unwrap();
    let found = p.hard();
    let right = found
        .iter()
        .zip(&labels)
        .filter(|(f, l)| **f == format!("name {l}"))
        .count();
    assert!(right > 110, "{right} of 120");
    let all = labels_or_novel(&p, 0.0).unwrap();
    assert!(all.iter().all(Option::is_some));
    assert!(
        labels_or_novel(&p, 1.0)
            .unwrap()
            .iter()
            .any(Option::is_none)
    );
    assert!(labels_or_novel(&p, 1.5).is_err());
    let dir = tempfile::tempdir().unwrap();
    model.save(dir.path()).unwrap();
    let again = ScGpt::load(dir.path(), &Device::Cpu).unwrap();
    assert_eq!(again.config(), model.config());
    assert_eq!(again.embed(&source).unwrap(), model.embed(&source).unwrap());
    assert!(ScGpt::load(dir.path().join("nowhere"), &Device::Cpu).is_err());
}

#[test]
fn threads_change_no_bit() {
    assert_eq!(annotator(1).1, annotator(2).1);
}

#[test]
fn a_thousand_cells_embed_the_same_on_any_threads_and_in_any_order() {
    let (counts, _, _) = cells(1000);
    let vocab = vocab();
    let model = small(&vocab)
        .check()
        .unwrap()
        .init(&Device::Cpu, 9)
        .unwrap();
    let tokens = tokenizer(&vocab, TokenizerOptions::default());
    let embed = |threads: usize, rows: &Array2<f32>, max_cells: usize| {
        let mut source = CellSource::new(rows, &tokens);
        source.limits.max_cells = max_cells;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let e = pool.unwrap().install(|| model.embed(&source)).unwrap();
        e.mapv(f32::to_bits)
    };
    let first = embed(1, &counts, 512);
    assert_eq!(first.dim(), (1000, 16));
    assert_eq!(first, embed(2, &counts, 512));
    assert_eq!(first, embed(2, &counts, 7));
    let backwards: Vec<usize> = (0..1000).rev().collect();
    let shuffled = Rng::new(2).stream("order").permutation(1000);
    for (order, max_cells) in [(backwards, 50), (shuffled, 512)] {
        let axis = ndarray::Axis(0);
        let turned = embed(2, &counts.select(axis, &order), max_cells);
        assert_eq!(first.select(axis, &order), turned);
    }
}

#[test]
fn integration_trains_each_batch_with_its_own_norm() {
    let (counts, _, batches) = cells(60);
    let vocab = vocab();
    let recipe = Recipe::integration(2, Parity::Correct);
    let tokens = tokenizer(&vocab, recipe.tokens.clone());
    let model = small(&vocab)
        .batches(names(2))
        .use_batch_labels(true)
        .input_norm(InputNorm::DomainSpecific)
        .adversary(true)
        .nonzero_prob(true)
        .check()
        .unwrap();
    let model = model.init(&Device::Cpu, 3).unwrap();
    let mut source = CellSource::new(&counts, &tokens);
    source.batches = Some(&batches);
    let data = LabelledCells::new(source, None, &recipe).unwrap();
    let mut objectives = recipe.objectives.with_contrast();
    objectives.reversal = 0.5;
    let task = FineTune::new(&model, objectives).unwrap();
    let fitted = fit(&task, &data, &short(recipe.train.clone(), 8), &mut ()).unwrap();
    let losses = fitted.history.values("train_loss_epoch");
    assert!(losses.last().unwrap() < &(0.9 * losses[0]), "{losses:?}");
    for term in [
        "gep",
        "gep_nonzero",
        "gepc",
        "gepc_nonzero",
        "ecs",
        "dab",
        "cce",
    ] {
        let all = fitted.history.values(&format!("{term}_train"));
        assert!(
            all.len() == 8 && all.iter().all(|v| v.is_finite()),
            "{term}"
        );
    }
    // A model is not chosen by how well batches can be told apart.
    let validation = |name: &str| fitted.history.values(name)[0];
    let terms = ["gep", "gep_nonzero", "gepc", "gepc_nonzero"];
    let plain = terms.map(|t| validation(&format!("{t}_validation")));
    let similar = validation("ecs_validation") + validation("cce_validation");
    let expected = plain.iter().sum::<f64>() + 10.0 * similar;
    assert!((validation("validation_loss") / expected - 1.0).abs() < 1e-5);
    assert!(validation("dab_validation") > 0.0);
    // Each batch has statistics of its own.
    let mean = |i: usize| {
        let p = model
            .parameters()
            .get(&format!("dsbn.bns.{i}.running_mean"))
            .unwrap();
        p.value().to_vec1::<f32>().unwrap()
    };
    assert!(mean(0) != mean(1) && mean(0).iter().any(|&v| v != 0.0));
    // A cell embeds the same alone and among cells of another batch.
    let all = model.embed(&data.cells).unwrap();
    let mut one = data.cells;
    one.limits.max_cells = 1;
    let alone = model.embed(&one).unwrap();
    assert!(all.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn a_perturbation_is_learned_and_predicted() {
    // Gene 3, perturbed, silences gene 7.
    let n = 48;
    let mut draws = vec![0f64; n * GENES];
    Rng::new(6)
        .stream("pairs")
        .fill_uniform(0.5, 1.5, &mut draws);
    let hit = |c: usize| c % 2 == 1;
    let values = Array2::from_shape_fn((n, GENES), |(c, g)| match (hit(c), g) {
        (true, 7) => 0.0,
        _ => draws[c * GENES + g] as f32,
    });
    let vocab = vocab();
    let ids: Vec<u32> = genes().iter().map(|g| vocab.id(g).unwrap()).collect();
    let of_cell = |c: usize| Perturbation::new(if hit(c) { vec!["G03"] } else { vec![] });
    let of_cells: Vec<Perturbation> = (0..n).map(of_cell).collect();
    let matched = vocab.match_genes(&genes(), GeneCase::Exact).unwrap();
    let options = PerturbationOptions {
        max_genes: Some(12),
        ..PerturbationOptions::default()
    };
    let pairs = PerturbationTokens::new(&values, &matched, &vocab, &of_cells, options).unwrap();
    let controls = values.select(ndarray::Axis(0), &[0, 2, 4, 6]);
    for nonzero_prob in [false, true] {
        let mut config = PerturbConfig::default();
        config.base.n_tokens = vocab.len();
        config.base.pad_id = vocab.pad().unwrap();
        (config.base.d_model, config.base.n_heads) = (16, 2);
        (config.base.d_hid, config.base.n_layers) = (16, 2);
        config.base.nonzero_prob = nonzero_prob;
        let model = ScGptPerturb::init(vocab.clone(), config, &Device::Cpu, 0).unwrap();
        let task = PerturbTask::new(&model);
        let mut config = short(Recipe::perturbation(0), 60);
        config.lr_schedule = sc_model::LrSchedule::Constant;
        fit(&task, &pairs, &config, &mut ()).unwrap();
        let after = |hit: &[usize], parity| {
            let hit = vec![hit.to_vec(); 4];
            let mut options = PredictOptions::default();
            options.parity = parity;
            let p = model.predict(controls.view(), &ids, &hit, &options);
            p.unwrap().column(7).to_vec()
        };
        let mean = |hit: &[usize]| after(hit, Parity::Correct).iter().sum::<f32>() / 4.0;
        let (with, without) = (mean(&[3]), mean(&[]));
        assert!(with < 0.3 && without > 0.7, "{with} {without}");
        // The model knows which genes are zero, so that the original's draws of that are.
        if nonzero_prob {
            assert_eq!(after(&[3], Parity::Upstream), [0.0; 4]);
            assert!(after(&[], Parity::Upstream).iter().all(|&v| v != 0.0));
        }
    }
}

#[test]
fn frozen_encoders_stay() {
    let (counts, labels, _) = cells(32);
    let vocab = vocab();
    let recipe = Recipe::annotation(1, Parity::Correct);
    let tokens = tokenizer(&vocab, recipe.tokens.clone());
    let model = small(&vocab).classes(names(2)).check().unwrap();
    let model = model.init(&Device::Cpu, 1).unwrap();
    assert!(model.freeze_encoders(true) >= 9);
    let before = model.parameters().snapshot().unwrap();
    let data = LabelledCells::new(CellSource::new(&counts, &tokens), Some(&labels), &recipe);
    let task = FineTune::new(&model, recipe.objectives).unwrap();
    fit(
        &task,
        &data.unwrap(),
        &short(recipe.train.clone(), 1),
        &mut (),
    )
    .unwrap();
    for (p, old) in model.parameters().iter().zip(&before) {
        let bits = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let same = bits(p.value()) == bits(old);
        match p.name() {
            "encoder.embedding.weight" | "value_encoder.linear2.weight" => assert!(same),
            "cls_decoder.out_layer.weight" | "transformer_encoder.layers.0.linear1.weight" => {
                assert!(!same);
            }
            _ => {}
        }
    }
}

#[test]
fn what_cannot_be_is_said() {
    let (mut counts, labels, _) = cells(4);
    let vocab = vocab();
    assert!(GeneVocab::new(["A"]).is_ok_and(|v| ScGpt::params(&v).is_err()));
    let text = |r: Result<_, sc_transformer::Error>| match r {
        Ok(_) => panic!("it was accepted"),
        Err(e) => e.to_string(),
    };
    assert!(text(small(&vocab).n_heads(3).check().map(drop)).contains("n_heads"));
    assert!(text(small(&vocab).adversary(true).check().map(drop)).contains("batches"));
    let model = small(&vocab)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    let tokens = tokenizer(&vocab, TokenizerOptions::default());
    let recipe = Recipe::annotation(0, Parity::Correct);
    let short = LabelledCells::new(
        CellSource::new(&counts, &tokens),
        Some(&labels[..3]),
        &recipe,
    );
    assert!(text(short.map(drop)).contains("4 cells"));
    assert!(text(FineTune::new(&model, recipe.objectives).map(drop)).contains("cls"));
    // A cell without any count is its <cls>, and embeds to something finite.
    counts.row_mut(0).fill(0.0);
    let source = CellSource::new(&counts, &tokens);
    assert!(model.embed(&source).unwrap().iter().all(|v| v.is_finite()));
    let mut batch = tokens.batch(&counts, &[1, 2], 0).unwrap();
    batch.values[3] = f32::NAN;
    assert!(text(model.encode(&batch, &Mode::eval()).map(drop)).contains("NaN"));
    batch.values[3] = 1.0;
    batch.ids[2] = 10_000;
    assert!(text(model.encode(&batch, &Mode::eval()).map(drop)).contains("10000"));
    let error = model.encode_generative(
        &tokens.batch(&counts, &[1], 0).unwrap(),
        None,
        &Mode::eval(),
    );
    assert!(error.is_ok());
    let plain = small(&vocab)
        .generative(false)
        .check()
        .unwrap()
        .init(&Device::Cpu, 0)
        .unwrap();
    let cells = tokens.batch(&counts, &[1], 0).unwrap();
    assert!(
        text(
            plain
                .encode_generative(&cells, None, &Mode::eval())
                .map(drop)
        )
        .contains("generative")
    );
}
