use sc_data::{AnnData, Column, Table};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::minify::MinifiedKeys;

/// Which columns of `obs` mean what: scvi-tools' `setup_anndata`.
///
/// ```
/// use sc_latent::Setup;
/// let setup = Setup { batch_key: Some("donor".into()), layer: Some("counts".into()), ..Setup::default() };
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// The layer with the counts; `None` is `X`.
    pub layer: Option<String>,
    /// The column with the batch of each cell.
    pub batch_key: Option<String>,
    /// The column with the label of each cell.
    pub labels_key: Option<String>,
    /// The column with a size factor of each cell (not its logarithm).
    pub size_factor_key: Option<String>,
    /// Columns with further categories to correct for.
    pub categorical_covariate_keys: Vec<String>,
    /// Columns with numbers to correct for, used as they are.
    pub continuous_covariate_keys: Vec<String>,
}

/// What a model remembers of the data it was made for: genes and categories, and thereby what each code means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// Which columns mean what.
    pub setup: Setup,
    /// The genes, in the order of the model's inputs.
    pub genes: Vec<String>,
    /// The batches, in the order of their codes.
    pub batches: Vec<String>,
    /// The labels, in the order of their codes.
    pub labels: Vec<String>,
    /// The categories of each categorical covariate.
    pub categorical_covariates: Vec<Vec<String>>,
    /// The columns whose categories are whole numbers; scvi-tools tells them from text.
    #[serde(default)]
    pub integer_keys: Vec<String>,
    /// Where minified data keep the posterior, if the model was saved with such data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minified: Option<MinifiedKeys>,
}

/// The one category of a column that was not given, as scvi-tools calls it.
pub(crate) const NO_CATEGORY: &str = "0";

impl Registry {
    /// For so many genes called `0`, `1`, ..., one batch and no covariates.
    pub fn plain(n_genes: usize) -> Self {
        Self {
            setup: Setup::default(),
            genes: (0..n_genes).map(|g| g.to_string()).collect(),
            batches: vec![NO_CATEGORY.into()],
            labels: vec![NO_CATEGORY.into()],
            categorical_covariates: Vec::new(),
            integer_keys: Vec::new(),
            minified: None,
        }
    }

    /// Reads genes and categories off the data.
    ///
    /// Categories of a categorical column keep their order, unused ones included; other columns are sorted.
    ///
    /// # Errors
    /// If a column is missing, holds no labels, or lacks values; if a gene name occurs twice.
    pub fn new(annotations: &AnnData, setup: &Setup) -> Result<Self> {
        let genes = annotations.var.index();
        let mut seen = std::collections::HashSet::with_capacity(genes.len());
        if let Some(twice) = genes.iter().find(|g| !seen.insert(g.as_str())) {
            return Err(sc_data::Error::Duplicate {
                what: "var (the gene names)".into(),
                name: twice.clone(),
            }
            .into());
        }
        let obs = &annotations.obs;
        let of = |key: &Option<String>| match key {
            Some(key) => categories(obs, key),
            None => Ok(vec![NO_CATEGORY.to_owned()]),
        };
        for key in setup
            .continuous_covariate_keys
            .iter()
            .chain(&setup.size_factor_key)
        {
            obs.column("obs", key)?.to_f64(key)?;
        }
        let keys = setup
            .batch_key
            .iter()
            .chain(&setup.labels_key)
            .chain(&setup.categorical_covariate_keys);
        let is_integer = |key: &&String| {
            matches!(
                obs.get(key),
                Some(Column::Int(_) | Column::Int32(_) | Column::OptInt(_))
            )
        };
        Ok(Self {
            integer_keys: keys.filter(is_integer).cloned().collect(),
            setup: setup.clone(),
            genes: genes.to_vec(),
            batches: of(&setup.batch_key)?,
            labels: of(&setup.labels_key)?,
            categorical_covariates: setup
                .categorical_covariate_keys
                .iter()
                .map(|key| categories(obs, key))
                .collect::<Result<_>>()?,
            minified: None,
        })
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.genes.len()
    }

    /// The code of a batch.
    ///
    /// # Errors
    /// [`sc_data::Error::NotFound`], which lists the batches there are.
    pub fn batch_code(&self, batch: &str) -> Result<u32> {
        let found = self.batches.iter().position(|b| b == batch);
        Ok(found
            .map(|i| i as u32)
            .ok_or_else(|| sc_data::Error::NotFound {
                container: "the model".into(),
                kind: "batch",
                name: batch.to_owned(),
                available: self.batches.join(", "),
            })?)
    }

    /// The columns of genes.
    ///
    /// # Errors
    /// [`sc_data::Error::NotFound`] for the first that is unknown.
    pub fn gene_indices<S: AsRef<str>>(&self, genes: &[S]) -> Result<Vec<usize>> {
        let lookup: std::collections::HashMap<&str, usize> = self
            .genes
            .iter()
            .enumerate()
            .map(|(i, g)| (g.as_str(), i))
            .collect();
        genes
            .iter()
            .map(|g| {
                Ok(lookup
                    .get(g.as_ref())
                    .copied()
                    .ok_or_else(|| sc_data::Error::NotFound {
                        container: "the model".into(),
                        kind: "gene",
                        name: g.as_ref().to_owned(),
                        available: format!("{} genes", self.genes.len()),
                    })?)
            })
            .collect()
    }
}

fn categories(obs: &Table, key: &str) -> Result<Vec<String>> {
    let column = obs.column("obs", key)?.to_categorical(key)?;
    column.complete_codes(key)?;
    Ok(column.categories().to_vec())
}
