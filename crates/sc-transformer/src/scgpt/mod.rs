//! scGPT (Cui et al. 2024): a transformer over the genes of a cell.
//!
//! | to | see |
//! |---|---|
//! | open a released or fine-tuned checkpoint, or write one | [`Checkpoint`], [`ScGpt::from_checkpoint`], [`ScGpt::export`] |
//! | embed cells, or find their types | [`CellSource`], [`ScGpt::embed_cells`], [`Classify`](sc_model::Classify), [`labels_or_novel`] |
//! | fine-tune: integration, annotation, several modalities | [`ScGpt::with_classes`], [`Recipe`], [`ScGpt::finetune`], [`FineTune`], [`Allow::fine_tuning`] |
//! | pre-train on genes to generate, and generate them | [`Pretraining`], [`ScGpt::generate`] |
//! | predict perturbations | [`ScGptPerturb`], [`PerturbTask`] |
//! | see which genes attend to which | [`ScGpt::add_attention`], [`ScGpt::queries_and_keys`] |
//! | compute a single thing | [`ScGpt::encode`], [`ScGpt::decode`], [`ScGpt::gene_matrix`], [`losses`] |
//!
//! ```
//! use ndarray::array;
//! use sc_tensor::Device;
//! use sc_transformer::scgpt::{CellSource, ScGpt};
//! use sc_transformer::tokens::{Tokenizer, TokenizerOptions};
//! use sc_transformer::vocab::{GeneCase, GeneVocab};
//!
//! let vocab = GeneVocab::new(["CD3D", "LYZ", "NKG7", "<pad>", "<cls>"])?;
//! let small = ScGpt::params(&vocab)?.d_model(16).n_heads(2).d_hid(16).n_layers(2);
//! let model = small.check()?.init(&Device::Cpu, 0)?;
//! // Or a released one: ScGpt::from_checkpoint("scGPT_human", &Device::Cpu)?
//!
//! let counts = array![[5.0f32, 1.0, 2.0], [0.0, 3.0, 0.0]];
//! let genes = vocab.match_genes(&["NKG7", "unknown", "LYZ"], GeneCase::Exact)?;
//! let tokenizer = Tokenizer::new(&vocab, &genes, TokenizerOptions::default())?;
//! let embedding = model.embed_cells(&CellSource::new(&counts, &tokenizer))?;
//! assert_eq!(embedding.dim(), (2, 16));
//! # Ok::<(), sc_transformer::Error>(())
//! ```

mod args;
mod checkpoint;
mod classes;
mod config;
mod decoders;
mod embed;
mod generate;
mod infer;
mod input;
mod layer;
pub mod losses;
mod memory;
mod model;
mod mvc;
mod nets;
mod norm;
mod params;
mod perturb;
mod queries;
mod rows;
mod save;
#[cfg(test)]
mod tests;
mod train;

pub use args::Args;
pub use checkpoint::{ARGS, Allow, Checkpoint, Layout, LoadReport, Mismatch, VOCAB, WEIGHTS};
pub use config::{CellEmbedding, InputNorm, MvcStyle, NormPlacement, ScGptConfig, ValueInput};
pub use decoders::Predicted;
pub use generate::{CellPrompt, Confidence, GenerateOptions, Generated, GenerativeLoss};
pub use infer::{CellSource, labels_or_novel};
pub use input::Input;
pub use memory::MemoryEstimate;
pub use model::{Encoded, ScGpt};
pub use params::{ScGptParams, ScGptValidParams};
pub use perturb::{
    Activation, Affine, GenesIncluded, PERTURB_KIND, PerturbConfig, PerturbTask, Perturbed,
    PredictOptions, ScGptPerturb,
};
pub use save::KIND;
/// The original's recipes end with the weights of the epoch with the lowest validation loss.
pub use sc_model::train::KeepBest;
pub use train::{FineTune, LabelledCells, Objectives, PretrainCells, Pretraining, Recipe};
