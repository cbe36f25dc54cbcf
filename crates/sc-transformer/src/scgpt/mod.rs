//! scGPT (Cui et al. 2024).

mod args;
mod checkpoint;
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
mod rows;
mod save;
mod train;

pub use args::Args;
pub use checkpoint::{ARGS, Allow, Checkpoint, Layout, LoadReport, Mismatch, VOCAB, WEIGHTS};
pub use config::{
    CellEmbedding, InputNorm, MvcStyle, NormPlacement, ScGptConfig, ValueInput,
};
pub use decoders::Predicted;
pub use generate::{Confidence, GenerateOptions, Generated, GenerativeLoss};
pub use infer::{CellSource, labels_or_novel};
pub use input::Input;
pub use memory::MemoryEstimate;
pub use model::{Encoded, ScGpt};
pub use params::{ScGptParams, ScGptValidParams};
pub use perturb::{
    Activation, Affine, GenesIncluded, PerturbConfig, PerturbPairs, PerturbTask, Perturbed,
    PredictOptions, ScGptPerturb,
};
pub use save::KIND;
pub use train::{
    FineTune, KeepBest, LabelledCells, Objectives, PretrainCells, Pretraining, Recipe,
};
