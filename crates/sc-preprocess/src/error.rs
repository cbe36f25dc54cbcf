/// What can go wrong in preprocessing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data could not be read or does not fit together.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// A parameter outside its range.
    #[error("{name} is {found}, expected {expected}")]
    InvalidParameter {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: String,
        /// What would work.
        expected: String,
    },
    /// A stored value that the method has no meaning for.
    #[error("the value at row {row}, column {column} is {value}, expected {expected}")]
    InvalidValue {
        /// The row (cell).
        row: usize,
        /// The column (gene).
        column: usize,
        /// The value.
        value: f32,
        /// What would work.
        expected: &'static str,
    },
    /// Too few rows or columns for the statistic asked for.
    #[error("there are {found} {what}, at least {needed} are needed")]
    TooSmall {
        /// "cells" or "genes".
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A batch with too few cells for a statistic of its own.
    #[error(
        "batch \"{batch}\" has {found} cells, at least {needed} are needed in each; drop it, or join it with another"
    )]
    SmallBatch {
        /// The batch.
        batch: String,
        /// Its cells.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A cell without counts, of which a share or a direction can't be taken.
    #[error("the cell at row {row} has no counts; filter such cells first (at least 1 count)")]
    EmptyCell {
        /// The first such row.
        row: usize,
    },
    /// A dense decomposition did not converge.
    #[error("{what} did not converge; look for NaN or extremely large values in the data")]
    NoConvergence {
        /// The decomposition.
        what: &'static str,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
