//! How well two modalities, measured in the same cells, lie in one place; and what an integration does to
//! neighbourhoods.
//!
//! ```
//! use sc_criticism::matching::{foscttm, recall_at};
//!
//! // Three cells, embedded from their RNA and from their proteins.
//! let rna = ndarray::array![[0.0f32, 0.0], [1.0, 0.0], [0.0, 1.0]];
//! let protein = ndarray::array![[0.1f32, 0.0], [0.9, 0.1], [0.6, 0.5]];
//! let fractions = foscttm(rna.view(), protein.view())?;
//! assert!(fractions.mean() < 0.2);
//! assert_eq!(recall_at(rna.view(), protein.view(), 1)?, 1.0);
//! # Ok::<(), sc_criticism::Error>(())
//! ```

mod foscttm;
mod neighbourhood;
mod score;
mod transfer;

pub use foscttm::{Foscttm, foscttm, recall_at};
pub use neighbourhood::{
    mean_average_precision, neighbor_conservation, neighbours_of_share, seurat_alignment_score,
};
pub use score::{match_scores, mean_match_score, true_columns};
pub use transfer::{SnnTransfer, snn_label_transfer};
