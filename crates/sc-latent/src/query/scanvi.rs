//! The same for a model with labels.

use super::{Query, QueryOptions, check_extends, operate};
use crate::scanvi::ScanviParams;
use crate::{Cells, Registry, Result, Scanvi};

impl Scanvi {
    /// A model for a query, with this model as its reference, as [`Scvi::load_query`](crate::Scvi::load_query). Cells of the
    /// query that have a label take part in the loss of the classifier, which by default is frozen all the same.
    ///
    /// ```
    /// use sc_data::{AnnData, Categorical, Column, Csr, Table};
    /// use sc_latent::{Cells, PredictAt, QueryOptions, Scanvi, SemiSupervised, Setup};
    /// use sc_model::train::TrainConfig;
    ///
    /// # fn main() -> Result<(), sc_latent::Error> {
    /// # let data = |name: &str, label: &str| -> Result<AnnData, sc_latent::Error> {
    /// #     let counts = ndarray::Array2::from_shape_fn((40, 6), |(i, g)| ((i * 5 + g * 7) % 6 + 1) as f32);
    /// #     let mut obs = Table::new((0..40).map(|i| format!("{name} {i}")).collect());
    /// #     obs.insert("donor", Column::Categorical(Categorical::from_labels(&vec![name; 40])))?;
    /// #     if !label.is_empty() {
    /// #         let kinds: Vec<&str> = (0..40).map(|i| ["T", "B", label][i % 3]).collect();
    /// #         obs.insert("kind", Column::Categorical(Categorical::from_labels(&kinds)))?;
    /// #     }
    /// #     Ok(AnnData::new(Csr::from_dense(&counts), obs, Table::new((0..6).map(|g| g.to_string()).collect()))?)
    /// # };
    /// let setup = Setup {
    ///     batch_key: Some("donor".into()),
    ///     labels_key: Some("kind".into()),
    ///     unlabeled_category: Some("Unknown".into()),
    ///     ..Setup::default()
    /// };
    /// let reference_data = data("A", "Unknown")?;
    /// let cells = Cells::new(&reference_data, &setup)?;
    /// let mut reference = Scanvi::params(&cells).encode_covariates(true).check()?.init(&candle_core::Device::Cpu, 0)?;
    /// let mut config = TrainConfig::default();
    /// config.max_epochs = Some(2);
    /// reference.fit(&cells, &config, &SemiSupervised::default(), &mut ())?;
    ///
    /// let query_data = data("B", "")?;                          // has no column "kind"
    /// let (cells, report) = Cells::for_query(&query_data, reference.registry())?;
    /// assert_eq!(report.filled_labels, 40);
    /// let options = QueryOptions::default();
    /// let mut query = reference.load_query(&cells, &options, 0)?;
    /// let mut config = options.train_config();
    /// config.max_epochs = Some(2);
    /// query.fit(&cells, &config, &SemiSupervised::default(), &mut ())?;
    /// assert_eq!(query.predict(&cells, PredictAt::PosteriorMean)?.labels, ["B", "T"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Scvi::load_query`](crate::Scvi::load_query).
    pub fn load_query(&self, cells: &Cells<'_>, options: &QueryOptions, seed: u64) -> Result<Self> {
        let (reference, registry) = (&self.scvi, cells.registry());
        check_extends(&reference.registry, registry)?;
        let mut model = ScanviParams::new(self.config(), registry.clone())
            .check()?
            .init_with_dtype(reference.device(), reference.dtype(), seed)?;
        model.pretrained = self.pretrained;
        model.scvi.query = Some(operate(
            (&reference.registry, &reference.params),
            (registry, &model.scvi.params),
            &reference.config,
            options,
        )?);
        model.scvi.start_query(cells)?;
        Ok(model)
    }

    /// Takes a model for that of a query of `reference`, as [`Scvi::freeze_as_query`](crate::Scvi::freeze_as_query).
    ///
    /// # Errors
    /// As [`Scvi::freeze_as_query`](crate::Scvi::freeze_as_query).
    pub fn freeze_as_query(&mut self, reference: &Registry, options: &QueryOptions) -> Result<()> {
        self.scvi.freeze_as_query(reference, options)
    }

    /// What is kept of the reference, if this is the model of a query.
    pub fn query(&self) -> Option<&Query> {
        self.scvi.query()
    }
}
