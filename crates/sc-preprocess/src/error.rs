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
    /// A dense decomposition did not converge.
    #[error("{what} did not converge; look for NaN or extremely large values in the data")]
    NoConvergence {
        /// The decomposition.
        what: &'static str,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
