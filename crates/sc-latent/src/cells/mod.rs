//! Cells as a model reads them.

mod check;
mod codes;
mod genes;
mod minibatch;
mod numbers;

pub use check::NonInteger;
pub(crate) use codes::{is_given, unknown, unknown_labels};
pub(crate) use genes::match_genes;
pub use minibatch::Minibatch;

use ndarray::Array2;
use sc_data::{AnnData, RowSource};

use crate::minify::{self, MinifyKind, NoCounts, StoredPosterior, StoredStatistics};
use crate::{Error, Registry, Result, Setup};

/// Cells as scVI reads them: counts, and for each cell the codes of its batch, label and covariates.
///
/// The counts stay where they are (in memory or on disk) and are read one minibatch at a time. Minified cells have their
/// posterior instead, or besides; see [`mod@crate::minify`].
pub struct Cells<'a> {
    counts: Box<dyn RowSource + 'a>,
    registry: Registry,
    batch: Vec<u32>,
    labels: Vec<u32>,
    categorical: Vec<Vec<u32>>,
    continuous: Array2<f32>,
    size_factor: Option<Vec<f32>>,
    stored: Option<StoredPosterior<'a>>,
    statistics: Option<StoredStatistics>,
}

impl<'a> Cells<'a> {
    /// Cells in memory, for a new model.
    ///
    /// # Errors
    /// If the layer or a column is missing, a column lacks values, or a gene name occurs twice.
    pub fn new(data: &'a AnnData, setup: &Setup) -> Result<Self> {
        let registry = Registry::new(data, setup)?;
        let stored = minify::find(data, None)?;
        let counts = matrix_unless_minified(data, setup.layer.as_deref(), stored.as_ref())?;
        Self::with_registry(counts, data, registry, stored)
    }

    /// Counts from anywhere (a file, say), for a new model; `annotations` needs `obs` and `var` only.
    ///
    /// # Errors
    /// As [`Cells::new`].
    pub fn from_source(
        counts: impl RowSource + 'a,
        annotations: &AnnData,
        setup: &Setup,
    ) -> Result<Self> {
        let registry = Registry::new(annotations, setup)?;
        let stored = minify::find(annotations, None)?.map(StoredPosterior::into_owned);
        Self::with_registry(Box::new(counts), annotations, registry, stored)
    }

    /// Cells in memory, for a model that knows its genes and categories. Genes are brought into the model's order;
    /// genes that the model does not know are left out. Where the model knows a label that stands for "not known", all
    /// cells have it if the data lacks the column of labels. Minified data are taken for what they are, with or without
    /// counts.
    ///
    /// # Errors
    /// As [`Cells::new`], and [`Error::MissingGenes`], and if a category is unknown to the model, or if minified data lack
    /// what they should keep.
    pub fn for_model(data: &'a AnnData, registry: &Registry) -> Result<Self> {
        let stored = minify::find(data, Some(registry))?;
        let layer = registry.setup.layer.as_deref();
        let counts = matrix_unless_minified(data, layer, stored.as_ref())?;
        let counts = genes::columns_of(counts, data.var.index(), &registry.genes)?;
        Self::with_registry(counts, data, registry.clone(), stored)
    }

    /// Counts from anywhere, for a model that knows its genes and categories.
    ///
    /// # Errors
    /// As [`Cells::for_model`].
    pub fn from_source_for_model(
        counts: impl RowSource + 'a,
        annotations: &AnnData,
        registry: &Registry,
    ) -> Result<Self> {
        let stored = minify::find(annotations, Some(registry))?;
        let stored = stored.map(StoredPosterior::into_owned);
        let counts = genes::columns_of(Box::new(counts), annotations.var.index(), &registry.genes)?;
        Self::with_registry(counts, annotations, registry.clone(), stored)
    }

    /// Cells that are known by their posterior alone, for a model that knows their genes and categories; `annotations`
    /// needs `obs` and `var` only. [`Cells::for_model`] finds the posterior in minified data by itself.
    ///
    /// # Errors
    /// As [`Cells::for_model`].
    pub fn from_posterior(
        posterior: StoredPosterior<'a>,
        annotations: &AnnData,
        registry: &Registry,
    ) -> Result<Self> {
        let none = NoCounts {
            n_rows: posterior.n_cells(),
            n_cols: annotations.n_vars(),
        };
        let counts = genes::columns_of(Box::new(none), annotations.var.index(), &registry.genes)?;
        Self::with_registry(counts, annotations, registry.clone(), Some(posterior))
    }

    /// Bare counts of one batch.
    pub fn plain(counts: impl RowSource + 'a) -> Self {
        let n = counts.n_rows();
        Self {
            registry: Registry::plain(counts.n_cols()),
            counts: Box::new(counts),
            batch: vec![0; n],
            labels: vec![0; n],
            categorical: Vec::new(),
            continuous: Array2::zeros((n, 0)),
            size_factor: None,
            stored: None,
            statistics: None,
        }
    }

    pub(crate) fn with_registry(
        counts: Box<dyn RowSource + 'a>,
        annotations: &AnnData,
        registry: Registry,
        stored: Option<StoredPosterior<'a>>,
    ) -> Result<Self> {
        let n = counts.n_rows();
        for (what, found, expected) in [
            ("the cells of the counts", n, annotations.n_obs()),
            (
                "the stored posterior",
                stored.as_ref().map_or(n, StoredPosterior::n_cells),
                n,
            ),
            (
                "the genes of the counts",
                counts.n_cols(),
                registry.n_genes(),
            ),
        ] {
            if found != expected {
                return Err(sc_data::Error::LengthMismatch {
                    what: what.into(),
                    found,
                    expected,
                }
                .into());
            }
        }
        let obs = &annotations.obs;
        let setup = &registry.setup;
        Ok(Self {
            batch: codes::of_batches(obs, &registry, n)?,
            labels: codes::of_labels(obs, &registry, n)?,
            categorical: codes::of_covariates(obs, &registry)?,
            continuous: numbers::of_covariates(obs, setup, n)?,
            size_factor: numbers::size_factors(obs, setup)?,
            counts: match &stored {
                Some(s) if !s.kind().has_counts() => Box::new(NoCounts {
                    n_rows: n,
                    n_cols: registry.n_genes(),
                }),
                _ => counts,
            },
            statistics: match &stored {
                Some(s) if !s.kind().has_counts() => {
                    let genes = match_genes(&registry.genes, annotations.var.index())?;
                    let genes: Vec<usize> = genes.into_iter().flatten().collect();
                    StoredStatistics::read(annotations, Some(&genes))?
                }
                _ => None,
            },
            stored,
            registry,
        })
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.counts.n_rows()
    }

    /// Genes and categories.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The code of the batch of each cell.
    pub fn batch(&self) -> &[u32] {
        &self.batch
    }

    /// The code of the label of each cell.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The counts.
    pub fn counts(&self) -> &dyn RowSource {
        &*self.counts
    }

    /// How the cells are minified, if they are.
    pub fn minified(&self) -> Option<MinifyKind> {
        self.stored.as_ref().map(StoredPosterior::kind)
    }

    /// The posterior that minified cells keep.
    pub fn stored_posterior(&self) -> Option<&StoredPosterior<'a>> {
        self.stored.as_ref()
    }

    /// The sums of raw counts by gene that were kept when the counts were dropped. [`Cells::gene_statistics`] uses them.
    pub fn stored_statistics(&self) -> Option<&StoredStatistics> {
        self.statistics.as_ref()
    }

    /// Whether there are counts.
    pub fn has_counts(&self) -> bool {
        self.minified().is_none_or(MinifyKind::has_counts)
    }

    /// Makes sure that there are counts; `what` needs them.
    ///
    /// # Errors
    /// [`Error::NeedsCounts`] if the cells are minified without them.
    pub fn require_counts(&self, what: &'static str) -> Result<()> {
        if self.has_counts() {
            Ok(())
        } else {
            Err(Error::NeedsCounts { what })
        }
    }
}

/// The matrix of counts; data that were minified without it may lack it.
fn matrix_unless_minified<'a>(
    data: &'a AnnData,
    layer: Option<&str>,
    stored: Option<&StoredPosterior<'_>>,
) -> Result<Box<dyn RowSource + 'a>> {
    Ok(match stored {
        Some(s) if !s.kind().has_counts() => Box::new(NoCounts {
            n_rows: data.n_obs(),
            n_cols: data.n_vars(),
        }),
        _ => Box::new(data.matrix(layer)?),
    })
}
