use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use ndarray::Array2;
use sc_data::{AnnData, Columns, CountProblem, Csr, RowSource, check_counts};
use sc_tensor::ops::SparseInput;

use crate::minify::{self, MinifyKind, NoCounts, StoredPosterior, StoredRows, StoredStatistics};
use crate::registry::NO_CATEGORY;
use crate::{Error, Registry, Result, ScviConfig, Setup};

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

/// What to do with counts that are no integers where the likelihood is one of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonInteger {
    /// Refuse them.
    #[default]
    Refuse,
    /// Take them, with a warning that names the first.
    Warn,
}

/// Some cells, ready for the networks.
#[derive(Debug, Clone)]
pub struct Minibatch {
    /// Counts, `[N, G]`.
    pub counts: Arc<Csr>,
    /// What the encoder reads: the counts or their `ln(1 + x)`.
    pub input: SparseInput,
    /// Code of the batch of each cell.
    pub batch: Vec<u32>,
    /// Code of the label of each cell.
    pub labels: Vec<u32>,
    /// Codes of each categorical covariate.
    pub categorical: Vec<Vec<u32>>,
    /// Continuous covariates, `[N, K]`.
    pub continuous: Array2<f32>,
    /// Size factors.
    pub size_factor: Option<Vec<f32>>,
    /// The posterior of minified cells, which is used instead of the encoder. Without counts, `counts` is empty.
    pub stored: Option<StoredRows>,
}

impl Minibatch {
    /// The library size of each cell: the sum of its counts, as it was stored if the cells are minified.
    pub fn library_size(&self) -> Vec<f64> {
        match &self.stored {
            Some(stored) => stored.library_size.iter().map(|&l| f64::from(l)).collect(),
            None => self.counts.row_sums(),
        }
    }

    /// The same cells as they are without their stored posterior: the encoder looks at the counts. `what` is done with
    /// them, for the message.
    ///
    /// # Errors
    /// [`Error::NeedsCounts`] if they are minified without them.
    pub fn counted(&self, what: &'static str) -> Result<Cow<'_, Self>> {
        match &self.stored {
            None => Ok(Cow::Borrowed(self)),
            Some(stored) if stored.kind.has_counts() => Ok(Cow::Owned(Self {
                stored: None,
                ..self.clone()
            })),
            Some(_) => Err(Error::NeedsCounts { what }),
        }
    }
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
        let counts = columns_of(counts, data.var.index(), &registry.genes)?;
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
        let counts = columns_of(Box::new(counts), annotations.var.index(), &registry.genes)?;
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
        let counts = columns_of(Box::new(none), annotations.var.index(), &registry.genes)?;
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
        let codes = |key: &str, categories: &[String]| -> Result<Vec<u32>> {
            let column = obs.column("obs", key)?.to_categorical(key)?;
            Ok(column.recode(key, categories)?.complete_codes(key)?)
        };
        let of = |key: &Option<String>, categories: &[String]| match key {
            Some(key) => codes(key, categories),
            None => Ok(vec![0; n]),
        };
        let setup = &registry.setup;
        let continuous_keys = &setup.continuous_covariate_keys;
        let mut continuous = Array2::zeros((n, continuous_keys.len()));
        for (k, key) in continuous_keys.iter().enumerate() {
            let values = obs.column("obs", key)?.to_f64(key)?;
            continuous
                .column_mut(k)
                .iter_mut()
                .zip(values)
                .for_each(|(c, v)| *c = v as f32);
        }
        let size_factor = match &setup.size_factor_key {
            Some(key) => Some(positive(key, &obs.column("obs", key)?.to_f64(key)?)?),
            None => None,
        };
        Ok(Self {
            batch: of(&setup.batch_key, &registry.batches)?,
            labels: match (&setup.labels_key, registry.unlabeled_code()) {
                // Data without the column of labels has cells whose labels are not known.
                (Some(key), Some(code)) if obs.get(key).is_none() => vec![code; n],
                (None, Some(code)) => vec![code; n],
                (key, _) => of(key, &registry.labels)?,
            },
            categorical: setup
                .categorical_covariate_keys
                .iter()
                .zip(&registry.categorical_covariates)
                .map(|(key, categories)| codes(key, categories))
                .collect::<Result<_>>()?,
            continuous,
            size_factor,
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

    /// Reads some cells.
    ///
    /// # Errors
    /// If a row does not exist or cannot be read.
    pub fn minibatch(&self, rows: &[usize], log1p: bool) -> Result<Minibatch> {
        let stored = self.stored.as_ref().map(|s| s.rows(rows)).transpose()?;
        let counts = Arc::new(if self.has_counts() {
            self.counts.read_rows(rows)?
        } else {
            Csr::zeros(rows.len(), self.registry.n_genes())
        });
        let pick = |v: &[u32]| rows.iter().map(|&r| v[r]).collect::<Vec<_>>();
        Ok(Minibatch {
            input: if log1p {
                SparseInput::log1p(counts.clone())
            } else {
                SparseInput::counts(counts.clone())
            },
            batch: pick(&self.batch),
            labels: pick(&self.labels),
            categorical: self.categorical.iter().map(|c| pick(c)).collect(),
            continuous: self.continuous.select(ndarray::Axis(0), rows),
            size_factor: self
                .size_factor
                .as_ref()
                .map(|s| rows.iter().map(|&r| s[r]).collect()),
            stored,
            counts,
        })
    }

    /// Reads all counts once and refuses what a model with these settings can't be trained on. Gives the rows without any
    /// counts, which a model with an observed library size can't be trained on either.
    ///
    /// # Errors
    /// [`Error::NotCounts`] names the first offender; [`Error::NeedsCounts`] if there are no counts.
    pub fn check_counts(&self, config: &ScviConfig, non_integer: NonInteger) -> Result<Vec<usize>> {
        self.require_counts("checking the counts")?;
        let report = check_counts(&*self.counts)?;
        let refuse = |problem, advice| match report.first(problem) {
            Some((cell, gene, value)) => Err(Error::NotCounts {
                problem,
                value,
                cell,
                gene,
                gene_name: self.registry.genes.get(gene).cloned().unwrap_or_default(),
                advice,
            }),
            None => Ok(()),
        };
        refuse(CountProblem::NonFinite, "every value must be a number")?;
        if config.likelihood.is_of_counts() {
            refuse(
                CountProblem::Negative,
                "counts are never negative; is this scaled data? Choose the layer with raw counts (--layer), or the \
                 likelihood \"normal\" without the logarithm (--no-log-variational)",
            )?;
            match (non_integer, report.first(CountProblem::NonInteger)) {
                (NonInteger::Warn, Some((cell, gene, value))) => {
                    tracing::warn!(
                        cell,
                        gene,
                        value,
                        "the counts are not all integers; training goes on as asked"
                    );
                }
                _ => refuse(
                    CountProblem::NonInteger,
                    "the likelihood is one of integers; is this normalised data? Choose the layer with raw counts \
                     (--layer), or allow it (--allow-non-integer)",
                )?,
            }
        } else if config.log_variational {
            refuse(
                CountProblem::Negative,
                "the encoder reads ln(1 + x); let it read the values as they are (--no-log-variational)",
            )?;
        }
        Ok(report.empty_rows)
    }
}

fn positive(key: &str, values: &[f64]) -> Result<Vec<f32>> {
    match values.iter().position(|v| !(v.is_finite() && *v > 0.0)) {
        Some(i) => Err(Error::InvalidSetting {
            name: "size_factor_key",
            value: format!("{key} ({} at cell {i})", values[i]),
            reason: "size factors must be positive".into(),
        }),
        None => Ok(values.iter().map(|&v| v as f32).collect()),
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

/// Counts with the genes of the model, in its order.
fn columns_of<'a>(
    counts: Box<dyn RowSource + 'a>,
    found: &[String],
    genes: &[String],
) -> Result<Box<dyn RowSource + 'a>> {
    if found == genes {
        return Ok(counts);
    }
    let counts: Arc<dyn RowSource + 'a> = Arc::from(counts);
    Ok(Box::new(Columns::new(counts, match_genes(genes, found)?)?))
}

/// For each gene of the model its column in the data.
pub(crate) fn match_genes(model: &[String], found: &[String]) -> Result<Vec<Option<usize>>> {
    let mut lookup: HashMap<&str, usize> = HashMap::with_capacity(found.len());
    for (i, g) in found.iter().enumerate() {
        if lookup.insert(g, i).is_some() {
            return Err(sc_data::Error::Duplicate {
                what: "var (the gene names)".into(),
                name: g.clone(),
            }
            .into());
        }
    }
    let columns: Vec<Option<usize>> = model
        .iter()
        .map(|g| lookup.get(g.as_str()).copied())
        .collect();
    let missing: Vec<&str> = model
        .iter()
        .zip(&columns)
        .filter(|(_, c)| c.is_none())
        .map(|(g, _)| g.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(columns);
    }
    let some = |names: &mut dyn Iterator<Item = &str>| names.take(3).collect::<Vec<_>>().join(", ");
    Err(Error::MissingGenes {
        count: missing.len(),
        n_genes: model.len(),
        examples: some(&mut missing.iter().copied()),
        found: found.len(),
        found_examples: some(&mut found.iter().map(String::as_str)),
    })
}

/// Whether a column was given or is the single made-up category.
pub(crate) fn is_given(categories: &[String]) -> bool {
    categories != [NO_CATEGORY]
}
