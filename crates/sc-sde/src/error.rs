use std::path::PathBuf;

/// What can go wrong with stochastic differential equations and optimal transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Training, saving or loading.
    #[error(transparent)]
    Model(#[from] sc_model::Error),
    /// The data.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// Nearest neighbours.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] sc_tensor::Error),
    /// candle.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
    /// A PyTorch checkpoint that can't be read.
    #[error(transparent)]
    Checkpoint(#[from] sc_io::pytorch::Error),
    /// Times, or lengths of steps, that can't be.
    #[error("times: {reason}")]
    Times {
        /// What is wrong with them, and what would be right.
        reason: String,
    },
    /// A path that left the finite numbers.
    #[error(
        "the path of cell {cell} diverged in step {step}, at time {time}: its norm was {norm:e} before. Try a smaller dt, or look at the drift there"
    )]
    Diverged {
        /// The time at the start of the step.
        time: f64,
        /// The step, from 0.
        step: usize,
        /// The cell, from 0.
        cell: usize,
        /// The norm of its state before the step.
        norm: f64,
    },
    /// What went wrong in a minibatch of training.
    #[error("in epoch {epoch}, minibatch {minibatch}: {source}")]
    InEpoch {
        /// The epoch, from 0.
        epoch: usize,
        /// The minibatch within the epoch, from 0.
        minibatch: usize,
        /// What went wrong.
        source: Box<Error>,
    },
    /// A checkpoint that is not of the model.
    #[error("{}: {report}", path.display())]
    Incompatible {
        /// The checkpoint.
        path: PathBuf,
        /// What doesn't fit.
        report: Box<crate::model::LoadReport>,
    },
    /// A file that can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting that can't be.
    #[error("{name} = {value} is not possible: {reason}")]
    InvalidSetting {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// Why not, and what would be possible.
        reason: String,
    },
    /// Things whose shapes don't fit together.
    #[error("{what} has shape {found:?}, expected {expected}")]
    Shape {
        /// What was given.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed.
        expected: String,
    },
    /// A cloud without points, or points without coordinates.
    #[error("{what} is empty (shape {found:?}): at least one point with one coordinate is needed")]
    Empty {
        /// What was given.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A number that is NaN or infinite.
    #[error("{what}, row {row}, column {column}: {value} is not finite")]
    NotFinite {
        /// What was given.
        what: &'static str,
        /// The row, from 0.
        row: usize,
        /// The column, from 0.
        column: usize,
        /// What is there.
        value: f64,
    },
    /// Weights of points that can't be.
    #[error("{what}: {reason}")]
    Weights {
        /// Whose weights.
        what: &'static str,
        /// What is wrong with them, and what would be right.
        reason: String,
    },
}

/// [`Error::InvalidSetting`] in fewer words.
pub(crate) fn invalid(
    name: &'static str,
    value: impl ToString,
    reason: impl Into<String>,
) -> Error {
    Error::InvalidSetting {
        name,
        value: value.to_string(),
        reason: reason.into(),
    }
}

/// The result of what this crate does.
pub type Result<T> = std::result::Result<T, Error>;
