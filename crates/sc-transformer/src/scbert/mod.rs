//! scBERT (Yang et al., "scBERT as a large-scale pretrained deep language model for cell type annotation of single-cell
//! RNA-seq data", Nature Machine Intelligence 2022): a Performer over all genes of a panel.
//!
//! Written from a description of the original, whose code and weights are under the GPL: bring your own checkpoint and its
//! list of genes ([`Scbert::from_scbert`]), or train a model of your own.
//!
//! ```
//! use ndarray::array;
//! use sc_data::Csr;
//! use sc_model::{Classify, Embed};
//! use sc_tensor::Device;
//! use sc_transformer::scbert::{CellsConfig, GenePanel, Scbert};
//!
//! let panel = GenePanel::new(["CD3D", "CD79A", "NKG7"])?;
//! let params = Scbert::params(panel).dim(16).depth(2).heads(2).dim_head(8);
//! let model = params.check()?.init(&Device::Cpu, 0)?;          // or Scbert::load, or Scbert::from_scbert
//!
//! let counts = Csr::from_dense(&array![[5.0, 0.0, 1.0], [0.0, 7.0, 0.0]]);
//! let mut config = CellsConfig::default();
//! config.min_genes = 1;                                        // 200, where the panel has thousands
//! let cells = model.cells(&counts, &["NKG7", "CD79A", "MS4A1"], &config)?;
//! assert_eq!(cells.alignment().missing(), ["CD3D"]);
//! assert_eq!(model.embed(&cells)?.dim(), (2, 16));
//!
//! let annotator = model.with_classes(&["B cell".to_owned(), "NK cell".to_owned()], 0)?;
//! // annotator.finetune(...), then:
//! assert_eq!(annotator.classify(&cells)?.values.dim(), (2, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cells;
mod config;
mod finetune;
mod gene_vectors;
mod importance;
mod infer;
mod labels;
mod layout;
mod loss;
mod mask;
mod memory;
mod model;
mod nets;
mod npy;
mod panel;
mod pretrain;
mod projection;
mod save;
#[cfg(test)]
mod tests;
mod upstream;

pub use cells::{CellsConfig, ScbertCells};
pub use config::ScbertConfig;
pub use finetune::{ClassWeights, FinetuneConfig, Finetuning, LabelledCells};
pub use gene_vectors::GeneVectors;
pub use importance::GeneImportance;
pub use infer::{Annotation, Pooling, UNASSIGNED};
pub use labels::{read_label_dict, read_labels};
pub use mask::{MaskConfig, Masked};
pub use memory::{MemoryEstimate, Work};
pub use model::{Scbert, ScbertParams, ScbertValidParams};
pub use panel::{Alignment, GenePanel};
pub use pretrain::{PretrainConfig, Pretraining};
pub use sc_tensor::ops::Stabiliser;
pub use upstream::UpstreamOptions;
