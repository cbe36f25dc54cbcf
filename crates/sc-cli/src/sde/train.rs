//! `sc sde train`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sc_model::files::write_atomic;
use sc_model::train::{Fitted, Observer, ProgressBar, ResumeState, StopReason, TrainConfig};
use sc_sde::flow::FlowTraining;
use sc_sde::train::SdeTraining;
use serde::Serialize;
use serde_json::{Value, json};

use super::snapshots::{Cells, Columns};
use super::train_model::{Kind, Model, Training};
use crate::common::{CHECKPOINT, human_bytes, note, peak_rss_bytes, print_json};
use crate::error::{Error, Result};
use crate::resume::Run;
use crate::train_run::{Interrupt, observed, prepare_folder, save};
use crate::train_scvi;

const EXAMPLES: &str = "\
Examples:
  sc sde train cells.h5ad --out model --use-key X_pca --time-key day
  sc sde train cells.h5ad --out model --time-key day --epochs 500 --pretrain-epochs 100
  sc sde train cells.h5ad --out model --time-key day --growth-key rate --keep average
  sc sde train cells.h5ad --out ablation --time-key day --diffusion isotropic:0.5
  sc sde train cells.h5ad --out prescient --time-key day --model prescient
  sc sde train cells.h5ad --out flow --time-key day --model flow
  sc sde train cells.h5ad --out snapshot --time-key ct_pseudotime --pseudotime-bins 11
  sc sde train cells.h5ad --out model --time-key day --resume    # after an interruption

DIR then holds the model (model.safetensors, config.json), how it was trained (training.json) and
the metrics of each epoch (history.csv). Ctrl-C writes a checkpoint and ends with exit code 130;
the same command with --resume goes on, and ends with bit for bit the weights of an undisturbed
run. The epochs of --pretrain-epochs write no checkpoint: a run that is stopped in them is started
again without --resume, and they are repeated, bit for bit.";

/// Train a model of how cells move, on cells of several times
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Cells with an embedding in obsm and their times in obs, an .h5ad file
    data: PathBuf,
    /// Folder for the model; made if it isn't there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten, next_help_heading = "Data")]
    columns: Columns,
    #[command(flatten, next_help_heading = "Model")]
    model: Model,
    #[command(flatten, next_help_heading = "Training")]
    training: Training,
    #[command(flatten, next_help_heading = "Run")]
    pub(super) run: train_scvi::Run,
}

pub(super) fn run(args: &Args) -> Result<()> {
    args.model.check(&args.training)?;
    let interrupt = Interrupt::listen()?;
    prepare_folder(&args.out, &args.run)?;
    let cells = args.columns.read(&args.data)?;
    let job = Job {
        args,
        interrupt: &interrupt,
        cells: &cells,
    };
    match args.model.model {
        Kind::Flow | Kind::Bridge => job.flow(),
        _ => job.scdiffeq(),
    }
}

struct Job<'a> {
    args: &'a Args,
    interrupt: &'a Interrupt,
    cells: &'a Cells,
}

/// How a model was trained, for those who use it.
#[derive(Serialize)]
struct Record<'a, T> {
    model: &'static str,
    use_key: &'a str,
    time_key: &'a str,
    times: &'a [f64],
    growth_key: Option<&'a str>,
    training: &'a T,
}

impl Job<'_> {
    fn scdiffeq(&self) -> Result<()> {
        let (args, data) = (self.args, &self.cells.snapshots);
        let mut model = args.model.scdiffeq(data, args.training.seed)?;
        let training: SdeTraining = args.training.sde(args.model.model, &model);
        training.check(model.config())?;
        if args.training.pretrain_epochs > 0 && !args.run.resume {
            self.pretrain(&mut model)?;
        }
        let settings = json!({
            "model": model.config(),
            "training": without_run(&training)?,
            "pretrain_epochs": args.training.pretrain_epochs,
        });
        let saved = std::cell::RefCell::new(model);
        self.train(
            (settings, &training.run, &training),
            |state, observer| {
                let mut model = saved.borrow_mut();
                Ok(match state {
                    Some(state) => model.resume(data, &training, state, observer)?,
                    None => model.fit(data, &training, observer)?,
                })
            },
            |dir| Ok(saved.borrow().save(dir)?),
        )
    }

    /// Brings the weights near before the cells are simulated. Takes minutes, and the same ones again after an interruption:
    /// checkpoints begin with the training proper.
    fn pretrain(&self, model: &mut sc_sde::model::ScDiffEq) -> Result<()> {
        let (training, data) = (&self.args.training, &self.cells.snapshots);
        let epochs = training.pretrain_epochs;
        let start = Instant::now();
        let what = match model.autoencoder() {
            Some(_) => {
                let mut run = SdeTraining::pretraining();
                (run.max_epochs, run.seed) = (Some(epochs), training.seed);
                model.pretrain_autoencoder(
                    data,
                    &run,
                    &mut ProgressBar::new("train_loss_epoch"),
                )?;
                "autoencoder"
            }
            None => {
                let mut run = FlowTraining::default();
                (run.run.max_epochs, run.run.seed) = (Some(epochs), training.seed);
                model.pretrain_drift(data, &run, &mut ProgressBar::new("validation_loss"))?;
                "drift"
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        note(&format!(
            "pretrained the {what} for {epochs} epochs in {seconds:.1} s"
        ));
        Ok(())
    }

    fn flow(&self) -> Result<()> {
        let (args, data) = (self.args, &self.cells.snapshots);
        let model = args.model.flow(data, args.training.seed)?;
        let training: FlowTraining = args.training.flow(args.model.model);
        let settings = json!({"model": model.config(), "training": without_run(&training)?});
        let saved = std::cell::RefCell::new(model);
        self.train(
            (settings, &training.run, &training),
            |state, observer| {
                let mut model = saved.borrow_mut();
                Ok(match state {
                    Some(state) => model.resume(data, &training, state, observer)?,
                    None => model.fit(data, &training, observer)?,
                })
            },
            |dir| Ok(saved.borrow().save(dir)?),
        )
    }

    /// Trains, saves and tells.
    fn train(
        &self,
        (settings, run, training): (Value, &TrainConfig, &impl Serialize),
        fit: impl FnOnce(Option<&ResumeState>, &mut dyn Observer) -> Result<Fitted>,
        write: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        let (args, cells) = (self.args, self.cells);
        let n = cells.names.len();
        let this = Run::of(settings, run, n, &cells.names);
        let shown = match args.training.validates() {
            true => "validation_loss",
            false => "train_loss_epoch",
        };
        note(&format!(
            "{n} cells in {} dimensions at {} times of {}: {}",
            cells.snapshots.dim(),
            cells.snapshots.times().len(),
            cells.time_key,
            counts(cells)
        ));
        let start = Instant::now();
        let fitted = observed(
            (args.out.as_path(), &args.run),
            shown,
            &this,
            self.interrupt,
            |state, mut observer| fit(state, &mut observer),
        )?;
        let epochs = fitted.history.get("train_loss_epoch").len();
        if fitted.stop == StopReason::Interrupted {
            return Err(Error::Interrupted {
                epoch: epochs + 1,
                epochs: run.epochs(n),
                checkpoint: args.out.join(CHECKPOINT),
            });
        }
        let record = Record {
            model: args.model.name(),
            use_key: &args.columns.use_key,
            time_key: &cells.time_key,
            times: cells.snapshots.times(),
            growth_key: args.columns.growth_key.as_deref(),
            training,
        };
        save(&args.out, |dir| {
            write(dir)?;
            write_record(dir, &record)
        })?;
        self.tell(&fitted, epochs, start.elapsed().as_secs_f64())
    }

    fn tell(&self, fitted: &Fitted, epochs: usize, seconds: f64) -> Result<()> {
        let history = &fitted.history;
        let n = self.cells.names.len();
        let mut text = format!(
            "trained {epochs} epochs on {} of {n} cells in {seconds:.1} s",
            fitted.split.train.len()
        );
        let losses = history.values("validation_loss");
        if let Some(best) = losses.into_iter().reduce(f64::min) {
            text.push_str(&format!("; best validation loss {best:.4}"));
        }
        let peak = peak_rss_bytes();
        if peak > 0 {
            text.push_str(&format!("; peak memory {}", human_bytes(peak)));
        }
        let out = &self.args.out;
        note(&format!("{text}\nmodel in {}", out.display()));
        if !self.args.run.json {
            return Ok(());
        }
        let metrics: indexmap::IndexMap<&str, Vec<f64>> =
            history.names().map(|m| (m, history.values(m))).collect();
        print_json(&json!({
            "n_cells": n,
            "n_train": fitted.split.train.len(),
            "epochs": epochs,
            "epoch_seconds": fitted.epoch_seconds,
            "history": metrics,
            "peak_rss_bytes": peak,
            "model": out,
        }))
    }
}

/// How many cells each time has.
fn counts(cells: &Cells) -> String {
    let data = &cells.snapshots;
    let of = |(k, t): (usize, &f64)| format!("{} at {t}", data.cells_at(k).len());
    let all: Vec<String> = data.times().iter().enumerate().map(of).collect();
    all.join(", ")
}

/// What must be the same for training to go on, but for what the loop is given.
fn without_run(training: &impl Serialize) -> Result<Value> {
    let mut value = to_json(training)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("run");
    }
    Ok(value)
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::Message(format!("the settings cannot be written: {e}")))
}

fn write_record(dir: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(record)
        .map_err(|e| Error::Message(format!("the settings cannot be written: {e}")))?;
    Ok(write_atomic(&dir.join("training.json"), |f| {
        f.write_all(text.as_bytes())
    })?)
}
