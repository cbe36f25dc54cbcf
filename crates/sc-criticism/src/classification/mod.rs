//! How well labels were predicted, how far confidences can be trusted, and whether cells of kinds that a model has never
//! seen stand out.
//!
//! ```
//! use sc_criticism::classification::{Confusion, auroc};
//! use sc_data::Categorical;
//!
//! let truth = Categorical::from_labels(&["B", "B", "T", "T"]);
//! let predicted = Categorical::from_labels(&["B", "T", "T", "T"]);
//! let confusion = Confusion::new(&truth, &predicted)?;
//! assert_eq!(confusion.accuracy(), 0.75);
//! assert!((confusion.macro_f1() - 11.0 / 15.0).abs() < 1e-12);
//!
//! // Is a cell of a kind that the model has not seen? Its uncertainty says so.
//! let area = auroc(&[0.9, 0.8, 0.3, 0.1], &[true, false, true, false])?;
//! assert_eq!(area, 0.75);
//! # Ok::<(), sc_criticism::Error>(())
//! ```

mod calibration;
mod confusion;
mod ranking;

pub use calibration::{Bin, Calibration, calibration};
pub use confusion::{ClassScores, Confusion};
pub use ranking::{auroc, average_precision};
