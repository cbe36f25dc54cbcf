//! # sc-neighbors
//!
//! Which cells lie close together in an embedding, and what follows from it. Points are rows of an `ndarray` view,
//! graphs are [`sc_data::Csr`].
//!
//! | function | what it does |
//! |---|---|
//! | [`knn`], [`knn_query`] | exact nearest neighbours |
//! | [`knn_approx`], [`Knn`], [`recall`] | most of them, of many points |
//! | [`connectivities`], [`distances`] | the weighted neighbour graph of UMAP, and the distances |
//! | [`insert_graph`], [`find_graph`] | graphs in annotated data, as scanpy keeps them |
//! | [`LabelTransfer`], [`infuse`] | labels from a reference to a query, and back |
//! | [`leiden`] | communities of a graph |
//! | [`umap`], [`principal_axes`] | a picture of a graph |
//! | [`silhouette`], [`ilisi`], [`adjusted_rand_index`] | scores of an embedding and of clusters |
//! | [`GroupedPoints`] | sums over all pairs of points, which other scores are made of |
//! | [`diffusion_map`] | coordinates in which distances are those of a random walk on a graph |
//!
//! Everything is deterministic: the same input and seed give the same bits on any number of threads.
// Views go by value, as is ndarray's custom.
#![allow(clippy::needless_pass_by_value)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod approx;
mod blocks;
mod community;
mod curve;
mod diffusion;
mod error;
mod fuzzy;
mod graph;
mod infuse;
mod knn;
mod pairwise;
mod scores;
mod screen;
#[cfg(test)]
mod testing;
mod transfer;
mod umap;

pub use approx::{ApproxParams, EXACT_UP_TO, Knn, knn_approx, recall};
pub use community::leiden;
pub use diffusion::{DiffusionMap, diffusion_map};
pub use error::{Error, Result};
pub use fuzzy::connectivities;
pub use graph::{distances, find_graph, insert_graph};
pub use infuse::{InfuseOptions, Infused, Labelled, infuse};
pub use knn::{Neighbors, knn, knn_query};
pub use pairwise::GroupedPoints;
pub use scores::{adjusted_rand_index, ilisi, lisi, lisi_all, silhouette, silhouette_samples};
pub use transfer::{LabelTransfer, Transferred, UNKNOWN, UNKNOWN_ABOVE, Votes};
pub use umap::{UmapParams, principal_axes, umap};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
