//! Differentiable operations whose gradients can be relied on.
//!
//! Each is one fused pass over the data on a CPU, forward and back, in `f32` and `f64`, and computes only the gradients
//! that are wanted. On other devices, and as the oracle in tests, the same operation exists in [`composed`].

pub mod composed;

mod activation;
mod attention;
mod batch_norm;
mod csr_linear;
mod embedding;
mod favor;
mod frequencies;
mod grad_reverse;
mod linear;
mod norm;
mod reduce;
mod sparse_input;
mod trigamma;

pub use activation::{
    digamma, dropout, gelu, leaky_relu, lgamma, log1p, relu, relu_dropout, sigmoid, softplus,
};
pub use attention::{Keys, Segment, Segments, attention, attention_first};
pub use batch_norm::{batch_norm_eval, batch_norm_relu, batch_norm_train};
pub use csr_linear::csr_linear;
pub use embedding::{embedding, embedding_ids, one_hot};
pub use favor::{Stabiliser, favor_attention, favor_key_importance};
pub use frequencies::{Frequencies, frequencies_into};
pub use grad_reverse::grad_reverse;
pub use linear::{linear, linear_relu};
pub use norm::{add_layer_norm, layer_norm};
pub use reduce::{log_softmax, log_sum_exp, softmax, sum_rows};
pub use sparse_input::{SparseInput, Transform};
