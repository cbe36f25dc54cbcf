use std::path::PathBuf;

/// What can go wrong in training, saving and loading, whatever the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] sc_tensor::Error),
    /// candle failed.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// A setting has a value it may not have.
    #[error("{name} = {value} is not possible: {reason}")]
    InvalidSetting {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// Which values are possible.
        reason: String,
    },
    /// Too few cells.
    #[error("{what} has {found} cells, at least {needed} are needed")]
    TooFewCells {
        /// Which set of cells.
        what: String,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The loss is no longer a number.
    #[error(
        "training diverged: the loss is {loss} in epoch {epoch}, minibatch {step}{}; the last checkpoint, if one was written, is still good. Try a smaller learning rate or gradient clipping, and look at cell {first_cell} of the data",
        .parameter.as_ref().map_or(String::new(), |p| format!(", and {p} is not finite"))
    )]
    Diverged {
        /// The loss.
        loss: f64,
        /// The epoch, from 0.
        epoch: usize,
        /// The minibatch within the epoch, from 0.
        step: usize,
        /// The first parameter whose gradient is not finite, if one was found.
        parameter: Option<String>,
        /// The first cell of the minibatch.
        first_cell: usize,
    },
    /// A checkpoint lacks a tensor.
    #[error("{path}: has no tensor \"{name}\" ({what}); is it a checkpoint of another model?")]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it is needed for.
        what: String,
    },
    /// A checkpoint has a tensor of another shape.
    #[error("{path}: tensor \"{name}\" has shape {found:?}, the model needs {expected:?}")]
    WrongShape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape there.
        found: Vec<usize>,
        /// The shape the model needs.
        expected: Vec<usize>,
    },
    /// A file could not be read or written.
    #[error("{path}: cannot {action}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// "read", "write", ...
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An error of the model that is being trained.
    #[error(transparent)]
    Model(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps a model's own error.
    pub fn model(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Model(Box::new(error))
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
