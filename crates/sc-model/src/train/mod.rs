//! The training loop, whatever the model.

mod best;
mod checkpoint;
mod config;
mod fit;
mod history;
mod observer;
mod observers;
mod shuffle;

pub use best::KeepBest;
pub use checkpoint::{Checkpoint, ResumeState};
pub use config::{Split, SplitConfig, TrainConfig};
pub use fit::{Fitted, fit, resume};
pub use history::History;
pub use observer::{Control, EpochEvent, Observer, RunInfo, Snapshot, StepEvent, StopReason};
pub use observers::{CsvLog, ProgressBar, StopFlag};
pub use shuffle::Shuffle;

use candle_core::Tensor;
use sc_tensor::rng::{Rng, Stream};

use crate::{Mode, Params, Result};

/// What one step of training or validation knows.
pub struct Step<'a> {
    /// Training or inference.
    pub mode: Mode<'a>,
    /// The epoch, from 0.
    pub epoch: usize,
    /// The training minibatch counted over all epochs, from 0 (for validation: the batch within the validation set).
    pub step: u64,
    /// The minibatch within the epoch (or within the validation set), from 0.
    pub step_in_epoch: usize,
    /// Cells of a full minibatch.
    pub batch_size: usize,
    /// Which cells train and which validate.
    pub split: &'a Split,
    /// The weight of the KL term in this epoch.
    pub kl_weight: f64,
    /// The random numbers of the run; draw from a stream named after the use, `at(&[step.step])`.
    pub rng: &'a Rng,
}

impl Step<'_> {
    /// A stream of random numbers for one use in this step; validation has streams of its own.
    pub fn stream(&self, name: &str) -> Stream {
        if self.mode.is_training() {
            self.rng.stream(name).at(&[self.step])
        } else {
            self.rng
                .stream(&format!("validation/{name}"))
                .at(&[self.epoch as u64, self.step])
        }
    }
}

/// The loss of a minibatch.
#[derive(Debug)]
pub struct Loss {
    /// A scalar to differentiate: the mean over cells.
    pub loss: Tensor,
    /// Sums over the cells of the minibatch, by name; the history holds their means over an epoch as `elbo_train` for
    /// `elbo`, and as `train_accuracy` for `{set}_accuracy`. What only some minibatches have is a mean over their cells.
    pub sums: Vec<(&'static str, f64)>,
    /// How many cells there were.
    pub n_cells: usize,
}

/// A model that the loop can train on data of type `D`.
pub trait Trainable<D: ?Sized> {
    /// Its parameters and buffers.
    fn params(&self) -> &Params;

    /// The number of cells in the data.
    fn n_cells(&self, data: &D) -> usize;

    /// The fewest cells that a training minibatch may hold; 2 where a batch norm needs their variance.
    fn min_batch(&self) -> usize {
        1
    }

    /// Which cells train and which validate, if `config` does not say; see [`SplitConfig::split`].
    ///
    /// # Errors
    /// Those of [`SplitConfig::split`].
    fn split(&self, data: &D, config: &TrainConfig) -> Result<Split> {
        config
            .split
            .split(self.n_cells(data), config.batch_size, config.seed)
    }

    /// The minibatches of an epoch, or with [`Shuffle::Blocks`] of a part of it: the cells in a random order, cut into pieces of
    /// `batch_size`, unless the model needs cells of a kind together.
    fn minibatches(
        &self,
        _data: &D,
        cells: &[usize],
        batch_size: usize,
        stream: &mut Stream,
    ) -> Vec<Vec<usize>> {
        let order = stream.permutation(cells.len()).into_iter();
        let order: Vec<usize> = order.filter_map(|i| cells.get(i).copied()).collect();
        order
            .chunks(batch_size.max(1))
            .map(<[usize]>::to_vec)
            .collect()
    }

    /// Says that these cells will be asked for soon; see [`sc_data::RowSource::read_ahead`].
    fn read_ahead(&self, _data: &D, _cells: &[usize]) {}

    /// Whatever else the course of training depends on, in words of the model's own. A run goes on only where this is what
    /// it was when the state was saved.
    fn settings(&self) -> String {
        String::new()
    }

    /// Masks that the gradients of some parameters are multiplied by, by name, in the layout the parameter is kept in;
    /// where a mask is 0, the parameter keeps its value. Those of [`Param::train_only`](crate::Param::train_only) unless
    /// the model says otherwise.
    fn masks(&self) -> Vec<(String, Tensor)> {
        self.params().masks()
    }

    /// The loss of the cells `rows`.
    ///
    /// # Errors
    /// If the data cannot be read or does not fit the model.
    fn loss(&self, data: &D, rows: &[usize], step: &Step<'_>) -> Result<Loss>;
}
