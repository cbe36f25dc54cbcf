//! Batches integrated.

use candle_core::Device;
use clap::ValueEnum;
use ndarray::Array2;
use sc_criticism::integration::{Metric, Scores, Suite, aggregates};
use sc_data::{AnnData, Categorical, RowSource};
use sc_latent::{Cells, Scvi, Setup};
use sc_model::train::{TrainConfig, fit};
use sc_model::{Embed, Parity};
use sc_preprocess::pca;
use sc_transformer::scgpt::{
    CellSource, FineTune, InputNorm, KeepBest, LabelledCells, MvcStyle, Recipe, ScGpt,
};
use sc_transformer::tokens::Tokenizer;
use sc_transformer::tokens::preprocess::{PreprocessOptions, preprocess};
use sc_transformer::vocab::GeneCase;
use serde_json::{Map, Value, json};

use crate::Result;
use crate::common::{Common, column, take_over, vocab};
use crate::generation::pretrain;
use crate::runs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value = "batch")]
    batch_key: String,
    #[arg(long, default_value = "cell_type")]
    label_key: String,
    /// Variable genes that all methods read
    #[arg(long, default_value_t = 300)]
    n_hvg: usize,
    #[arg(long, value_enum, num_args = 1.., default_values_t = [Method::Pca, Method::Scvi, Method::Scgpt])]
    methods: Vec<Method>,
    /// scgpt-pretrained: epochs of generative pre-training on the same cells
    #[arg(long, default_value_t = 10)]
    pretrain_epochs: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Method {
    /// Principal components
    Pca,
    /// scVI with its defaults
    Scvi,
    /// scGPT with its recipe, from random weights
    Scgpt,
    /// The same from weights that were pre-trained on these cells
    ScgptPretrained,
    /// scGPT with random weights
    ScgptUntrained,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Pca => "PCA",
            Self::Scvi => "scVI",
            Self::Scgpt => "scGPT",
            Self::ScgptPretrained => "scGPT, pre-trained",
            Self::ScgptUntrained => "scGPT, untrained",
        }
    }
}

/// Components that PCA keeps.
const COMPONENTS: usize = 50;

/// Cells with their variable genes.
struct Batches<'a> {
    counts: AnnData,
    logged: &'a dyn RowSource,
    labels: Categorical,
    batches: Categorical,
    components: Array2<f32>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let data = sc_io::h5ad::read(&args.common.data)?;
    let counts = data.matrix(None)?;
    let batches = column(&data, &args.batch_key)?;
    let steps = PreprocessOptions::integration(args.n_hvg, true);
    let prepared = preprocess(counts, &steps, Some(&batches))?;
    let logged = prepared.source(counts)?;
    let cells = Batches {
        counts: data.select_vars(&prepared.genes)?,
        labels: column(&data, &args.label_key)?,
        batches,
        components: pca(&logged, COMPONENTS, 0)?.scores,
        logged: &logged,
    };
    let mut results = Vec::new();
    for &method in &args.methods {
        let mut of_method = Vec::new();
        // Components don't depend on the seed.
        let n = if method == Method::Pca {
            1
        } else {
            args.common.seeds.len()
        };
        for &seed in args.common.seeds.iter().take(n) {
            of_method.push(one(args, &cells, method, seed)?);
        }
        results.push((method.name(), of_method));
    }
    table(&results);
    Ok(())
}

fn one(args: &Args, cells: &Batches<'_>, method: Method, seed: u64) -> Result<Value> {
    let data = args
        .common
        .data
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let scgpt = !matches!(method, Method::Pca | Method::Scvi);
    let mut settings = match scgpt {
        true => args.common.settings(seed),
        false => json!({"data": data, "seed": seed}),
    };
    settings["n_hvg"] = json!(args.n_hvg);
    let mut kind = method.name().to_lowercase().replace(", ", "-");
    if method == Method::ScgptPretrained {
        settings["pretrain_epochs"] = json!(args.pretrain_epochs);
    }
    if scgpt {
        kind = format!("{kind}-{}", args.common.name());
    }
    let name = format!("integrate-{data}-{kind}-s{seed}");
    let compute = || {
        let (points, history) = match method {
            Method::Pca => (cells.components.clone(), Value::Null),
            Method::Scvi => (scvi(args, cells, seed)?, Value::Null),
            _ => scgpt_points(args, cells, method, seed)?,
        };
        let suite = Suite::new(&cells.labels, &cells.batches)?;
        let scores = suite
            .before(cells.components.view())?
            .score(points.view())?;
        let mut found = as_json(&scores);
        found["history"] = history;
        Ok(found)
    };
    runs::run(&args.common.out, &name, &settings, compute)
}

fn as_json(scores: &Scores) -> Value {
    let values = scores
        .iter()
        .map(|(m, v)| (m.name().to_owned(), json!(v.ok())));
    let all = aggregates(std::slice::from_ref(scores));
    let totals = all.iter().flatten().map(|a| {
        let left_out: Vec<&str> = a.left_out.iter().map(|m| m.name()).collect();
        let one = json!({"bio": a.bio, "batch": a.batch, "total": a.total, "left_out": left_out});
        (a.name.to_owned(), one)
    });
    let totals: Map<String, Value> = totals.collect();
    json!({"metrics": values.collect::<Map<_, _>>(), "totals": totals})
}

fn scvi(args: &Args, cells: &Batches<'_>, seed: u64) -> Result<Array2<f32>> {
    let setup = Setup {
        batch_key: Some(args.batch_key.clone()),
        ..Setup::default()
    };
    let cells = Cells::new(&cells.counts, &setup)?;
    let mut model = Scvi::params(&cells).check()?.init(&Device::Cpu, seed)?;
    let mut config = TrainConfig::default();
    config.seed = seed;
    model.fit(&cells, &config, &mut ())?;
    Ok(model.embed(&cells)?)
}

/// scGPT's recipe for integration.
fn scgpt_points(
    args: &Args,
    cells: &Batches<'_>,
    method: Method,
    seed: u64,
) -> Result<(Array2<f32>, Value)> {
    let genes = cells.counts.var.index();
    let vocab = vocab(genes)?;
    let mut config = ScGpt::params(&vocab)?.check()?.config().clone();
    args.common.size(&mut config, &vocab)?;
    config.batches = cells.batches.categories().to_vec();
    config.use_batch_labels = true;
    config.input_norm = InputNorm::DomainSpecific;
    config.adversary = true;
    config.nonzero_prob = true;
    config.mvc = Some(MvcStyle::InnerProduct);
    let model = ScGpt::with_config(vocab.clone(), config)
        .check()?
        .init(&Device::Cpu, seed)?;
    let mut recipe = Recipe::integration(seed, Parity::Correct);
    recipe.tokens.max_len = Some(genes.len() + 1);
    recipe.train = args.common.train(recipe.train);
    let matched = vocab.match_genes(genes, GeneCase::Exact)?;
    let tokenizer = Tokenizer::new(&vocab, &matched, recipe.tokens.clone())?;
    let codes = cells.batches.complete_codes(&args.batch_key)?;
    let mut source = CellSource::new(cells.logged, &tokenizer);
    source.batches = Some(&codes);
    let mut history = Value::Null;
    if method == Method::ScgptPretrained {
        let plain = CellSource::new(cells.logged, &tokenizer);
        let (old, _) = pretrain(
            &args.common,
            args.pretrain_epochs,
            plain,
            &vocab,
            None,
            seed,
        )?;
        take_over(model.parameters(), old.parameters())?;
    }
    if method != Method::ScgptUntrained {
        let data = LabelledCells::new(source, None, &recipe)?;
        let task = FineTune::new(&model, recipe.objectives)?;
        let mut best = KeepBest::new(model.parameters());
        let fitted = fit(&task, &data, &recipe.train, &mut best)?;
        best.restore()?;
        history = runs::history(&fitted.history);
    }
    Ok((model.embed_cells(&source)?, history))
}

fn table(results: &[(&str, Vec<Value>)]) {
    let mut head = vec!["metric"];
    head.extend(results.iter().map(|(name, _)| *name));
    let row = |label: String, path: &[&str]| {
        let of = |(_, runs): &(&str, Vec<Value>)| {
            let all: Vec<f64> = runs.iter().map(|r| runs::number(r, path)).collect();
            runs::spread(&all, 3)
        };
        let mut row = vec![label];
        row.extend(results.iter().map(of));
        row
    };
    let mut rows = Vec::new();
    for m in Metric::ALL {
        let there =
            |(_, r): &(&str, Vec<Value>)| r.iter().any(|r| r["metrics"].get(m.name()).is_some());
        if results.iter().any(there) {
            rows.push(row(m.name().to_owned(), &["metrics", m.name()]));
        }
    }
    for of in ["scIB", "scGPT"] {
        for kind in ["bio", "batch", "total"] {
            rows.push(row(format!("{of}: {kind}"), &["totals", of, kind]));
        }
    }
    runs::print(&head, &rows);
}
