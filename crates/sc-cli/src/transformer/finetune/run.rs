//! What happens in all tasks: the folder, checkpoints, what is said at the end.

use std::path::Path;
use std::time::Instant;

use sc_model::train::{Fitted, Observer, ResumeState, StopReason, TrainConfig};
use serde::Serialize;
use serde_json::Value;

use super::Common;
use crate::common::{CHECKPOINT, human_bytes, note, peak_rss_bytes, print_json};
use crate::error::{Error, Result};
use crate::resume::Run;
use crate::train_run::{Interrupt, observed, save};
use crate::transformer::cells::GeneSummary;
use crate::transformer::model::Notes;

/// What a task needs to be run.
pub(super) struct Job<'a> {
    pub(super) common: &'a Common,
    pub(super) interrupt: &'a Interrupt,
    /// What must be the same for training to go on.
    pub(super) settings: Value,
    pub(super) config: &'a TrainConfig,
    /// The names of the cells that are trained on.
    pub(super) cells: &'a [String],
    pub(super) notes: &'a Notes,
    pub(super) genes: GeneSummary,
    /// The metric that the progress bar shows.
    pub(super) shown: &'a str,
}

#[derive(Serialize)]
struct Summary<'a> {
    n_cells: usize,
    n_train: usize,
    epochs: usize,
    epoch_seconds: &'a [f64],
    /// Every metric by name, epoch by epoch.
    history: indexmap::IndexMap<&'a str, Vec<f64>>,
    peak_rss_bytes: u64,
    genes: &'a GeneSummary,
    model: &'a Path,
    /// What the task found out afterwards.
    #[serde(flatten)]
    more: Found,
}

/// What a task adds to the report at the end.
#[derive(Default)]
pub(super) struct More {
    /// For people.
    pub(super) text: String,
    /// For programs, by name.
    pub(super) json: Found,
}

pub(super) type Found = serde_json::Map<String, Value>;

impl Job<'_> {
    /// Trains, saves and tells.
    pub(super) fn run(
        &self,
        train: impl FnOnce(Option<&ResumeState>, Box<dyn Observer>) -> Result<Fitted>,
        write: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        self.run_then(train, write, || Ok(More::default()))
    }

    /// Trains, saves, finds more out, and tells.
    pub(super) fn run_then(
        &self,
        train: impl FnOnce(Option<&ResumeState>, Box<dyn Observer>) -> Result<Fitted>,
        write: impl Fn(&Path) -> Result<()>,
        then: impl FnOnce() -> Result<More>,
    ) -> Result<()> {
        let (dir, run) = (self.common.out.as_path(), &self.common.run);
        let n = self.cells.len();
        let this = Run::of(self.settings.clone(), self.config, n, self.cells);
        note(&self.genes.words());
        let start = Instant::now();
        let fitted = observed((dir, run), self.shown, &this, self.interrupt, train)?;
        let epochs = fitted.history.get("train_loss_epoch").len();
        if fitted.stop == StopReason::Interrupted {
            return Err(Error::Interrupted {
                epoch: epochs + 1,
                epochs: self.config.epochs(n),
                checkpoint: dir.join(CHECKPOINT),
            });
        }
        save(dir, |dir| {
            write(dir)?;
            self.notes.save(dir)
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let more = then()?;
        self.tell(&fitted, epochs, seconds, more)
    }

    fn tell(&self, fitted: &Fitted, epochs: usize, seconds: f64, more: More) -> Result<()> {
        let history = &fitted.history;
        let summary = Summary {
            n_cells: self.cells.len(),
            n_train: fitted.split.train.len(),
            epochs,
            epoch_seconds: &fitted.epoch_seconds,
            history: history.names().map(|n| (n, history.values(n))).collect(),
            peak_rss_bytes: peak_rss_bytes(),
            genes: &self.genes,
            model: &self.common.out,
            more: more.json,
        };
        let mut text = more.text;
        text.push_str(&format!(
            "trained {epochs} epochs on {} of {} cells in {seconds:.1} s",
            summary.n_train, summary.n_cells
        ));
        for (name, words) in [
            ("validation_loss", "validation loss"),
            ("validation_accuracy", "accuracy"),
            ("accuracy_validation", "accuracy"),
        ] {
            let best = history.values(name).into_iter();
            let best = match words {
                "accuracy" => best.reduce(f64::max),
                _ => best.reduce(f64::min),
            };
            if let Some(best) = best {
                text.push_str(&format!("; best {words} {best:.3}"));
            }
        }
        if fitted.stop == StopReason::EarlyStopping {
            text.push_str("; stopped early");
        }
        if summary.peak_rss_bytes > 0 {
            let peak = human_bytes(summary.peak_rss_bytes);
            text.push_str(&format!("; peak memory {peak}"));
        }
        note(&format!("{text}\nmodel in {}", self.common.out.display()));
        match self.common.run.json {
            true => print_json(&summary),
            false => Ok(()),
        }
    }
}

/// Some of the names of cells.
pub(super) fn select(names: &[String], rows: &[usize]) -> Vec<String> {
    rows.iter().filter_map(|&r| names.get(r).cloned()).collect()
}
