use std::error::Error as _;
use std::path::{Path, PathBuf};

/// The exit code of a training that was interrupted: 128 + SIGINT, as shells report it.
pub(crate) const INTERRUPTED: u8 = 130;

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// Reading or writing data.
    #[error(transparent)]
    Io(#[from] sc_io::Error),
    /// The data.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// Training, or files of models.
    #[error(transparent)]
    Model(#[from] sc_model::Error),
    /// scVI.
    #[error(transparent)]
    Latent(#[from] sc_latent::Error),
    /// Judging models.
    #[error(transparent)]
    Criticism(#[from] sc_criticism::Error),
    /// scGPT and scBERT.
    #[error(transparent)]
    Transformer(#[from] sc_transformer::Error),
    /// How cells move.
    #[error(transparent)]
    Sde(#[from] sc_sde::Error),
    /// Several modalities.
    #[error(transparent)]
    Integrate(#[from] sc_integrate::Error),
    /// Neighbours, and what is made of them.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
    /// A file or folder that the system refuses.
    #[error("{}: cannot {action}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else, in words.
    #[error("{0}")]
    Message(String),
    /// An error and what to do about it.
    #[error("{source}\n  hint: {hint}")]
    Hint {
        /// What to do.
        hint: String,
        /// The error.
        source: Box<Error>,
    },
    /// Ctrl-C, after the state was saved.
    #[error(
        "interrupted in epoch {epoch} of {epochs}; the state is in {}. Run the same command with --resume to go on",
        checkpoint.display()
    )]
    Interrupted {
        /// The epoch it was in, from 1.
        epoch: usize,
        /// Epochs in all.
        epochs: usize,
        /// The file with the state.
        checkpoint: PathBuf,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            path,
            action,
            source,
        }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self::Hint {
            hint: hint.into(),
            source: Box::new(self),
        }
    }

    /// Adds what the libraries can't know: which command helps.
    pub(crate) fn explained(self) -> Self {
        use sc_latent::Error as Latent;
        let hint = match &self {
            Self::Data(sc_data::Error::Duplicate { .. })
            | Self::Latent(Latent::Data(sc_data::Error::Duplicate { .. })) => {
                "`sc convert IN OUT.h5ad --unique-genes` numbers the repeated names"
            }
            Self::Latent(Latent::MissingGenes { count, n_genes, .. }) if count == n_genes => {
                "are the genes named alike: symbols, or Ensembl ids, with or without versions? `sc map --gene-key COLUMN` \
                 takes their names from a column of var"
            }
            Self::Latent(Latent::MissingGenes { .. }) => {
                "`sc map` takes cells that lack genes, which then count as never seen"
            }
            _ => return self,
        };
        self.with_hint(hint)
    }
}

/// Prints an error and those of its causes that say something new.
pub(crate) fn report(error: &Error) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(e) = cause {
        let message = e.to_string();
        if !text.contains(&message) {
            text.push_str("\n  caused by: ");
            text.push_str(&message);
        }
        cause = e.source();
    }
    crate::common::note(&text);
}
