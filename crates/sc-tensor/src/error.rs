use candle_core::DType;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// candle refused: shapes that don't match, no memory, a device that is gone.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// An argument has the wrong shape.
    #[error("{op}: {what} has shape {found:?}, expected {expected}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What would have worked.
        expected: String,
    },
    /// An argument has an element type that the operation doesn't know.
    #[error("{op}: {found:?} is not supported, convert to f32 or f64 first")]
    DType {
        /// The operation.
        op: &'static str,
        /// The type found.
        found: DType,
    },
    /// A number outside of the range that makes sense.
    #[error("{op}: {what} is {found}, expected {expected}")]
    Value {
        /// The operation.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// The value found.
        found: f64,
        /// The range that works.
        expected: &'static str,
    },
    /// An index points past the end.
    #[error("{op}: index {index} at position {position} is too large, there are {len}")]
    OutOfRange {
        /// The operation.
        op: &'static str,
        /// The index.
        index: usize,
        /// Where it stands among the indices.
        position: usize,
        /// How many there are to choose from.
        len: usize,
    },
}

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;
