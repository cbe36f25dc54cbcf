/// What can go wrong with neighbour graphs and scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// Two things that must have the same length do not.
    #[error("{what} has length {found}, expected {expected}")]
    LengthMismatch {
        /// What was given.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// A coordinate that has no distance to anything.
    #[error(
        "the coordinate at row {row}, column {column} is {value}, expected a finite number below 1e15"
    )]
    InvalidCoordinate {
        /// The row (cell).
        row: usize,
        /// The column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A graph that is not what the method needs.
    #[error("the graph {reason}; make it with `connectivities`")]
    InvalidGraph {
        /// What is wrong.
        reason: String,
    },
    /// The approximate search failed.
    #[error("approximate neighbours: {0}")]
    Approximate(String),
    /// A matrix could not be built.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// An iteration for eigenvectors gave up.
    #[error("the eigenvectors of the graph did not converge; ask for fewer")]
    NoConvergence,
    /// The community detection failed.
    #[error("leiden: {0}")]
    Leiden(String),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
