use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};

use super::{Control, EpochEvent, History, Observer, RunInfo, Snapshot, StepEvent, StopReason};
use crate::Result;

/// A progress bar on standard error, with the loss and the time that is left. Silent when that is not a terminal.
pub struct ProgressBar {
    bar: Bar,
    metric: String,
    shown: Instant,
}

impl ProgressBar {
    /// Shows `metric` (e.g. `elbo_train`) after each epoch.
    pub fn new(metric: impl Into<String>) -> Self {
        Self {
            bar: Bar::hidden(),
            metric: metric.into(),
            shown: Instant::now(),
        }
    }
}

impl Observer for ProgressBar {
    fn on_start(&mut self, info: &RunInfo) -> Result<()> {
        let template = "epoch {pos}/{len} {wide_bar} {elapsed} elapsed, {eta} left, {msg}";
        self.bar = Bar::with_draw_target(Some(info.epochs as u64), ProgressDrawTarget::stderr());
        self.bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        self.bar.set_position(info.first_epoch as u64);
        self.bar.reset_eta();
        Ok(())
    }

    fn on_step(&mut self, event: &StepEvent<'_>) -> Result<Control> {
        // Long epochs: show where within the epoch it is.
        if self.shown.elapsed() > Duration::from_secs(2) {
            self.bar.set_message(format!(
                "minibatch {}/{}, loss {:.1}",
                event.step + 1,
                event.steps_per_epoch,
                event.loss
            ));
            self.shown = Instant::now();
        }
        Ok(Control::Continue)
    }

    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        self.bar.set_position(event.epoch as u64 + 1);
        if let Some(value) = event.history.last(&self.metric) {
            self.bar.set_message(format!("{} {value:.2}", self.metric));
        }
        self.shown = Instant::now();
        Ok(Control::Continue)
    }

    fn on_end(&mut self, reason: StopReason, _: &History, _: &dyn Snapshot) -> Result<()> {
        if reason == StopReason::Finished {
            self.bar.finish();
        } else {
            // Stay where training ended.
            self.bar.abandon();
        }
        Ok(())
    }
}

/// Writes all metrics to a CSV file after each epoch.
pub struct CsvLog {
    path: PathBuf,
    written: Option<Instant>,
}

impl CsvLog {
    /// To `path`, replaced as a whole (at most every two seconds, and at the end).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            written: None,
        }
    }
}

impl Observer for CsvLog {
    fn on_epoch(&mut self, event: &EpochEvent<'_>) -> Result<Control> {
        if self
            .written
            .is_none_or(|w| w.elapsed() > Duration::from_secs(2))
        {
            event.history.write_csv(&self.path)?;
            self.written = Some(Instant::now());
        }
        Ok(Control::Continue)
    }

    fn on_end(&mut self, _: StopReason, history: &History, _: &dyn Snapshot) -> Result<()> {
        history.write_csv(&self.path)
    }
}

/// Stops training after the current minibatch once the flag is set, e.g. by a handler of Ctrl-C.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(pub Arc<AtomicBool>);

impl Observer for StopFlag {
    fn on_step(&mut self, _: &StepEvent<'_>) -> Result<Control> {
        Ok(if self.0.load(Ordering::Relaxed) {
            Control::Stop
        } else {
            Control::Continue
        })
    }
}
