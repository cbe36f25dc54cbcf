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
    /// A drawing that can't be part of a report.
    #[error("the SVG of a figure {reason}")]
    Svg {
        /// What is wrong with it.
        reason: String,
    },
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
