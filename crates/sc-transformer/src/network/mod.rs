//! What a model has learned about genes: which are alike, which act together, which attend to which.
//!
//! | what | from |
//! |---|---|
//! | [`cosine_edges`], [`neighbours_of`] | gene vectors: pairs of genes that are alike |
//! | [`gene_programs`] | gene vectors: groups of genes that are alike (Leiden communities) |
//! | [`score_programs`], [`activation`] | expression: how active a program is in each cell, in each cell type |
//! | [`AttentionRanks`] | queries and keys of a layer ([`ScGpt::queries_and_keys`](crate::scgpt::ScGpt::queries_and_keys)): which genes a gene attends to, by condition |
//! | [`enrich`], [`GeneSets`] | any list of genes: the pathways of a GMT file that it has more genes of than chance explains |

mod activation;
mod attention;
mod enrichment;
mod gmt;
mod programs;
mod similarity;
#[cfg(test)]
mod tests;

pub use activation::{ScoreOptions, activation, score_programs};
pub use attention::{AttentionRanks, Ranked, top_keys, top_queries};
pub use enrichment::{Enriched, EnrichmentOptions, benjamini_hochberg, enrich};
pub use gmt::{GeneSet, GeneSets};
pub use programs::{Program, ProgramOptions, gene_programs};
pub use similarity::{Edge, EdgeOptions, cosine_edges, neighbours_of};
