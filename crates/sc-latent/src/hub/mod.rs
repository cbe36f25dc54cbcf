//! Hub folders: a trained model with what others need to use it, in scvi-hub's layout.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.pt` | weights, genes, categories: what scvi-tools loads |
//! | `adata.h5ad` | the cells, usually minified |
//! | `_scvi_required_metadata.json` | class and versions ([`HubMetadata`]) |
//! | `README.md` | the model card ([`ModelCard`]) |
//! | `metrics.json` | how good the model is, as tables ([`Metrics`]) |
//!
//! [`HubModel::open`] reads such a folder, whoever wrote it; [`HubModel::pack`] writes one that scvi-tools opens with
//! `HubModel(dir)`. With the feature `hub`, [`pull`] fetches one by name and revision.
//!
//! This crate knows no HDF5: [`HubModel::adata_path`] says where the cells are, and sc-io reads them.
//!
//! ```
//! use sc_latent::{Cells, Scvi, hub::{HubModel, PackOptions}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let counts = ndarray::Array2::from_shape_fn((30, 6), |(i, g)| ((i * 5 + g * 3) % 7) as f32);
//! let model = Scvi::params(&Cells::plain(&counts)).check()?.init(&candle_core::Device::Cpu, 0)?;
//!
//! let dir = tempfile::tempdir()?;
//! let mut options = PackOptions::default();
//! options.description = "Thirty made-up cells.".into();
//! HubModel::pack(dir.path(), &model, &options)?;
//!
//! let hub = HubModel::open(dir.path())?;
//! assert_eq!(hub.metadata().model_cls_name, "SCVI");
//! assert_eq!(hub.card().and_then(|c| c.description()), Some("Thirty made-up cells."));
//! assert_eq!(hub.model(&candle_core::Device::Cpu)?.scvi().config().n_latent, 10);
//! # Ok(())
//! # }
//! ```

mod card;
mod facts;
mod files;
mod folder;
mod metadata;
mod metrics;
#[cfg(feature = "hub")]
mod pull;
mod render;

pub use card::{CardHeader, ModelCard};
pub use facts::ModelFacts;
pub use folder::{HubModel, PackOptions, SaveScviTools};
pub use metadata::HubMetadata;
pub use metrics::{CvScores, CvTable, DeRow, Metrics};
#[cfg(feature = "hub")]
pub use pull::{Checksum, PullOptions, Pulled, PulledFile, pull};

/// The weights.
pub const MODEL: &str = "model.pt";
/// The cells.
pub const ADATA: &str = "adata.h5ad";
/// Cells of several modalities.
pub const MDATA: &str = "mdata.h5mu";
/// Class and versions.
pub const METADATA: &str = "_scvi_required_metadata.json";
/// The model card.
pub const CARD: &str = "README.md";
/// How good the model is.
pub const METRICS: &str = "metrics.json";
