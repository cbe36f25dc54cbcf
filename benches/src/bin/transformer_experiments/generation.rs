//! Cells generated.

use candle_core::Device;
use ndarray::Array2;
use sc_criticism::ppc::{Drawn, ModelCheck, Ppc, Tables};
use sc_data::{AnnData, Categorical};
use sc_latent::{Cells, Scvi, Setup};
use sc_model::train::{SplitConfig, TrainConfig, fit};
use sc_tensor::Rng;
use sc_transformer::scgpt::{CellSource, KeepBest, PretrainCells, Pretraining, Recipe, ScGpt};
use sc_transformer::tokens::preprocess::{PreprocessOptions, preprocess};
use sc_transformer::tokens::{GenerativeOptions, Generator, Tokenizer, TokenizerOptions};
use sc_transformer::vocab::{GeneCase, GeneVocab};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::common::{Common, column, vocab};
use crate::runs;
use crate::samples::{HeldOut, independent};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value = "cell_type")]
    label_key: String,
    /// Variable genes that all methods read
    #[arg(long, default_value_t = 200)]
    n_hvg: usize,
    /// Generated cells for each held-out one
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Rounds of generation
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Stops after pre-training, to choose its settings by the validation loss
    #[arg(long)]
    validate: bool,
}

/// The share of cells that is held out.
const HELD_OUT: f64 = 0.1;
/// Minibatches before the cells' vectors are prompts, too.
const PROMPT_AFTER: u64 = 100;

pub(crate) fn run(args: &Args) -> Result<()> {
    let data = sc_io::h5ad::read(&args.common.data)?;
    let stem = args
        .common
        .data
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let mut results = Vec::new();
    for &seed in &args.common.seeds {
        let mut settings = args.common.settings(seed);
        settings["n_hvg"] = json!(args.n_hvg);
        let mut kind = "validate";
        if !args.validate {
            kind = "test";
            settings["samples"] = json!(args.samples);
            settings["rounds"] = json!(args.rounds);
        }
        let name = format!("generate-{stem}-{kind}-{}-s{seed}", args.common.name());
        let compute = || one(args, &data, seed);
        results.push(runs::run(&args.common.out, &name, &settings, compute)?);
    }
    table(&results);
    Ok(())
}

/// Pre-trains a model on cells, of which some validate if they are not `given`.
pub(crate) fn pretrain(
    common: &Common,
    epochs: usize,
    cells: CellSource<'_>,
    vocab: &GeneVocab,
    given: Option<(Vec<usize>, Vec<usize>)>,
    seed: u64,
) -> Result<(ScGpt, Value)> {
    let mut config = ScGpt::params(vocab)?.check()?.config().clone();
    common.size(&mut config, vocab)?;
    config.nonzero_prob = true;
    let model = ScGpt::with_config(vocab.clone(), config)
        .check()?
        .init(&Device::Cpu, seed)?;
    let n = cells.rows.n_rows();
    let plan = Recipe::pretraining(1, seed);
    let n_train = given.as_ref().map_or(n * 9 / 10, |(train, _)| train.len());
    let steps = n_train.div_ceil(plan.batch_size) * epochs;
    let mut config = common.train(Recipe::pretraining(steps as u64, seed));
    config.max_epochs = Some(epochs);
    if given.is_some() {
        config.split = SplitConfig {
            given,
            ..SplitConfig::default()
        };
    }
    let options = GenerativeOptions {
        max_len: None,
        generator: Generator::Seeded(seed),
        ..GenerativeOptions::default()
    };
    let data = PretrainCells::new(cells, options)?;
    let mut task = Pretraining::new(&model);
    task.prompt_after = PROMPT_AFTER;
    let mut best = KeepBest::new(model.parameters());
    let fitted = fit(&task, &data, &config, &mut best)?;
    best.restore()?;
    Ok((model, runs::history(&fitted.history)))
}

fn one(args: &Args, data: &AnnData, seed: u64) -> Result<Value> {
    let order = Rng::new(seed).stream("held out").permutation(data.n_obs());
    let (test, train) = order.split_at((data.n_obs() as f64 * HELD_OUT) as usize);
    let (mut test, mut train) = (test.to_vec(), train.to_vec());
    test.sort_unstable();
    train.sort_unstable();
    let (train, test) = (data.select_obs(&train)?, data.select_obs(&test)?);
    let steps = PreprocessOptions::integration(args.n_hvg, true);
    let prepared = preprocess(train.matrix(None)?, &steps, None)?;
    let chosen = |cells: &AnnData| with_counts(&cells.select_vars(&prepared.genes)?);
    let (train, test) = (chosen(&train)?, chosen(&test)?);

    let genes = train.var.index();
    let vocab = vocab(genes)?;
    let matched = vocab.match_genes(genes, GeneCase::Exact)?;
    let tokens = TokenizerOptions {
        include_zeros: true,
        max_len: None,
        ..TokenizerOptions::default()
    };
    let tokenizer = Tokenizer::new(&vocab, &matched, tokens)?;
    let counts = train.matrix(None)?;
    let source = CellSource::new(counts, &tokenizer);
    let (model, history) = pretrain(
        &args.common,
        args.common.epochs(),
        source,
        &vocab,
        None,
        seed,
    )?;
    if args.validate {
        return Ok(json!({"history": history}));
    }
    let (train_counts, test_counts) = (counts.to_dense(), test.matrix(None)?.to_dense());
    let rows: Vec<usize> = (0..test.n_obs()).collect();
    let whole = tokenizer.batch(test.matrix(None)?, &rows, 0)?;
    let held = HeldOut {
        model: &model,
        counts: test_counts.view(),
        tokens: &whole,
        seed,
    };
    let (means, by_type) = mean_bins(&tokenizer, &train, &test, &args.label_key)?;
    let errors = held.errors(&means, &by_type)?;

    let scvi_cells = Cells::new(&train, &Setup::default())?;
    let mut scvi = Scvi::params(&scvi_cells)
        .check()?
        .init(&Device::Cpu, seed)?;
    let mut config = TrainConfig::default();
    config.seed = seed;
    scvi.fit(&scvi_cells, &config, &mut ())?;
    let scvi_cells = Cells::for_model(&test, scvi.registry())?;
    let n = args.samples;
    let from_scvi = Drawn::new(&scvi, &scvi_cells, n, seed);
    let from_genes = Tables::new(held.by_genes(n, args.rounds)?)?;
    let from_cells = Tables::new(held.by_cells(n, args.rounds)?)?;
    let alone = Tables::new(independent(train_counts.view(), rows.len(), n, seed))?;
    let labels = column(&test, &args.label_key)?;
    let checked = Ppc::new(test.matrix(None)?)
        .groups(&labels)
        .model("scVI", &from_scvi)
        .model("scGPT, vector of the cell", &from_cells)
        .model("scGPT, other half of the genes", &from_genes)
        .model("genes drawn one by one", &alone)
        .run(&mut |_, _| ())?;
    let models = checked.models.iter().map(|m| (m.name.clone(), figures(m)));
    Ok(json!({
        "errors": errors, "history": history, "ppc": models.collect::<Map<_, _>>(), "n_test": rows.len(),
    }))
}

/// The cells that express any of the genes; scVI refuses others.
fn with_counts(cells: &AnnData) -> Result<AnnData> {
    let sums = cells.matrix(None)?.to_csr().row_sums();
    let rows: Vec<usize> = (0..sums.len()).filter(|&i| sums[i] > 0.0).collect();
    Ok(cells.select_obs(&rows)?)
}

/// The mean bin of each gene over training cells, and for each held-out cell that over training cells of its type.
fn mean_bins(
    tokenizer: &Tokenizer,
    train: &AnnData,
    test: &AnnData,
    label_key: &str,
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let rows: Vec<usize> = (0..train.n_obs()).collect();
    let batch = tokenizer.batch(train.matrix(None)?, &rows, 0)?;
    let mut bins = Array2::<f64>::zeros((rows.len(), train.n_vars()));
    for (cell, s) in batch.segments.iter().enumerate() {
        for row in s.start + 1..s.start + s.rows {
            bins[(cell, batch.ids[row] as usize)] = f64::from(batch.values[row]);
        }
    }
    let labels: Categorical = column(train, label_key)?;
    let mean = |of: Option<&str>| -> Vec<f64> {
        let members: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|&r| of.is_none() || labels.get(r) == of)
            .collect();
        let some = bins.select(ndarray::Axis(0), &members);
        some.mean_axis(ndarray::Axis(0))
            .unwrap_or_default()
            .to_vec()
    };
    let of_test = column(test, label_key)?;
    let by_type = of_test.iter().map(mean).collect();
    Ok((mean(None), by_type))
}

/// What is told of a check.
fn figures(m: &ModelCheck) -> Value {
    let groups = |of: fn(&sc_criticism::ppc::GroupAgreement) -> f64| {
        runs::mean(&m.de.iter().map(of).collect::<Vec<_>>())
    };
    json!({
        "CV by cell, R²": m.cv_cell.agreement.r2,
        "CV by cell, Pearson": m.cv_cell.agreement.pearson,
        "CV by gene, R²": m.cv_gene.agreement.r2,
        "CV by gene, Pearson": m.cv_gene.agreement.pearson,
        "zeros by gene, MAE": m.zero_fraction.agreement.mae,
        "mean by gene, R²": m.mean.agreement.r2,
        "variance by gene, R²": m.variance.agreement.r2,
        "library size, Pearson": m.library_size.agreement.pearson,
        "library size, R²": m.library_size.agreement.r2,
        "calibration error": m.calibration.as_ref().map(|c| c.error),
        "DE: top genes F1": groups(|g| g.gene_f1),
        "DE: fold changes, Pearson": groups(|g| g.lfc_pearson),
    })
}

fn table(results: &[Value]) {
    let of = |path: &[&str], digits: usize| {
        let all: Vec<f64> = results.iter().map(|r| runs::number(r, path)).collect();
        runs::spread(&all, digits)
    };
    let Some(first) = results.first() else { return };
    let names = |v: &Value| -> Vec<String> {
        v.as_object()
            .into_iter()
            .flatten()
            .map(|(k, _)| k.clone())
            .collect()
    };
    let models = names(&first["ppc"]);
    let mut rows = Vec::new();
    for figure in models
        .first()
        .map(|m| names(&first["ppc"][m.as_str()]))
        .unwrap_or_default()
    {
        let mut row = vec![figure.clone()];
        row.extend(models.iter().map(|m| of(&["ppc", m, &figure], 3)));
        rows.push(row);
    }
    let mut head = vec!["figure"];
    head.extend(models.iter().map(String::as_str));
    runs::print(&head, &rows);
    let errors = names(&first["errors"]);
    let rows: Vec<Vec<String>> = errors
        .iter()
        .map(|e| vec![e.clone(), of(&["errors", e], 1)])
        .collect();
    runs::print(
        &[
            "bins of held-out cells predicted from",
            "mean squared error",
        ],
        &rows,
    );
    let losses = first["history"]["validation_loss"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    println!("\nvalidation loss, first seed: {losses:?}");
}
