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
    /// A list of genes that can't be a panel.
    #[error("gene panel: {reason}")]
    Panel {
        /// What is wrong with it.
        reason: String,
    },
    /// Data without a gene of the panel.
    #[error(
        "no gene of the data is in the panel, whose genes are called {panel}, ..., while those of the data are called {data}, ...; are both of the same species, and are both symbols?"
    )]
    NoGenesInCommon {
        /// Some genes of the panel.
        panel: String,
        /// Some genes of the data.
        data: String,
    },
    /// A NumPy file that is no matrix of numbers.
    #[error("{}: {reason}", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint with other tensors than the model.
    #[error("{}: is a checkpoint of another model{}{}{}", path.display(), listed("missing", missing), listed("not of this model", unexpected), listed("of another shape", shapes))]
    OtherTensors {
        /// The checkpoint.
        path: PathBuf,
        /// Tensors that it lacks.
        missing: Vec<String>,
        /// Tensors that the model lacks.
        unexpected: Vec<String>,
        /// Tensors of another shape, and both shapes.
        shapes: Vec<String>,
    },
    /// A model that predicts something else.
    #[error("this model predicts {found}, not {wanted}; {advice}")]
    WrongHead {
        /// What it predicts.
        found: &'static str,
        /// What it was asked for.
        wanted: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A count that is no count.
    #[error(
        "cell {cell} has {value} of gene {gene}; raw counts are needed: numbers that are finite and not negative"
    )]
    BadCount {
        /// The cell (row), from 0.
        cell: usize,
        /// The gene.
        gene: String,
        /// What is there.
        value: f32,
    },
    /// Nothing left to work on.
    #[error("none of the {found} cells can be used: {reason}")]
    NoCells {
        /// How many there were.
        found: usize,
        /// Why they can't.
        reason: String,
    },
}

impl Error {
    /// As an error of the training loop.
    pub(crate) fn into_model(self) -> sc_model::Error {
        match self {
            Self::Model(e) => e,
            other => sc_model::Error::model(other),
        }
    }
}

/// The first few of a list, for a message; nothing of an empty one.
fn listed(what: &str, names: &[String]) -> String {
    const SHOWN: usize = 5;
    if names.is_empty() {
        return String::new();
    }
    let shown = names
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    format!("; {what}: {shown}{more}")
}

/// The result of what this crate does.
pub type Result<T> = std::result::Result<T, Error>;
