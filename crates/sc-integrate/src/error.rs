/// What can go wrong when modalities are integrated.
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
    /// Neighbours.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
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
    /// Values that the likelihood of a modality can't have.
    #[error(
        "modality \"{modality}\" holds {value} at cell \"{cell}\", feature \"{feature}\", which the likelihood {likelihood} can't have: {advice}"
    )]
    WrongValues {
        /// The modality.
        modality: String,
        /// The first such value.
        value: f32,
        /// Its cell.
        cell: String,
        /// Its feature.
        feature: String,
        /// The likelihood.
        likelihood: crate::Likelihood,
        /// What would work.
        advice: &'static str,
    },
    /// A cell that occurs twice in one modality.
    #[error(
        "cell \"{cell}\" occurs twice in modality \"{modality}\" (rows {first} and {second}); cells are paired by their names, which must be unique within a modality"
    )]
    DuplicateCell {
        /// The modality.
        modality: String,
        /// The name.
        cell: String,
        /// The first row.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A modality, batch or feature that is not there.
    #[error("there is no {kind} \"{name}\"; there are: {known}")]
    NotFound {
        /// What was looked for.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Cells that are needed and not there.
    #[error("{what}: {reason}")]
    NoCells {
        /// Where they are missing.
        what: String,
        /// What they are needed for, and what would work.
        reason: String,
    },
}

impl Error {
    /// An unknown name, beside some of those that are known.
    pub(crate) fn not_found<'a>(
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Self {
        const SHOWN: usize = 8;
        let mut names: Vec<&str> = known.take(SHOWN + 1).collect();
        if names.len() > SHOWN {
            names[SHOWN] = "...";
        }
        Self::NotFound {
            kind,
            name: name.to_owned(),
            known: names.join(", "),
        }
    }
}

impl From<Error> for sc_model::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::Model(e) => e,
            Error::Data(e) => e.into(),
            Error::Tensor(e) => e.into(),
            Error::Candle(e) => e.into(),
            other => Self::model(other),
        }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
