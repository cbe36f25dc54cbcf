use std::path::PathBuf;

/// What can go wrong with the transformers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Training, saving or loading.
    #[error(transparent)]
    Model(#[from] sc_model::Error),
    /// The data.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] sc_tensor::Error),
    /// candle.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
    /// A PyTorch checkpoint that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] sc_io::pytorch::Error),
    /// A file that cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting that cannot be.
    #[error("{name} = {value} is not possible: {reason}")]
    InvalidSetting {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// Why not, or what would be possible.
        reason: String,
    },
}

/// The result of what this crate does.
pub type Result<T> = std::result::Result<T, Error>;
