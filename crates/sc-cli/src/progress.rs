//! Progress on standard error, for what takes longer than two seconds. Nothing shows when that is not a terminal.

use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sc_data::{Csr, RowSource};

const PATIENCE: Duration = Duration::from_secs(2);

/// Shows that something of unknown length goes on, until it is dropped.
pub(crate) struct Spinner {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spinner {
    pub(crate) fn new(message: String) -> Self {
        let (done, waiting) = channel::<()>();
        let thread = std::thread::spawn(move || {
            // The other end is dropped when the work is done.
            if waiting.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::new_spinner()
                .with_message(message)
                .with_elapsed(PATIENCE);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            while waiting.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout)
            {
                bar.tick();
            }
            bar.finish_and_clear();
        });
        Self {
            done: Some(done),
            thread: Some(thread),
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Shows how many of so many things are done.
pub(crate) struct Counter {
    bar: ProgressBar,
    message: &'static str,
    since: Instant,
}

impl Counter {
    pub(crate) fn new(message: &'static str) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            message,
            since: Instant::now(),
        }
    }

    pub(crate) fn set(&mut self, done: usize, all: usize) {
        if done >= all {
            self.bar.finish_and_clear();
            return;
        }
        if self.bar.is_hidden() && self.since.elapsed() > PATIENCE {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(all as u64), target)
                .with_message(self.message)
                .with_elapsed(self.since.elapsed());
            let template = "{msg} {wide_bar} {pos}/{len}, {elapsed} elapsed, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            self.bar = bar;
        }
        self.bar.set_position(done as u64);
    }
}

/// Rows of another source, which moves a bar as they are read.
pub(crate) struct Watched<'a> {
    source: Box<dyn RowSource + 'a>,
    watch: Watch,
}

/// Tells a [`Watched`] source what its rows are read for.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Mutex<State>>);

struct State {
    bar: ProgressBar,
    message: String,
    rows: usize,
    seen: usize,
    since: Instant,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(source: Box<dyn RowSource + 'a>) -> Self {
        Self {
            source,
            watch: Watch::idle(),
        }
    }

    pub(crate) fn handle(&self) -> Watch {
        self.watch.clone()
    }
}

impl Watch {
    /// One that has not begun.
    pub(crate) fn idle() -> Self {
        Self(Arc::new(Mutex::new(State {
            bar: ProgressBar::hidden(),
            message: String::new(),
            rows: 0,
            seen: 0,
            since: Instant::now(),
        })))
    }

    /// Begins to count towards `rows`.
    pub(crate) fn start(&self, message: &str, rows: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.bar.finish_and_clear();
        *state = State {
            bar: ProgressBar::hidden(),
            message: message.to_owned(),
            rows,
            seen: 0,
            since: Instant::now(),
        };
    }

    fn saw(&self, rows: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen += rows;
        if state.seen >= state.rows {
            state.bar.finish_and_clear();
            return;
        }
        if state.bar.is_hidden() && state.since.elapsed() > PATIENCE {
            let bar = ProgressBar::with_draw_target(
                Some(state.rows as u64),
                ProgressDrawTarget::stderr(),
            )
            .with_message(state.message.clone())
            .with_elapsed(state.since.elapsed());
            let template = "{msg} {wide_bar} {pos}/{len} cells, {elapsed} elapsed, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            state.bar = bar;
        }
        state.bar.set_position(state.seen as u64);
    }
}

impl RowSource for Watched<'_> {
    fn n_rows(&self) -> usize {
        self.source.n_rows()
    }
    fn n_cols(&self) -> usize {
        self.source.n_cols()
    }
    fn read_rows(&self, rows: &[usize]) -> sc_data::Result<Csr> {
        self.watch.saw(rows.len());
        self.source.read_rows(rows)
    }
    fn read_range(&self, rows: Range<usize>) -> sc_data::Result<Csr> {
        self.watch.saw(rows.len());
        self.source.read_range(rows)
    }
    fn read_ahead(&self, rows: &[usize]) {
        self.source.read_ahead(rows);
    }
}

/// Shows how far transfers of files are.
pub(crate) struct Transfers {
    bar: Option<ProgressBar>,
    file: String,
    since: Instant,
}

impl Transfers {
    pub(crate) fn new() -> Self {
        Self {
            bar: None,
            file: String::new(),
            since: Instant::now(),
        }
    }

    /// `done` bytes of `total` of a file are there.
    pub(crate) fn saw(&mut self, file: &str, done: u64, total: u64) {
        if file != self.file {
            self.finish();
            file.clone_into(&mut self.file);
            self.since = Instant::now();
        }
        if self.bar.is_none() && done < total && self.since.elapsed() > PATIENCE {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
                .with_message(file.to_owned())
                .with_elapsed(self.since.elapsed());
            let template = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn watching_changes_nothing() {
        let m = ndarray::array![[1.0f32, 0.0], [0.0, 2.0]];
        let watched = Watched::new(Box::new(&m));
        watched.handle().start("reading", 2);
        assert_eq!(watched.read_rows(&[1]).unwrap().row_sums(), vec![2.0]);
        assert_eq!(watched.read_range(0..2).unwrap().row_sums(), vec![1.0, 2.0]);
        assert_eq!((watched.n_rows(), watched.n_cols()), (2, 2));
    }

    #[test]
    fn a_spinner_that_is_not_needed_ends_at_once() {
        let start = Instant::now();
        drop(Spinner::new("nothing".into()));
        assert!(start.elapsed() < PATIENCE);
    }
}
