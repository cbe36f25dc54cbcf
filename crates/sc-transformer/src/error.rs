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
    /// Filtering, normalising or choosing genes.
    #[error(transparent)]
    Preprocess(#[from] sc_preprocess::Error),
    /// Neighbours and communities.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
    /// A vocabulary whose entries contradict each other.
    #[error("the vocabulary {reason}")]
    Vocabulary {
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A token that is needed is not in the vocabulary.
    #[error(
        "the vocabulary of {size} tokens has no \"{token}\", which is {purpose}; append it with `with_specials`, or use the vocab.json of the checkpoint"
    )]
    MissingToken {
        /// The token.
        token: String,
        /// How many tokens the vocabulary has.
        size: usize,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// The data and the vocabulary share no gene.
    #[error(
        "none of the {found} genes of the data ({examples}) is in the vocabulary of {size} tokens ({known}): {hint}"
    )]
    NoSharedGenes {
        /// Genes of the data.
        found: usize,
        /// Some of them.
        examples: String,
        /// How many tokens the vocabulary has.
        size: usize,
        /// Some of them.
        known: String,
        /// Why they may not match.
        hint: String,
    },
    /// An expression value that cannot be.
    #[error("cell {cell}, gene \"{gene}\": the value {value} is not possible; {expected}")]
    InvalidValue {
        /// The row of the cell.
        cell: usize,
        /// The gene's name.
        gene: String,
        /// The value.
        value: f32,
        /// What would be possible.
        expected: &'static str,
    },
    /// Things that should have the same length do not.
    #[error("{what} has length {found}, expected {expected}")]
    Length {
        /// What was given.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// A tensor operation.
    #[error(transparent)]
    Tensor(#[from] sc_tensor::Error),
    /// candle.
    #[error("tensor operation: {0}")]
    Candle(#[from] candle_core::Error),
    /// A PyTorch checkpoint that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] sc_io::pytorch::Error),
    /// A checkpoint of another model.
    #[error("{}: the checkpoint does not fit the model: {report}. Load it into a model of its own shape, or allow by name what may differ", path.display())]
    Incompatible {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit.
        report: Box<crate::scgpt::LoadReport>,
    },
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
