//! # sc-latent
//!
//! scVI, LinearSCVI and scANVI: variational auto-encoders of single-cell counts that remove batch effects, give each cell a
//! place in a latent space, and its expression without noise. Models that scvi-tools saved open here, and the other way
//! round.
//!
//! | what | how |
//! |---|---|
//! | cells for a new model | [`Cells::new`], with a [`Setup`] that says which columns mean what |
//! | settings | [`Scvi::params`] or [`Scvi::linear_params`], then [`ScviParams::check`] |
//! | train | [`Scvi::fit`], [`Scvi::resume`] |
//! | latent space | [`Scvi::latent`] |
//! | expression | [`Scvi::normalized_expression`], [`Scvi::posterior_predictive_sample`] |
//! | which genes differ | [`de::differential_expression`] |
//! | how good is it | [`Scvi::elbo`], [`Scvi::marginal_ll`] |
//! | labels for cells | [`Scanvi::params`] or [`Scanvi::from_scvi`], [`Scanvi::fit`], [`Scanvi::predict`] |
//! | new data on an old model | [`Cells::for_query`], [`Scvi::load_query`], [`Scanvi::load_query`], [`QueryOptions::train_config`] |
//! | cells without their counts | [`Scvi::minify`], [`mod@minify`] |
//! | a model with its card | [`mod@hub`]; pulling one over the network is the feature `hub` |
//! | files | [`AnyModel::load`], [`Scvi::save`], [`Scvi::load`], [`Scvi::from_scvi_tools`], [`Scvi::save_scvi_tools`] |
//! | differential abundance | [`milo`] |
//!
//! ```
//! use sc_latent::{Cells, Expression, Scvi, Setup};
//! use sc_data::{AnnData, Categorical, Column, Csr, Table};
//! use sc_model::train::TrainConfig;
//!
//! # fn main() -> Result<(), sc_latent::Error> {
//! // Forty cells in two batches, six genes.
//! let counts = ndarray::Array2::from_shape_fn((40, 6), |(i, g)| ((i * 5 + g * 7) % 6) as f32);
//! let mut obs = Table::new((0..40).map(|i| format!("cell {i}")).collect());
//! let donors: Vec<&str> = (0..40).map(|i| if i < 20 { "A" } else { "B" }).collect();
//! obs.insert("donor", Column::Categorical(Categorical::from_labels(&donors)))?;
//! let var = Table::new((0..6).map(|g| format!("gene {g}")).collect());
//! let data = AnnData::new(Csr::from_dense(&counts), obs, var)?;
//!
//! let cells = Cells::new(&data, &Setup { batch_key: Some("donor".into()), ..Setup::default() })?;
//! let mut model = Scvi::params(&cells).n_latent(3).check()?.init(&candle_core::Device::Cpu, 0)?;
//! let mut config = TrainConfig::default();
//! config.max_epochs = Some(2);
//! model.fit(&cells, &config, &mut ())?;
//!
//! // Expression as if every cell came from donor A.
//! let mut as_a = Expression::default();
//! as_a.transform_batch = vec!["A".into()];
//! as_a.n_samples = 0;
//! let expression = model.normalized_expression(&cells, &as_a)?;
//! assert!((expression.row(0).sum() - 1.0).abs() < 1e-4);
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod any_model;
mod arrays;
mod cells;
mod conditions;
mod config;
mod correlate;
pub mod de;
mod decoded;
mod elbo;
mod error;
mod expression;
pub mod hub;
mod marginal;
pub mod milo;
pub mod minify;
mod model;
mod nets;
mod params;
mod query;
mod registry;
mod scanvi;
mod traits;
mod upstream;

pub use any_model::AnyModel;
pub use cells::{Cells, Minibatch, NonInteger};
pub use config::{
    BatchRepresentation, Decoder, Dispersion, LatentDistribution, Likelihood, NormIn, ScviConfig,
    VarActivation,
};
pub use decoded::Decoded;
pub use elbo::{CellElbo, ElboTerms, Noise};
pub use error::{Error, Result};
pub use expression::{
    Correlation, DrawOptions, Expression, ExpressionDraws, FeatureCorrelation, Importance, Latent,
    LibrarySize, LikelihoodParameters, LikelihoodSamples, Weights,
};
pub use model::{Scvi, Training};
pub use nets::Posterior;
pub use params::{ScviParams, ScviValidParams};
pub use query::{GeneReport, Prepared, Query, QueryOptions, QueryReport, prepare_query};
pub use registry::{Registry, Setup};
pub use sc_model::Parity;
pub use scanvi::{
    ClassifierConfig, Labels, PredictAt, Scanvi, ScanviConfig, ScanviParams, ScanviTerms,
    ScanviValidParams, SemiSupervised,
};
pub use upstream::{Kept, is_scvi_tools_model};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
