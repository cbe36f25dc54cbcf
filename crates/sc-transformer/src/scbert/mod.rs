//! scBERT (Yang et al., "scBERT as a large-scale pretrained deep language model for cell type annotation of single-cell
//! RNA-seq data", Nature Machine Intelligence 2022): a Performer over all genes of a panel.

mod cells;
mod config;
mod finetune;
mod gene_vectors;
mod importance;
mod infer;
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
pub use mask::{MaskConfig, Masked};
pub use memory::{MemoryEstimate, Work};
pub use model::{Scbert, ScbertParams, ScbertValidParams};
pub use panel::{Alignment, GenePanel};
pub use pretrain::{PretrainConfig, Pretraining};
pub use sc_tensor::ops::Stabiliser;
pub use upstream::UpstreamOptions;
