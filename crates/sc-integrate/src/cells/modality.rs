//! One modality: values of cells, and what is known of these.

use ndarray::Array2;
use sc_data::{AnnData, Categorical, RowSource};

use crate::{Error, Likelihood, Result};

/// The cells of one modality: values of features, read where they lie, one minibatch at a time.
///
/// ```
/// use sc_integrate::{Likelihood, Modality};
///
/// let counts = ndarray::array![[3.0f32, 0.0], [1.0, 2.0]];
/// let cells = vec!["AAAC".to_owned(), "AAAG".to_owned()];
/// let proteins = vec!["CD3".to_owned(), "CD19".to_owned()];
/// let adt = Modality::new("adt", counts, cells, proteins)?.likelihood(Likelihood::Nb).weight(2.0);
/// assert_eq!(adt.n_cells(), 2);
/// # Ok::<(), sc_integrate::Error>(())
/// ```
#[must_use]
pub struct Modality<'a> {
    pub(super) name: String,
    pub(super) values: Box<dyn RowSource + 'a>,
    pub(super) cells: Vec<String>,
    pub(super) features: Vec<String>,
    pub(super) representation: Option<Array2<f32>>,
    pub(super) batches: Option<Categorical>,
    pub(super) labels: Option<Categorical>,
    pub(super) likelihood: Likelihood,
    pub(super) weight: f64,
}

impl std::fmt::Debug for Modality<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Modality")
            .field("name", &self.name)
            .field("n_cells", &self.cells.len())
            .field("n_features", &self.features.len())
            .field("likelihood", &self.likelihood)
            .finish_non_exhaustive()
    }
}

impl<'a> Modality<'a> {
    /// Values from anywhere, `[cells, features]`. The name of a cell says which cell of another modality it is.
    ///
    /// # Errors
    /// [`sc_data::Error::LengthMismatch`] unless there is a name for each row and column.
    pub fn new(
        name: impl Into<String>,
        values: impl RowSource + 'a,
        cells: Vec<String>,
        features: Vec<String>,
    ) -> Result<Self> {
        let name = name.into();
        let of = |what: &str| format!("the {what} of modality \"{name}\"");
        same(&of("names of cells"), cells.len(), values.n_rows())?;
        same(&of("names of features"), features.len(), values.n_cols())?;
        Ok(Self {
            name,
            values: Box::new(values),
            cells,
            features,
            representation: None,
            batches: None,
            labels: None,
            likelihood: Likelihood::default(),
            weight: 1.0,
        })
    }

    /// Values of `X` or a layer.
    ///
    /// # Errors
    /// If there is no such layer.
    pub fn from_anndata(
        name: impl Into<String>,
        data: &'a AnnData,
        layer: Option<&str>,
    ) -> Result<Self> {
        let (cells, features) = (data.obs.index().to_vec(), data.var.index().to_vec());
        Self::new(name, data.matrix(layer)?, cells, features)
    }

    /// The distribution of the values; negative binomial unless set.
    pub fn likelihood(mut self, likelihood: Likelihood) -> Self {
        self.likelihood = likelihood;
        self
    }

    /// How much the modality weighs in the loss, relative to the others; 1 unless set.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// What the encoders read instead of the values: principal components, LSI, or another model's embedding, one row a
    /// cell.
    ///
    /// # Errors
    /// [`sc_data::Error::LengthMismatch`] unless there is a row for each cell; [`Error::InvalidSetting`] if a number is not
    /// finite.
    pub fn representation(mut self, representation: Array2<f32>) -> Result<Self> {
        let what = format!("the representation of modality \"{}\"", self.name);
        same(&what, representation.nrows(), self.cells.len())?;
        if let Some(((row, column), value)) =
            representation.indexed_iter().find(|(_, v)| !v.is_finite())
        {
            return Err(Error::InvalidSetting {
                name: "representation",
                value: value.to_string(),
                reason: format!("{what} must be finite; row {row}, column {column} is not"),
            });
        }
        self.representation = Some(representation);
        Ok(self)
    }

    /// The batch of each cell; the decoder reads it.
    ///
    /// # Errors
    /// [`sc_data::Error::LengthMismatch`] unless there is one for each cell.
    pub fn batches(mut self, batches: &Categorical) -> Result<Self> {
        let what = format!("the batches of modality \"{}\"", self.name);
        same(&what, batches.len(), self.cells.len())?;
        self.batches = Some(batches.clone());
        Ok(self)
    }

    /// The label of each cell, missing where it is not known. With labels, a linear classifier is trained on the embedding.
    ///
    /// # Errors
    /// [`sc_data::Error::LengthMismatch`] unless there is one, or a missing one, for each cell.
    pub fn labels(mut self, labels: &Categorical) -> Result<Self> {
        let what = format!("the labels of modality \"{}\"", self.name);
        same(&what, labels.len(), self.cells.len())?;
        self.labels = Some(labels.clone());
        Ok(self)
    }

    /// Number of cells.
    pub fn n_cells(&self) -> usize {
        self.cells.len()
    }
}

fn same(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(sc_data::Error::LengthMismatch {
        what: what.to_owned(),
        found,
        expected,
    }
    .into())
}
