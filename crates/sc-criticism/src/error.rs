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
    /// A matrix of samples with other cells or genes than the raw counts.
    #[error(
        "{what} is {rows} cells x {cols} genes; the raw counts are {expected_rows} x {expected_cols}"
    )]
    Shape {
        /// The matrix.
        what: String,
        /// Its cells.
        rows: usize,
        /// Its genes.
        cols: usize,
        /// Cells of the raw counts.
        expected_rows: usize,
        /// Genes of the raw counts.
        expected_cols: usize,
    },
    /// There is nothing to judge.
    #[error("there are no {what}: {found} cells, {genes} genes")]
    Nothing {
        /// What there is none of.
        what: &'static str,
        /// Cells there are.
        found: usize,
        /// Genes there are.
        genes: usize,
    },
    /// NaN or infinity among counts.
    #[error("{what}: {value} at cell {cell}, gene {gene}; every count must be a number{hint}")]
    NotFinite {
        /// Which counts.
        what: String,
        /// The value.
        value: f32,
        /// Row.
        cell: usize,
        /// Column.
        gene: usize,
        /// What may help.
        hint: &'static str,
    },
    /// A count below zero, where its logarithm is needed.
    #[error(
        "{what}: {value} at cell {cell}, gene {gene}; differential expression takes ln(1 + count), so leave it out"
    )]
    Negative {
        /// Which counts.
        what: String,
        /// The value.
        value: f32,
        /// Row.
        cell: usize,
        /// Column.
        gene: usize,
    },
    /// No group has enough cells.
    #[error("no group can be compared with the rest: {groups}; each side needs at least 2 cells")]
    Groups {
        /// The groups and their cells.
        groups: String,
    },
    /// A setting that makes no sense.
    #[error("{name} is {found}; expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: String,
        /// What would work.
        expected: &'static str,
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
    /// A number of an embedding, a score or a covariate that is not finite.
    #[error("{what} is {value} in row {row}; expected finite numbers")]
    NotANumber {
        /// What holds it.
        what: String,
        /// The row (cell).
        row: usize,
        /// The number.
        value: f64,
    },
    /// A metric that these data don't define, in words.
    #[error("{0}")]
    Undefined(String),
    /// A drawing that can't be part of a report.
    #[error("the SVG of a figure {reason}")]
    Svg {
        /// What is wrong with it.
        reason: String,
    },
    /// Drawing failed.
    #[error("cannot draw: {0}")]
    Plot(#[from] sc_plot::Error),
    /// Reading counts failed.
    #[error(transparent)]
    Data(#[from] sc_data::Error),
    /// Neighbours, clusters, distances.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
    /// Genes that vary.
    #[error(transparent)]
    Preprocess(#[from] sc_preprocess::Error),
    /// The model that is judged failed.
    #[error("the model cannot generate counts: {0}")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `Result` with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
