//! # sc-integrate
//!
//! Cells of several modalities (RNA, open chromatin, proteins, anything with features and a likelihood) in one embedding, in
//! which each modality has a subspace of its own: CLUE.
//!
//! | what | how |
//! |---|---|
//! | cells for a new model | [`Modality::new`], then [`MultiCells::new`]; cells of the same name are the same cell |
//! | settings | [`Clue::params`], then [`ClueParams::check`]; [`ClueConfig::winning_cite`] |
//! | train | [`Clue::fit_best`], [`Clue::resume`], [`ClueTrainConfig::for_cells`] |
//! | take new cells in | [`Clue::extended`], [`ClueTrainConfig::second_stage`] |
//! | embedding | [`Clue::embed_joint`], [`Clue::embed_modality`] |
//! | one modality from another | [`Clue::predict`] |
//! | which cell is which | [`matching`] |
//! | labels | [`Clue::transfer_labels`] |
//! | posterior predictive checks | [`Clue::of_modality`], [`Clue::across`] |
//! | graphs of features | [`graph`] |
//! | files | [`Clue::save`], [`Clue::load`] |
//!
//! ```
//! use sc_integrate::{Clue, ClueTrainConfig, Compose, Modality, MultiCells, PredictOptions};
//!
//! # fn main() -> Result<(), sc_integrate::Error> {
//! // Thirty cells with RNA, thirty with proteins, and twenty of them with both.
//! let counts = |n: usize, first: usize, features: usize| {
//!     ndarray::Array2::from_shape_fn((n, features), |(i, f)| {
//!         let high = (i + first) % 2 == f % 2;
//!         ((i * 5 + f * 7) % 4 + if high { 6 } else { 0 }) as f32
//!     })
//! };
//! let names = |cells: std::ops::Range<usize>| cells.map(|i| format!("cell {i}")).collect::<Vec<_>>();
//! let features = |kind: &str, n: usize| (0..n).map(|i| format!("{kind} {i}")).collect::<Vec<_>>();
//! let rna = Modality::new("rna", counts(30, 0, 12), names(0..30), features("gene", 12))?;
//! let adt = Modality::new("adt", counts(30, 10, 5), names(10..40), features("protein", 5))?;
//! let cells = MultiCells::new(vec![rna, adt])?;
//! assert_eq!((cells.n_cells(), cells.paired("rna", "adt")?.len()), (40, 20));
//!
//! let params = Clue::params(&cells).latent_dim(3).encoder_dim(16).decoder_dim(8).adversary_dim(8);
//! let mut model = params.check()?.init(&candle_core::Device::Cpu, 0)?;
//! let mut config = ClueTrainConfig::for_cells(cells.n_cells());
//! config.train.max_epochs = Some(3);
//! model.fit_best(&cells, &config, &mut ())?;
//!
//! let embedding = model.embed_joint(&cells, Compose::Own)?;
//! assert_eq!(embedding.values.dim(), (40, 6));
//! let proteins = model.predict(&cells, "rna", "adt", &PredictOptions::default())?;
//! assert_eq!(proteins.mean.dim(), (30, 5));
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cells;
mod config;
mod downstream;
mod error;
pub mod graph;
mod likelihood;
mod losses;
pub mod matching;
mod model;
mod nets;
mod params;
mod registry;
mod stages;
mod train;

pub use cells::{Minibatch, Modality, MultiCells, Part};
pub use config::{AdversaryInput, Alignment, ClueConfig, Fusion, LossWeights, PairingLoss, Turns};
pub use downstream::{
    Compose, JointEmbedding, LibrarySize, ModalityEmbedding, OfModality, PredictOptions, Prediction,
};
pub use error::{Error, Result};
pub use likelihood::Likelihood;
pub use losses::{Noise, Terms};
pub use model::{Clue, Posterior, Training};
pub use params::{ClueParams, ClueValidParams};
pub use registry::{ModalityInfo, Registry};
pub use sc_model::Parity;
pub use train::ClueTrainConfig;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
