//! A query as a reference wants to see it.

use std::borrow::Cow;

use sc_data::{AnnData, Column, RowSource, Table};
use serde::Serialize;

use super::extend::fill_labels;
use super::genes::GeneMatch;
use crate::minify::{MinifyKind, StoredStatistics};
use crate::{Cells, Error, GeneReport, Registry, Result};

/// What a query and a reference have in common, and what was made up for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueryReport {
    /// The genes.
    pub genes: GeneReport,
    /// Batches that the reference does not know.
    pub new_batches: Vec<String>,
    /// Levels of the categorical covariates that the reference does not know: column and level.
    pub new_levels: Vec<(String, String)>,
    /// Cells whose label was missing and now is the one for cells without a label.
    pub filled_labels: usize,
}

/// What [`prepare_query`] makes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Prepared {
    /// The query with the reference's genes, in its order.
    pub data: AnnData,
    /// What was done.
    pub report: QueryReport,
}

/// A copy of a query with the genes of a reference: matched by name, in the reference's order, those that the query lacks as
/// columns of zeros in `X` and in every layer, and without those that the reference does not know. Labels that are missing
/// become the category of cells without a label, if the reference has one.
///
/// This is scvi-tools' `prepare_query_anndata`, for writing the result to a file. To map a query, [`Cells::for_query`]
/// does the same without a copy. What `var` said about the genes is left out, as it says nothing of those that were added;
/// its column `in_query` tells them apart.
///
/// # Errors
/// [`Error::NoSharedGenes`](crate::Error::NoSharedGenes), [`Error::MissingQueryColumn`](crate::Error::MissingQueryColumn),
/// [`Error::UnknownLabels`](crate::Error::UnknownLabels). Fewer shared genes than 80 % are warned of.
pub fn prepare_query(data: &AnnData, reference: &Registry) -> Result<Prepared> {
    require_counts(data)?;
    let genes = GeneMatch::new(&reference.genes, &data.var)?;
    let (obs, filled_labels) = with_labels(&data.obs, reference)?;
    let report = report(&genes, reference, &reference.extended(&obs)?, filled_labels);
    let mut out = data.clone();
    out.obs = obs.into_owned();
    StoredStatistics::remove(&mut out);
    out.varm.clear();
    out.varp.clear();
    out.x = data.x.as_ref().map(|x| genes.matrix(x)).transpose()?;
    for (name, layer) in &mut out.layers {
        if let Some(before) = data.layers.get(name) {
            *layer = genes.matrix(before)?;
        }
    }
    let mut var = Table::new(reference.genes.clone());
    let missing: std::collections::HashSet<&String> = report.genes.missing.iter().collect();
    let in_query = reference
        .genes
        .iter()
        .map(|g| !missing.contains(g))
        .collect();
    var.insert("in_query", Column::Bool(in_query))?;
    out.var = var;
    Ok(Prepared { data: out, report })
}

impl<'a> Cells<'a> {
    /// The cells of a query, for [`Scvi::load_query`](crate::Scvi::load_query): as [`prepare_query`], but the counts are only
    /// looked at as they are needed, and nothing is copied.
    ///
    /// # Errors
    /// As [`prepare_query`], and those of [`Cells::for_model`].
    pub fn for_query(data: &'a AnnData, reference: &Registry) -> Result<(Self, QueryReport)> {
        let counts = data.matrix(reference.setup.layer.as_deref())?;
        Self::from_source_for_query(counts, data, reference)
    }

    /// The same with counts from anywhere (a file, say); `annotations` needs `obs` and `var` only.
    ///
    /// # Errors
    /// As [`Cells::for_query`].
    pub fn from_source_for_query(
        counts: impl RowSource + 'a,
        annotations: &AnnData,
        reference: &Registry,
    ) -> Result<(Self, QueryReport)> {
        require_counts(annotations)?;
        let genes = GeneMatch::new(&reference.genes, &annotations.var)?;
        let (obs, filled_labels) = with_labels(&annotations.obs, reference)?;
        let registry = reference.extended(&obs)?;
        let report = report(&genes, reference, &registry, filled_labels);
        let cells = Self::matched(counts, genes, obs.into_owned(), registry)?;
        Ok((cells, report))
    }

    /// Counts from anywhere, for the model of a query: as [`Cells::from_source_for_query`], but with nothing new to the model.
    /// Genes that are missing count as never seen, as they did when the query was mapped.
    ///
    /// # Errors
    /// As [`Cells::for_query`], and [`Error::UnknownCategories`] names batches and levels that the model does not know.
    pub fn from_source_for_mapped(
        counts: impl RowSource + 'a,
        annotations: &AnnData,
        model: &Registry,
    ) -> Result<Self> {
        require_counts(annotations)?;
        let genes = GeneMatch::new(&model.genes, &annotations.var)?;
        let (obs, _) = with_labels(&annotations.obs, model)?;
        Self::matched(counts, genes, obs.into_owned(), model.clone())
    }

    fn matched(
        counts: impl RowSource + 'a,
        genes: GeneMatch,
        obs: Table,
        registry: Registry,
    ) -> Result<Self> {
        let counts: Box<dyn RowSource + 'a> = if genes.is_identity() {
            Box::new(counts)
        } else {
            Box::new(genes.source(counts)?)
        };
        let mut described = AnnData::default();
        described.obs = obs;
        Self::with_registry(counts, &described, registry, None)
    }
}

/// A query is trained on, so that its posterior is not enough.
fn require_counts(data: &AnnData) -> Result<()> {
    match MinifyKind::of(data)? {
        Some(kind) if !kind.has_counts() => Err(Error::NeedsCounts {
            what: "mapping a query",
        }),
        _ => Ok(()),
    }
}

fn with_labels<'t>(obs: &'t Table, reference: &Registry) -> Result<(Cow<'t, Table>, usize)> {
    let setup = &reference.setup;
    Ok(match (&setup.labels_key, &setup.unlabeled_category) {
        (Some(key), Some(unlabeled)) => {
            let (obs, filled) = fill_labels(obs, key, unlabeled)?;
            (Cow::Owned(obs), filled)
        }
        _ => (Cow::Borrowed(obs), 0),
    })
}

fn report(
    genes: &GeneMatch,
    reference: &Registry,
    query: &Registry,
    filled_labels: usize,
) -> QueryReport {
    let added = |old: &[String], new: &[String]| new.get(old.len()..).unwrap_or_default().to_vec();
    let levels = reference
        .categorical_covariates
        .iter()
        .zip(&query.categorical_covariates);
    QueryReport {
        genes: genes.report.clone(),
        new_batches: added(&reference.batches, &query.batches),
        new_levels: levels
            .zip(&query.setup.categorical_covariate_keys)
            .flat_map(|((old, new), key)| added(old, new).into_iter().map(|l| (key.clone(), l)))
            .collect(),
        filled_labels,
    }
}
