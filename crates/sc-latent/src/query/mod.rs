//! Reference mapping by architectural surgery (scArches, Lotfollahi et al., Nature Biotechnology 2022): a trained model is
//! given inputs for the batches of new data, and only what belongs to those is trained, so that the places of the
//! reference's cells stay where they are and those of the query are comparable with them.

mod extend;
mod freeze;
mod genes;
mod growth;
mod prepare;
mod scanvi;
mod surgery;

pub use genes::GeneReport;
pub use prepare::{Prepared, QueryReport, prepare_query};

use sc_model::train::TrainConfig;
use sc_model::{EarlyStopping, Mode, OptimizerKind, Param, Params};
use serde::{Deserialize, Serialize};

use crate::{Cells, Error, Parity, Registry, Result, Scvi, ScviConfig, ScviParams};

/// What of a query's model stays as the reference had it: scvi-tools' flags of `load_query_data`, with its defaults.
///
/// ```
/// use sc_latent::QueryOptions;
/// let mut options = QueryOptions::default();
/// options.freeze_decoder_first_layer = false;
/// assert!(options.freeze_expression && options.freeze_classifier && !options.unfrozen);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct QueryOptions {
    /// Freeze nothing at all; no other flag matters then. No.
    pub unfrozen: bool,
    /// Drop no hidden units while training. No.
    pub freeze_dropout: bool,
    /// Freeze also the first layer of the encoder, of which only the inputs of new categories are trained. Yes.
    pub freeze_expression: bool,
    /// Freeze also the first layer of the decoder, of which only the inputs of new categories are trained. Yes.
    pub freeze_decoder_first_layer: bool,
    /// Freeze scale, shift and running statistics of the encoder's batch norms, which then normalise by these while training
    /// too. Yes.
    pub freeze_batchnorm_encoder: bool,
    /// The same for the decoder. No.
    pub freeze_batchnorm_decoder: bool,
    /// Freeze the classifier of a model that has one. Yes.
    pub freeze_classifier: bool,
    /// [`Parity::Upstream`] repeats what scvi-tools 1.4 does: inputs of new categories behind all others, and thereby with
    /// the weights of other categories; the inputs of categories that the reference knows trained too; batch norms of a
    /// frozen classifier trained; embeddings and dispersions of new batches left at their random start; weight decay on
    /// frozen entries; and training as at inference, without dropout and with running statistics (it never leaves the
    /// evaluation mode in which it loads a model, since Lightning 2.2 does not do that for it).
    pub parity: Parity,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            unfrozen: false,
            freeze_dropout: false,
            freeze_expression: true,
            freeze_decoder_first_layer: true,
            freeze_batchnorm_encoder: true,
            freeze_batchnorm_decoder: false,
            freeze_classifier: true,
            parity: Parity::Correct,
        }
    }
}

impl QueryOptions {
    /// How scvi-hub's authors train queries (Ergen et al., Nature Methods 2025): up to 200 epochs, no weight decay, until the
    /// training ELBO has not improved by 0.001 for 10 epochs.
    pub fn train_config(&self) -> TrainConfig {
        let mut config = TrainConfig::default();
        config.max_epochs = Some(200);
        config.optimizer = OptimizerKind::Adam {
            betas: (0.9, 0.999),
            eps: 0.01,
            weight_decay: 0.0,
        };
        config.early_stopping = Some(EarlyStopping {
            monitor: "elbo_train".into(),
            min_delta: 0.001,
            patience: 10,
            ..EarlyStopping::default()
        });
        config.decay_frozen = self.parity == Parity::Upstream;
        config
    }
}

/// What the model of a query remembers of its reference: it decides what is trained, and is saved with the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Query {
    /// What stays as it was.
    pub options: QueryOptions,
    /// Batches of the reference; those of the query have the codes that follow.
    pub reference_batches: usize,
    /// Levels of each categorical covariate in the reference.
    pub reference_levels: Vec<usize>,
}

impl Query {
    pub(crate) fn new(reference: &Registry, options: &QueryOptions) -> Self {
        Self {
            options: *options,
            reference_batches: reference.batches.len(),
            reference_levels: reference
                .categorical_covariates
                .iter()
                .map(Vec::len)
                .collect(),
        }
    }
}

/// Makes a fresh model with room for a query into one of the query: it gets the reference's weights, and is frozen.
pub(crate) fn operate(
    reference: (&Registry, &Params),
    fresh: (&Registry, &Params),
    config: &ScviConfig,
    options: &QueryOptions,
) -> Result<Query> {
    check_extends(reference.0, fresh.0)?;
    let query = Query::new(reference.0, options);
    let growth = growth::Growth::new(config, &query, fresh.0);
    surgery::transplant(reference.1, fresh.1, &growth, options.parity)?;
    freeze::freeze(fresh.1, config, fresh.0, &query)?;
    Ok(query)
}

/// Freezes the parameters of the model of a query.
pub(crate) fn freeze_params(
    params: &Params,
    config: &ScviConfig,
    registry: &Registry,
    query: &Query,
) -> Result<()> {
    freeze::freeze(params, config, registry, query)
}

/// Whether a registry is that of a query of a reference: codes that the reference gave must mean the same.
pub(crate) fn check_extends(reference: &Registry, query: &Registry) -> Result<()> {
    let starts_with = |new: &[String], old: &[String]| new.get(..old.len()) == Some(old);
    let (a, b) = (&reference.setup, &query.setup);
    let levels = query
        .categorical_covariates
        .iter()
        .zip(&reference.categorical_covariates);
    let fits = reference.genes == query.genes
        && reference.labels == query.labels
        && starts_with(&query.batches, &reference.batches)
        && query.categorical_covariates.len() == reference.categorical_covariates.len()
        && levels.clone().all(|(new, old)| starts_with(new, old))
        && a.continuous_covariate_keys == b.continuous_covariate_keys
        && a.size_factor_key.is_some() == b.size_factor_key.is_some();
    if fits {
        return Ok(());
    }
    Err(Error::InvalidSetting {
        name: "cells",
        value: "made for other genes or categories".into(),
        reason: "make the cells of a query with Cells::for_query(data, reference.registry())"
            .into(),
    })
}

impl Scvi {
    /// A model for a query, with this model as its reference: the same weights, and room for the query's new batches and
    /// covariate levels, of which alone the weights are trained (and what `options` thaws). `cells` come from
    /// [`Cells::for_query`]; train the model on them with [`QueryOptions::train_config`].
    ///
    /// Weights of new categories start as in a fresh model made from `seed`; the dispersion of a new batch starts at the mean
    /// of the reference's batches, the prior of a learned library size at what the query's cells say. With the encoder
    /// frozen, as it is by default, a cell of the reference keeps its place in the latent space for good.
    ///
    /// Nothing of the encoder learns about the query unless the reference was made with `encode_covariates`.
    ///
    /// ```
    /// use sc_data::{AnnData, Categorical, Column, Csr, Table};
    /// use sc_latent::{Cells, QueryOptions, Scvi, Setup};
    /// use sc_model::train::TrainConfig;
    ///
    /// # fn main() -> Result<(), sc_latent::Error> {
    /// // Forty cells of donor `name`, with genes from number `first`.
    /// let cells_of = |name: &str, first: usize| -> Result<AnnData, sc_latent::Error> {
    ///     let counts = ndarray::Array2::from_shape_fn((40, 6), |(i, g)| ((i * 5 + g * 7) % 6 + 1) as f32);
    ///     let mut obs = Table::new((0..40).map(|i| format!("{name} {i}")).collect());
    ///     obs.insert("donor", Column::Categorical(Categorical::from_labels(&vec![name; 40])))?;
    ///     let var = Table::new((0..6).map(|g| format!("gene {}", g + first)).collect());
    ///     Ok(AnnData::new(Csr::from_dense(&counts), obs, var)?)
    /// };
    /// let setup = Setup { batch_key: Some("donor".into()), ..Setup::default() };
    /// let reference_data = cells_of("A", 0)?;
    /// let reference_cells = Cells::new(&reference_data, &setup)?;
    /// let mut reference = Scvi::params(&reference_cells)
    ///     .encode_covariates(true)
    ///     .check()?
    ///     .init(&candle_core::Device::Cpu, 0)?;
    /// let mut short = TrainConfig::default();
    /// short.max_epochs = Some(2);
    /// reference.fit(&reference_cells, &short, &mut ())?;
    ///
    /// // The query lacks one of the reference's genes, and has one that the reference does not know.
    /// let query_data = cells_of("B", 1)?;
    /// let (cells, report) = Cells::for_query(&query_data, reference.registry())?;
    /// assert_eq!((report.genes.shared, &report.new_batches[..]), (5, &["B".to_owned()][..]));
    /// let options = QueryOptions::default();
    /// let mut query = reference.load_query(&cells, &options, 0)?;
    /// let mut config = options.train_config();
    /// config.max_epochs = Some(3);
    /// query.fit(&cells, &config, &mut ())?;
    /// assert_eq!(query.latent(&cells)?.mean.dim(), (40, 10));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the cells are not those of a query of this model.
    pub fn load_query(&self, cells: &Cells<'_>, options: &QueryOptions, seed: u64) -> Result<Self> {
        let registry = cells.registry();
        check_extends(&self.registry, registry)?;
        let mut model = ScviParams::new(self.config.clone(), registry.clone())
            .check()?
            .init_with_dtype(self.device(), self.dtype(), seed)?;
        model.query = Some(operate(
            (&self.registry, &self.params),
            (registry, &model.params),
            &self.config,
            options,
        )?);
        model.start_query(cells)?;
        Ok(model)
    }

    /// Takes a model for that of a query of `reference`, and freezes it accordingly: for one that scvi-tools saved, whose
    /// files don't say what was frozen.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if this model's categories don't begin with those of the reference.
    pub fn freeze_as_query(&mut self, reference: &Registry, options: &QueryOptions) -> Result<()> {
        check_extends(reference, &self.registry)?;
        self.freeze(Query::new(reference, options))
    }

    /// What is kept of the reference, if this is the model of a query.
    pub fn query(&self) -> Option<&Query> {
        self.query.as_ref()
    }

    pub(crate) fn freeze(&mut self, query: Query) -> Result<()> {
        freeze_params(&self.params, &self.config, &self.registry, &query)?;
        self.query = Some(query);
        Ok(())
    }

    /// What a query's model learns before it is trained.
    pub(crate) fn start_query(&self, cells: &Cells<'_>) -> Result<()> {
        self.learn_library_prior(cells)?;
        if self.params.trainable().next().is_none() {
            tracing::warn!(
                "nothing of this model is trained: the query has no batch or covariate level that the reference does not know"
            );
        }
        Ok(())
    }

    /// How a training step of a query's model runs. It may drop no units. Frozen batch norms normalise by their statistics:
    /// those of a minibatch would take out what its cells share, and with it whatever the inputs of a query's only batch add.
    pub(crate) fn training_mode<'m>(&self, mode: Mode<'m>) -> Mode<'m> {
        match &self.query {
            Some(q) if q.options.parity == Parity::Upstream => mode.as_at_inference(),
            Some(q) if q.options.freeze_dropout => mode.without_dropout().with_frozen_statistics(),
            Some(_) => mode.with_frozen_statistics(),
            None => mode,
        }
    }

    /// The fewest cells that a training minibatch of some networks may hold, which are told by the names of their parameters:
    /// 2 where a batch norm takes their variance.
    pub(crate) fn fewest_cells(&self, is_of: impl Fn(&str) -> bool) -> usize {
        let frozen = |p: &Param| match &self.query {
            Some(q) => q.options.parity == Parity::Upstream || !p.is_updated(),
            None => false,
        };
        let mut statistics = self
            .params
            .iter()
            .filter(|p| p.is_buffer() && p.name().ends_with(".running_mean") && is_of(p.name()));
        if statistics.any(|p| !frozen(p)) { 2 } else { 1 }
    }
}
