/// What judging a model may fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two things that describe the same cells (or genes) do not have the same number of them.
    #[error("{what} has {found} rows; expected {expected}, as many as {like}")]
    Length {
        /// What is too long or too short.
        what: String,
        /// Its rows.
        found: usize,
        /// What it should be like.
        like: String,
        /// Rows of that.
        expected: usize,
    },
    /// A parameter outside its range, or data that a metric has no meaning for.
    #[error("{name} is {found}; expected {expected}")]
    InvalidParameter {
        /// The parameter, or what of the data.
        name: &'static str,
        /// Its value.
        found: String,
        /// What would work.
        expected: String,
    },
    /// A number that is not finite.
    #[error("{what} is {value} in row {row}; expected finite numbers")]
    NotFinite {
        /// What holds it.
        what: String,
        /// The row (cell).
        row: usize,
        /// The number.
        value: f64,
    },
    /// A metric that these data don't define.
    #[error("{0}")]
    Undefined(String),
    /// A drawing that can't be part of a report.
    #[error("the SVG of a figure {reason}")]
    Svg {
        /// What is wrong with it.
        reason: String,
    },
    /// A matrix or labels that do not fit together.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// Neighbours, clusters, distances.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
    /// Genes that vary, principal components.
    #[error(transparent)]
    Preprocess(#[from] sc_preprocess::Error),
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
