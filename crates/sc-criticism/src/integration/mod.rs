//! How well an embedding keeps kinds of cells apart and mixes batches: the metrics of scIB (Luecken et al., Nat Methods
//! 2022) as scib-metrics defines them today, those of scglue, and what is made of them.
//!
//! Labels and batches are given as numbers, one for each cell; [`Suite`] takes them as [`sc_data::Categorical`] and computes
//! all metrics of an embedding with one search for neighbours.
//!
//! ```
//! use sc_criticism::integration::{Metric, Suite};
//! use sc_data::Categorical;
//!
//! # fn main() -> Result<(), sc_criticism::Error> {
//! // 120 cells of three kinds from two batches, in four dimensions.
//! let kinds: Vec<String> = (0..120).map(|i| format!("kind {}", i % 3)).collect();
//! let donors: Vec<String> = (0..120).map(|i| format!("donor {}", i / 3 % 2)).collect();
//! let points = ndarray::Array2::from_shape_fn((120, 4), |(i, j)| {
//!     let noise = ((i * 31 + j * 17 + i * i) % 97) as f32 / 97.0;
//!     if j == i % 3 { 10.0 + noise } else { noise }
//! });
//!
//! let suite = Suite::new(&Categorical::from_labels(&kinds), &Categorical::from_labels(&donors))?;
//! let scores = suite.score(points.view())?;
//! assert!(scores.get(Metric::SilhouetteLabel).unwrap() > 0.9);
//! assert!(scores.get(Metric::Ilisi).unwrap() > 0.7);
//! // What can't be computed says why.
//! let why = scores.reason(Metric::PcrComparison).unwrap();
//! assert!(why.contains("before integration"));
//! # Ok(())
//! # }
//! ```

mod aggregate;
mod agreement;
mod clusters;
mod connectivity;
mod kbet;
mod kmeans;
mod metric;
mod mixing;
mod regression;
mod silhouette;
mod suite;
mod trajectory;
mod variable_genes;

pub use aggregate::{BIO_WEIGHT, GlueScores, glue_overall, total};
pub use agreement::{Agreement, Average};
pub use clusters::{
    ClusterScores, Clustering, best_clustering, isolated_f1, leiden_sweep, scib_resolutions,
};
pub use connectivity::{Connection, graph_connectivity};
pub use kbet::{Kbet, LabelMixing, kbet, kbet_per_label};
pub use kmeans::kmeans;
pub use metric::{Aggregate, Kind, Metric, Scores, aggregates};
pub use mixing::{clisi, ilisi};
pub use regression::{Covariate, cell_cycle_conservation, pc_regression, pcr_comparison};
pub use silhouette::{AswBatch, Others, asw_batch, asw_label, bras, isolated, isolated_asw};
pub use suite::Suite;
pub use trajectory::{embedding_trajectory, trajectory_conservation};
pub use variable_genes::hvg_overlap;
