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
    /// The label that stands for "not known", for SCANVI. It becomes the last of the labels.
    pub unlabeled_category: Option<String>,
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
    /// The labels, in the order of their codes; with [`Setup::unlabeled_category`] that one is the last.
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
        if setup.unlabeled_category.is_some() && setup.labels_key.is_none() {
            return Err(no_labels_key());
        }
        let keys = setup
            .batch_key
            .iter()
            .chain(&setup.labels_key)
            .chain(&setup.categorical_covariate_keys);
        let is_integer = |key: &&String| is_integers(obs, key);
        Ok(Self {
            integer_keys: keys.filter(is_integer).cloned().collect(),
            setup: setup.clone(),
            genes: genes.to_vec(),
            batches: of(&setup.batch_key)?,
            labels: match &setup.unlabeled_category {
                Some(unlabeled) => with_unlabeled_last(of(&setup.labels_key)?, unlabeled),
                None => of(&setup.labels_key)?,
            },
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

    /// The number of labels that a cell can have, without the one that stands for "not known".
    pub fn n_labels(&self) -> usize {
        self.labels.len() - usize::from(self.unlabeled_code().is_some())
    }

    /// The labels that a cell can have, without the one that stands for "not known".
    pub fn known_labels(&self) -> &[String] {
        self.labels.get(..self.n_labels()).unwrap_or_default()
    }

    /// The code of the label that stands for "not known", which is the last, if there is one.
    pub fn unlabeled_code(&self) -> Option<u32> {
        let unlabeled = self.setup.unlabeled_category.as_ref()?;
        let last = self.labels.len().checked_sub(1)?;
        (self.labels.get(last)? == unlabeled).then_some(last as u32)
    }

    /// The same genes, batches and covariates with the labels of a column of `obs`, of which `unlabeled_category` stands
    /// for "not known": what SCANVI needs of data that an scVI model was trained on.
    ///
    /// # Errors
    /// If the column is missing or lacks values.
    pub fn with_labels(
        &self,
        obs: &Table,
        labels_key: &str,
        unlabeled_category: &str,
    ) -> Result<Self> {
        let labels = categories(obs, labels_key)?;
        let mut new = self.clone();
        new.integer_keys
            .retain(|k| Some(k) != self.setup.labels_key.as_ref());
        if is_integers(obs, labels_key) {
            new.integer_keys.push(labels_key.to_owned());
        }
        new.setup.labels_key = Some(labels_key.to_owned());
        new.setup.unlabeled_category = Some(unlabeled_category.to_owned());
        new.labels = with_unlabeled_last(labels, unlabeled_category);
        // A posterior that was stored is that of the model without labels.
        new.minified = None;
        Ok(new)
    }

    /// The same for cells whose labels are not to be looked at, even if there is a column with them: all have the label
    /// that stands for "not known".
    #[must_use]
    pub fn without_labels(&self) -> Self {
        let mut new = self.clone();
        if new.unlabeled_code().is_some() {
            new.setup.labels_key = None;
        }
        new
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

/// Whether a column holds whole numbers.
fn is_integers(obs: &Table, key: &str) -> bool {
    matches!(
        obs.get(key),
        Some(Column::Int(_) | Column::Int32(_) | Column::OptInt(_))
    )
}

fn no_labels_key() -> crate::Error {
    crate::Error::InvalidSetting {
        name: "labels_key",
        value: "none".into(),
        reason: "a label that stands for \"not known\" needs a column of labels".into(),
    }
}

/// Makes `unlabeled` the last category as scvi-tools does: it changes places with the last one, or is added.
fn with_unlabeled_last(mut categories: Vec<String>, unlabeled: &str) -> Vec<String> {
    match categories.iter().position(|c| c == unlabeled) {
        Some(i) => {
            let last = categories.len() - 1;
            categories.swap(i, last);
        }
        None => categories.push(unlabeled.to_owned()),
    }
    categories
}

fn categories(obs: &Table, key: &str) -> Result<Vec<String>> {
    let column = obs.column("obs", key)?.to_categorical(key)?;
    column.complete_codes(key)?;
    Ok(column.categories().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_data::{Categorical, Csr};

    fn data(labels: &[&str]) -> AnnData {
        let mut obs = Table::new((0..labels.len()).map(|i| i.to_string()).collect());
        obs.insert(
            "label",
            Column::Categorical(Categorical::from_labels(labels)),
        )
        .unwrap();
        let counts = ndarray::Array2::<f32>::ones((labels.len(), 2));
        let var = Table::new(vec!["a".into(), "b".into()]);
        AnnData::new(Csr::from_dense(&counts), obs, var).unwrap()
    }

    fn setup(unlabeled: &str) -> Setup {
        Setup {
            labels_key: Some("label".into()),
            unlabeled_category: Some(unlabeled.into()),
            ..Setup::default()
        }
    }

    #[test]
    fn the_unlabelled_category_changes_places_with_the_last() {
        let data = data(&["label_0", "label_1", "label_2", "label_1"]);
        let r = Registry::new(&data, &setup("label_0")).unwrap();
        assert_eq!(r.labels, ["label_2", "label_1", "label_0"]);
        assert_eq!((r.n_labels(), r.unlabeled_code()), (2, Some(2)));
        assert_eq!(r.known_labels(), ["label_2", "label_1"]);
        let r = Registry::new(&data, &setup("Unknown")).unwrap();
        assert_eq!(r.labels, ["label_0", "label_1", "label_2", "Unknown"]);
        let plain = Registry::new(&data, &Setup::default()).unwrap();
        assert_eq!((plain.n_labels(), plain.unlabeled_code()), (1, None));
        let later = plain.with_labels(&data.obs, "label", "label_0").unwrap();
        assert_eq!(later.labels, ["label_2", "label_1", "label_0"]);
    }

    #[test]
    fn an_unlabelled_category_needs_labels() {
        let mut setup = setup("Unknown");
        setup.labels_key = None;
        let message = Registry::new(&data(&["a"]), &setup)
            .unwrap_err()
            .to_string();
        assert!(message.contains("labels_key"), "{message}");
    }
}
