//! `sc train`: what happens, whatever the model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sc_data::{AnnData, RowSource, Rows, Table};
use sc_io::ReadAhead;
use sc_latent::{Cells, NonInteger, Scvi, ScviConfig};
use sc_model::train::{
    Checkpoint, CsvLog, Fitted, Observer, ProgressBar, ResumeState, StopFlag, StopReason,
    TrainConfig,
};
use serde::Serialize;

use crate::common::{
    CHECKPOINT, check_writable, human_bytes, name_rows, note, peak_rss_bytes, print_json, read,
    read_annotations, refuse_minified,
};
use crate::error::{Error, INTERRUPTED, Result};
use crate::progress::{Spinner, Watched};
use crate::resume::Run;
use crate::train_scvi::{self, Columns, Training};

/// What the options of all models say.
pub(crate) struct Task<'a> {
    pub(crate) data: &'a Path,
    pub(crate) out: &'a Path,
    /// The layer with the counts.
    pub(crate) layer: Option<&'a str>,
    pub(crate) columns: &'a Columns,
    pub(crate) training: &'a Training,
    pub(crate) run: &'a train_scvi::Run,
}

/// How a model is made of the options and the data.
pub(crate) trait Plan {
    type Model: Model;

    fn task(&self) -> Task<'_>;

    /// The cells, with the meaning that the model gives to their columns.
    fn cells<'a>(&self, counts: impl RowSource + 'a, annotations: &AnnData) -> Result<Cells<'a>>;

    /// The settings by which the counts are judged.
    fn scvi_config(&self, cells: &Cells<'_>) -> Result<ScviConfig>;

    /// The model before training.
    fn model(&self, cells: &Cells<'_>, obs: &Table) -> Result<Self::Model>;
}

/// A model that is trained.
pub(crate) trait Model {
    /// What must be the same for training to go on.
    fn settings(&self) -> serde_json::Result<serde_json::Value>;

    /// The settings of training with the defaults of this model.
    fn train_config(&self, _: &Cells<'_>, config: TrainConfig) -> TrainConfig {
        config
    }

    /// Trains, or goes on from a state.
    fn train(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        state: Option<&ResumeState>,
        observer: &mut dyn Observer,
    ) -> sc_latent::Result<Fitted>;

    fn save(&self, dir: &Path) -> sc_latent::Result<()>;
}

impl Model for Scvi {
    fn settings(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self.config())
    }

    fn train(
        &mut self,
        cells: &Cells<'_>,
        config: &TrainConfig,
        state: Option<&ResumeState>,
        observer: &mut dyn Observer,
    ) -> sc_latent::Result<Fitted> {
        match state {
            Some(state) => self.resume(cells, config, state, observer),
            None => self.fit(cells, config, observer),
        }
    }

    fn save(&self, dir: &Path) -> sc_latent::Result<()> {
        self.save(dir)
    }
}

pub(crate) fn run<P: Plan>(plan: &P) -> Result<()> {
    let task = &plan.task();
    let interrupt = Interrupt::listen()?;
    prepare_folder(task.out, task.run)?;
    let mut data = load(task)?;
    let kept = check_counts(plan, task, &data)?;
    let cells = match kept {
        Some(kept) => {
            data.annotations.obs = data.annotations.obs.select_rows(&kept)?;
            plan.cells(Rows::new(&*data.counts, kept)?, &data.annotations)?
        }
        None => plan.cells(&*data.counts, &data.annotations)?,
    };
    let mut model = plan.model(&cells, &data.annotations.obs)?;
    let config = model.train_config(&cells, task.training.config());
    let settings = model
        .settings()
        .map_err(|e| Error::Message(format!("the settings cannot be written: {e}")))?;
    let this = Run::new(settings, &config, &cells, data.annotations.obs.index());

    let start = Instant::now();
    let fitted = train(task, &mut model, &cells, &config, &this, &interrupt)?;
    if fitted.stop == StopReason::Interrupted {
        return Err(Error::Interrupted {
            epoch: fitted.history.get("elbo_train").len() + 1,
            epochs: config.epochs(cells.n_cells()),
            checkpoint: task.out.join(CHECKPOINT),
        });
    }
    save(task.out, |dir| Ok(model.save(dir)?))?;
    tell(task, &cells, &fitted, start.elapsed().as_secs_f64())
}

/// Cells and genes, and their counts in memory or on disk.
struct Data {
    annotations: AnnData,
    counts: Box<dyn RowSource>,
}

/// Makes the folder, and refuses to lose the state of another run.
pub(crate) fn prepare_folder(dir: &Path, run: &train_scvi::Run) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::file(dir, "make this folder"))?;
    check_writable(dir)?;
    let interrupted = dir.join(CHECKPOINT).is_file();
    if run.resume && !interrupted {
        let why = if sc_model::save::is_saved_model(dir) {
            "training is finished there"
        } else {
            "nothing was trained there, or it was stopped before its first checkpoint; leave --resume out"
        };
        return Err(Error::Message(format!(
            "{}: there is no {CHECKPOINT} to resume from: {why}",
            dir.display()
        )));
    }
    if interrupted && !run.resume {
        if !run.overwrite {
            return Err(Error::Message(format!(
                "{} holds {CHECKPOINT} of an interrupted training: go on with it with --resume, or lose it with \
                 --overwrite",
                dir.display()
            )));
        }
        Run::clean(dir)?;
    }
    Ok(())
}

/// Reads the data, and keeps only what training needs.
fn load(task: &Task<'_>) -> Result<Data> {
    let layer = task.layer;
    if task.columns.backed {
        let annotations = read_annotations(task.data)?;
        refuse_minified(&annotations, "training")?;
        return Ok(Data {
            annotations,
            counts: Box::new(ReadAhead::new(sc_io::h5ad::read_backed(task.data, layer)?)),
        });
    }
    let mut data = read(task.data)?;
    refuse_minified(&data, "training")?;
    // Says which layers there are, should this one be missing.
    data.matrix(layer)?;
    let counts = match layer {
        Some(layer) => data.layers.swap_remove(layer),
        None => data.x.take(),
    };
    let mut annotations = AnnData::default();
    annotations.obs = data.obs;
    annotations.var = data.var;
    match counts {
        Some(counts) => Ok(Data {
            annotations,
            counts: Box::new(counts),
        }),
        None => Err(Error::Message(format!(
            "{}: has no counts",
            task.data.display()
        ))),
    }
}

/// Refuses what can't be trained on; the rows to keep if there are empty cells to be dropped.
fn check_counts(plan: &impl Plan, task: &Task<'_>, data: &Data) -> Result<Option<Vec<usize>>> {
    let counts = Watched::new(Box::new(&*data.counts));
    let watch = counts.handle();
    let all = plan
        .cells(counts, &data.annotations)
        .map_err(Error::explained)?;
    watch.start("checking the counts", all.n_cells());
    let config = plan.scvi_config(&all)?;
    let non_integer = match task.columns.allow_non_integer {
        true => NonInteger::Warn,
        false => NonInteger::Refuse,
    };
    let empty = all.check_counts(&config, non_integer)?;
    if empty.is_empty() {
        return Ok(None);
    }
    let which = name_rows(&empty, data.annotations.obs.index());
    if task.columns.drop_empty_cells {
        note(&format!(
            "left out {} cells without any counts: rows {which}",
            empty.len()
        ));
        let mut keep = vec![true; all.n_cells()];
        empty.iter().for_each(|&i| keep[i] = false);
        return Ok(Some((0..keep.len()).filter(|&i| keep[i]).collect()));
    }
    if config.use_observed_lib_size && all.registry().setup.size_factor_key.is_none() {
        return Err(sc_latent::Error::EmptyCells {
            count: empty.len(),
            rows: which,
        }
        .into());
    }
    tracing::warn!("{} cells have no counts at all: rows {which}", empty.len());
    Ok(None)
}

fn train(
    task: &Task<'_>,
    model: &mut impl Model,
    cells: &Cells<'_>,
    config: &TrainConfig,
    this: &Run,
    interrupt: &Interrupt,
) -> Result<Fitted> {
    let shown = if config.validates_after(0) {
        "elbo_validation"
    } else {
        "elbo_train"
    };
    observed(
        (task.out, task.run),
        shown,
        this,
        interrupt,
        |state, mut observer| Ok(model.train(cells, config, state, &mut observer)?),
    )
}

/// Trains in a folder, from the start or from its checkpoint: writes checkpoints and history, shows progress (the metric
/// `shown`) and listens for Ctrl-C.
pub(crate) fn observed(
    (dir, run): (&Path, &train_scvi::Run),
    shown: &str,
    this: &Run,
    interrupt: &Interrupt,
    train: impl FnOnce(Option<&ResumeState>, Box<dyn Observer>) -> Result<Fitted>,
) -> Result<Fitted> {
    let path = dir.join(CHECKPOINT);
    let observer = (
        (
            interrupt.flag.clone(),
            Checkpoint::new(&path, run.checkpoint_every()),
        ),
        (
            CsvLog::new(dir.join("history.csv")),
            ProgressBar::new(shown),
        ),
    );
    let state = if run.resume {
        this.check_same(dir)?;
        let state = ResumeState::load(&path)?;
        note(&format!("going on in epoch {}", state.epoch() + 1));
        Some(state)
    } else {
        this.save(dir)?;
        None
    };
    interrupt.training.store(true, Ordering::Relaxed);
    let fitted = train(state.as_ref(), Box::new(observer));
    interrupt.training.store(false, Ordering::Relaxed);
    fitted
}

/// The model replaces the checkpoint, which stays until the model is on the disk.
pub(crate) fn save(dir: &Path, write: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let _spinner = Spinner::new(format!("writing {}", dir.display()));
    match write(dir) {
        Ok(()) => Run::clean(dir),
        Err(e) => Err(e.with_hint(rescue(write, dir))),
    }
}

/// The disk is full, say: hours of training must not be lost for it. What the user can do.
fn rescue(write: impl Fn(&Path) -> Result<()>, dir: &Path) -> String {
    let elsewhere = tempfile::Builder::new().prefix("sc-model-").tempdir();
    if let Ok(folder) = elsewhere
        && write(folder.path()).is_ok()
    {
        return format!(
            "the model was saved to {} instead; move it",
            folder.keep().display()
        );
    }
    if dir.join(CHECKPOINT).is_file() {
        return "the last checkpoint is still there: make room and run the same command with --resume".into();
    }
    "make room and train again; there is no checkpoint yet (see --checkpoint-minutes)".into()
}

#[derive(Serialize)]
struct Summary<'a> {
    epoch_seconds: &'a [f64],
    elbo_train: Vec<f64>,
    elbo_validation: Vec<f64>,
    /// Of models with a classifier.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    train_accuracy: Vec<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    validation_accuracy: Vec<f64>,
    peak_rss_bytes: u64,
    n_train: usize,
    n_cells: usize,
    n_genes: usize,
    epochs: usize,
    model: &'a Path,
}

fn tell(task: &Task<'_>, cells: &Cells<'_>, fitted: &Fitted, seconds: f64) -> Result<()> {
    let history = &fitted.history;
    let elbo_train = history.values("elbo_train");
    let summary = Summary {
        epochs: elbo_train.len(),
        elbo_validation: history.values("elbo_validation"),
        train_accuracy: history.values("train_accuracy"),
        validation_accuracy: history.values("validation_accuracy"),
        elbo_train,
        epoch_seconds: &fitted.epoch_seconds,
        peak_rss_bytes: peak_rss_bytes(),
        n_train: fitted.split.train.len(),
        n_cells: cells.n_cells(),
        n_genes: cells.registry().n_genes(),
        model: task.out,
    };
    let last = |values: &[f64]| {
        values
            .last()
            .map_or("none".to_owned(), |v| format!("{v:.2}"))
    };
    let mut text = format!(
        "trained {} epochs on {} of {} cells x {} genes in {seconds:.1} s; -ELBO {}",
        summary.epochs,
        summary.n_train,
        summary.n_cells,
        summary.n_genes,
        last(&summary.elbo_train)
    );
    if !summary.elbo_validation.is_empty() {
        text.push_str(&format!(", validation {}", last(&summary.elbo_validation)));
    }
    if let Some(right) = summary.train_accuracy.last() {
        text.push_str(&format!("; {:.1} % of the labels right", 100.0 * right));
        if let Some(right) = summary.validation_accuracy.last() {
            text.push_str(&format!(", validation {:.1} %", 100.0 * right));
        }
    }
    if fitted.stop == StopReason::EarlyStopping {
        text.push_str("; stopped early");
    }
    if summary.peak_rss_bytes > 0 {
        text.push_str(&format!(
            "; peak memory {}",
            human_bytes(summary.peak_rss_bytes)
        ));
    }
    note(&format!("{text}\nmodel in {}", task.out.display()));
    if task.run.json {
        print_json(&summary)
    } else {
        Ok(())
    }
}

/// Ctrl-C and SIGTERM.
pub(crate) struct Interrupt {
    flag: StopFlag,
    /// Whether there is a state worth saving.
    training: Arc<AtomicBool>,
}

impl Interrupt {
    /// While it trains, the first signal ends it after the current minibatch; otherwise, and the second time, at once.
    pub(crate) fn listen() -> Result<Self> {
        let this = Self {
            flag: StopFlag::default(),
            training: Arc::default(),
        };
        let (flag, training) = (this.flag.0.clone(), this.training.clone());
        ctrlc::set_handler(move || {
            if !training.load(Ordering::Relaxed) || flag.swap(true, Ordering::Relaxed) {
                note("interrupted");
                std::process::exit(i32::from(INTERRUPTED));
            }
            note("stopping: writing a checkpoint (once more to stop without)");
        })
        .map_err(|e| Error::Message(format!("cannot listen for Ctrl-C: {e}")))?;
        Ok(this)
    }
}
