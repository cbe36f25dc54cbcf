//! A trained model, and cells that it moves.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ndarray::{Array2, ArrayView2, Axis};
use sc_data::{AnnData, Categorical, Column};
use sc_model::{Mode, save};
use sc_sde::downstream::{Simulation, to_array, to_tensor};
use sc_sde::flow::Flow;
use sc_sde::model::ScDiffEq;
use sc_sde::solve::Sde;
use sc_tensor::Rng;
use serde_json::Value;

use super::snapshots::check_places;
use crate::common::{note, read};
use crate::error::{Error, Result};
use crate::options::at_least_one;
use crate::places;

/// A model and cells.
#[derive(Debug, clap::Args)]
pub(super) struct Input {
    /// Folder of `sc sde train`, or a checkpoint of scDiffEq (.ckpt)
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Cells, an .h5ad file
    pub(super) data: PathBuf,
    /// obsm with the states of the cells [default: that of the training, or X_pca]
    #[arg(long, value_name = "KEY")]
    use_key: Option<String>,
    /// Column of obs with the time of each cell [default: that of the training]
    #[arg(long, value_name = "COLUMN")]
    time_key: Option<String>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) threads: Option<usize>,
}

/// Which paths are simulated.
#[derive(Debug, clap::Args)]
pub(super) struct Paths {
    /// Time of the cells that paths start from [default: the earliest]
    #[arg(long, value_name = "TIME")]
    from: Option<f64>,
    /// Time at which they end [default: the latest]
    #[arg(long, value_name = "TIME")]
    to: Option<f64>,
    /// Length of a step, in units of the times
    #[arg(long, value_name = "TIME", default_value_t = 0.1)]
    pub(super) dt: f64,
    /// Paths of each cell
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    copies: Option<usize>,
    /// So many start cells, drawn at random [default: all of that time]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    cells: Option<usize>,
    /// Seed of all that is random
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

/// What moves cells.
pub(super) enum Model {
    ScDiffEq(Box<ScDiffEq>),
    Flow(Box<Flow>),
}

/// What [`Input`] names, read.
pub(super) struct Opened {
    pub(super) model: Model,
    pub(super) folder: PathBuf,
    pub(super) data: AnnData,
    pub(super) path: PathBuf,
    pub(super) use_key: String,
    /// Where the cells are in the space in which they move.
    pub(super) places: Array2<f32>,
    time_key: Option<String>,
}

/// Cells that paths start from, and the times between.
pub(super) struct Start {
    /// Rows of the data.
    pub(super) rows: Vec<usize>,
    pub(super) states: Tensor,
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Model {
    fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            let model = ScDiffEq::from_checkpoint(path, &Device::Cpu)?;
            return Ok(Self::ScDiffEq(Box::new(model)));
        }
        if !save::is_saved_model(path) {
            return Err(Error::Message(format!(
                "{}: is neither a folder with model.safetensors, as `sc sde train` writes it, nor a checkpoint of scDiffEq",
                path.display()
            )));
        }
        Ok(match save::model_kind(path)?.as_str() {
            "flow" => Self::Flow(Box::new(Flow::load(path, &Device::Cpu)?)),
            _ => Self::ScDiffEq(Box::new(ScDiffEq::load(path, &Device::Cpu)?)),
        })
    }

    pub(super) fn equation(&self) -> Result<Box<dyn Sde + Sync>> {
        let mode = Mode::eval();
        Ok(match self {
            Self::ScDiffEq(m) => Box::new(m.equation(&mode)?),
            Self::Flow(m) => Box::new(m.equation(&mode)?),
        })
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::ScDiffEq(m) => m.parameters().dtype(),
            Self::Flow(m) => m.parameters().dtype(),
        }
    }

    fn dim(&self) -> usize {
        match self {
            Self::ScDiffEq(m) => m.config().n_latent,
            Self::Flow(m) => m.config().n_latent,
        }
    }

    pub(super) fn has_autoencoder(&self) -> bool {
        matches!(self, Self::ScDiffEq(m) if m.autoencoder().is_some())
    }

    /// The space in which cells move, of the states in the data.
    fn encode(&self, states: Array2<f32>) -> Result<Array2<f32>> {
        match self {
            Self::ScDiffEq(m) => match m.autoencoder() {
                Some(nets) => {
                    let x = to_tensor(states.view(), self.dtype())?;
                    Ok(to_array(&nets.encode(&x, &Mode::eval())?.detach())?)
                }
                None => Ok(states),
            },
            Self::Flow(_) => Ok(states),
        }
    }
}

impl Input {
    pub(super) fn open(&self) -> Result<Opened> {
        let model = Model::open(&self.model)?;
        let trained = training(&self.model);
        let known = |key: &str| trained.get(key).and_then(Value::as_str).map(str::to_owned);
        let use_key = self.use_key.clone().or_else(|| known("use_key"));
        let use_key = use_key.unwrap_or_else(|| "X_pca".into());
        let data = read(&self.data)?;
        let places = model.encode(places::places(&data, &self.data, &use_key)?)?;
        if places.ncols() != model.dim() {
            return Err(Error::Message(format!(
                "{}: obsm {use_key} has {} dimensions, the model {} has {}; name the obsm that it was trained on with --use-key",
                self.data.display(),
                places.ncols(),
                self.model.display(),
                model.dim()
            )));
        }
        Ok(Opened {
            model,
            folder: self.model.clone(),
            data,
            path: self.data.clone(),
            use_key,
            places,
            time_key: self.time_key.clone().or_else(|| known("time_key")),
        })
    }
}

/// What `sc sde train` says about a model; nothing if it isn't one of those.
fn training(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("training.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

impl Opened {
    /// The time of each cell.
    pub(super) fn times(&self) -> Result<Vec<f64>> {
        let container = format!("{}: obs", self.path.display());
        let Some(key) = &self.time_key else {
            let columns: Vec<String> = self.data.obs.columns().map(|c| c.0.to_owned()).collect();
            return Err(Error::Message(format!(
                "{container}: name the column with the times by --time-key; there are: {}",
                places::list(columns.iter())
            )));
        };
        let column = self.data.obs.column(&container, key)?;
        let (Column::Str(_) | Column::OptStr(_) | Column::Categorical(_)) = column else {
            return Ok(column.to_f64(key)?);
        };
        let labels = column.to_categorical(key)?;
        let number = |(row, label): (usize, Option<&str>)| {
            let text = label.unwrap_or("missing");
            text.trim().parse::<f64>().map_err(|_| {
                Error::Message(format!(
                    "{container}: {key} is \"{text}\" in row {row}, which is no number"
                ))
            })
        };
        labels.iter().enumerate().map(number).collect()
    }

    pub(super) fn labels(&self, key: &str) -> Result<Categorical> {
        places::labels(&self.data, &self.path, key)
    }

    /// The rows of one time.
    pub(super) fn rows_at(&self, times: &[f64], time: f64) -> Result<Vec<usize>> {
        let rows: Vec<usize> = (0..times.len())
            .filter(|&i| times.get(i) == Some(&time))
            .collect();
        if !rows.is_empty() {
            return Ok(rows);
        }
        let mut all = times.to_vec();
        all.sort_unstable_by(f64::total_cmp);
        all.dedup();
        let all: Vec<String> = all.iter().map(f64::to_string).collect();
        Err(Error::Message(format!(
            "{}: no cell is of time {time}; the times are {}",
            self.path.display(),
            all.join(", ")
        )))
    }

    /// Some rows of the places.
    pub(super) fn at(&self, rows: &[usize]) -> Array2<f32> {
        self.places.select(Axis(0), rows)
    }

    /// The start cells of some paths.
    pub(super) fn start(&self, paths: &Paths) -> Result<Start> {
        let times = self.times()?;
        let ends = times
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), t| {
                (a.min(*t), b.max(*t))
            });
        let (from, to) = (paths.from.unwrap_or(ends.0), paths.to.unwrap_or(ends.1));
        let mut rows = self.rows_at(&times, from)?;
        if let Some(n) = paths.cells {
            if n > rows.len() {
                note(&format!("time {from} has only {} cells", rows.len()));
            }
            let order = Rng::new(paths.seed)
                .stream("start cells")
                .permutation(rows.len());
            let mut drawn: Vec<usize> = order
                .into_iter()
                .take(n)
                .filter_map(|i| rows.get(i).copied())
                .collect();
            drawn.sort_unstable();
            rows = drawn;
        }
        let places = self.at(&rows);
        let names: Vec<String> = rows.iter().map(|&row| self.name(row).to_owned()).collect();
        self.check(places.view(), &names)?;
        Ok(Start {
            states: self.states(places.view())?,
            rows,
            from,
            to,
        })
    }

    /// Where all cells are; an error names the cell whose place isn't finite.
    pub(super) fn finite_places(&self) -> Result<ArrayView2<'_, f32>> {
        self.check(self.places.view(), self.data.obs.index())?;
        Ok(self.places.view())
    }

    fn check(&self, places: ArrayView2<'_, f32>, names: &[String]) -> Result<()> {
        check_places(&self.path, &self.use_key, places, names)
    }

    /// Places as the model computes with them.
    pub(super) fn states(&self, places: ArrayView2<'_, f32>) -> Result<Tensor> {
        Ok(to_tensor(places, self.model.dtype())?)
    }

    /// Says which of the start cells an error is about.
    pub(super) fn named(&self, error: sc_sde::Error, start: &Start) -> Error {
        match &error {
            sc_sde::Error::Diverged { cell, .. } => {
                let name = start.rows.get(*cell).map_or("", |&row| self.name(row));
                Error::Message(format!("{error}. The cell is {name}"))
            }
            _ => error.into(),
        }
    }

    /// The name of a cell.
    pub(super) fn name(&self, row: usize) -> &str {
        self.data.obs.index().get(row).map_or("", String::as_str)
    }
}

impl Paths {
    /// Paths that hand out states at `times`, the first of which is that of the start.
    pub(super) fn simulation<'a>(
        &self,
        equation: &'a (dyn Sde + Sync),
        times: &[f64],
        start: &Start,
        copies: usize,
    ) -> Result<Simulation<'a>> {
        if let &[from, to] = times
            && from >= to
        {
            return Err(Error::Message(format!(
                "paths that start at time {from} can't end at time {to}; give a later one with --to"
            )));
        }
        let numbers = start.rows.iter().map(|&r| r as u64).collect();
        Ok(Simulation::new(equation, times, self.dt)?
            .copies(self.copies.unwrap_or(copies))
            .cells(numbers)
            .seed(self.seed))
    }
}
