/// What can go wrong while building or indexing data in memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The three arrays of a sparse matrix contradict each other.
    #[error("not a valid CSR matrix of {rows} x {cols}: {reason}")]
    InvalidCsr {
        /// Declared rows.
        rows: usize,
        /// Declared columns.
        cols: usize,
        /// What is wrong.
        reason: String,
    },
    /// An index beyond the end.
    #[error("{what} {index} does not exist: there are {len}")]
    OutOfRange {
        /// What was indexed, e.g. "row".
        what: &'static str,
        /// The index asked for.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// Two things that must have the same length do not.
    #[error("{what} has length {found}, expected {expected}")]
    LengthMismatch {
        /// What was given.
        what: String,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
    },
    /// A name that is not there.
    #[error("{container} has no {kind} \"{name}\"; it has: {available}")]
    NotFound {
        /// Where it was looked for, e.g. "obs".
        container: String,
        /// What was looked for, e.g. "column".
        kind: &'static str,
        /// Its name.
        name: String,
        /// The names there are.
        available: String,
    },
    /// A column holds something else than what was asked for.
    #[error("column \"{name}\" holds {found}, expected {expected}")]
    WrongType {
        /// The column.
        name: String,
        /// Its type.
        found: &'static str,
        /// The type needed.
        expected: &'static str,
    },
    /// Values are missing where none may be.
    #[error(
        "column \"{name}\" has {count} missing values (first at row {first}); fill them or drop those rows"
    )]
    Missing {
        /// The column.
        name: String,
        /// How many are missing.
        count: usize,
        /// The first row without a value.
        first: usize,
    },
    /// A name occurs twice.
    #[error("{what} contains \"{name}\" twice")]
    Duplicate {
        /// Where.
        what: String,
        /// The name.
        name: String,
    },
    /// A name that cannot be used.
    #[error("the name {name:?} of a {kind} {reason}; choose another")]
    InvalidName {
        /// What has the name.
        kind: &'static str,
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The map between joint cells or features and those of a modality is not one to one.
    #[error("{map} of the modality \"{modality}\" {reason}")]
    InvalidMap {
        /// `obsmap` or `varmap`.
        map: &'static str,
        /// The modality.
        modality: String,
        /// What is wrong.
        reason: String,
    },
    /// A source of rows failed to read.
    #[error("reading rows: {0}")]
    Source(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
