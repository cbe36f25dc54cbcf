//! Graphs of features, which tie modalities together where no cell has both: GLUE's guidance graph (Cao and Gao, "Multi-omics
//! single-cell data integration and regulatory inference with graph-linked embedding", Nature Biotechnology 2022).
//!
//! | what | how |
//! |---|---|
//! | a graph of prior knowledge | [`FeatureGraph::new`], [`link_by_distance`] |
//! | embeddings of features, learned from it | [`GraphVae`] |
//! | minibatches of edges | [`EdgeSampler`] |
//! | which peaks regulate which genes | [`regulatory_inference`] |

mod features;
mod genome;
mod inference;
mod sampler;
mod vae;

pub use features::{Edge, EdgeNorm, FeatureGraph};
pub use genome::{distance_weight, link_by_distance};
pub use inference::{Alternative, Regulation, RegulationOptions, regulatory_inference};
pub use sampler::{EdgeBatch, EdgeSampler};
pub use sc_data::{Interval, Strand};
pub use vae::{GraphLoss, GraphVae};
