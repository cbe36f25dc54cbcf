//! `sc integrate train`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use candle_core::Device;
use sc_integrate::{
    Alignment, Clue, ClueConfig, ClueTrainConfig, Likelihood, LossWeights, Modality, MultiCells,
    PairingLoss, Turns,
};
use sc_model::train::{Fitted, StopReason};
use serde_json::{Value, json};

use super::input::{Input, Source, known, of};
use crate::common::{CHECKPOINT, human_bytes, note, peak_rss_bytes, print_json};
use crate::error::{Error, Result};
use crate::options::{Order, at_least_one};
use crate::resume::Run;
use crate::train_run::{Interrupt, observed, prepare_folder, save};
use crate::train_scvi;

const EXAMPLES: &str = "\
Examples:
  sc integrate train rna=rna.h5ad adt=adt.h5ad --out model --layer counts --batch-key batch
  sc integrate train rna=rna.h5ad adt=adt.h5ad --out model --layer counts --settings cite
  sc integrate train rna=rna.h5ad atac=atac.h5ad --out model --use-rep rna=X_pca --use-rep atac=X_lsi
  sc integrate train rna=rna.h5ad adt=adt.h5ad --out model --layer counts --likelihood adt=nb-mixture

DIR then holds the model (model.safetensors, config.json) with the weights of the epoch that had the
lowest validation loss, and the metrics of each epoch (history.csv). Ctrl-C writes a checkpoint and
ends with exit code 130; the same command with --resume goes on.";

/// Train an embedding of cells of several modalities
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Folder for the model; made if it isn't there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten, next_help_heading = "Model")]
    model: Model,
    #[command(flatten, next_help_heading = "Training")]
    training: Training,
    #[command(flatten, next_help_heading = "Run")]
    pub(super) run: train_scvi::Run,
}

/// Settings that are published.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Settings {
    /// scglue's defaults
    Default,
    /// Those that won the CITE-seq tasks of NeurIPS 2021
    Cite,
    /// Those that won the Multiome tasks
    Multiome,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Align {
    /// An adversary that guesses modalities
    Adversary,
    /// Optimal transport between the modalities of a minibatch
    Sinkhorn,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Pairing {
    /// Cosines to their mean
    Cosine,
    /// Squared distances to their mean
    Mse,
    /// Each cell must find itself among the cells of a minibatch
    InfoNce,
}

#[derive(Debug, clap::Args)]
struct Model {
    /// Settings that the other options start from
    #[arg(long, value_enum, default_value_t = Settings::Default)]
    settings: Settings,
    /// Distribution of the values of a modality: nb, zinb, poisson, bernoulli, normal, zin, ziln, mse, rmse, nb-mixture
    /// [default: nb]
    #[arg(long, value_name = "NAME=LIKELIHOOD")]
    likelihood: Vec<String>,
    /// How much a modality weighs in the loss [default: 1]
    #[arg(long, value_name = "NAME=WEIGHT")]
    weight: Vec<String>,
    /// What makes modalities alike [default: adversary]
    #[arg(long, value_enum)]
    alignment: Option<Align>,
    /// What holds the modalities of one cell together [default: cosine]
    #[arg(long, value_enum)]
    pairing: Option<Pairing>,
    /// Dimensions of the subspace of each modality
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    latent_dim: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct Training {
    /// Epochs at most [default: scglue's rule, at most 500]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    epochs: Option<usize>,
    /// Cells of a minibatch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    batch_size: usize,
    #[command(flatten)]
    order: Order,
    /// Train the adversary and the rest in one pass, through a reversed gradient
    #[arg(long)]
    together: bool,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Model {
    fn config(&self) -> ClueConfig {
        let mut config = match self.settings {
            Settings::Default => ClueConfig::default(),
            Settings::Cite => ClueConfig::winning_cite(),
            Settings::Multiome => ClueConfig::winning_multiome(),
        };
        if let Some(d) = self.latent_dim {
            config.latent_dim = d;
        }
        if let Some(alignment) = self.alignment {
            config.alignment = match alignment {
                Align::Adversary => Alignment::Adversary,
                Align::Sinkhorn => Alignment::Sinkhorn,
            };
        }
        if let Some(pairing) = self.pairing {
            config.pairing = match pairing {
                Pairing::Cosine => PairingLoss::Cosine,
                Pairing::Mse => PairingLoss::Mse,
                Pairing::InfoNce => PairingLoss::InfoNce,
            };
        }
        config
    }

    /// The modalities with their likelihoods and weights.
    fn apply<'a>(
        &self,
        modalities: Vec<Modality<'a>>,
        sources: &[Source],
    ) -> Result<Vec<Modality<'a>>> {
        known(&self.likelihood, sources)?;
        known(&self.weight, sources)?;
        let each = modalities.into_iter().zip(sources).map(|(mut m, s)| {
            if let Some(l) = of(&self.likelihood, &s.name)? {
                m = m.likelihood(Likelihood::from_str(l)?);
            }
            if let Some(w) = of(&self.weight, &s.name)? {
                let weight = w.parse().map_err(|_| {
                    Error::Message(format!("--weight {}={w}: not a number", s.name))
                })?;
                m = m.weight(weight);
            }
            Ok(m)
        });
        each.collect()
    }
}

impl Training {
    fn config(&self, n_cells: usize) -> ClueTrainConfig {
        let mut config = ClueTrainConfig::for_cells(n_cells);
        config.train.batch_size = self.batch_size;
        config.train.seed = self.seed;
        config.train.shuffle = self.order.shuffle();
        if let Some(epochs) = self.epochs {
            config.train.max_epochs = Some(epochs);
        }
        if self.together {
            config.turns = Turns::Together;
        }
        config
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let interrupt = Interrupt::listen()?;
    prepare_folder(&args.out, &args.run)?;
    let sources = args.input.read()?;
    let modalities = args
        .model
        .apply(args.input.modalities(&sources)?, &sources)?;
    let cells = MultiCells::new(modalities)?;
    describe(&cells, &sources)?;
    let n = cells.n_cells();
    let config = args.training.config(n);
    let valid = Clue::with_config(&cells, args.model.config()).check()?;
    let model = RefCell::new(valid.init(&Device::Cpu, args.training.seed)?);
    let settings = settings(&model.borrow(), &config)?;
    let this = Run::of(settings, &config.train, n, cells.names());
    let start = Instant::now();
    let fitted = observed(
        (args.out.as_path(), &args.run),
        "validation_loss",
        &this,
        &interrupt,
        |state, mut observer| {
            let mut model = model.borrow_mut();
            Ok(match state {
                Some(state) => model.resume_best(&cells, &config, state, &mut observer)?,
                None => model.fit_best(&cells, &config, &mut observer)?,
            })
        },
    )?;
    let epochs = fitted.history.get("train_loss_epoch").len();
    if fitted.stop == StopReason::Interrupted {
        return Err(Error::Interrupted {
            epoch: epochs + 1,
            epochs: config.train.epochs(n),
            checkpoint: args.out.join(CHECKPOINT),
        });
    }
    save(&args.out, |dir| Ok(model.borrow().save(dir)?))?;
    tell(args, &cells, &fitted, start.elapsed().as_secs_f64())
}

/// What must be the same for training to go on.
fn settings(model: &Clue, config: &ClueTrainConfig) -> Result<Value> {
    let weights: &LossWeights = &model.config().weights;
    tracing::debug!(?weights, "weights of the loss");
    let value = json!({
        "model": model.config(),
        "modalities": model.registry().modalities.iter().map(|m| (&m.name, m.likelihood, m.weight)).collect::<Vec<_>>(),
        "align_burn_in": config.align_burn_in,
        "turns": config.turns,
    });
    Ok(value)
}

/// How many cells have what.
fn describe(cells: &MultiCells<'_>, sources: &[Source]) -> Result<()> {
    let mut parts = Vec::new();
    for (i, s) in sources.iter().enumerate() {
        let n = cells.with_modality(&s.name)?.len();
        parts.push(format!("{n} with {}", s.name));
        for other in &sources[i + 1..] {
            let both = cells.paired(&s.name, &other.name)?.len();
            parts.push(format!("{both} with {} and {}", s.name, other.name));
        }
    }
    note(&format!("{} cells: {}", cells.n_cells(), parts.join(", ")));
    Ok(())
}

fn tell(args: &Args, cells: &MultiCells<'_>, fitted: &Fitted, seconds: f64) -> Result<()> {
    let history = &fitted.history;
    let epochs = history.get("train_loss_epoch").len();
    let (n, trained) = (cells.n_cells(), fitted.split.train.len());
    let mut text = format!("trained {epochs} epochs on {trained} of {n} cells in {seconds:.1} s");
    let losses = history.values("validation_loss");
    if let Some(best) = losses.into_iter().reduce(f64::min) {
        text.push_str(&format!("; best validation loss {best:.4}"));
    }
    let peak = peak_rss_bytes();
    if peak > 0 {
        text.push_str(&format!("; peak memory {}", human_bytes(peak)));
    }
    note(&format!("{text}\nmodel in {}", args.out.display()));
    if !args.run.json {
        return Ok(());
    }
    let metrics: indexmap::IndexMap<&str, Vec<f64>> =
        history.names().map(|m| (m, history.values(m))).collect();
    print_json(&json!({
        "n_cells": n,
        "n_train": trained,
        "epochs": epochs,
        "epoch_seconds": fitted.epoch_seconds,
        "history": metrics,
        "peak_rss_bytes": peak,
        "model": args.out,
    }))
}
