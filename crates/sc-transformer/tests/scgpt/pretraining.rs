//! Generative pre-training, and what a model has learned by it.

use candle_core::Device;
use sc_model::Mode;
use sc_model::train::fit;
use sc_tensor::rng::Rng;
use sc_transformer::scgpt::{
    CellPrompt, CellSource, GenerateOptions, PretrainCells, Pretraining, Recipe, ScGpt,
};
use sc_transformer::tokens::{GenerativeOptions, GenerativeSplit, TokenBatch, TokenizerOptions};

use super::{GENES, cells, short, small, tokenizer, vocab};

#[test]
fn pretraining_learns_to_generate() {
    let (counts, _, _) = cells(64);
    let vocab = vocab();
    let options = TokenizerOptions {
        include_zeros: true,
        max_len: None,
        ..TokenizerOptions::default()
    };
    let tokens = tokenizer(&vocab, options);
    let model = small(&vocab)
        .check()
        .unwrap()
        .init(&Device::Cpu, 4)
        .unwrap();
    let source = CellSource::new(&counts, &tokens);
    let data = PretrainCells::new(source, GenerativeOptions::default()).unwrap();
    let mut task = Pretraining::new(&model);
    task.prompt_after = 8;
    let config = short(Recipe::pretraining(60, 4), 15);
    let fitted = fit(&task, &data, &config, &mut ()).unwrap();
    let gep = fitted.history.values("gep_validation");
    assert!(gep.last().unwrap() < &(0.8 * gep[0]), "{gep:?}");
    // One minibatch validates; those that train have both prompts in turns, from the third epoch on.
    let epochs = |name: &str| fitted.history.values(name).len();
    assert_eq!(epochs("prompted_alone_validation"), 15);
    assert_eq!(
        (epochs("prompted_alone_train"), epochs("prompted_train")),
        (13, 13)
    );
}

/// Pre-training on cells whose types nobody tells, and the model with all tokens of the cells.
fn pretrained(prompts: &[CellPrompt]) -> (ScGpt, TokenBatch, Vec<u32>) {
    let (counts, labels, _) = cells(64);
    let vocab = vocab();
    let options = TokenizerOptions {
        include_zeros: true,
        max_len: None,
        ..TokenizerOptions::default()
    };
    let tokens = tokenizer(&vocab, options);
    let model = small(&vocab).check().unwrap();
    let model = model.init(&Device::Cpu, 4).unwrap();
    let source = CellSource::new(&counts, &tokens);
    let data = PretrainCells::new(source, GenerativeOptions::default()).unwrap();
    let mut task = Pretraining::new(&model);
    (task.prompt_after, task.cell_prompts) = (0, prompts.to_vec());
    // The means of the genes are learned in a hundred minibatches, and for as many nothing else.
    let mut config = short(Recipe::pretraining(480, 4), 60);
    (config.batch_size, config.lr) = (8, 6e-3);
    fit(&task, &data, &config, &mut ()).unwrap();
    let rows: Vec<usize> = (0..64).collect();
    let whole = tokens.batch(&counts, &rows, 0).unwrap();
    (model, whole, labels)
}

/// The mean squared error of the genes of cells of which only the vector is known, and that of the genes' means.
fn error_from_vectors(model: &ScGpt, whole: &TokenBatch) -> (f64, f64) {
    let mode = Mode::eval();
    let vectors = model.cell_vectors(whole).unwrap();
    let asked = whole.all_asked(-1.0).unwrap();
    let e = model
        .encode_generative(&asked, Some(&vectors), &mode)
        .unwrap();
    let made = model.decode(&e, &mode).unwrap().value;
    let made = made.to_vec1::<f32>().unwrap();
    let mut means = vec![(0.0, 0.0); GENES];
    let rows = || (0..asked.n_tokens()).filter(|&t| asked.scored[t]);
    for t in rows() {
        let (sum, n) = &mut means[asked.ids[t] as usize];
        (*sum, *n) = (*sum + f64::from(asked.targets[t]), *n + 1.0);
    }
    let error = |of: &dyn Fn(usize) -> f64| -> f64 {
        let squares = rows().map(|t| (of(t) - f64::from(asked.targets[t])).powi(2));
        squares.sum::<f64>() / rows().count() as f64
    };
    let mean = |t: usize| {
        let (sum, n) = means[asked.ids[t] as usize];
        sum / n
    };
    (error(&|t| f64::from(made[t])), error(&mean))
}

/// How much larger the mean distance between cells of different types is than that of the same type.
fn contrast(model: &ScGpt, whole: &TokenBatch, labels: &[u32]) -> f64 {
    let vectors = model.cell_vectors(whole).unwrap().to_vec2::<f32>().unwrap();
    let mut sums = [(0.0, 0.0); 2];
    for (a, la) in vectors.iter().zip(labels) {
        for (b, lb) in vectors.iter().zip(labels) {
            let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
            let (sum, n) = &mut sums[usize::from(la != lb)];
            (*sum, *n) = (*sum + f64::from(square.sqrt()), *n + 1.0);
        }
    }
    let [(same, n), (other, m)] = sums;
    (other / m) / (same / n)
}

#[test]
fn prompts_alone_put_the_cell_into_its_vector() {
    let (model, whole, labels) = pretrained(&[CellPrompt::Alone]);
    let (from_vectors, from_means) = error_from_vectors(&model, &whole);
    assert!(
        from_vectors < 0.6 * from_means,
        "{from_vectors} {from_means}"
    );
    let apart = contrast(&model, &whole, &labels);
    assert!(apart > 5.0, "{apart}");
    // With genes beside it, nobody learns to generate from the vector.
    let (model, whole, _) = pretrained(&[CellPrompt::WithGenes]);
    let (from_vectors, from_means) = error_from_vectors(&model, &whole);
    assert!(
        from_vectors > 0.9 * from_means,
        "{from_vectors} {from_means}"
    );
}

#[test]
fn the_error_of_a_prompt_alone_reaches_what_made_it() {
    let (counts, _, _) = cells(8);
    let vocab = vocab();
    let tokens = tokenizer(&vocab, TokenizerOptions::default());
    let model = small(&vocab).check().unwrap();
    let model = model.init(&Device::Cpu, 4).unwrap();
    let split = GenerativeSplit::new(GenerativeOptions::default()).unwrap();
    let whole = tokens.batch(&counts, &[0, 1, 2, 3], 0).unwrap();
    let asked = split.split_at(&whole, 0, 0.5).unwrap();
    let rng = Rng::new(0);
    let mode = Mode::train(&rng, 0);
    // Values are read in the first pass only, so that what their network learns came through the vectors.
    let values = model.parameters().get("value_encoder.linear2.weight");
    let values = values.unwrap().var().as_tensor();
    let loss = |prompt| model.generative_loss(&asked, Some(prompt), &mode).unwrap();
    let alone = loss(CellPrompt::Alone).prompted.unwrap();
    let grads = sc_tensor::backward(&alone).unwrap();
    let size = grads.get(values).unwrap().abs().unwrap().max_all().unwrap();
    assert!(size.to_scalar::<f32>().unwrap() > 0.0);
    // All genes are asked for: those of the first pass that were known count, too.
    let (first, second) = (asked.scored.iter(), asked.all_asked(-1.0).unwrap().scored);
    let (first, second) = (
        first.filter(|s| **s).count(),
        second.iter().filter(|s| **s).count(),
    );
    assert!(second > first && second == asked.n_tokens() - 4);
}

#[test]
fn zeros_are_learned_and_drawn() {
    let (counts, _, _) = cells(64);
    let vocab = vocab();
    let options = TokenizerOptions {
        include_zeros: true,
        max_len: None,
        ..TokenizerOptions::default()
    };
    let tokens = tokenizer(&vocab, options);
    let params = small(&vocab).nonzero_prob(true).check().unwrap();
    let model = params.init(&Device::Cpu, 4).unwrap();
    let source = CellSource::new(&counts, &tokens);
    let data = PretrainCells::new(source, GenerativeOptions::default()).unwrap();
    let config = short(Recipe::pretraining(60, 4), 15);
    let fitted = fit(&Pretraining::new(&model), &data, &config, &mut ()).unwrap();
    // Three terms, each of which knows more than how often a gene is not zero.
    let nll = fitted.history.values("nonzero_validation");
    let shares = counts.columns().into_iter().map(|gene| {
        let n = gene.iter().filter(|&&v| v > 0.0).count();
        n as f64 / counts.nrows() as f64
    });
    let bits = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    let base = shares.map(|p| bits(p) + bits(1.0 - p)).sum::<f64>() / GENES as f64;
    assert!(nll.last().unwrap() < &(3.0 * base), "{nll:?} {base}");

    // What is drawn has the mean that is predicted.
    let split = GenerativeSplit::new(GenerativeOptions::default()).unwrap();
    let whole = tokens.batch(&counts, &[0, 1, 2, 3], 0).unwrap();
    let asked = split.split_at(&whole, 0, 0.5).unwrap();
    let mode = Mode::eval();
    let encoded = model.encode_generative(&asked, None, &mode).unwrap();
    let predicted = model.decode(&encoded, &mode).unwrap().value;
    let sum = |values: &[f32]| -> f64 {
        let all = values.iter().zip(&asked.scored).filter(|(_, s)| **s);
        all.map(|(v, _)| f64::from(*v)).sum()
    };
    let expected = sum(&predicted.to_vec1::<f32>().unwrap());
    let mut options = GenerateOptions::default();
    (options.rounds, options.to_bins, options.sample_zeros) = (1, false, true);
    let mut total = 0.0;
    for seed in 0..300 {
        options.seed = seed;
        total += sum(&model.generate(&asked, None, &options).unwrap().values);
    }
    let mean = total / 300.0;
    assert!((mean / expected - 1.0).abs() < 0.05, "{mean} {expected}");
}
