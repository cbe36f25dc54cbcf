//! From cells to tokens: binned values, tokens of a minibatch, hidden values.
//!
//! ```text
//! rows of a RowSource -> Tokenizer (vocabulary, binning, length limit) -> TokenBatch -> hide values -> model
//! ```
//!
//! What happens to a cell depends on the cell, the seed and the pass over the data alone: not on the other cells of its
//! minibatch, their order, the file it is read from, or the number of threads. (Draws that repeat numpy's or PyTorch's, for
//! comparisons with the original, are the exception: theirs depend on all draws before.)

mod batch;
mod batches;
pub mod binning;
mod draws;
mod generative;
mod mask;
mod modality;
mod options;
mod perturb;
mod perturbation;
pub mod preprocess;
mod prompt;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use batch::TokenBatch;
pub use batches::{BatchLimits, Batches, scatter};
pub use binning::{Binner, Binning, Edges, Ties};
pub use draws::{Draws, Generator};
pub use generative::{GenerativeOptions, GenerativeSplit};
pub use mask::{Hide, MaskOptions, Masker};
pub use options::{Overflow, TokenizerOptions};
pub use perturb::{PERTURBED, PerturbationOptions, PerturbationTokens, UNPERTURBED, UnknownGenes};
pub use perturbation::Perturbation;
pub use prompt::Prompt;
pub use tokenizer::{CellTokens, Tokenizer};
