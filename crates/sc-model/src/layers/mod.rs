//! Layers that hold [`Param`](crate::Param)s. Names of parameters are PyTorch's.

mod embedding;
mod fc;
mod linear;
mod norm;

pub use embedding::Embedding;
pub use fc::{FcConfig, FcLayers, Input};
pub use linear::{Linear, SparseLinear};
pub use norm::BatchNorm;
