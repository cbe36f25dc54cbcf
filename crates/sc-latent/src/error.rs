/// What can go wrong with scVI.
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
    /// A PyTorch checkpoint that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] sc_io::pytorch::Error),
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
    /// Values that are no counts.
    #[error(
        "the counts hold {value}, which is {problem}, at cell {cell}, gene {gene} (\"{gene_name}\"); {advice}"
    )]
    NotCounts {
        /// What is wrong with it.
        problem: sc_data::CountProblem,
        /// The value.
        value: f32,
        /// The first such cell.
        cell: usize,
        /// The first such gene.
        gene: usize,
        /// Its name.
        gene_name: String,
        /// What would work.
        advice: &'static str,
    },
    /// Cells without any count, whose library size has no logarithm.
    #[error(
        "{count} cells have no counts at all (rows {rows}): their library size is 0 and has no logarithm. Drop them \
         (--drop-empty-cells, or AnnData::select_obs), or learn the library size instead of observing it"
    )]
    EmptyCells {
        /// How many.
        count: usize,
        /// The first few.
        rows: String,
    },
    /// A group of cells to compare that holds none.
    #[error(
        "group \"{group}\" has no cells (of {n_cells} in all), so it can't be compared; choose a group that has some"
    )]
    EmptyGroup {
        /// Its name.
        group: String,
        /// How many cells there are.
        n_cells: usize,
    },
    /// Cells that are minified, where their counts are needed.
    #[error(
        "{what} needs counts, and these cells are minified: only their place in the latent space was kept. Use the data \
         with counts, or data minified with them (`sc minify --with-counts`; latent_posterior_parameters_with_counts)"
    )]
    NeedsCounts {
        /// What needs them.
        what: &'static str,
    },
    /// Genes that the model needs.
    #[error(
        "the data lacks {count} of the model's {n_genes} genes, among them {examples}; it has {found} genes, for example {found_examples}"
    )]
    MissingGenes {
        /// How many are missing.
        count: usize,
        /// How many the model has.
        n_genes: usize,
        /// Some that are missing.
        examples: String,
        /// How many genes the data has.
        found: usize,
        /// Some of them.
        found_examples: String,
    },
    /// A query and its reference that have no gene in common.
    #[error(
        "the query has none of the reference's {n_reference} genes ({reference_examples}, ...); its {found} are {found_examples}, ...: {hint}"
    )]
    NoSharedGenes {
        /// How many genes the reference has.
        n_reference: usize,
        /// Some of them.
        reference_examples: String,
        /// How many genes the query has.
        found: usize,
        /// Some of them.
        found_examples: String,
        /// What may be wrong.
        hint: String,
    },
    /// A column of `obs` that the reference was trained with and the query lacks.
    #[error(
        "the reference was trained with obs column \"{column}\" ({meaning}), which the query lacks; it has {available}. Add it \
         under that name"
    )]
    MissingQueryColumn {
        /// The column.
        column: String,
        /// What it says about a cell.
        meaning: &'static str,
        /// The columns there are.
        available: String,
    },
    /// Batches or levels of a covariate that a model never saw.
    #[error(
        "column \"{column}\" holds {meaning} that the model does not know: {unknown}. It knows {known}. Map these cells onto \
         it, which adds what is new (`sc map`, Cells::for_query), or give them the names that it knows"
    )]
    UnknownCategories {
        /// The column.
        column: String,
        /// What its categories are.
        meaning: &'static str,
        /// The categories that are not known.
        unknown: String,
        /// Those that are.
        known: String,
    },
    /// Labels that a model never saw.
    #[error(
        "column \"{column}\" holds labels that the model does not know: {unknown}. It knows {known}; no data can add to \
         them: {unlabeled}"
    )]
    UnknownLabels {
        /// The column.
        column: String,
        /// The labels that are not known.
        unknown: String,
        /// Those that are.
        known: String,
        /// What to do.
        unlabeled: String,
    },
    /// A hub folder, or a hub, that is not as it should be.
    #[error("{place}: {reason}")]
    Hub {
        /// The folder, file or repository.
        place: String,
        /// What is wrong, and what would work.
        reason: String,
    },
    /// A neighbour graph.
    #[error(transparent)]
    Neighbors(#[from] sc_neighbors::Error),
    /// A model formula or a contrast that cannot be read or does not fit the data.
    #[error("\"{formula}\": {reason}")]
    Formula {
        /// The formula.
        formula: String,
        /// What is wrong, or what would be possible.
        reason: String,
    },
    /// A variable of a design that should describe samples, but differs between cells of one.
    #[error(
        "\"{variable}\" is not the same for all cells of sample \"{sample}\" ({examples}); a design needs variables of samples, or other samples"
    )]
    NotConstant {
        /// The variable.
        variable: String,
        /// The sample.
        sample: String,
        /// Two values that occur in it.
        examples: String,
    },
    /// Columns of a design that depend on others.
    #[error(
        "{columns} cannot be told apart from {others} with these {samples} samples; take a confounded variable out of the \
         formula, or compare within its groups"
    )]
    NotEstimable {
        /// The columns that depend on others.
        columns: String,
        /// The columns before the first of them.
        others: String,
        /// Number of samples.
        samples: usize,
    },
    /// No replicates are left to measure the variation with.
    #[error(
        "there are {samples} samples with cells for {columns} columns ({names}); at least one sample more than columns is needed"
    )]
    TooFewSamples {
        /// Samples with cells.
        samples: usize,
        /// Columns of the design.
        columns: usize,
        /// Their names.
        names: String,
    },
    /// Not what a scvi-tools checkpoint looks like.
    #[error("{path}: {reason}")]
    Upstream {
        /// The file.
        path: std::path::PathBuf,
        /// What is missing or odd.
        reason: String,
    },
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
