//! The Rust side of `benches/peers/annotate_platforms.py`, which prepares the data and judges what it writes. FOLDER holds
//! `train.h5ad` (obs: `label`, `part` with "train", "validation" or "unlabelled"), `test.h5ad` with the same genes, and
//! `both.h5ad` (obs: `batch`, `label`), all with counts.
//!
//! ```text
//! annotate_platforms pretrain FOLDER --model scgpt|scbert --out DIR     learns from all cells of train.h5ad, without labels
//! annotate_platforms finetune FOLDER --model scgpt|scbert --out FILE    learns labels, and gives those of test.h5ad
//! annotate_platforms scanvi FOLDER --out FILE                           the same, for both.h5ad
//! ```
//!
//! FILE gets obsm `probabilities`; one line of JSON says which label each column is. All runs print how long they took.
#![allow(clippy::print_stdout, reason = "a program for programs")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use clap::{Args, Parser, ValueEnum};
use sc_data::{AnnData, Categorical, Csr, RowSource};
use sc_latent::{
    Cells, ClassifierConfig, Labels, Likelihood, PredictAt, Scanvi, Scvi, SemiSupervised, Setup,
};
use sc_model::train::{Fitted, TrainConfig, fit};
use sc_model::{Classify, LrSchedule, Parity, Probabilities};
use sc_transformer::scbert::{
    CellsConfig, FinetuneConfig, GenePanel, PretrainConfig, Scbert, ScbertCells,
};
use sc_transformer::scgpt::{
    CellPrompt, CellSource, LabelledCells, PretrainCells, Pretraining, Recipe, ScGpt,
};
use sc_transformer::tokens::{GenerativeOptions, Tokenizer, TokenizerOptions};
use sc_transformer::vocab::{GeneCase, GeneVocab, SPECIALS};
use serde_json::json;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Rows that train, and rows that validate.
type Split = (Vec<usize>, Vec<usize>);

/// The label that stands for "not known".
const UNLABELED: &str = "Unknown";
/// Cells that scBERT reads at once.
const AT_ONCE: usize = 8;

#[derive(Parser)]
enum Command {
    /// Learns from cells without labels
    Pretrain(Run),
    /// Learns labels, and gives those of new cells
    Finetune(Run),
    /// scANVI: learns from labelled and new cells together
    Scanvi(Run),
}

#[derive(Args)]
struct Run {
    folder: PathBuf,
    #[arg(long)]
    out: PathBuf,
    #[arg(long, value_enum, default_value = "scgpt")]
    model: Kind,
    /// A model of `pretrain`; without it weights are random
    #[arg(long)]
    from: Option<PathBuf>,
    #[arg(long)]
    epochs: usize,
    /// scANVI: epochs with labels, after those without
    #[arg(long, default_value_t = 20)]
    label_epochs: usize,
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Cells of a minibatch
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// scGPT: cells' vectors are prompts with known genes only, as in the original's code
    #[arg(long)]
    prompts_with_genes: bool,
    /// scGPT: the share of pre-training before cells' vectors are prompts
    #[arg(long, default_value_t = 0.5)]
    prompt_after: f64,
    #[arg(long)]
    seed: u64,
    /// Width of the model
    #[arg(long, default_value_t = 64)]
    dim: usize,
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// scGPT: the most tokens of a cell
    #[arg(long, default_value_t = 1200)]
    max_length: usize,
    /// scBERT: the sum to which counts are scaled
    #[arg(long, default_value_t = 1e4)]
    target_sum: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Scgpt,
    Scbert,
}

fn main() -> Result<()> {
    let start = Instant::now();
    let mut report = match Command::parse() {
        Command::Pretrain(run) => match run.model {
            Kind::Scgpt => pretrain_scgpt(&run),
            Kind::Scbert => pretrain_scbert(&run),
        },
        Command::Finetune(run) => match run.model {
            Kind::Scgpt => finetune_scgpt(&run),
            Kind::Scbert => finetune_scbert(&run),
        },
        Command::Scanvi(run) => scanvi(&run),
    }?;
    report["seconds"] = json!(start.elapsed().as_secs_f64());
    println!("{report}");
    Ok(())
}

/// Cells, the labels that some have, and which of those train and validate.
struct Known {
    counts: Csr,
    genes: Vec<String>,
    labels: Categorical,
    parts: (Vec<usize>, Vec<usize>),
}

impl Known {
    fn read(folder: &Path) -> Result<Self> {
        let data = sc_io::h5ad::read(folder.join("train.h5ad"))?;
        let part = data.obs.column("obs", "part")?.to_categorical("part")?;
        let rows = |name: &str| -> Vec<usize> {
            (0..part.len())
                .filter(|&i| part.get(i) == Some(name))
                .collect()
        };
        Ok(Self {
            counts: data.matrix(None)?.to_csr(),
            genes: data.var.index().to_vec(),
            labels: data.obs.column("obs", "label")?.to_categorical("label")?,
            parts: (rows("train"), rows("validation")),
        })
    }

    /// The cells with labels alone, and which of them train and validate.
    fn labelled(&self) -> Result<(Csr, Categorical, Split)> {
        let rows = [self.parts.0.as_slice(), self.parts.1.as_slice()].concat();
        let n = self.parts.0.len();
        let split = ((0..n).collect(), (n..rows.len()).collect());
        Ok((
            self.counts.select_rows(&rows)?,
            self.labels.select(&rows),
            split,
        ))
    }
}

/// Adam at a rate that falls to a fifth over all epochs.
fn settings(run: &Run, mut config: TrainConfig) -> TrainConfig {
    config.max_epochs = Some(run.epochs);
    config.batch_size = run.batch;
    config.lr = run.lr;
    let gamma = 0.2f64.powf(1.0 / run.epochs as f64);
    config.lr_schedule = LrSchedule::Step { size: 1, gamma };
    config.early_stopping = None;
    config.max_grad_norm = Some(1.0);
    config.seed = run.seed;
    config
}

fn scgpt(run: &Run, genes: &[String]) -> Result<ScGpt> {
    if let Some(dir) = &run.from {
        return Ok(ScGpt::load(dir, &Device::Cpu)?);
    }
    let vocab = GeneVocab::new(genes.to_vec())?.with_specials(&SPECIALS)?;
    let params = ScGpt::params(&vocab)?.d_model(run.dim).d_hid(2 * run.dim);
    let params = params.n_heads(4).n_layers(run.layers).dropout(0.1);
    Ok(params.check()?.init(&Device::Cpu, run.seed)?)
}

fn tokenizer(run: &Run, model: &ScGpt, genes: &[String], whole: bool) -> Result<Tokenizer> {
    let found = model.vocab().match_genes(genes, GeneCase::Exact)?;
    let longest = (!whole).then_some(run.max_length);
    let options = TokenizerOptions::finetune(longest, Parity::Correct);
    Ok(Tokenizer::new(model.vocab(), &found, options)?)
}

fn pretrain_scgpt(run: &Run) -> Result<serde_json::Value> {
    let known = Known::read(&run.folder)?;
    let model = scgpt(run, &known.genes)?;
    let tokens = tokenizer(run, &model, &known.genes, true)?;
    let split = GenerativeOptions {
        max_len: Some(run.max_length),
        ..GenerativeOptions::default()
    };
    let cells = PretrainCells::new(CellSource::new(&known.counts, &tokens), split)?;
    let steps = (known.counts.n_rows() * 9 / 10).div_ceil(run.batch) * run.epochs;
    let mut config = Recipe::pretraining(steps as u64, run.seed);
    (config.max_epochs, config.lr, config.batch_size) = (Some(run.epochs), run.lr, run.batch);
    let mut task = Pretraining::new(&model);
    task.prompt_after = (steps as f64 * run.prompt_after) as u64;
    if run.prompts_with_genes {
        task.cell_prompts = vec![CellPrompt::WithGenes];
    }
    let fitted = fit(&task, &cells, &config, &mut ())?;
    model.save(&run.out)?;
    let terms = ["gep", "gepc", "prompted", "prompted_alone"];
    let terms = terms.map(|t| (t, fitted.history.values(&format!("{t}_validation"))));
    Ok(json!({
        "validation_loss": fitted.history.values("validation_loss"),
        "terms": terms.into_iter().collect::<BTreeMap<_, _>>(),
        "error_of_gene_means": error_of_means(&tokens, &known.counts)?,
    }))
}

/// The mean squared error of the mean bin of each gene: what pre-training learns before it learns anything of cells.
fn error_of_means(tokens: &Tokenizer, counts: &dyn RowSource) -> Result<f64> {
    let rows: Vec<usize> = (0..counts.n_rows()).collect();
    let batch = tokens.batch(counts, &rows, 0)?;
    let cls: BTreeSet<u32> = batch.first_tokens().into_iter().collect();
    let mut by_gene: BTreeMap<u32, [f64; 3]> = BTreeMap::new();
    for (at, (&id, &value)) in (0u32..).zip(batch.ids.iter().zip(&batch.values)) {
        if !cls.contains(&at) {
            let value = f64::from(value);
            let [n, sum, squares] = by_gene.entry(id).or_default();
            (*n, *sum, *squares) = (*n + 1.0, *sum + value, *squares + value * value);
        }
    }
    let error: f64 = by_gene
        .values()
        .map(|[n, sum, sq]| sq - sum * sum / n)
        .sum();
    Ok(error / by_gene.values().map(|g| g[0]).sum::<f64>())
}

fn finetune_scgpt(run: &Run) -> Result<serde_json::Value> {
    let known = Known::read(&run.folder)?;
    let (counts, labels, split) = known.labelled()?;
    let model = scgpt(run, &known.genes)?.with_classes(labels.categories(), run.seed)?;
    let mut recipe = Recipe::annotation(run.seed, Parity::Correct);
    recipe.train = settings(run, recipe.train);
    recipe.train.split.given = Some(split);
    let tokens = tokenizer(run, &model, &known.genes, false)?;
    let codes = labels.complete_codes("label")?;
    let cells = CellSource::new(&counts, &tokens);
    let cells = LabelledCells::new(cells, Some(&codes), &recipe)?;
    let fitted = model.finetune(&cells, &recipe, &mut ())?;
    let test = sc_io::h5ad::read(run.folder.join("test.h5ad"))?;
    let new = test.matrix(None)?.to_csr();
    let probabilities = model.classify(&CellSource::new(&new, &tokens))?;
    write(run, &test, probabilities, &fitted, "validation_accuracy")
}

fn scbert(run: &Run, genes: &[String]) -> Result<Scbert> {
    if let Some(dir) = &run.from {
        return Ok(Scbert::load(dir, &Device::Cpu)?);
    }
    let params = Scbert::params(GenePanel::new(genes.to_vec())?)
        .dim(run.dim)
        .depth(run.layers)
        .heads(4)
        .dim_head(run.dim / 4)
        .hidden(2 * run.dim)
        .classifier_hidden([128, 64])
        .learn_genes(true);
    Ok(params.check()?.init(&Device::Cpu, run.seed)?)
}

fn scbert_cells<'a>(
    run: &Run,
    model: &Scbert,
    counts: &'a Csr,
    genes: &[String],
) -> Result<ScbertCells<'a>> {
    let mut config = CellsConfig::default();
    (config.min_genes, config.target_sum) = (1, run.target_sum);
    let cells = model.cells(counts, genes, &config)?;
    match cells.dropped() {
        [] => Ok(cells),
        [(row, _), ..] => Err(format!("the cell in row {row} has no counts").into()),
    }
}

fn pretrain_scbert(run: &Run) -> Result<serde_json::Value> {
    let known = Known::read(&run.folder)?;
    let model = scbert(run, &known.genes)?;
    let cells = scbert_cells(run, &model, &known.counts, &known.genes)?;
    let mut config = PretrainConfig::default();
    config.train = settings(run, config.train);
    config.micro_batch = Some(AT_ONCE);
    let fitted = model.pretrain(&cells, &config, &mut ())?;
    model.save(&run.out)?;
    Ok(json!({"validation_loss": fitted.history.values("validation_loss")}))
}

fn finetune_scbert(run: &Run) -> Result<serde_json::Value> {
    let known = Known::read(&run.folder)?;
    let (counts, labels, split) = known.labelled()?;
    let model = scbert(run, &known.genes)?.with_classes(labels.categories(), run.seed)?;
    let cells = scbert_cells(run, &model, &counts, &known.genes)?;
    let mut config = FinetuneConfig::default();
    config.train = settings(run, config.train);
    config.train.split.given = Some(split);
    config.everything = true;
    config.micro_batch = Some(AT_ONCE);
    let fitted = model.finetune(&model.labelled(&cells, &labels)?, &config, &mut ())?;
    let test = sc_io::h5ad::read(run.folder.join("test.h5ad"))?;
    let new = test.matrix(None)?.to_csr();
    let probabilities = model.classify(&scbert_cells(run, &model, &new, &known.genes)?)?;
    write(run, &test, probabilities, &fitted, "accuracy_validation")
}

/// scVI first, then some epochs with labels.
fn scanvi(run: &Run) -> Result<serde_json::Value> {
    let data = sc_io::h5ad::read(run.folder.join("both.h5ad"))?;
    let setup = Setup {
        batch_key: Some("batch".into()),
        ..Setup::default()
    };
    let cells = Cells::new(&data, &setup)?;
    let params = Scvi::params(&cells).likelihood(Likelihood::Nb);
    let mut scvi = params.check()?.init(&Device::Cpu, run.seed)?;
    let mut config = TrainConfig::default();
    (config.max_epochs, config.seed) = (Some(run.epochs), run.seed);
    config.kl_warmup.n_epochs = Some(run.epochs.div_ceil(2));
    scvi.fit(&cells, &config, &mut ())?;
    let labels = Labels {
        key: Some("label".into()),
        unlabeled_category: UNLABELED.into(),
    };
    let classifier = ClassifierConfig::default();
    let mut model = Scanvi::from_scvi(&scvi, &data.obs, &labels, classifier, run.seed)?;
    let cells = Cells::for_model(&data, model.registry())?;
    config.max_epochs = Some(run.label_epochs);
    let mut semi = SemiSupervised::default();
    semi.n_samples_per_label = Some(100);
    let fitted = model.fit(&cells, &config, &semi, &mut ())?;
    let probabilities = model.predict(&cells, PredictAt::PosteriorMean)?;
    write(run, &data, probabilities, &fitted, "train_accuracy")
}

fn write(
    run: &Run,
    data: &AnnData,
    probabilities: Probabilities,
    fitted: &Fitted,
    metric: &str,
) -> Result<serde_json::Value> {
    let mut out = AnnData::default();
    out.obs = data.obs.clone();
    out.obsm
        .insert("probabilities".into(), probabilities.values.into());
    sc_io::h5ad::write(&run.out, &out, &sc_io::h5ad::WriteOptions::default())?;
    Ok(json!({
        "labels": probabilities.labels,
        "history": fitted.history.values(metric),
        "epoch_seconds": fitted.epoch_seconds.iter().sum::<f64>() / fitted.epoch_seconds.len() as f64,
    }))
}
