//! Differential expression: which genes differ between two populations of cells.
//!
//! A model gives each cell a distribution of its expression without noise, so that populations are compared by draws from
//! it instead of by their counts (Lopez et al., Nature Methods 2018; Boyeau et al., PNAS 2023).
//! [`differential_expression`] draws from a model and compares; [`bayes_factors`] compares draws that are there, and needs
//! no model.
//!
//! ```
//! use sc_data::Categorical;
//! use sc_latent::de::{DeOptions, Groups, differential_expression};
//! use sc_latent::{Cells, Scvi};
//!
//! # fn main() -> Result<(), sc_latent::Error> {
//! let counts = ndarray::Array2::from_shape_fn((60, 5), |(i, g)| ((i * 7 + g * 3) % 5 + 6 * (i % 2 * g)) as f32);
//! let kinds = Categorical::from_labels(&(0..60).map(|i| if i % 2 == 0 { "B" } else { "T" }).collect::<Vec<_>>());
//! let cells = Cells::plain(&counts);
//! let model = Scvi::params(&cells).n_latent(2).check()?.init(&candle_core::Device::Cpu, 0)?;
//!
//! let mut options = DeOptions::change();
//! options.n_samples = 200;
//! let table = differential_expression(&model, &cells, &Groups::against(&kinds, &["B"], "T")?, &options)?;
//! let found = &table.comparisons[0];
//! println!("{}: first {}", found.name(), table.gene_names()[found.genes[0]]);
//! assert_eq!(table.to_table()?.n_rows(), 5);
//! # Ok(())
//! # }
//! ```

mod blocks;
mod change_fn;
mod core;
mod fdr;
mod groups;
mod members;
mod mixture;
mod mode;
mod options;
mod raw;
mod robust;
mod run;
mod sampler;
mod samples;
mod statistics;
mod summary;
mod table;
#[cfg(test)]
mod test_inputs;

pub use change_fn::{ChangeDomain, ChangeFn};
pub use core::bayes_factors;
pub use fdr::fdr_calls;
pub use groups::Groups;
pub use mixture::estimate_delta;
pub use mode::{ChangeOptions, LEAST_PSEUDOCOUNT, Mode, TestMode};
pub use options::DeOptions;
pub use run::{differential_expression, differential_expression_observed};
pub use samples::ScaleSamples;
pub use statistics::{Change, GeneStatistics, Vanilla};
pub use table::{DeComparison, DeTable};
